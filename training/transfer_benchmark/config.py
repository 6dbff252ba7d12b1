"""The settings of a transfer benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from mousev1.core.network import CoreConfig
from mousev1.errors import check_choice, listing
from training.pretraining.config import PretrainConfig, RecipeTables
from training.settings import (
    STRICT,
    Count,
    Counts,
    NotNegative,
    Paths,
    Positive,
    Settings,
    Text,
    WholeNumber,
    WholeNumbers,
    one_of,
)
from training.simulation.animals import CORE_SETS
from training.transfer_benchmark.results_table import CHOICES

Number = TypeVar("Number", int, float)

ByImages = Mapping[Count, Number]
"""Values by numbers of training images."""

DIRECT = "direct"
BEST_CORE = "best-core/diff-readout"
DIFF_CORE = "diff-core/best-readout"

CONVEX, SGD, END_TO_END = "convex", "sgd", "end-to-end"

READOUTS: dict[str, dict[str, Any]] = {
    "gaussian": {"kind": "gaussian", "cortex": False},
    "gaussian-cortex": {"kind": "gaussian", "cortex": True},
    "factorized": {"kind": "factorized", "cortex": False},
    "fully-connected": {"kind": "fully-connected", "cortex": False},
}
"""Names of readouts in results to entries of ``ReadoutConfig``."""

ReadoutName = Annotated[str, one_of(READOUTS)]


@dataclass(frozen=True, config=STRICT)
class CoreEntry:
    """A core to compare; exactly one of ``source``, ``core_set`` and ``random`` says where it comes from."""

    label: Text  # what results call it
    # what ``training.networks.representations.load_representation`` takes: a name, a folder, a repository, the file
    # of a published checkpoint
    source: Text | None = None
    core_set: Text | None = None  # name of the scans to pretrain it on, with the seed of the run
    random: bool = False  # random weights in the config's shape, from the seed of the run
    share_features: bool = False  # matched neurons of the core set share feature weights in pretraining
    pretrained_on: str = ""  # what results show as the core set of a given core, for example ``"11-S"``

    def __post_init__(self) -> None:
        origins = [self.source is not None, self.core_set is not None, self.random]
        if sum(origins) != 1:
            raise ValueError(f"expected one of source, core_set and random = true for '{self.label}'")
        if self.label == DIRECT:
            raise ValueError(f"label: '{DIRECT}' is the core that a scan's own images train")
        if self.pretrained_on and self.source is None:
            raise ValueError("pretrained_on: only for cores that are given by a source")


@dataclass(frozen=True, config=STRICT)
class Target:
    """Whose responses are predicted."""

    name: Text  # what grids call it
    # ``"within-animal"`` or ``"across-animals"``: where the cores' neurons come from
    scope: Annotated[str, one_of(CHOICES["scope"])]
    # paths or patterns of one scan, or of several that show the same neurons, relative to the config file or else to
    # the working directory
    scans: Paths
    # the same of the truth behind simulated scans (.npz), in the order of the scans; empty for none
    truth: tuple[Text, ...] = ()
    # for scans that are in a core set too: how many of their neurons cores are trained on. Readouts are fitted to
    # others
    core_units: Count | None = None
    # seed of one draw of training images for all partitions, which then differ in their neurons alone; None draws
    # images anew in every partition
    image_seed: WholeNumber | None = None


@dataclass(frozen=True, config=STRICT)
class Grid:
    """Runs: every combination of what the lists hold."""

    # ``"direct"`` (core and readout trained end to end on n images of the target), ``"best-core/diff-readout"`` (core
    # pretrained on all images of its set, readout on n images of the target) or ``"diff-core/best-readout"`` (core on
    # n images of its set, readout on all of the target)
    condition: Annotated[str, one_of(CHOICES["condition"])]
    target: Text  # name of a target
    images: Counts  # numbers n of training images
    readouts: tuple[ReadoutName, ...]  # keys of ``READOUTS``
    cores: tuple[Text, ...] = ()  # labels of cores; none for ``"direct"``
    # how readouts are fitted: ``"convex"``, ``"sgd"``, or ``"end-to-end"`` for ``"direct"``, where ``"convex"``
    # stands for a readout fitted anew to the core that came of it. Empty: the convex solver where there is one, and
    # end to end for ``"direct"``
    methods: tuple[Text, ...] = ()
    sharing: tuple[bool, ...] = (False,)  # whether matched neurons of several scans share feature weights
    units: WholeNumbers = (0,)  # numbers of neurons; 0 for all that are not kept for cores
    seeds: WholeNumbers | None = None  # of the models; None for the config's
    partitions: WholeNumbers | None = None  # of neurons and images; None for the config's

    def __post_init__(self) -> None:
        if (self.condition == DIRECT) == bool(self.cores):
            raise ValueError(
                f"cores: expected {'none' if self.cores else 'at least one'} for condition "
                f"'{self.condition}', got {listing(self.cores) or 'none'}"
            )
        for readout in self.readouts:
            self.methods_of(readout)

    def methods_of(self, readout: str) -> tuple[str, ...]:
        """How readouts of a kind are fitted."""
        gaussian = READOUTS[readout]["kind"] == "gaussian"
        first = END_TO_END if self.condition == DIRECT else SGD
        possible = (CONVEX, first) if gaussian else (first,)
        for method in self.methods:
            if method not in possible:
                raise ValueError(
                    f"methods: expected some of {listing(possible)} for readout '{readout}' in condition "
                    f"'{self.condition}', got '{method}'"
                )
        return self.methods or ((CONVEX,) if gaussian and self.condition != DIRECT else (first,))


@dataclass(frozen=True, config=STRICT)
class BenchmarkConfig(Settings):
    """A whole benchmark. The defaults are the paper's protocol: five model seeds in each of five partitions."""

    name: Text  # of the benchmark
    title: Text  # what the data are, for people; say here whether they are simulated
    simulated: bool  # whether responses are simulated; results carry it
    targets: tuple[Target, ...]  # what is predicted
    grids: Annotated[tuple[Grid, ...], Field(min_length=1)]  # which runs there are
    cores: tuple[CoreEntry, ...] = ()  # what is compared
    # folder of a simulated study, whose scans make the core sets of ``training.simulation.animals``
    study: Text | None = None
    # names of further core sets, or other scans for those, to paths or patterns of scans
    core_sets: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    seeds: WholeNumbers = (0, 1, 2, 3, 4)  # of the models
    partitions: WholeNumbers = (0, 1, 2, 3, 4)  # numbers of the draws of neurons and images
    # shape and input contract of cores that are trained here, and of random ones
    core: CoreConfig = field(default_factory=CoreConfig)
    # how cores are pretrained: tables readout, optimisation and compute as in a pretraining config. The default is
    # the published recipe, as for the other two
    pretraining: RecipeTables = field(default_factory=dict)
    direct: RecipeTables = field(
        default_factory=dict
    )  # how core and readout are trained end to end on the target
    # how readouts are trained on frozen cores with method ``"sgd"``
    frozen: RecipeTables = field(default_factory=dict)
    # readout to number of images to the weight of its regulariser, instead of the recipes' ``feature_l1``, as
    # ``training.hyperparameter_search --fine-tune`` finds it. The number closest in ratio counts
    feature_l1: Mapping[ReadoutName, ByImages[NotNegative]] = field(default_factory=dict)
    # readout to learning rate on frozen cores, instead of that of ``frozen``
    learning_rate: Mapping[ReadoutName, Positive] = field(default_factory=dict)
    # number of images to most epochs of direct training, instead of ``direct``'s ``max_epochs``: few images make
    # short epochs. The number closest in ratio counts
    direct_epochs: ByImages[Count] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, key in {"targets": "name", "cores": "label"}.items():
            keys = [getattr(entry, key) for entry in getattr(self, name)]
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise ValueError(f"{name}: {listing(twice)} used more than once")
        object.__setattr__(self, "core_sets", self._all_core_sets())
        for entry in self.cores:
            if entry.core_set is not None:
                check_choice(f"cores.core_set of '{entry.label}'", entry.core_set, self.core_sets)
        for grid in self.grids:
            check_choice("grids.target", grid.target, [target.name for target in self.targets])
            for label in grid.cores:
                check_choice("grids.cores", label, [entry.label for entry in self.cores])
                if grid.condition == DIFF_CORE and self.entry(label).core_set is None:
                    raise ValueError(f"grids.cores: condition '{DIFF_CORE}' needs a core_set for '{label}'")
        for kind in ("pretraining", "direct", "frozen"):
            try:
                self.recipe(kind)
            except ValueError as error:
                raise ValueError(f"{kind}: {error}") from None

    def _all_core_sets(self) -> dict[str, tuple[str, ...]]:
        sets: dict[str, tuple[str, ...]] = {}
        if self.study is not None:
            sets = {
                name: tuple(f"{self.study}/{scan}.h5" for scan in scans) for name, scans in CORE_SETS.items()
            }
        return {**sets, **self.core_sets}

    def entry(self, label: str) -> CoreEntry:
        """The core of that label."""
        return next(entry for entry in self.cores if entry.label == label)

    def target(self, name: str) -> Target:
        """The target of that name."""
        return next(target for target in self.targets if target.name == name)

    def recipe(
        self,
        kind: str,
        *,
        seed: int = 0,
        readout: str | None = None,
        share_features: bool = False,
        images: int = 0,
    ) -> PretrainConfig:
        """How something is trained: ``kind`` is ``"pretraining"``, ``"direct"`` or ``"frozen"``.

        Without a readout it is what the recipe's own table says; ``images`` decides the regulariser and the epochs of
        direct training, 0 where nothing depends on it.
        """
        tables = {key: dict(table) for key, table in getattr(self, kind).items()}
        settings = {**tables.get("readout", {}), "share_features": share_features}
        optimisation = dict(tables.get("optimisation", {}))
        if readout is not None:
            settings |= READOUTS[readout]
            if kind == "frozen" and readout in self.learning_rate:
                optimisation["learning_rate"] = self.learning_rate[readout]
            if images and readout in self.feature_l1:
                optimisation["feature_l1"] = _closest(self.feature_l1[readout], images)
        if kind == "direct" and images and self.direct_epochs:
            optimisation["max_epochs"] = _closest(self.direct_epochs, images)
        tables["optimisation"] = optimisation
        tables["readout"] = settings
        return PretrainConfig.from_dict(
            {"name": kind, "scans": ["scan.h5"], "seed": seed, "core": self.core.to_dict(), **tables}
        )


def _closest(by_images: Mapping[int, Number], images: int) -> Number:
    return by_images[min(by_images, key=lambda count: abs(math.log(count / images)))]
