"""What a comparison of cores on one scan can be told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mousev1.core.network import CoreConfig
from mousev1.errors import listing, reject_unknown_keys
from training.pretraining.config import PretrainConfig, read_toml, whole_numbers

DIRECT = "direct"


@dataclass(frozen=True)
class CoreEntry:
    """A core to compare: one from somewhere, or random ones.

    Attributes:
        label: what tables and figures call it.
        source: what ``training.networks.representations.load_representation`` takes: a name, folder, repository or
            published checkpoint file.
        random_seeds: instead of a source: one core with random weights per seed.
    """

    label: str
    source: str | None = None
    random_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "random_seeds", whole_numbers("cores.random_seeds", self.random_seeds, 0))
        if not isinstance(self.label, str) or not self.label or self.label.startswith(DIRECT):
            raise ValueError(
                f"cores.label: expected a text that does not start with '{DIRECT}', got {self.label!r}"
            )
        if self.source is not None and not isinstance(self.source, str):
            raise ValueError(f"cores.source: expected a text, got {self.source!r}")
        if (self.source is None) == (not self.random_seeds):
            raise ValueError(f"cores: expected either source or random_seeds for '{self.label}'")


@dataclass(frozen=True)
class TransferConfig:
    """A whole comparison.

    Attributes:
        name: of the result files.
        title: what the data are, for people; say here whether they are simulated.
        scan: path of the scan, relative to the config file or else to the working directory.
        cores: what to compare.
        images: numbers of training images.
        truth: path of the true test rates of a simulated scan (.npz), or None.
        units: how many neurons, drawn by ``unit_seed``; None for all.
        unit_seed: see ``units``.
        seeds: one draw of training images each, and the seed of everything random after that.
        core: shape and input contract of random cores and of those trained on the scan alone.
        direct_images: numbers of training images for cores trained on the scan alone.
        direct: how these are trained, tables as in a pretraining config; the default is the published
            recipe.
    """

    name: str
    title: str
    scan: str
    cores: tuple[CoreEntry, ...]
    images: tuple[int, ...]
    truth: str | None = None
    units: int | None = None
    unit_seed: int = 0
    seeds: tuple[int, ...] = (0,)
    core: CoreConfig = field(default_factory=CoreConfig)
    direct_images: tuple[int, ...] = ()
    direct: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("name", "title", "scan"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or (name == "name" and "/" in value):
                raise ValueError(
                    f"{name}: expected a text{' for file names' * (name == 'name')}, got {value!r}"
                )
        for name, least in {"images": 1, "direct_images": 1, "seeds": 0}.items():
            object.__setattr__(self, name, whole_numbers(name, getattr(self, name), least))
        if not self.images or not self.seeds or not self.cores:
            raise ValueError("transfer config: expected at least one of each of images, seeds and cores")
        if self.units is not None:
            whole_numbers("units", [self.units], 1)
        whole_numbers("unit_seed", [self.unit_seed], 0)
        labels = [entry.label for entry in self.cores]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"cores: the label {listing(twice)} is used more than once")
        self.recipe(0)

    def recipe(self, seed: int) -> PretrainConfig:
        """How a core is trained on the scan alone."""
        unknown = sorted({*self.direct} - {"readout", "optimisation", "compute"})
        if unknown:
            raise ValueError(f"direct: unknown table {listing(unknown)}; see training/config.py")
        return PretrainConfig.from_dict(
            {"name": DIRECT, "scans": ["scan.h5"], "seed": seed, "core": self.core.to_dict(), **self.direct}
        )

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "core": self.core.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TransferConfig:
        """The config from plain values; unknown keys raise ``ValueError``, as does a missing one."""
        reject_unknown_keys("transfer config", values, cls)
        missing = [key for key in ("name", "title", "scan", "cores", "images") if key not in values]
        if missing:
            raise ValueError(f"transfer config: missing {listing(missing)}; these have no default")
        values = dict(values)
        for key, kind in {"cores": list, "core": dict, "direct": dict}.items():
            if key in values and not isinstance(values[key], kind):
                raise ValueError(f"{key}: expected a TOML table, got {values[key]!r}")
        for entry in values["cores"]:
            reject_unknown_keys("transfer config, table [[cores]]", entry, CoreEntry)
            if "label" not in entry:
                raise ValueError(f"cores: expected a label in {entry!r}")
        values["cores"] = tuple(CoreEntry(**entry) for entry in values["cores"])
        if "core" in values:
            values["core"] = CoreConfig.from_dict(values["core"])
        return cls(**values)


def read_transfer_config(path: Path) -> TransferConfig:
    """The config of a TOML file, which lists only what departs from the defaults.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, an unknown key, or a value of the wrong type or out of its range.
    """
    return TransferConfig.from_dict(read_toml(path))
