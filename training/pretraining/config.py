"""The settings of a pretraining run with their defaults, which are the published recipe's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from glob import glob
from pathlib import Path
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from mousev1.core.network import CoreConfig
from mousev1.errors import listing
from mousev1.fit.settings import TrainingSettings
from mousev1.readout.gaussian import PositionNetworkConfig
from training.settings import (
    STRICT,
    FolderName,
    NotNegative,
    Paths,
    Positive,
    Settings,
    WholeNumber,
    one_of,
)

RecipeTables = Mapping[Annotated[str, one_of(("readout", "optimisation", "compute"))], Mapping[str, Any]]
"""Tables of a ``PretrainConfig`` inside of another config, as plain values; that config adds to them."""


@dataclass(frozen=True, config=STRICT)
class ReadoutConfig:
    """The readout that each scan gets."""

    kind: str = "gaussian"  # which readout, a key of ``training.pretraining.model.BUILDERS``
    cortex: bool = True  # predict positions from cortical positions; otherwise each neuron has a free one
    # neurons with the same match id in scans of one animal share their feature weights, with a scale and a bias per
    # scan
    share_features: bool = False
    init_sigma: Positive = 0.1  # entries of a neuron's sampling map start uniformly within +- this
    init_range: Positive = 0.3  # free positions start uniformly within +- this
    # shape of the map from cortex to positions
    position_network: PositionNetworkConfig = field(default_factory=PositionNetworkConfig)


@dataclass(frozen=True, config=STRICT)
class OptimisationConfig(TrainingSettings):
    """The published recipe, as for readouts, and what it asks of the core."""

    # weight of the first layer's Laplacian penalty, added once per scan and step
    smoothness: NotNegative = 1.0


@dataclass(frozen=True, config=STRICT)
class ComputeConfig:
    """Where and how to compute."""

    # ``"auto"`` takes a GPU if there is one; else ``"cpu"``, ``"cuda"``, ``"mps"``
    device: Annotated[str, one_of(("auto", "cpu", "cuda", "mps"))] = "auto"
    # of each process on the processor; 0 leaves it to torch. A resumed run equals the uninterrupted one bit for bit
    # only with the same number
    threads: WholeNumber = 0
    mixed_precision: bool = False  # run the core in bfloat16 where that is safe
    compile: bool = False  # run the core through ``torch.compile``


@dataclass(frozen=True, config=STRICT)
class PretrainConfig(Settings):
    """A whole run."""

    name: FolderName  # of the core, and by default of the run's folder
    # paths or patterns (``data/*.h5``) of at least one scan, relative to the config file or else to the working
    # directory
    scans: Paths
    seed: WholeNumber = 0  # of initial weights, the order of images and the sampled positions
    core: CoreConfig = field(default_factory=CoreConfig)  # sizes and input contract of the core
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)  # what each scan is read out with
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)  # the recipe
    compute: ComputeConfig = field(default_factory=ComputeConfig)  # where and how


def find_scans(patterns: tuple[str, ...], config_folder: Path) -> list[Path]:
    """The scans that patterns name, each pattern's in alphabetical order.

    Raises:
        FileNotFoundError: a pattern that matches nothing.
        ValueError: a scan named twice.
    """
    found: list[Path] = []
    for pattern in patterns:
        for base in (config_folder, Path()):
            if matches := sorted(base / match for match in glob(pattern, root_dir=base)):
                break
        else:
            raise FileNotFoundError(
                f"scans: nothing matches '{pattern}' in '{config_folder.resolve()}' nor '{Path().resolve()}'; adapt "
                "the config"
            )
        found += matches
    if twice := sorted({str(path) for path in found if found.count(path) > 1}):
        raise ValueError(f"scans: {listing(twice)} named more than once")
    return found
