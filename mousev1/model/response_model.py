"""A fitted model of a scan: core, readout and what is known of its neurons."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mousev1.core.crop import Region
from mousev1.core.feature_statistics import TrainingStatistics
from mousev1.core.inference import features_within, fuse, map_images
from mousev1.core.representation import FrozenCore, with_own_modules
from mousev1.data.cleaning import settle_negatives
from mousev1.data.images import Images, check_ids, image_identities, in_frame, prepare_images, resample
from mousev1.data.validation import checked_responses, plain_array
from mousev1.errors import listing
from mousev1.numerics.torch_modes import plain_modes
from mousev1.numerics.workers import workers
from mousev1.readout.gaussian import GaussianReadout, Readout, rate_from_drive
from mousev1.readout.interpolation import region_around, sample_at
from mousev1.readout.posterior import WeightPosterior, rate_std

if TYPE_CHECKING:
    from mousev1.metrics.score_table import ScoreTable

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

NEURONS_AT_A_TIME = 512
IMAGES_PER_PIECE = 16  # least that a worker takes at once, if there are enough


@dataclass(frozen=True)
class FitRecord:
    """How a model came about, kept with it.

    Attributes:
        method: name of the fit, such as ``"convex"`` or ``"sgd"``, or where the readout came from.
        settings: the fit's settings, plain values.
        n_images: distinct training images.
        pixels_per_degree: resolution of the images given to the fit, before they were resampled to
            the core's; None if they had the core's.
        image_size: (H, W) of the training images in pixels, once resampled; None if unknown.
        scores: mean scores over neurons by name, such as ``validation_correlation``.
        notes: what the user should know, such as neurons without any response.
    """

    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    n_images: int = 0
    pixels_per_degree: float | None = None
    image_size: tuple[int, int] | None = None
    scores: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ResponseModel(nn.Module):
    """Predicts the response of every neuron of a scan to any image.

    Args:
        core: the frozen core.
        readout: the readout of the scan's neurons, on that core's features.
        unit_ids: (U,) whole numbers, the scan's own names of its neurons.
        response_scale: (U,) positive; a rate of 1 from the readout is this much in the units of the
            recorded responses.
        record: how the model was made.
        posterior: how well the weights are known, if the fit estimates it.
        training_statistics: what the training images look like to the core, if the fit keeps it: by it
            ``mousev1.insilico.measure_extrapolation`` knows stimuli unlike them.

    As a torch module it maps (N, C_in, H, W) gray values to (N, U) rates with gradients; ``predict``
    takes pictures of any kind and returns numpy.
    """

    response_scale: Tensor
    unit_ids: Tensor

    def __init__(
        self,
        core: FrozenCore,
        readout: Readout,
        *,
        unit_ids: Sequence[int] | Array | Tensor,
        response_scale: Array | Tensor,
        record: FitRecord,
        posterior: WeightPosterior | None = None,
        training_statistics: TrainingStatistics | None = None,
    ) -> None:
        super().__init__()
        self.core = with_own_modules(core)  # moving or converting the model leaves the given core alone
        self.readout = readout
        self.record = record
        self.posterior = posterior
        self.training_statistics = training_statistics
        self.register_buffer("unit_ids", torch.as_tensor(np.asarray(unit_ids, dtype=np.int64)))
        self.register_buffer("response_scale", torch.as_tensor(response_scale, dtype=torch.float32))
        for name in ("unit_ids", "response_scale"):
            shape = tuple(getattr(self, name).shape)
            if shape != (readout.units,):
                raise ValueError(f"{name}: expected ({readout.units},) as the readout has units, got {shape}")
        if readout.channels != core.config.hidden_channels:
            raise ValueError(
                f"readout: expected {core.config.hidden_channels} channels as the core has, "
                f"got {readout.channels}"
            )
        expected = (readout.channels + 1, readout.units)
        if posterior is not None and (len(posterior.basis), len(posterior.variances)) != expected:
            raise ValueError(
                f"posterior: expected a basis of {expected[0]} rows and variances of {expected[1]}, got "
                f"{len(posterior.basis)} and {len(posterior.variances)}"
            )
        if training_statistics is not None and len(training_statistics.mean) != readout.channels:
            raise ValueError(
                f"training_statistics: expected {readout.channels} channels as the core has, got "
                f"{len(training_statistics.mean)}"
            )
        self.eval()

    @property
    def n_units(self) -> int:
        """Number of neurons U."""
        return int(self.unit_ids.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the model computes; move it with ``model.to("cuda")``."""
        return self.response_scale.device

    def forward(self, images: Tensor) -> Tensor:
        """Responses to a batch of images, with gradients.

        Args:
            images: (N, C_in, H, W), gray values in the core's value range.

        Returns:
            (N, U), in the units of the recorded responses.
        """
        rates: Tensor = self.readout(self.core(images))
        return rates * self.response_scale

    @overload
    def predict(
        self,
        images: Images,
        *,
        return_std: Literal[False] = False,
        pixels_per_degree: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> FloatArray: ...

    @overload
    def predict(
        self,
        images: Images,
        *,
        return_std: Literal[True],
        pixels_per_degree: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> tuple[FloatArray, FloatArray]: ...

    def predict(
        self,
        images: Images,
        *,
        return_std: bool = False,
        pixels_per_degree: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Responses to images, for in-silico experiments.

        Args:
            images: one or more pictures: (N, H, W) or (N, C, H, W) arrays of gray values in the core's
                value range (0 to 255 for 11-S), PIL images, or paths.
            return_std: also return the standard deviation of each predicted response, from the posterior
                of the fit: how well the mean response is known, not how single trials scatter around it.
            pixels_per_degree: resolution of these images; see ``prepare``.
            batch_size: images at a time; changes speed and memory, not the result.
            progress: show a progress bar.

        Returns:
            (N, U) float32, in the units of the responses that the model was fitted to; with
            ``return_std`` a pair of them.

        Raises:
            ValueError: images of a wrong shape, range or size (other than that of the training images), or a
                model without posterior.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if return_std and self.posterior is None:
            raise ValueError(
                f"return_std: this model, fitted by {self.record.method!r}, has no posterior; fit it with "
                "method='convex'"
            )
        stack = self.prepare(images, pixels_per_degree)
        with plain_modes(self.device), torch.no_grad():
            return self._predict(stack, return_std, batch_size, progress)

    def _predict(
        self, stack: Tensor, return_std: bool, batch_size: int, progress: bool
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        fused = fuse(self.core)
        _, height, width = self.core.config.feature_shape(stack.shape[2], stack.shape[3])
        # Of a Gaussian readout it is known which part of the feature map it reads.
        readout, region, mu = self.readout, Region.whole(height, width), self.readout.mu()
        drive_of: Callable[[Tensor], Tensor] = readout.drive
        if isinstance(readout, GaussianReadout):
            region, mu = region_around(mu, height, width)
            drive_of = partial(readout.drive_at, mu=mu)
        rates = np.empty((len(stack), self.n_units), dtype=np.float32)
        spread = np.empty_like(rates) if return_std else None

        def compute(rows: slice) -> None:
            features = features_within(fused, stack[rows].to(self.device, torch.float32), region)
            drive = drive_of(features)
            rates[rows] = (rate_from_drive(drive) * self.response_scale).cpu().numpy()
            if spread is not None:
                spread[rows] = (self._rate_std(features, mu, drive) * self.response_scale).cpu().numpy()

        with workers() as threads:
            parts = threads.slices(len(stack), most=batch_size, least=IMAGES_PER_PIECE)
            done = map_images(threads, fused, compute, parts, device=self.device)
            deque(tqdm(done, desc="predict", unit="batch", total=len(parts), disable=not progress), 0)
        return rates if spread is None else (rates, spread)

    def prepare(self, images: Images, pixels_per_degree: float | None = None) -> Tensor:
        """Images as the model takes them: gray values at the core's resolution, of the size that it was fitted to.

        Args:
            images: pictures of any kind, as for ``predict``.
            pixels_per_degree: resolution of these images. By default images of the fitted size are taken as they
                are, and those of the size that the fit was given as of the resolution that it was given.

        Returns:
            (N, C_in, H, W), uint8 or float32.

        Raises:
            ValueError: images of a wrong shape, range or size; a model that was converted to another type.
        """
        self.check_type()
        config, given = self.core.config, self.record.pixels_per_degree
        stack = prepare_images(
            images, config.input, channels=config.input_channels, pixels_per_degree=pixels_per_degree
        )
        if pixels_per_degree is None and given is not None and stack.shape[2:] != self.record.image_size:
            resampled = resample(stack, config.input, given)
            stack = resampled if resampled.shape[2:] == self.record.image_size else stack
        self.check_size((stack.shape[2], stack.shape[3]))
        return stack

    def to_frame(self, images: Images, pixels_per_degree: float) -> Tensor:
        """Pictures of another size brought into the frame that the model was fitted to, to be predicted.

        Args:
            images: pictures of any kind, as for ``predict``.
            pixels_per_degree: their resolution; they are resampled to the core's. What is larger than the frame
                is cut around the centre, what is smaller is surrounded with gray.

        Returns:
            (N, C_in, H, W), uint8 or float32.
        """
        config = self.core.config
        stack = prepare_images(
            images, config.input, channels=config.input_channels, pixels_per_degree=pixels_per_degree
        )
        return in_frame(stack, config.input, self.record.image_size)

    def check_type(self) -> None:
        """Refuse a model that was converted to another type than float32, in which it is fitted, saved and predicts.

        Raises:
            ValueError: another type.
        """
        if kinds := {str(each.dtype) for each in self.parameters()} - {"torch.float32"}:
            raise ValueError(
                f"model: expected torch.float32 numbers, got {listing(sorted(kinds))}; call model.float() first, "
                "or load the model again if it was in half precision"
            )

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse images of another size than those of the fit, (H, W) in pixels at the core's resolution.

        Positions are parts of the frame: in one of another size every neuron would look elsewhere.

        Raises:
            ValueError: another size.
        """
        fitted = self.record.image_size
        if fitted is None or size == fitted:
            return
        raise ValueError(
            f"images: expected {fitted[0]}x{fitted[1]} pixels at the core's resolution, as the model was fitted "
            f"to, got {size[0]}x{size[1]}; if they show the same part of the visual field, pass their resolution, "
            "pixels_per_degree= (--pixels-per-degree N); if they show another part, model.to_frame(images, "
            "pixels_per_degree=...) also cuts them or surrounds them with gray (--pixels-per-degree N --to-frame)"
        )

    def _rate_std(self, features: Tensor, mu: Tensor, drive: Tensor) -> Tensor:
        """Standard deviation of the rates, (N, U), a block of neurons at a time; mu (U, 2) on the features."""
        assert self.posterior is not None
        posterior = self.posterior.to(self.device)
        blocks = torch.arange(self.n_units, device=self.device).split(NEURONS_AT_A_TIME)
        variance = [
            posterior.select(block).drive_variance(sample_at(features, mu[block])) for block in blocks
        ]
        return rate_std(drive, torch.cat(variance, dim=1))

    def score(
        self,
        images: Images,
        responses: Array,
        image_ids: Array | None = None,
        *,
        pixels_per_degree: float | None = None,
        progress: bool = False,
    ) -> ScoreTable:
        """How well the model predicts recorded responses, one row per neuron.

        Args:
            images: T pictures, one per trial (repeats included), as for ``predict``.
            responses: (T, U) recorded responses, in the units that the model was fitted to.
            image_ids: (T,) identity of each trial's image; equal pictures are found if not given.
            pixels_per_degree: resolution of these images; see ``prepare``.
            progress: show a progress bar.

        Returns:
            Correlations, oracle and explained variance per neuron; NaN where undefined.
        """
        from mousev1.metrics.score_table import score_table

        stack = self.prepare(images, pixels_per_degree)
        responses, _ = settle_negatives(responses)
        if responses.shape != (len(stack), self.n_units):
            raise ValueError(
                f"responses: expected ({len(stack)}, {self.n_units}), one row per image and one column per "
                f"neuron of the model, got {responses.shape}"
            )
        responses = checked_responses(responses)
        identities = image_identities(stack) if image_ids is None else plain_array("image_ids", image_ids)
        if identities.shape != (len(stack),):
            raise ValueError(f"image_ids: expected ({len(stack)},), got {identities.shape}")
        if image_ids is not None:
            check_ids(stack, identities)
        _, first, trial_image = np.unique(identities, return_index=True, return_inverse=True)
        rates = self.predict(stack[torch.from_numpy(first)], progress=progress)[trial_image]
        return score_table(rates, responses, identities, self.unit_ids.cpu().numpy())

    def save(
        self,
        folder: str | Path,
        *,
        include_core: bool | None = None,
        include_posterior: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Write the model as a folder that ``mousev1.load_model`` reads; see ``mousev1.save_model``."""
        from mousev1.hub.model_files import save_model

        return save_model(
            self,
            folder,
            include_core=include_core,
            include_posterior=include_posterior,
            overwrite=overwrite,
        )

    def extra_repr(self) -> str:
        """Neurons and origin, for ``print(model)``."""
        return f"units={self.n_units}, fitted by {self.record.method!r} on core {self.core.name!r}"
