"""What a transfer benchmark can be told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mousev1.core.network import CoreConfig
from mousev1.errors import check_choice, listing, reject_unknown_keys
from training.pretraining.config import PretrainConfig, read_toml, whole_numbers
from training.transfer_benchmark.protocol import CORE_SETS
from training.transfer_benchmark.results_table import CHOICES

Number = TypeVar("Number", int, float)

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


@dataclass(frozen=True)
class CoreEntry:
    """A core to compare; exactly one of ``source``, ``core_set`` and ``random`` says where it comes from.

    Attributes:
        label: what results call it.
        source: what ``training.networks.representations.load_representation`` takes: a name, a folder, a
            repository, the file of a published checkpoint.
        core_set: name of the scans to pretrain it on, with the seed of the cell.
        random: random weights in the config's shape, from the seed of the cell.
        share_features: matched neurons of the core set share feature weights in pretraining.
        pretrained_on: what results show as the core set of a given core, for example ``"11-S"``.
    """

    label: str
    source: str | None = None
    core_set: str | None = None
    random: bool = False
    share_features: bool = False
    pretrained_on: str = ""

    def __post_init__(self) -> None:
        _check_text("cores.label", self.label)
        origins = [self.source is not None, self.core_set is not None, self.random]
        if sum(origins) != 1:
            raise ValueError(f"cores: expected one of source, core_set and random = true for '{self.label}'")
        if self.label == DIRECT:
            raise ValueError(f"cores.label: '{DIRECT}' is the core that a scan's own images train")
        if self.pretrained_on and self.source is None:
            raise ValueError("cores.pretrained_on: only for cores that are given by a source")


@dataclass(frozen=True)
class Target:
    """Whose responses are predicted.

    Attributes:
        name: what grids call it.
        scope: ``"within-animal"`` or ``"across-animals"``: where the cores' neurons come from.
        scans: paths or patterns of one scan, or of several that show the same neurons, relative to the
            config file or else to the working directory.
        truth: the same of the truth behind simulated scans (.npz), in the order of the scans; empty for none.
        core_units: for scans that are in a core set too: how many of their neurons cores are trained
            on. Readouts are fitted to others.
        image_seed: seed of one draw of training images for all partitions, which then differ in their neurons
            alone; None draws images anew in every partition.
    """

    name: str
    scope: str
    scans: tuple[str, ...]
    truth: tuple[str, ...] = ()
    core_units: int | None = None
    image_seed: int | None = None

    def __post_init__(self) -> None:
        _check_text("targets.name", self.name)
        check_choice("targets.scope", self.scope, CHOICES["scope"])
        for name in ("scans", "truth"):
            object.__setattr__(self, name, _texts(f"targets.{name}", getattr(self, name)))
        if not self.scans:
            raise ValueError(f"targets.scans: expected at least one path or pattern for '{self.name}'")
        if self.core_units is not None:
            whole_numbers("targets.core_units", [self.core_units], 1)
        if self.image_seed is not None:
            whole_numbers("targets.image_seed", [self.image_seed], 0)


@dataclass(frozen=True)
class Grid:
    """Cells: every combination of what the lists hold.

    Attributes:
        condition: ``"direct"`` (core and readout trained end to end on n images of the target),
            ``"best-core/diff-readout"`` (core pretrained on all images of its set, readout on n images of the
            target) or ``"diff-core/best-readout"`` (core on n images of its set, readout on all of the target).
        target: name of a target.
        images: numbers n of training images.
        readouts: keys of ``READOUTS``.
        cores: labels of cores; none for ``"direct"``.
        methods: how readouts are fitted: ``"convex"``, ``"sgd"``, or ``"end-to-end"`` for ``"direct"``,
            where ``"convex"`` stands for a readout fitted anew to the core that came of it. Empty: the
            convex solver where there is one, and end to end for ``"direct"``.
        sharing: whether matched neurons of several scans share feature weights.
        units: numbers of neurons; 0 for all that are not kept for cores.
        seeds: of the models; None for the config's.
        partitions: of neurons and images; None for the config's.
    """

    condition: str
    target: str
    images: tuple[int, ...]
    readouts: tuple[str, ...]
    cores: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    sharing: tuple[bool, ...] = (False,)
    units: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] | None = None
    partitions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("grids.condition", self.condition, CHOICES["condition"])
        for name, least in {"images": 1, "units": 0, "seeds": 0, "partitions": 0}.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_numbers(f"grids.{name}", getattr(self, name), least))
        for name in ("readouts", "cores", "methods"):
            object.__setattr__(self, name, _texts(f"grids.{name}", getattr(self, name)))
        if not isinstance(self.sharing, list | tuple) or not {*map(type, self.sharing)} <= {bool}:
            raise ValueError(f"grids.sharing: expected a list of true and false, got {self.sharing!r}")
        object.__setattr__(self, "sharing", tuple(self.sharing))
        for readout in self.readouts:
            check_choice("grids.readouts", readout, READOUTS)
        if (self.condition == DIRECT) == bool(self.cores):
            raise ValueError(
                f"grids.cores: expected {'none' if self.cores else 'at least one'} for condition "
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
                    f"grids.methods: expected some of {listing(possible)} for readout '{readout}' in condition "
                    f"'{self.condition}', got '{method}'"
                )
        return self.methods or ((CONVEX,) if gaussian and self.condition != DIRECT else (first,))


@dataclass(frozen=True)
class BenchmarkConfig:
    """A whole benchmark. The defaults are the paper's protocol: five model seeds in each of five partitions.

    Attributes:
        name: of the benchmark.
        title: what the data are, for people; say here whether they are simulated.
        simulated: whether responses are simulated; results carry it.
        targets: what is predicted.
        grids: which cells there are.
        cores: what is compared.
        study: folder of a simulated study, whose scans make the core sets of ``training.transfer_benchmark.protocol``.
        core_sets: names of further core sets, or other scans for those, to paths or patterns of scans.
        seeds: of the models.
        partitions: numbers of the draws of neurons and images.
        core: shape and input contract of cores that are trained here, and of random ones.
        pretraining: how cores are pretrained: tables readout, optimisation and compute as in a pretraining
            config. The default is the published recipe, as for the other two.
        direct: how core and readout are trained end to end on the target.
        frozen: how readouts are trained on frozen cores with method ``"sgd"``.
        feature_l1: readout to number of images to the weight of its regulariser, in place of the recipes'
            ``feature_l1``, as ``training.hyperparameter_search --fine-tune`` finds it. The number
            closest in ratio counts.
        learning_rate: readout to learning rate on frozen cores, in place of that of ``frozen``.
        direct_epochs: number of images to most epochs of direct training, in place of ``direct``'s
            ``max_epochs``: few images make short epochs. The number closest in ratio counts.
    """

    name: str
    title: str
    simulated: bool
    targets: tuple[Target, ...]
    grids: tuple[Grid, ...]
    cores: tuple[CoreEntry, ...] = ()
    study: str | None = None
    core_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    partitions: tuple[int, ...] = (0, 1, 2, 3, 4)
    core: CoreConfig = field(default_factory=CoreConfig)
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    direct: Mapping[str, Any] = field(default_factory=dict)
    frozen: Mapping[str, Any] = field(default_factory=dict)
    feature_l1: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    learning_rate: Mapping[str, float] = field(default_factory=dict)
    direct_epochs: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_text("title", self.title)
        if type(self.simulated) is not bool:
            raise ValueError(f"simulated: expected true or false, got {self.simulated!r}")
        for name in ("seeds", "partitions"):
            object.__setattr__(self, name, whole_numbers(name, getattr(self, name), 0))
        for name, key in {"targets": "name", "cores": "label"}.items():
            keys = [getattr(entry, key) for entry in getattr(self, name)]
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise ValueError(f"{name}: {listing(twice)} used more than once")
        object.__setattr__(self, "core_sets", self._all_core_sets())
        object.__setattr__(self, "feature_l1", _regularisers(self.feature_l1))
        if self.direct_epochs:
            expected = "numbers of images with a number of epochs of at least 1 each"
            epochs = _by_images("direct_epochs", self.direct_epochs, int, 1, expected)
            object.__setattr__(self, "direct_epochs", epochs)
        for readout, rate in self.learning_rate.items():
            check_choice("learning_rate", readout, READOUTS)
            if type(rate) not in (int, float) or rate <= 0:
                raise ValueError(f"learning_rate.{readout}: expected a positive number, got {rate!r}")
        for entry in self.cores:
            if entry.core_set is not None:
                check_choice(f"cores.core_set of '{entry.label}'", entry.core_set, self.core_sets)
        if not self.grids:
            raise ValueError("grids: expected at least one table [[grids]]")
        for grid in self.grids:
            check_choice("grids.target", grid.target, [target.name for target in self.targets])
            for label in grid.cores:
                check_choice("grids.cores", label, [entry.label for entry in self.cores])
                if grid.condition == DIFF_CORE and self.entry(label).core_set is None:
                    raise ValueError(f"grids.cores: condition '{DIFF_CORE}' needs a core_set for '{label}'")
        for recipe in ("pretraining", "direct", "frozen"):
            self.recipe(recipe)

    def _all_core_sets(self) -> dict[str, tuple[str, ...]]:
        sets: dict[str, tuple[str, ...]] = {}
        if self.study is not None:
            _check_text("study", self.study)
            sets = {
                name: tuple(f"{self.study}/{scan}.h5" for scan in scans) for name, scans in CORE_SETS.items()
            }
        return sets | {name: _texts(f"core_sets.{name}", scans) for name, scans in self.core_sets.items()}

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
        """How something is trained.

        Args:
            kind: ``"pretraining"``, ``"direct"`` or ``"frozen"``.
            seed: of the training.
            readout: a key of ``READOUTS``; None for what the recipe's own table says.
            share_features: whether matched neurons share feature weights.
            images: number of training images, for the regulariser and the epochs of direct training; 0
                where nothing depends on it.
        """
        tables = {key: dict(table) for key, table in getattr(self, kind).items()}
        if unknown := sorted({*tables} - {"readout", "optimisation", "compute"}):
            raise ValueError(f"{kind}: unknown table {listing(unknown)}; see training/config.py")
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

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "core": self.core.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BenchmarkConfig:
        """The config from plain values; unknown keys raise ``ValueError``, as does a missing one."""
        reject_unknown_keys("benchmark config", values, cls)
        missing = [
            key for key in ("name", "title", "simulated", "targets", "grids") if values.get(key) is None
        ]
        if missing:
            raise ValueError(f"benchmark config: missing {listing(missing)}; these have no default")
        values = dict(values)
        for key, schema in {"targets": Target, "grids": Grid, "cores": CoreEntry}.items():
            if key in values:
                values[key] = tuple(_entry(key, entry, schema) for entry in _list(key, values[key]))
        for key in ("core", "core_sets", "pretraining", "direct", "frozen", "feature_l1", "learning_rate"):
            if not isinstance(values.get(key, {}), dict):
                raise ValueError(f"{key}: expected a table, got {values[key]!r}")
        if "core" in values:
            values["core"] = CoreConfig.from_dict(values["core"])
        return cls(**values)


def read_benchmark_config(path: str | Path) -> BenchmarkConfig:
    """The config of a TOML file, which lists only what departs from the defaults.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, an unknown key, or a value of the wrong type or out of its range.
    """
    return BenchmarkConfig.from_dict(read_toml(path))


def _entry(key: str, values: Any, schema: type) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{key}: expected tables [[{key}]], got {values!r}")
    reject_unknown_keys(f"benchmark config, table [[{key}]]", values, schema)
    needed = [
        f.name
        for f in dataclasses.fields(schema)
        if f.default is dataclasses.MISSING and f.name not in values
    ]
    if needed:
        raise ValueError(f"{key}: missing {listing(needed)} in {values!r}")
    return schema(**values)


def _list(key: str, values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise ValueError(f"{key}: expected tables [[{key}]], got {values!r}")
    return values


def _regularisers(values: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    for readout in values:
        check_choice("feature_l1", readout, READOUTS)
    expected = "numbers of images with a weight of at least 0 each"
    return {
        readout: _by_images(f"feature_l1.{readout}", weights, float, 0, expected)
        for readout, weights in values.items()
    }


def _by_images(
    name: str, values: Any, kind: Callable[[Any], Number], least: int, expected: str
) -> dict[int, Number]:
    """A table of values by numbers of images."""
    try:
        # Keys of TOML and JSON are texts.
        found = {int(images): kind(value) for images, value in values.items()}
    except (AttributeError, TypeError, ValueError):
        found = {}
    if not found or min(found) < 1 or min(found.values()) < least:
        raise ValueError(f"{name}: expected {expected}, got {values!r}")
    return found


def _closest(by_images: Mapping[int, Number], images: int) -> Number:
    return by_images[min(by_images, key=lambda count: abs(math.log(count / images)))]


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a text, got {value!r}")


def _texts(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"{name}: expected a list of texts, got {values!r}")
    return tuple(values)
