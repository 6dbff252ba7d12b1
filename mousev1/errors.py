"""Shared wording of what users read when something does not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


def reject_unknown_keys(what: str, values: dict[str, Any], schema: type) -> None:
    """Raise ``ValueError`` if ``values`` has keys that the dataclass ``schema`` lacks.

    Args:
        what: name of the thing that holds the keys, for the message.
        values: the keys to check.
        schema: a dataclass whose fields are the valid keys.
    """
    valid = {f.name for f in dataclasses.fields(schema) if f.init}
    unknown = sorted(set(values) - valid)
    if unknown:
        raise ValueError(
            f"{what}: unknown key{'s' if len(unknown) > 1 else ''} {listing(unknown)}; "
            f"valid keys are {listing(sorted(valid))}. A newer mousev1 may know more"
        )


def listing(names: Iterable[object], most: int = 20) -> str:
    """Names in quotes, in the order given, cut after ``most``; see ``printable``."""
    quoted = [f"'{printable(name)}'" for name in names]
    rest = len(quoted) - most
    return ", ".join(quoted[:most]) + (f" and {rest} more" if rest > 0 else "")


def printable(text: object, *, keep: str = "") -> str:
    r"""A text with what is no visible character escaped: names from files must not steer a terminal or forge lines.

    Args:
        text: a name, path or message.
        keep: characters that stay as they are.

    Example:
        >>> printable("neuron\n\x1b[2J.png")
        'neuron\\n\\x1b[2J.png'
    """
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name}: expected one of {listing(choices)}, got {value!r}")
