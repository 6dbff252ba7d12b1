"""What a pretraining run can be told: every setting with its default, which is the published recipe's."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mousev1.core.network import CoreConfig
from mousev1.errors import check_choice, listing, reject_unknown_keys
from mousev1.readout.gaussian import PositionNetworkConfig

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library of 3.10 has no TOML reader
    import tomli as tomllib


@dataclass(frozen=True)
class ReadoutConfig:
    """The readout that each scan gets.

    Attributes:
        kind: which readout, a key of ``training.pretraining.readouts.BUILDERS``.
        cortex: predict positions from cortical positions; otherwise each neuron has a free one.
        share_features: neurons with the same match id in scans of one animal share their feature
            weights, with a scale and a bias per scan.
        init_sigma: entries of a neuron's sampling map start uniformly within +- this.
        init_range: free positions start uniformly within +- this.
        position_network: shape of the map from cortex to positions.
    """

    kind: str = "gaussian"
    cortex: bool = True
    share_features: bool = False
    init_sigma: float = 0.1
    init_range: float = 0.3
    position_network: PositionNetworkConfig = field(default_factory=PositionNetworkConfig)

    def __post_init__(self) -> None:
        _check_positive(self, "init_sigma", "init_range")


@dataclass(frozen=True)
class OptimisationConfig:
    """The published recipe: Lurz et al. 2021, section 3, and its code (github.com/sinzlab/nnsysident).

    Attributes:
        learning_rate: of Adam, at the start.
        decay: factor on the learning rate whenever the patience runs out.
        rounds: how often the patience may run out; the decays are one fewer.
        min_learning_rate: floor of the learning rate.
        patience: epochs without a better validation correlation.
        tolerance: what counts as better.
        max_epochs: upper limit over all rounds.
        batch_size: images of one scan per step; a step takes one batch of every scan.
        feature_l1: weight of each scan's summed absolute feature weights; for readouts other than the
            Gaussian, of their penalty (``feature_l1`` in ``training.networks``), which is of another size.
        smoothness: weight of the first layer's Laplacian penalty, added once per scan and step.
    """

    learning_rate: float = 5e-3
    decay: float = 0.3
    rounds: int = 3
    min_learning_rate: float = 1e-4
    patience: int = 5
    tolerance: float = 1e-6
    max_epochs: int = 200
    batch_size: int = 64
    feature_l1: float = 2.439
    smoothness: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate", "rounds", "patience", "max_epochs", "batch_size")
        _check_not_negative(self, "min_learning_rate", "tolerance", "feature_l1", "smoothness")
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"decay: expected a factor above 0, at most 1, got {self.decay}")


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how to compute.

    Attributes:
        device: ``"auto"`` takes a GPU if there is one; else ``"cpu"``, ``"cuda"``, ``"mps"``.
        threads: of each process on the processor; 0 leaves it to torch. A resumed run equals the
            uninterrupted one bit for bit only with the same number.
        mixed_precision: run the core in bfloat16 where that is safe.
        compile: run the core through ``torch.compile``.
    """

    device: str = "auto"
    threads: int = 0
    mixed_precision: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        _check_not_negative(self, "threads")


