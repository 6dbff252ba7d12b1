"""Settings of the two methods to fit, and of whatever else trains readouts by the published recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from mousev1.core.feature_statistics import IMAGES as STATISTICS_IMAGES
from mousev1.errors import check_choice
from mousev1.readout.gaussian import PositionNetworkConfig


@dataclass(frozen=True)
class TrainingSettings:
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
            Gaussian, of their penalty ``feature_l1``, which is of another size.
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

    def __post_init__(self) -> None:
        for name in ("learning_rate", "rounds", "patience", "max_epochs", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("min_learning_rate", "tolerance", "feature_l1"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or a positive number, got {getattr(self, name)}")
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"decay: expected a factor above 0, at most 1, got {self.decay}")


@dataclass(frozen=True)
class SGDSettings(TrainingSettings):
    """Hyperparameters of ``fit_readout(method="sgd")``: those of ``TrainingSettings`` and what follows.

    Attributes:
        init_sigma: start of the sampling maps, see ``GaussianReadout``; as in the authors' transfer example.
        loss_trials: trials n in the factor sqrt(n / batch) on the loss; None is the number of training
            images. The authors' loader counts all trials of a file, validation and test included.
        position_network: the map from cortex to positions; without positions it is not used.
        batchnorm: ``"frozen"`` keeps the core bit for bit; ``"batch"`` lets its batch norm follow the
            batches, as the published code does, so that the model ends with a core of its own.
    """

    init_sigma: float = 0.4
    loss_trials: int | None = None
    position_network: PositionNetworkConfig = field(default_factory=PositionNetworkConfig)
    batchnorm: str = "frozen"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("batchnorm", self.batchnorm, ("frozen", "batch"))
        if self.loss_trials is not None and not self.loss_trials > 0:
            raise ValueError(f"loss_trials: expected a positive number, got {self.loss_trials}")


@dataclass(frozen=True)
class ConvexSettings:
    """Sizes of the samples that the population's parameters are learned from.

    Attributes:
        first_images: images of which the whole feature map is computed, to see which part of it the neurons
            look at; more for few neurons, and all if there are less than twice as many.
        map_units: most neurons whose score maps decide the map from cortex.
        map_images: most images that these score maps are computed from: half of all, or more for few neurons.
        map_spacing: most pixels of the feature map between the locations that are scored; fewer where
            neighbouring features differ.
        prior_units: most neurons that the prior is learned from.
        prior_images: most images that it is learned from.
        prior_rounds: times that it is learned, from an eighth of these but for the last; 0 keeps the
            starting prior.
    """

    first_images: int = 128
    map_units: int = 1000
    map_images: int = 2000
    map_spacing: int = 2
    prior_units: int = 10_000
    prior_images: int = 6000
    prior_rounds: int = 2

    def __post_init__(self) -> None:
        at_least = {
            "first_images": STATISTICS_IMAGES,
            "map_units": 1,
            "map_images": 8,
            "map_spacing": 1,
            "prior_units": 1,
            "prior_images": 8,
            "prior_rounds": 0,
        }
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
