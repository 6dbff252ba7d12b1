"""A readout on a frozen core without a training loop.

Where a neuron looks follows from score maps and retinotopy (``places``); given that, its feature weights are
a convex problem (``glm``) whose prior the population provides (``prior``). Images pass through the core once
(``features``), but for some if neurons turn out to look beyond the part that was computed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mousev1.core.feature_statistics import IMAGES as STATISTICS_IMAGES
from mousev1.core.feature_statistics import TrainingStatistics, are_kept_for, statistics_of
from mousev1.core.representation import FrozenCore
from mousev1.fit.memory import MISFIT_IMAGES, MISFIT_UNITS, MemoryPlan, peak_memory, plan_memory
from mousev1.fit.model_error import misfit_ratio
from mousev1.fit.population import FitData, PopulationGlm
from mousev1.fit.prior import WeightPrior
from mousev1.fit.readout_locations import (
    FeatureSource,
    find_places,
    half_extent,
    images_to_compute_whole,
    positions_of,
)
from mousev1.fit.retinotopy import Retinotopy
from mousev1.fit.score_maps import roughness
from mousev1.fit.settings import ConvexSettings
from mousev1.fit.timing import Clock
from mousev1.numerics.arithmetic import variance
from mousev1.readout.gaussian import rate_from_drive
from mousev1.readout.posterior import WeightPosterior

ROUGH_UNITS = 100  # least number of neurons in the rounds that lead to a prior
ROUGH_PART = 8  # these rounds learn from one in so many of the sample
# Misfit of the 11-S core where it could be measured, relative to the variance of the prediction.
USUAL_MISFIT = 0.3


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
        misfit: what the features are off by, in variances of the prediction; part of ``posterior``, as is
            what positions are off by.
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
    misfit: float
    statistics: TrainingStatistics | None
    converged: Tensor
    prior: WeightPrior
    retinotopy: Retinotopy
    memory: MemoryPlan
    peak_memory: int
    seconds: dict[str, float]
    information: Tensor | None = field(default=None, repr=False)
    notes: list[str] = field(default_factory=list)


def fit_convex(
    core: FrozenCore,
    images: Tensor,
    responses: Tensor,
    cortex: Tensor | None,
    *,
    scale: Tensor | None = None,
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
        cortex: (U, 2) normalised cortical positions (``mousev1.readout.gaussian.normalise_cortex``) or ``None``.
        settings: see ``ConvexSettings``.
        prior: where the prior over weights starts, from another population of neurons on this core.
        seed: of the order of images and the choice of samples.
        device: where the core runs.
        memory: bytes that the process may hold; if features do not fit they go to disk.
        directory: where on disk; the system's place for temporary files by default.
        keep_information: give ``ConvexFit.information``, 34 kB per neuron for 64 channels.
        progress: show progress bars.
        report: called with the memory plan's one line before work starts, and with one line when it is known
            where neurons look.
    """
    settings = settings or ConvexSettings()
    clock = Clock()
    n, units = responses.shape
    scale = torch.ones(units) if scale is None else scale
    if len(images) != n:
        raise ValueError(f"responses: expected {len(images)} rows as there are images, got {n}")
    if n < 8:
        raise ValueError(f"images: expected at least 8 to fit and to check on, got {n}")
    plan = plan_memory(
        core, images, units, memory=memory, directory=directory, keep_information=keep_information
    )
    if report is not None:
        report(str(plan))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    constant = (responses == responses[0]).all(dim=0)
    live = (~constant).nonzero()[:, 0]
    notes = []
    if bool(constant.any()):
        notes.append(f"{int(constant.sum())} of {units} neurons never change; their rate is their constant")
    if not len(live):
        raise ValueError("responses: every neuron is constant; there is nothing to fit")
    with ExitStack() as stores:
        source = FeatureSource(core, images, order, device, plan, stores, report, progress)
        pilot = source.compute(images_to_compute_whole(n, len(live), least=settings.first_images))
        clock.lap("features")
        statistics = None
        if are_kept_for(core):
            statistics = statistics_of(
                pilot.first(STATISTICS_IMAGES),
                images[order[:STATISTICS_IMAGES]],
                mean=pilot.standardisation.mean,
                std=pilot.standardisation.std,
            )
        clock.lap("statistics")
        random = torch.randperm(len(live), generator=generator)
        shuffled = live[random]
        found = find_places(
            source,
            FitData(pilot, responses, scale, order),
            cortex,
            shuffled,
            map_units=settings.map_units,
            map_images=settings.map_images,
            map_spacing=settings.map_spacing,
            clock=clock,
        )
        data, store = found.data, found.data.store
        half = half_extent(store.height, store.width)
        mu = torch.zeros(units, 2)
        mu[live] = positions_of(found.places, store.height, store.width)
        mu_covariance = torch.zeros(units, 2, 2, dtype=torch.float64)
        mu_covariance[live] = found.places.covariance / (half * half[:, None])
        # Anywhere will do, but for features: where the others look there are some.
        mu[constant] = mu[live].mean(dim=0, dtype=torch.float64).float()
        mu_covariance[constant] = torch.eye(2, dtype=torch.float64)
        start = WeightPrior.broad(store.standardisation, 0.9 / (found.ridge * n))
        if prior is not None:
            start = prior.on(store.standardisation)
            notes.append(f"the prior over weights starts from one learned on {prior.units} other neurons")
        glm = PopulationGlm(data, mu, start)
        sample = shuffled[: settings.prior_units]
        rough = sample[: max(ROUGH_UNITS, len(sample) // ROUGH_PART)]
        for round_ in range(1, settings.prior_rounds + 1):
            # All but the last round only lead there.
            last = round_ == settings.prior_rounds
            glm.learn_prior(
                sample if last else rough,
                images=settings.prior_images,
                other=start if prior is not None else None,
                progress=progress,
            )
        clock.lap("prior")
        checked, few = min(n, MISFIT_IMAGES), random[:MISFIT_UNITS]
        desc = "weights" if progress else None
        fits = glm.fit(live, drive_images=checked, keep_information=keep_information, desc=desc)
        clock.lap("weights")
        ratio = misfit_ratio(rate_from_drive(fits.drives[:, few]), data.responses(live[few], checked))
        if ratio is None:
            ratio = USUAL_MISFIT
            notes.append("too few neurons alike to measure the core's misfit; uncertainties assume the usual")
        misfit, zero = torch.zeros(units), torch.zeros(2, dtype=torch.float64)
        # Neurons on a map that all of them share are off by far less than each would be alone.
        off = found.places.covariance.diagonal(dim1=1, dim2=2) if found.retinotopy.map.scattered else zero
        misfit[live] = (ratio + (2.0 * off @ roughness(store)).float()) * variance(fits.drives, dim=0)
        clock.lap("misfit")
    if not bool(fits.converged.all()):
        notes.append(f"{int((~fits.converged).sum())} neurons stopped before the solver's tolerance")
    weights = torch.zeros(units, store.channels, dtype=torch.float64)
    first = responses[0] / scale
    bias = torch.where(first < 1.0, first.clamp_min(1e-12).log(), first - 1.0).double()
    weights[live], bias[live] = store.standardisation.to_raw(fits.theta[:, :-1], fits.theta[:, -1])
    information = None
    if fits.information is not None:
        information = torch.zeros(units, *fits.basis.shape, dtype=torch.float64)
        information[live] = fits.information
    dispersion = torch.zeros(units)
    dispersion[live] = fits.dispersion.float()
    converged = torch.ones(units, dtype=torch.bool)
    converged[live] = fits.converged
    variances = torch.zeros(units, store.channels + 1)
    variances[live] = fits.variances
    return ConvexFit(
        mu=mu,
        position_covariance=mu_covariance.float(),
        weights=weights.float(),
        bias=bias.float(),
        posterior=WeightPosterior.on_raw_features(fits.basis, variances, store.standardisation, misfit),
        dispersion=dispersion,
        constant=constant,
        misfit=ratio,
        statistics=statistics,
        converged=converged,
        prior=glm.prior,
        retinotopy=found.retinotopy,
        memory=plan,
        peak_memory=peak_memory(),
        seconds=clock.seconds,
        information=information,
        notes=notes,
    )
