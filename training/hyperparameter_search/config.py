"""What a search of hyperparameters can be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mousev1.core.network import CoreConfig
from mousev1.errors import check_choice, listing, reject_unknown_keys
from training.pretraining.config import PretrainConfig, read_toml, whole_numbers
from training.transfer_benchmark.config import READOUTS

FROZEN, DIRECT = "frozen", "direct"


@dataclass(frozen=True)
class Span:
    """From where to where a hyperparameter is searched, evenly in its logarithm.

    Attributes:
        low: smallest value, above 0.
        high: largest value.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = [isinstance(value, int | float) for value in (self.low, self.high)]
        if not all(numbers) or not 0.0 < self.low < self.high:
            raise ValueError(f"spans: expected 0 < low < high, got {self.low!r} and {self.high!r}")


SPANS: dict[str, Span] = {
    "learning_rate": Span(1e-3, 3e-2),
    "feature_l1": Span(1e-2, 1e2),
    "smoothness": Span(1e-2, 1e2),
    "init_sigma": Span(1e-2, 1.0),
    "init_range": Span(1e-2, 1.0),
    "position_init_scale": Span(1e-2, 1.0),
}
"""Hyperparameters that can be searched, and where by default: weights of the two regularisers, learning rate
of Adam, start of the sampling maps, of free positions, and of the position network (its scale)."""


@dataclass(frozen=True)
class SearchConfig:
    """A study of hyperparameters: which values give the best validation correlation.

    Attributes:
        name: of the study.
        scan: paths or patterns of one scan, or of several, relative to the config file or else to the
            working directory. Only their training and validation tiers are looked at.
        readout: a key of ``training.transfer_benchmark.config.READOUTS``.
        train: ``"direct"``: core and readout end to end; ``"frozen"``: the readout on ``core_source``.
        core_source: for ``"frozen"``: what ``training.networks.representations.load_representation`` takes.
        trials: number of sets of values tried, over all processes that join the study.
        random_trials: how many of them are drawn at random before the Gaussian process has a say.
        images: number of training images, drawn by ``partition``; 0 for all.
        partition: see ``images``.
        share_features: whether matched neurons share feature weights.
        seed: of the search; a trial's number is the seed of its model.
        spans: hyperparameter to span, for those searched; the default is all that matter to the readout.
        core: shape of the core for ``"direct"``.
        recipe: tables readout, optimisation and compute as in a pretraining config: what is not searched.
        fine_tune_images: numbers of images for which ``--fine-tune`` searches the weight of the readout's
            regulariser alone, all else being what the study found.
        fine_tune_trials: of each.
    """

    name: str
    scan: tuple[str, ...]
    readout: str = "gaussian-cortex"
    train: str = DIRECT
    core_source: str | None = None
    trials: int = 100
    random_trials: int = 10
    images: int = 0
    partition: int = 0
    share_features: bool = False
    seed: int = 0
    spans: Mapping[str, Span] = field(default_factory=dict)
    core: CoreConfig = field(default_factory=CoreConfig)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    fine_tune_images: tuple[int, ...] = (50, 200, 500, 1000, 2500, 4472)
    fine_tune_trials: int = 12

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise ValueError(f"name: expected a text that can name a folder, got {self.name!r}")
        check_choice("readout", self.readout, READOUTS)
        check_choice("train", self.train, (DIRECT, FROZEN))
        if (self.train == FROZEN) != (self.core_source is not None):
            raise ValueError(f"core_source: expected a core for train = '{FROZEN}', and none for '{DIRECT}'")
        for name in ("trials", "random_trials", "fine_tune_trials"):
            whole_numbers(name, [getattr(self, name)], 1)
        for name in ("images", "partition", "seed"):
            whole_numbers(name, [getattr(self, name)], 0)
        object.__setattr__(
            self, "fine_tune_images", whole_numbers("fine_tune_images", self.fine_tune_images, 1)
        )
        if unknown := sorted({*self.spans} - {*SPANS}):
            raise ValueError(f"spans: unknown key {listing(unknown)}; valid keys are {listing(SPANS)}")
        if not self.spans:
            object.__setattr__(self, "spans", self._default_spans())
        self.recipe_with({})

    def _default_spans(self) -> dict[str, Span]:
        spans = {"learning_rate": SPANS["learning_rate"], "feature_l1": SPANS["feature_l1"]}
        if self.train == DIRECT:
            spans["smoothness"] = SPANS["smoothness"]
        if READOUTS[self.readout]["kind"] == "gaussian":
            place = "position_init_scale" if READOUTS[self.readout]["cortex"] else "init_range"
            spans |= {name: SPANS[name] for name in ("init_sigma", place)}
        return spans

    def recipe_with(self, values: Mapping[str, float], *, seed: int = 0) -> PretrainConfig:
        """The recipe with some hyperparameters set."""
        if unknown := sorted({*self.recipe} - {"readout", "optimisation", "compute"}):
            raise ValueError(f"recipe: unknown table {listing(unknown)}; see training/config.py")
        optimisation = {**self.recipe.get("optimisation", {})}
        readout = {**self.recipe.get("readout", {}), **READOUTS[self.readout]}
        readout["share_features"] = self.share_features
        for name, value in values.items():
            if name in ("learning_rate", "feature_l1", "smoothness"):
                optimisation[name] = value
            elif name == "position_init_scale":
                readout["position_network"] = {**readout.get("position_network", {}), "init_scale": value}
            else:
                readout[name] = value
        return PretrainConfig.from_dict(
            {
                "name": self.name,
                "scans": ["scan.h5"],
                "seed": seed,
                "core": self.core.to_dict(),
                "readout": readout,
                "optimisation": optimisation,
                "compute": {**self.recipe.get("compute", {})},
            }
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SearchConfig:
        """The config from plain values; unknown keys raise ``ValueError``, as does a missing one."""
        reject_unknown_keys("search config", values, cls)
        if missing := [key for key in ("name", "scan") if key not in values]:
            raise ValueError(f"search config: missing {listing(missing)}; these have no default")
        values = dict(values)
        scan = values["scan"]
        if not isinstance(scan, list) or not scan or not all(isinstance(path, str) for path in scan):
            raise ValueError(f"scan: expected a list of at least one path or pattern, got {scan!r}")
        values["scan"] = tuple(scan)
        for key in ("spans", "core", "recipe"):
            if not isinstance(values.get(key, {}), dict):
                raise ValueError(f"{key}: expected a table, got {values[key]!r}")
        if "core" in values:
            values["core"] = CoreConfig.from_dict(values["core"])
        spans = {}
        for name, ends in values.get("spans", {}).items():
            if not isinstance(ends, list) or len(ends) != 2:
                raise ValueError(f"spans.{name}: expected [low, high], got {ends!r}")
            spans[name] = Span(*ends)
        return cls(**{**values, "spans": spans})

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "core": self.core.to_dict()}


def read_search_config(path: str | Path) -> SearchConfig:
    """The config of a TOML file, which lists only what departs from the defaults.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, an unknown key, or a value of the wrong type or out of its range.
    """
    return SearchConfig.from_dict(read_toml(path))
