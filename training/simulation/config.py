"""A simulation as a config: the size of the study, and the tables of ``settings``."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mousev1.errors import listing, reject_unknown_keys
from training.simulation.animals import PLANS
from training.simulation.settings import (
    DEAD_LEAVES,
    NeuronConfig,
    NoiseConfig,
    RetinotopyConfig,
    StimulusConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library of 3.10 has no TOML reader
    import tomli as tomllib


@dataclass(frozen=True)
class SimulationConfig:
    """A whole simulation. The defaults are the size of the real study.

    Attributes:
        seed: the only source of randomness.
        scans: names of the scans to make; leaving some out does not change the others.
        unit_scale: neurons per scan, as a share of the real count.
        train_images: training images per scan, one trial each.
        validation_images: validation images per scan, one trial each.
        test_images: test images, the same in every scan.
        test_repeats: trials of every test image.
        height: rows of the frame.
        width: columns of the frame.
        file_format: ``"hdf5"``, ``"zip"`` or ``"tree"``: one of the formats ``mousev1.read_scan`` reads.
        truth_rates: ``"test"`` saves true rates for the test images, ``"all"`` for every image.
        stimuli: where the images come from.
        retinotopy: how cortex maps onto the monitor.
        neurons: what the neurons are like.
        noise: how one trial differs from the next.
    """

    seed: int = 0
    scans: tuple[str, ...] = tuple(PLANS)
    unit_scale: float = 1.0
    train_images: int = 4472
    validation_images: int = 500
    test_images: int = 100
    test_repeats: int = 10
    height: int = 36
    width: int = 64
    file_format: str = "hdf5"
    truth_rates: str = "test"
    stimuli: StimulusConfig = field(default_factory=StimulusConfig)
    retinotopy: RetinotopyConfig = field(default_factory=RetinotopyConfig)
    neurons: NeuronConfig = field(default_factory=NeuronConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scans", tuple(self.scans))
        unknown = [name for name in self.scans if name not in PLANS]
        if unknown or not self.scans:
            raise ValueError(
                f"scans: expected some of {listing(PLANS)}, got {listing(self.scans) or 'an empty list'}"
            )
        if not 0.0 < self.unit_scale <= 1.0:
            raise ValueError(f"unit_scale: expected a share above 0, at most 1, got {self.unit_scale}")
        for name in ("train_images", "validation_images", "test_images", "test_repeats"):
            value = getattr(self, name)
            if not 1 <= value < IMAGE_IDS_PER_SET:
                raise ValueError(f"{name}: expected 1 to {IMAGE_IDS_PER_SET - 1}, got {value}")
        smallest = 2 * int(self.retinotopy.margin_px) + 4
        for name in ("height", "width"):
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"{name}: expected at least {smallest} pixels (twice the retinotopy margin of "
                    f"{self.retinotopy.margin_px:g} and room for receptive fields), got {getattr(self, name)}"
                )
        for name, allowed in (("file_format", FILE_SUFFIXES), ("truth_rates", ("test", "all"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {listing(allowed)}, got {getattr(self, name)!r}")

    def units(self, scan: str) -> int:
        """Number of neurons U of a scan at this scale, at least 2."""
        return max(2, round(PLANS[scan].units * self.unit_scale))

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values, ready for JSON."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SimulationConfig:
        """The config from plain values; every key is optional, unknown ones raise ``ValueError``."""
        _check_keys("simulation config", values, cls)
        values = dict(values)
        for name, schema in _TABLES.items():
            if name in values:
                _check_keys(f"simulation config, table [{name}]", values[name], schema)
                values[name] = schema(**values[name])
        return cls(**values)


_TABLES: dict[str, type] = {
    "stimuli": StimulusConfig,
    "retinotopy": RetinotopyConfig,
    "neurons": NeuronConfig,
    "noise": NoiseConfig,
}

FILE_SUFFIXES: dict[str, str] = {"hdf5": ".h5", "zip": ".zip", "tree": ""}
"""What each file format adds to the name of a scan."""

IMAGE_IDS_PER_SET = 1_000_000
"""Image ids of one set of images (test, or a scan's training or validation set) lie in one such range."""


def read_config(path: str | Path) -> SimulationConfig:
    """The config of a TOML file.

    Args:
        path: the file; it lists only what departs from the defaults.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, an unknown key, or a value out of its range.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config: no file {path}; training/configs/ has examples")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config: {path} is not valid TOML: {error}") from None
    config = SimulationConfig.from_dict(values)
    if config.stimuli.source != DEAD_LEAVES:
        source = str(path.parent / config.stimuli.source)
        config = dataclasses.replace(config, stimuli=dataclasses.replace(config.stimuli, source=source))
    return config


def _check_keys(what: str, values: object, schema: type) -> None:
    """Refuse unknown keys and values of another type than the default's; a table is a ``dict``."""
    if not isinstance(values, dict):
        raise TypeError(f"{what}: expected a table, got {values!r}")
    reject_unknown_keys(what, values, schema)
    defaults = schema()
    for name, value in values.items():
        default = getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            continue
        fits = {
            float: isinstance(value, int | float) and not isinstance(value, bool),
            int: isinstance(value, int) and not isinstance(value, bool),
            tuple: isinstance(value, list | tuple),
            str: isinstance(value, str),
        }
        if not fits[type(default)]:
            raise TypeError(f"{what}: expected {name} like {default!r}, got {value!r}")
