"""The settings of a search of hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from mousev1.core.network import CoreConfig
from training.pretraining.config import PretrainConfig, RecipeTables
from training.settings import (
    STRICT,
    Count,
    Counts,
    FolderName,
    Paths,
    Settings,
    Text,
    WholeNumber,
    ascending,
    one_of,
)
from training.transfer_benchmark.config import DIRECT, READOUTS, ReadoutName

FROZEN = "frozen"


@dataclass(frozen=True, config=STRICT)
class Span:
    """From where (above 0) to where a hyperparameter is searched, evenly in its logarithm."""

    low: float
    high: float

    @model_validator(mode="before")
    @classmethod
    def _from_ends(cls, values: Any) -> Any:
        return dict(zip(("low", "high"), values, strict=True)) if isinstance(values, list) else values

    def __post_init__(self) -> None:
        ascending((self.low, self.high))


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


@dataclass(frozen=True, config=STRICT)
class SearchConfig(Settings):
    """A study of hyperparameters: which values give the best validation correlation."""

    name: FolderName  # of the study
    # paths or patterns of one scan, or of several, relative to the config file or else to the working directory. Only
    # their training and validation tiers are looked at
    scan: Paths
    readout: ReadoutName = "gaussian-cortex"  # a key of ``training.transfer_benchmark.config.READOUTS``
    # ``"direct"``: core and readout end to end; ``"frozen"``: the readout on ``core_source``
    train: Annotated[str, one_of((DIRECT, FROZEN))] = DIRECT
    # for ``"frozen"``: what ``training.networks.representations.load_representation`` takes
    core_source: Text | None = None
    trials: Count = 100  # number of sets of values tried, over all processes that join the study
    # how many of them are drawn at random, before the Gaussian process suggests values
    random_trials: Count = 10
    images: WholeNumber = 0  # number of training images, drawn by ``partition``; 0 for all
    partition: WholeNumber = 0  # see ``images``
    share_features: bool = False  # whether matched neurons share feature weights
    seed: WholeNumber = 0  # of the search; a trial's number is the seed of its model
    # hyperparameter to span, for those searched; the default is all that matter to the readout
    spans: Mapping[Annotated[str, one_of(SPANS)], Span] = field(default_factory=dict)
    core: CoreConfig = field(default_factory=CoreConfig)  # shape of the core for ``"direct"``
    # tables readout, optimisation and compute as in a pretraining config: what is not searched
    recipe: RecipeTables = field(default_factory=dict)
    # numbers of images for which ``--fine-tune`` searches the weight of the readout's regulariser alone, all else
    # being what the study found
    fine_tune_images: Counts = (50, 200, 500, 1000, 2500, 4472)
    fine_tune_trials: Count = 12  # of each

    def __post_init__(self) -> None:
        if (self.train == FROZEN) != (self.core_source is not None):
            raise ValueError(f"core_source: expected a core for train = '{FROZEN}', and none for '{DIRECT}'")
        if not self.spans:
            object.__setattr__(self, "spans", self._default_spans())
        self.recipe_with({})

    def _default_spans(self) -> dict[str, Span]:
        spans = {"learning_rate": SPANS["learning_rate"], "feature_l1": SPANS["feature_l1"]}
        if self.train == DIRECT:
            spans["smoothness"] = SPANS["smoothness"]
        if READOUTS[self.readout]["kind"] == "gaussian":
            start = "position_init_scale" if READOUTS[self.readout]["cortex"] else "init_range"
            spans |= {name: SPANS[name] for name in ("init_sigma", start)}
        return spans

    def recipe_with(self, values: Mapping[str, float], *, seed: int = 0) -> PretrainConfig:
        """The recipe with some hyperparameters set."""
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
