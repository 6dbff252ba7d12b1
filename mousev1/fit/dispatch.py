"""The methods of ``fit_readout``: from checked data to a readout, each with the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mousev1.core.feature_statistics import TrainingStatistics, has_training_statistics, training_statistics
from mousev1.core.representation import FrozenCore
from mousev1.fit.convex import ConvexFit, fit_convex
from mousev1.fit.inputs import FitInputs
from mousev1.fit.prior import WeightPrior
from mousev1.fit.response_preparation import PreparedResponses
from mousev1.fit.settings import ConvexSettings, SGDSettings
from mousev1.fit.sgd import core_features, fit_sgd
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.unit_scores import correlation
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout, normalise_cortex
from mousev1.readout.posterior import WeightPosterior

Array = npt.NDArray[Any]
FitSettings = ConvexSettings | SGDSettings

VALIDATION_BATCH = 64


@dataclass(frozen=True)
class FitRequest:
    """What to fit and how to go about it.

    Attributes:
        core: frozen.
        data: checked; ``validation`` is set where the method needs it.
        prepared: its responses as the method takes them.
        seed: of everything random.
        device: where to compute.
        memory: most bytes to hold, or None for no limit.
        progress: show progress bars.
        report: called with lines to show.
    """

    core: FrozenCore
    data: FitInputs
    prepared: PreparedResponses
    seed: int
    device: torch.device
    memory: int | None
    progress: bool
    report: Callable[[str], None]


@dataclass(frozen=True)
class FitResult:
    """What every method returns: a readout of scaled responses, the core it belongs to, and scores."""

    readout: GaussianReadout
    core: FrozenCore
    scores: dict[str, float]
    notes: tuple[str, ...] = ()
    posterior: WeightPosterior | None = field(default=None, repr=False)
    statistics: TrainingStatistics | None = field(default=None, repr=False)


def convex(request: FitRequest, settings: ConvexSettings) -> FitResult:
    """The fast solver; validation images, if given, are only scored."""
    data, core = request.data, request.core.to(request.device)
    fit = fit_convex(
        core,
        data.images,
        request.prepared.responses,
        cortex_of(data),
        scale=request.prepared.scale,
        uncertainty=request.prepared.uncertainty,
        **options_of(request, settings),
    )
    return convex_result(request, fit)


def cortex_of(data: FitInputs) -> Tensor | None:
    """(U, 2) normalised cortical positions, or None."""
    return None if data.cortex is None else normalise_cortex(data.cortex)


def options_of(request: FitRequest, settings: ConvexSettings) -> dict[str, Any]:
    """Keyword arguments of ``fit_convex`` that do not differ between scans."""
    known = request.core.readout_prior
    return {
        "settings": settings,
        "prior": None if known is None else WeightPrior.from_tensors(known),
        "seed": request.seed,
        "device": request.device,
        "memory": request.memory,
        "progress": request.progress,
        "report": request.report,
    }


def convex_result(request: FitRequest, fit: ConvexFit) -> FitResult:
    """The readout of a convex fit, and how it does on the validation images if there are any."""
    units, channels = fit.weights.shape
    with torch.random.fork_rng(
        devices=[]
    ):  # the random start is overwritten; torch's own state must not move
        readout = GaussianReadout(FreePositions(units), FeatureWeights(units, channels))
    values = {
        "positions.mu": fit.mu,
        "weights.weight": fit.weights,
        "bias": fit.bias + request.prepared.baseline,
        # The readout's Gaussian says how well the position is known.
        "sigma": torch.linalg.cholesky(fit.position_covariance),
    }
    readout.load_state_dict(values)
    readout = readout.eval().requires_grad_(False).to(request.device)
    scores = {} if request.data.validation is None else _validate(request, readout)
    scores |= {f"retinotopy/{name}": score for name, score in fit.retinotopy.held_out.items()}
    retinotopy = f"positions on the monitor: {fit.retinotopy.map.name} map"
    return FitResult(readout, request.core, scores, (retinotopy, *fit.notes), fit.posterior, fit.statistics)


def sgd(request: FitRequest, settings: SGDSettings) -> FitResult:
    """The published recipe, stopped early on the validation images."""
    data = request.data
    assert data.validation is not None
    fit = fit_sgd(
        request.core,
        (data.images, request.prepared.responses / request.prepared.scale),
        (data.validation[0], data.validation[1] / request.prepared.scale),
        data.cortex,
        settings=settings,
        seed=request.seed,
        device=request.device,
        progress=request.progress,
    )
    if len(request.prepared.constant):
        constant = torch.from_numpy(request.prepared.constant)
        _predict_constant(fit.readout, constant, request.prepared.responses)
    return FitResult(
        fit.readout,
        fit.core,
        {"validation_correlation": fit.validation_correlation},
        statistics=training_statistics(fit.core, data.images) if has_training_statistics(fit.core) else None,
    )


def _validate(request: FitRequest, readout: GaussianReadout) -> dict[str, float]:
    assert request.data.validation is not None
    images, responses = request.data.validation
    with torch.no_grad():
        features = [
            core_features(request.core, chunk, VALIDATION_BATCH) for chunk in images.split(VALIDATION_BATCH)
        ]
        rates = torch.cat([readout(chunk) for chunk in features])
    return {"validation_correlation": mean_of_defined(correlation(rates.cpu(), responses))}


def _predict_constant(readout: GaussianReadout, units: Tensor, responses: Tensor) -> None:
    """Let neurons that never change predict their constant."""
    level = responses[0, units].clamp_min(1e-12).to(readout.bias.device)
    assert isinstance(readout.weights, FeatureWeights)
    with torch.no_grad():
        readout.weights.weight[units] = 0.0
        readout.bias[units] = torch.where(level < 1.0, level.log(), level - 1.0)
