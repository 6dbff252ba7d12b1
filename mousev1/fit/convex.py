"""A readout on a frozen core without a training loop.

The location that a neuron responds to follows from score maps and retinotopy (``readout_locations``); given
that, its feature weights are a convex problem (``glm``) whose prior the population provides (``prior``). Images
pass through the core once (``features``), but for some if neurons turn out to lie beyond the part that was
computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mousev1.core.feature_statistics import IMAGES as STATISTICS_IMAGES
from mousev1.core.feature_statistics import TrainingStatistics, has_training_statistics, statistics_of
from mousev1.core.representation import FrozenCore
from mousev1.fit.features import FeatureStore
from mousev1.fit.memory import MemoryPlan, peak_memory, plan_memory
from mousev1.fit.model_error import IMAGES as MODEL_ERROR_IMAGES
from mousev1.fit.model_error import UNITS as MODEL_ERROR_UNITS
from mousev1.fit.model_error import USUAL_RATIO, model_error_ratio
from mousev1.fit.newton import GlmFit
from mousev1.fit.population import FitData, PopulationGlm
from mousev1.fit.prior import LEAST_DETERMINED, LEAST_DETERMINED_ALONE, WELL_DETERMINED, WeightPrior
from mousev1.fit.readout_locations import (
    FeatureSource,
    ReadoutLocations,
    find_locations,
    half_extent,
    images_to_compute_whole,
    positions_of,
)
from mousev1.fit.response_preparation import Uncertainty
from mousev1.fit.retinotopy import Retinotopy
from mousev1.fit.score_maps import roughness
from mousev1.fit.settings import ConvexSettings
from mousev1.fit.timing import Clock, Seconds
from mousev1.numerics.arithmetic import variance
from mousev1.numerics.workers import workers
from mousev1.readout.gaussian import rate_from_drive
from mousev1.readout.posterior import WeightPosterior, rate_std
from mousev1.readout.standardisation import Standardisation

# All but the last round that the prior is learned in use one in so many of the sample's neurons, and at least so many.
EARLY_ROUNDS_PART, EARLY_ROUNDS_UNITS = 8, 100


NO_RATE = 1e-12  # in place of 0, which no drive gives
MOST_SILENT_VARIANCE = 1e6


@dataclass(frozen=True)
class ConvexFit:
    """A fitted readout, in the units of the responses given.

    Attributes:
        mu: (U, 2) float32 positions (x, y) on the feature map, from -1 to 1.
        position_covariance: (U, 2, 2) float32, of mu.
        weights: (U, C) float32, for raw core features.
        bias: (U,) float32.
        posterior: covariance of weights and bias.
        dispersion: (U,) float32, variance of the responses over their mean.
        constant: (U,) neurons that never changed: weights 0, their constant as rate.
        model_error: variance of the core's error, in variances of the prediction; part of ``posterior``, as is
            that of the positions.
        statistics: of up to 128 random training images' features, for a ``Core``.
        converged: (U,) whether the solver reached its tolerance.
        prior: the prior learned, for scans to come.
        retinotopy: the map chosen, and the scores of its alternatives.
        memory: what was predicted before work started.
        peak_memory: bytes that the process held at most, up to now.
        seconds: time of each step.
        information: (U, C + 1, C + 1) of the likelihood on standardised features, if it was kept.
        notes: what a user should know.
    """

    mu: Tensor
    position_covariance: Tensor
    weights: Tensor
    bias: Tensor
    posterior: WeightPosterior
    dispersion: Tensor
    constant: Tensor
    model_error: float
    statistics: TrainingStatistics | None
    converged: Tensor
    prior: WeightPrior
    retinotopy: Retinotopy
    memory: MemoryPlan
    peak_memory: int
    seconds: dict[str, Seconds]
    information: Tensor | None = field(default=None, repr=False)
    notes: list[str] = field(default_factory=list)


def fit_convex(  # noqa: PLR0913
    core: FrozenCore,
    images: Tensor,
    responses: Tensor,
    cortex: Tensor | None,
    *,
    scale: Tensor | None = None,
    uncertainty: Uncertainty | None = None,
    settings: ConvexSettings | None = None,
    prior: WeightPrior | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    memory: int | None = None,
    directory: Path | None = None,
    keep_information: bool = False,
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> ConvexFit:
    """Fit a readout.

    Args:
        core: frozen core.
        images: (N, C_in, H, W) gray values in the core's ``value_range``, one per trial.
        responses: (N, U) float32, non-negative.
        scale: (U,) that each neuron's responses are divided by, its standard deviation; 1 by default. What
            is returned is in units of it. Dividing here spares a copy of all responses.
        uncertainty: what is not known of drives besides what the fit finds; part of the posterior.
        cortex: (U, 2) normalised cortical positions (``mousev1.readout.gaussian.normalise_cortex``) or ``None``.
        settings: see ``ConvexSettings``.
        prior: where the prior over weights starts, from another population of neurons on this core.
        seed: of the order of images and the choice of samples.
        device: where the core runs.
        memory: bytes that the process may hold; if features do not fit they go to disk.
        directory: where on disk; the system's folder for temporary files by default.
        keep_information: give ``ConvexFit.information``, 34 kB per neuron for 64 channels.
        progress: show progress bars.
        report: called with the memory plan's one line before work starts, and with one line when it is known
            which part of the feature map neurons respond to.

    Raises:
        ValueError: images and responses do not match, are too few, or never change; ``memory`` is too little.
    """
    fit = _Fit(
        responses=responses,
        scale=torch.ones(responses.shape[1]) if scale is None else scale,
        uncertainty=uncertainty,
        constant=_constant_neurons(images, responses),
        cortex=cortex,
        settings=settings or ConvexSettings(),
        known_prior=prior,
        keep_information=keep_information,
        generator=torch.Generator().manual_seed(seed),
    )
    units = responses.shape[1]
    plan = plan_memory(
        core, images, units, memory=memory, directory=directory, keep_information=keep_information
    )
    if report is not None:
        report(str(plan))
    order = torch.randperm(len(responses), generator=fit.generator)
    with workers(), ExitStack() as stores:
        return fit.run(FeatureSource(core, images, order, device, plan, stores, report, progress))


def _constant_neurons(images: Tensor, responses: Tensor) -> Tensor:
    """(U,) which neurons never change; ``ValueError`` if there is nothing to fit."""
    n = len(responses)
    if len(images) != n:
        raise ValueError(f"responses: expected {len(images)} rows as there are images, got {n}")
    if n < 8:
        raise ValueError(f"images: expected at least 8 to fit and to check on, got {n}")
    constant = (responses == responses[0]).all(dim=0)
    if bool(constant.all()):
        raise ValueError("responses: every neuron is constant; there is nothing to fit")
    return constant


def _statistics(core: FrozenCore, first: FeatureStore, images: Tensor) -> TrainingStatistics | None:
    if not has_training_statistics(core):
        return None
    standardisation = first.standardisation
    return statistics_of(
        first.first(STATISTICS_IMAGES), images, mean=standardisation.mean, std=standardisation.std
    )


def _silent_variance(responses: Tensor) -> Tensor:
    """Variance (U,) of the drive of a neuron that never responds, 0 for all others.

    Its rate is predicted as 0, a drive of log(``NO_RATE``). After N trials without a response a rate of 3 / N
    responses is the 95% bound, of which each is as large as other neurons' are; the variance returned puts it
    1.96 standard deviations of the rate away.
    """
    silent = ~responses.any(dim=0)
    out = torch.zeros(responses.shape[1])
    if bool(silent.any()) and not bool(silent.all()):
        active = responses[:, ~silent]
        typical = float((active.sum(dim=0, dtype=torch.float64) / (active > 0).sum(dim=0)).median())
        drive, wanted = torch.tensor([math.log(NO_RATE)]).double(), typical * 3.0 / len(responses) / 1.96
        low, high = 0.0, MOST_SILENT_VARIANCE
        for _ in range(60):
            middle = (low + high) / 2
            too_little = float(rate_std(drive, torch.tensor([middle]).double())) < wanted
            low, high = (middle, high) if too_little else (low, middle)
        out[silent] = high
    return out


@dataclass
class _Fit:
    """One fit; see ``fit_convex`` and ``ConvexFit`` for what is not said here.

    Attributes:
        constant: (U,) which neurons never change.
        known_prior: where the prior starts, if not from nothing.
        generator: of every random choice.
    """

    responses: Tensor
    scale: Tensor
    uncertainty: Uncertainty | None
    constant: Tensor
    cortex: Tensor | None
    settings: ConvexSettings
    known_prior: WeightPrior | None
    keep_information: bool
    generator: torch.Generator
    clock: Clock = field(default_factory=Clock)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def responsive(self) -> Tensor:
        """Numbers of the neurons that change."""
        return (~self.constant).nonzero()[:, 0]

    def run(self, source: FeatureSource) -> ConvexFit:
        """Locations, prior and weights, one after the other."""
        order, clock, responsive = source.order, self.clock, self.responsive
        if len(responsive) < len(self.constant):
            self.notes.append(
                f"{len(self.constant) - len(responsive)} of {len(self.constant)} neurons never change; their "
                "rate is their constant"
            )
        whole = images_to_compute_whole(len(order), len(responsive), least=self.settings.first_images)
        first = source.compute(whole)
        clock.lap("features")
        statistics = _statistics(source.core, first, source.images[order[:STATISTICS_IMAGES]])
        clock.lap("statistics")
        random = torch.randperm(len(responsive), generator=self.generator)
        data = FitData(first, self.responses, self.scale, order)
        found = find_locations(source, data, self.cortex, responsive[random], self.settings, clock)
        glm = self.learn_prior(found, responsive[random], progress=source.progress)
        clock.lap("prior")
        fits = glm.fit(
            responsive,
            drive_images=min(len(order), MODEL_ERROR_IMAGES),
            keep_information=self.keep_information,
            desc="weights" if source.progress else None,
        )
        clock.lap("weights")
        ratio, model_error = self.model_error(found, fits, random[:MODEL_ERROR_UNITS])
        clock.lap("model error")
        mu, covariance = self.positions(found)
        posterior = WeightPosterior.on_raw_features(
            glm.common.basis[0],
            self.everyone(fits.variances),
            found.data.store.standardisation,
            self.everyone(model_error, _silent_variance(self.responses)),
        )
        return ConvexFit(
            mu=mu,
            position_covariance=covariance.float(),
            posterior=posterior,
            constant=self.constant,
            model_error=ratio,
            statistics=statistics,
            prior=glm.prior,
            retinotopy=found.retinotopy,
            memory=source.plan,
            peak_memory=peak_memory(),
            seconds=clock.seconds,
            notes=self.notes,
            **self.weights(fits, found.data.store.standardisation),
        )

    def everyone(self, values: Tensor, others: float | Tensor = 0) -> Tensor:
        """Values of the responsive neurons among those of all."""
        out = torch.zeros(len(self.constant), *values.shape[1:], dtype=values.dtype)
        out[:] = others
        out[self.responsive] = values
        return out

    def positions(self, found: ReadoutLocations) -> tuple[Tensor, Tensor]:
        """Positions (U, 2) from -1 to 1, and their covariances (U, 2, 2)."""
        store = found.data.store
        half = half_extent(store.height, store.width)
        mu = positions_of(found.locations, store.height, store.width)
        # Weights of constant neurons are 0, so that any position serves whose features are computed.
        return (
            self.everyone(mu, mu.mean(dim=0, dtype=torch.float64).float()),
            self.everyone(
                found.locations.covariance / (half * half[:, None]), torch.eye(2, dtype=torch.float64)
            ),
        )

    def learn_prior(self, found: ReadoutLocations, shuffled: Tensor, *, progress: bool) -> PopulationGlm:
        """The regression, with a prior learned from ``shuffled`` neurons."""
        store, known = found.data.store, self.known_prior
        if known is None:
            start = WeightPrior.broad(store.standardisation, 0.9 / (found.ridge * store.images))
        else:
            start = known.on(store.standardisation)
            self.notes.append(
                f"the prior over weights starts from one learned on {known.units} other neurons"
            )
        glm = PopulationGlm(found.data, self.positions(found)[0], start)
        sample = shuffled[: self.settings.prior_units]
        few = sample[: max(EARLY_ROUNDS_UNITS, len(sample) // EARLY_ROUNDS_PART)]
        for number in range(1, self.settings.prior_rounds + 1):
            glm.learn_prior(
                sample if number == self.settings.prior_rounds else few,
                images=self.settings.prior_images,
                other=None if known is None else start,
                progress=progress,
            )
        if known is None and self.settings.prior_rounds:
            # What little few neurons or events determine is their own, not the population's.
            together = (glm.determined - LEAST_DETERMINED) / (WELL_DETERMINED - LEAST_DETERMINED)
            alone = glm.determined / glm.prior.units / LEAST_DETERMINED_ALONE - 1.0
            glm.prior = start.towards(glm.prior, max(together, alone, 0.0))
        return glm

    def model_error(self, found: ReadoutLocations, fits: GlmFit, some: Tensor) -> tuple[float, Tensor]:
        """The core's error in variances of the prediction, judged by ``some``, and the variance of each drive's.

        The latter is that of the features and that of the position.
        """
        observed = found.data.responses(self.responsive[some], fits.drive.shape[1])
        ratio = model_error_ratio(rate_from_drive(fits.drive[some].T), observed)
        if ratio is None:
            ratio = USUAL_RATIO
            self.notes.append(
                "too few neurons are alike to measure the core's model error; uncertainties assume the usual"
            )
        total = torch.full((len(self.responsive),), ratio)
        # Neurons on a map that all of them share are off by far less than each would be alone.
        if found.retinotopy.map.scattered:
            off = found.locations.covariance.diagonal(dim1=1, dim2=2)
            total += (2.0 * off @ roughness(found.data.store)).float()
        predicted = variance(fits.drive, dim=1)
        if self.uncertainty is None:
            return ratio, total * predicted
        level, modulation = (
            part[self.responsive] for part in (self.uncertainty.level, self.uncertainty.modulation)
        )
        # where the output is linear, a share of the rate is so much more of the drive
        rate = rate_from_drive(fits.drive).mean(dim=1).clamp_min(1.0)
        return ratio, (total + modulation) * predicted + level * rate.square()

    def weights(self, fits: GlmFit, standardisation: Standardisation) -> dict[str, Any]:
        """The parts of ``ConvexFit`` that the regression gave."""
        if not bool(fits.converged.all()):
            self.notes.append(f"{int((~fits.converged).sum())} neurons stopped before the solver's tolerance")
        weights, bias = standardisation.to_raw(fits.theta[:, :-1], fits.theta[:, -1])
        information = fits.information
        if information is not None:
            information = self.everyone(information.double() / fits.dispersion[:, None, None])
        first = self.responses[0] / self.scale
        constant = torch.where(first < 1.0, first.clamp_min(NO_RATE).log(), first - 1.0).double()
        return {
            "weights": self.everyone(weights).float(),
            "bias": self.everyone(bias, constant).float(),
            "dispersion": self.everyone(fits.dispersion).float(),
            "converged": self.everyone(fits.converged, 1),
            "information": information,
        }
