"""Configs as frozen dataclasses that pydantic checks: every value has a type and bounds, unknown keys are refused."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mousev1.errors import listing

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library of 3.10 has no TOML reader
    import tomli as tomllib

Self = TypeVar("Self", bound="Settings")
Values = TypeVar("Values", bound=Collection[Any])

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""For ``pydantic.dataclasses.dataclass``: a whole number may stand for a decimal one; no other type for another."""


def distinct(values: Values) -> Values:
    """The values; ``ValueError`` if one of them is there twice."""
    if len({*values}) < len(values):
        raise ValueError(f"expected every value once, got {list(values)}")
    return values


def one_of(choices: Collection[str]) -> AfterValidator:
    """Annotation of a text that is one of some names."""

    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {listing(choices)}, got {value!r}")
        return value

    return AfterValidator(check)


def ascending(ends: tuple[float, float]) -> tuple[float, float]:
    """The ends of a range; ``ValueError`` unless both are above 0 and the second is the larger one."""
    low, high = ends
    if not 0 < low < high:
        raise ValueError(f"expected 0 < low < high, got [{low}, {high}]")
    return ends


Text = Annotated[str, Field(min_length=1)]
FolderName = Annotated[str, Field(pattern="^[^/]+$")]
Paths = Annotated[tuple[Text, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Counts = Annotated[tuple[Count, ...], AfterValidator(distinct)]
WholeNumbers = Annotated[tuple[WholeNumber, ...], AfterValidator(distinct)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(ascending)]


class Settings:
    """Base of the configs: dataclasses that read themselves from plain values and from files."""

    @classmethod
    def from_dict(cls: type[Self], values: dict[str, Any]) -> Self:
        """The config from plain values.

        Raises:
            ValueError: an unknown or missing key, or a value of the wrong type or out of its range.
        """
        try:
            # As JSON, lists may become tuples and texts the numbers that are keys.
            return TypeAdapter(cls).validate_json(json.dumps(values, default=str))
        except ValidationError as error:
            raise ValueError("; ".join(_explain(cls, error))) from None

    @classmethod
    def read(cls: type[Self], path: str | Path) -> Self:
        """The config of a TOML file, which lists only what departs from the defaults.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not TOML, an unknown or missing key, or a value of the wrong type or out of its range.
        """
        try:
            return cls.from_dict(read_toml(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, as JSON gives them back."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[call-overload]
        return values


def read_toml(path: str | Path) -> dict[str, Any]:
    """Content of a TOML file as plain values.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config: no file {path}; training/configs/ has examples")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config is not valid TOML: {error}") from None


EXPECTED: dict[str, str] = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "string_too_short": "a text",
    "string_pattern_mismatch": "a text that can name a folder",
    "tuple_type": "a list",
    "too_short": "at least {min_length} of them",
    "dataclass_type": "a table",
    "dict_type": "a table",
}
"""Pydantic's kinds of errors in the words of a TOML file."""


def _explain(schema: type, error: ValidationError) -> list[str]:
    lines: list[str] = []
    for found in error.errors(include_url=False):
        *table, key = found["loc"] or ("",)
        kind, context, got = found["type"], found.get("ctx", {}), found["input"]
        if kind in ("unexpected_keyword_argument", "extra_forbidden"):
            valid = sorted(field.name for field in dataclasses.fields(_schema_at(schema, table)))
            where = f"table [{_named(table)}]: " if table else ""
            lines.append(
                f"{where}unknown key '{key}'; valid keys are {listing(valid)}. A newer mousev1 may know more"
            )
        elif kind == "missing":
            lines.append(f"missing '{_named(found['loc'])}', which has no default")
        elif kind == "value_error":
            lines.append(": ".join(filter(None, (_named(found["loc"]), str(context["error"])))))
        else:
            expected = EXPECTED[kind].format(**context) if kind in EXPECTED else found["msg"]
            lines.append(f"{_named(found['loc']) or 'config'}: expected {expected}, got {got!r}")
    return lines


def _named(location: Collection[str | int]) -> str:
    """``grids[0].images`` for ("grids", 0, "images")."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location if step != "[key]"]
    return "".join(steps).removeprefix(".")


def _schema_at(schema: type, location: Collection[str | int]) -> type:
    """The dataclass of a table within a config."""
    for step in location:
        schema = schema if isinstance(step, int) else get_type_hints(schema)[step]
        while get_origin(schema) in (tuple, types.UnionType, Annotated):
            schema = get_args(schema)[0]
    return schema
