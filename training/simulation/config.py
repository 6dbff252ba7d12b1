"""A simulation as a config: the size of the study, and the tables of ``settings``."""

from __future__ import annotations

from dataclasses import field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from training.settings import STRICT, Settings, WholeNumber, one_of
from training.simulation.animals import PLANS
from training.simulation.settings import (
    DEAD_LEAVES,
    NeuronConfig,
    NoiseConfig,
    RetinotopyConfig,
    StimulusConfig,
)

FILE_SUFFIXES: dict[str, str] = {"hdf5": ".h5", "zip": ".zip", "tree": ""}
"""What each file format adds to the name of a scan."""

IMAGE_IDS_PER_SET = 1_000_000
"""Image ids of one set of images (test, or a scan's training or validation set) lie in one such range."""

SetSize = Annotated[int, Field(ge=1, lt=IMAGE_IDS_PER_SET)]


@dataclass(frozen=True, config=STRICT)
class SimulationConfig(Settings):
    """A whole simulation. The defaults are the size of the real study."""

    seed: WholeNumber = 0  # the only source of randomness
    # names of the scans to make; leaving some out does not change the others
    scans: Annotated[tuple[Annotated[str, one_of(PLANS)], ...], Field(min_length=1)] = tuple(PLANS)
    unit_scale: Annotated[float, Field(gt=0, le=1)] = 1.0  # neurons per scan, as a fraction of the real count
    train_images: SetSize = 4472  # training images per scan, one trial each
    validation_images: SetSize = 500  # validation images per scan, one trial each
    test_images: SetSize = 100  # test images, the same in every scan
    test_repeats: SetSize = 10  # trials of every test image
    height: int = 36  # rows of the frame
    width: int = 64  # columns of the frame
    # ``"hdf5"``, ``"zip"`` or ``"tree"``: one of the formats ``mousev1.read_scan`` reads
    file_format: Annotated[str, one_of(FILE_SUFFIXES)] = "hdf5"
    # ``"test"`` saves true rates for the test images, ``"all"`` for every image
    truth_rates: Annotated[str, one_of(("test", "all"))] = "test"
    stimuli: StimulusConfig = field(default_factory=StimulusConfig)  # where the images come from
    retinotopy: RetinotopyConfig = field(default_factory=RetinotopyConfig)  # how cortex maps onto the monitor
    neurons: NeuronConfig = field(default_factory=NeuronConfig)  # what the neurons are like
    noise: NoiseConfig = field(default_factory=NoiseConfig)  # how one trial differs from the next

    def __post_init__(self) -> None:
        smallest = 2 * int(self.retinotopy.margin_px) + 4
        for name in ("height", "width"):
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"{name}: expected at least {smallest} pixels (twice the retinotopy margin of "
                    f"{self.retinotopy.margin_px:g} and room for receptive fields), got {getattr(self, name)}"
                )

    def units(self, scan: str) -> int:
        """Number of neurons U of a scan at this scale, at least 2."""
        return max(2, round(PLANS[scan].units * self.unit_scale))

    @classmethod
    def read(cls, path: str | Path) -> SimulationConfig:
        """The config of a TOML file; a relative path of stimuli starts at the file. See ``Settings.read``."""
        config = super().read(path)
        if config.stimuli.source != DEAD_LEAVES:
            source = str(Path(path).parent / config.stimuli.source)
            config = replace(config, stimuli=replace(config.stimuli, source=source))
        return config