@dataclass(frozen=True)
class PretrainConfig:
    """A whole run.

    Attributes:
        name: of the core, and by default of the run's folder.
        scans: paths or patterns (``data/*.h5``) of at least one scan, relative to the config file or
            else to the working directory.
        seed: of initial weights, the order of images and the sampled positions.
        core: sizes and input contract of the core.
        readout: what each scan is read out with.
        optimisation: the recipe.
        compute: where and how.
    """

    name: str
    scans: tuple[str, ...]
    seed: int = 0
    core: CoreConfig = field(default_factory=CoreConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise ValueError(f"name: expected a text that can name a folder, got {self.name!r}")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed: expected a whole number from 0, got {self.seed!r}")

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, ready for JSON."""
        values = dataclasses.asdict(self)
        values["scans"] = list(self.scans)
        values["core"] = self.core.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PretrainConfig:
        """The config from plain values; unknown keys raise ``ValueError``, as does a missing one."""
        reject_unknown_keys("pretraining config", values, cls)
        missing = [key for key in ("name", "scans") if key not in values]
        if missing:
            raise ValueError(f"pretraining config: missing {listing(missing)}; these have no default")
        scans = values["scans"]
        if not isinstance(scans, list) or not scans or not all(isinstance(scan, str) for scan in scans):
            raise ValueError(f"scans: expected a list of at least one path or pattern, got {scans!r}")
        parts = {key: dict(_table(values, key)) for key in ("core", "readout", "optimisation", "compute")}
        network = _table(parts["readout"], "position_network")
        parts["readout"]["position_network"] = _build(
            "readout.position_network", network, PositionNetworkConfig
        )
        return cls(
            name=values["name"],
            scans=tuple(scans),
            seed=values.get("seed", 0),
            core=CoreConfig.from_dict(parts["core"]),
            readout=_build("readout", parts["readout"], ReadoutConfig),
            optimisation=_build("optimisation", parts["optimisation"], OptimisationConfig),
            compute=_build("compute", parts["compute"], ComputeConfig),
        )


def read_config(path: str | Path) -> PretrainConfig:
    """The config of a TOML file, which lists only what departs from the defaults.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, an unknown key, or a value of the wrong type or out of its range.
    """
    return PretrainConfig.from_dict(read_toml(path))


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
        raise ValueError(f"config: {path} is not valid TOML: {error}") from None


def find_scans(patterns: tuple[str, ...], config_folder: Path) -> list[Path]:
    """The scans that patterns name, each pattern's in alphabetical order.

    Raises:
        FileNotFoundError: a pattern that matches nothing.
        ValueError: a scan named twice.
    """
    found: list[Path] = []
    for pattern in patterns:
        bases = [Path()] if Path(pattern).is_absolute() else [config_folder, Path()]
        for base in bases:
            matches = _matches(base, pattern)
            if matches:
                break
        else:
            places = " nor ".join(f"'{base.resolve()}'" for base in bases)
            raise FileNotFoundError(f"scans: nothing matches '{pattern}' in {places}; adapt the config")
        found += matches
    twice = sorted({str(path) for path in found if found.count(path) > 1})
    if twice:
        raise ValueError(f"scans: {listing(twice)} named more than once")
    return found


def _matches(base: Path, pattern: str) -> list[Path]:
    whole = base / pattern
    if not any(letter in pattern for letter in "*?["):
        return [whole] if whole.exists() else []
    anchor = Path(whole.anchor) if whole.is_absolute() else Path()
    return sorted(anchor.glob(str(whole.relative_to(anchor))))


def whole_numbers(name: str, values: Any, least: int) -> tuple[int, ...]:
    """A list of a config as a tuple; ``ValueError`` unless it is different whole numbers from ``least``."""
    if not isinstance(values, list | tuple) or any(type(v) is not int or v < least for v in values):
        raise ValueError(f"{name}: expected whole numbers from {least}, got {values!r}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: expected every number once, got {values!r}")
    return tuple(values)


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{key}: expected a table, got {table!r}")
    return table


def _build(what: str, values: dict[str, Any], schema: type) -> Any:
    reject_unknown_keys(f"pretraining config, table [{what}]", values, schema)
    for attribute in dataclasses.fields(schema):
        if attribute.name in values and attribute.default is not dataclasses.MISSING:
            expected, got = type(attribute.default), values[attribute.name]
            # A whole number may stand for a decimal one; nothing else may stand for another type.
            if type(got) is not expected and not (expected is float and type(got) is int):
                raise ValueError(f"{what}.{attribute.name}: expected a {expected.__name__}, got {got!r}")
            values = {**values, attribute.name: expected(got)}
    return schema(**values)


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}: expected a positive number, got {getattr(config, name)}")


def _check_not_negative(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name}: expected 0 or a positive number, got {getattr(config, name)}")
