"""Real recordings of very few images: does the published core predict them better than a random one?

    python -m training.measurements.recordings RECORDINGS.npz --core CHECKPOINT --seeds 5 --out FILE.json

The recordings are those of Antolik et al. 2016 ("Model constrained by visual hierarchy improves prediction of
neural responses to natural scenes", PLoS Comput Biol, S1 data): mouse V1, two regions, 50 natural pictures
of 31x31 pixels, shown 8 to 10 times.

The score is the correlation, over the 50 pictures, of each neuron's average response with its predictions, each
made by a readout that has not seen the picture: ten folds, predictions of all folds together. A prediction
without any signal is the mean over the training pictures, whose correlation with what was held out is
slightly negative. What the pictures cover on the retina is unknown, so they are resampled by several factors.
Factor and estimator are chosen on the training pictures of each fold, by cross-validation among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

import mousev1
from mousev1 import metrics
from mousev1.core.inference import fuse
from mousev1.core.network import Core
from training import provenance
from training.measurements import script
from training.measurements.task import read_core

Array = npt.NDArray[Any]

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
FOLDS = 10
INNER_FOLDS = 5
LOCATIONS_PER_AXIS = 8
SIGNAL = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # variance of the drive over that of the noise, before a fit
STRENGTHS = torch.tensor(SIGNAL, dtype=torch.float64)[:, None, None]
GRAY = 113.0  # around the pictures; mean gray value of the photographs that cores of this kind learn from
MARGIN = 7  # pixels of the feature map beyond the picture, where its zero padding does its harm
EM_STEPS = 20
SEED = 0
CHOSEN = "chosen among these"
LIBRARY = "fit_readout"
BOOTSTRAPS = 10_000


class Split(NamedTuple):
    """The features of n pictures to learn from and of t others to predict, at P locations.

    Inner products K of centred features, 1 per picture on average, are all that ridge regression needs: with the
    variance s of the drive over that of the noise, one of R in ``SIGNAL``, it keeps of responses the residual
    (1 + s K)^-1 (y - mean).

    Attributes:
        inverse: (P, R, n, n) these inverses.
        cross: (P, t, n) inner products of the others with these.
    """

    inverse: Tensor
    cross: Tensor


# From every location, all locations as one, and responses (n, U) of the training pictures, to (t, U) of the others.
Estimator = Callable[[Split, Split, Tensor], Tensor]


def surround(pictures: Array, factor: float, kernel: int) -> Tensor:
    """Pictures (I, h, w), resampled by a factor, in the middle of a gray frame; (I, 1, H, W) float32."""
    stack = torch.from_numpy(np.asarray(pictures, dtype=np.float32))[:, None]
    size = [round(side * factor) for side in stack.shape[2:]]
    resampled: Tensor = F.interpolate(stack, size=size, mode="bilinear", antialias=True)
    return F.pad(resampled.clamp(0.0, 255.0), [(kernel - 1) // 2 + MARGIN] * 4, value=GRAY)


@torch.no_grad()
def features_at_locations(core: Core, images: Tensor) -> Tensor:
    """Features at a square grid of locations inside the picture, (I, P, C) float64."""
    features = fuse(core)(images)

    def along(side: int) -> Tensor:
        return torch.linspace(MARGIN + 1, side - MARGIN - 2, LOCATIONS_PER_AXIS).round().long()

    rows, columns = along(features.shape[2]), along(features.shape[3])
    chosen: Tensor = features[:, :, rows][:, :, :, columns]
    return chosen.flatten(2).transpose(1, 2).double()


def split(features: Tensor, train: Array, test: Array) -> tuple[Split, Split]:
    """At each location, and of all locations together, features (I, P, C) standardised with the training pictures."""
    known = features[train]
    scale = (known - known.mean(dim=(0, 1))).square().mean(dim=(0, 1)).sqrt()
    centre = known.mean(dim=0)
    x, new = (
        ((features[rows] - centre) / torch.where(scale > 0, scale, 1.0)).transpose(0, 1)
        for rows in (train, test)
    )
    size = x.square().sum(dim=2).mean().clamp_min(1e-12)
    grams, cross = x @ x.mT / size, new @ x.mT / size

    def solved(grams: Tensor, cross: Tensor) -> Split:
        return Split(torch.linalg.inv(torch.eye(len(train)) + STRENGTHS * grams[:, None]), cross)

    return solved(grams, cross), solved(grams.mean(dim=0)[None], cross.mean(dim=0)[None])


def ridge_at_one_location(locations: Split, together: Split, responses: Tensor) -> Tensor:
    """Ridge on the features of one location, the same for all neurons, chosen with the penalty by leaving one out."""
    errors = _leave_one_out(locations, responses)
    return _predictions(locations, responses).flatten(0, 1)[int(errors.mean(dim=2).argmin())]


def ridge_at_own_location(locations: Split, together: Split, responses: Tensor) -> Tensor:
    """Ridge at each neuron's own location, found by leaving one out; one penalty for all."""
    errors = _leave_one_out(locations, responses)
    penalty = int(errors.amin(dim=0).mean(dim=1).argmin())
    location = errors[:, penalty].argmin(dim=0)
    return _predictions(locations, responses)[location, penalty, :, torch.arange(len(location))].T


def ridge_at_all_locations(locations: Split, together: Split, responses: Tensor) -> Tensor:
    """Ridge on all locations together; one penalty for all neurons, by leaving one out."""
    return ridge_at_one_location(together, together, responses)


def average_over_locations(locations: Split, together: Split, responses: Tensor) -> Tensor:
    """Predictions for every location and penalty, averaged with their posterior probabilities per neuron.

    Given both, responses are normal, and so their probability has a closed form (noise variance
    integrated out). How probable locations and penalties are beforehand is learned from all neurons.
    """
    evidence = _evidence(locations, responses)
    number, penalties, _ = evidence.shape
    location_prior = torch.full((number, 1, 1), 1.0 / number, dtype=torch.float64)
    penalty_prior = torch.full((1, penalties, 1), 1.0 / penalties, dtype=torch.float64)
    posterior = evidence
    for _ in range(EM_STEPS):
        log = evidence + location_prior.log() + penalty_prior.log()
        posterior = torch.softmax(log.flatten(0, 1), dim=0).view_as(evidence)
        # one neuron's worth of indifference keeps every location possible
        location_prior = posterior.sum(dim=(1, 2))[:, None, None] + 1.0 / number
        penalty_prior = posterior.sum(dim=(0, 2))[None, :, None] + 1.0 / penalties
        location_prior, penalty_prior = (
            location_prior / location_prior.sum(),
            penalty_prior / penalty_prior.sum(),
        )
    return torch.einsum("pru,prtu->tu", posterior, _predictions(locations, responses))


ESTIMATORS: dict[str, Estimator] = {
    "ridge, one location": ridge_at_one_location,
    "ridge, own location": ridge_at_own_location,
    "ridge, all locations": ridge_at_all_locations,
    "averaged over locations": average_over_locations,
}


def _predictions(data: Split, responses: Tensor) -> Tensor:
    """(P, R, t, U) predicted responses to the other pictures."""
    mean = responses.mean(dim=0)
    return STRENGTHS * data.cross[:, None] @ (data.inverse @ (responses - mean)) + mean


def _leave_one_out(data: Split, responses: Tensor) -> Tensor:
    """Squared error (P, R, U) when each training picture is left out, relative to the variance."""
    residual = data.inverse @ (responses - responses.mean(dim=0))
    # the mean is a parameter too: it takes its share of every picture
    own = data.inverse.diagonal(dim1=2, dim2=3) - 1.0 / len(responses)
    errors = (residual / own[..., None]).square().mean(dim=2)
    return errors / responses.var(dim=0).clamp_min(1e-12)


def _evidence(data: Split, responses: Tensor) -> Tensor:
    """Log probability (P, R, U) of the responses up to a constant."""
    centred = responses - responses.mean(dim=0)
    power = (centred * (data.inverse @ centred)).sum(dim=2).clamp_min(1e-12)
    return 0.5 * torch.logdet(data.inverse)[..., None] - (len(responses) - 1) / 2 * power.log()


def folds(count: int, number: int, seed: int) -> list[Array]:
    """Indices 0 to count - 1 in random groups of nearly equal size."""
    return [np.sort(part) for part in np.array_split(np.random.default_rng(seed).permutation(count), number)]


def cross_validated(
    features: Mapping[float, Tensor], responses: Tensor, number: int, seed: int
) -> dict[tuple[str, float], Tensor]:
    """Predictions (I, U) of pictures held out, a group at a time, for every estimator and factor.

    Features are (I, P, C) for every factor, responses (I, U) averages over repeats.
    """
    pictures = np.arange(len(responses))
    found: dict[tuple[str, float], Tensor] = {}
    for factor, stack in features.items():
        for held in folds(len(pictures), number, seed):
            rows = np.setdiff1d(pictures, held)
            data = split(stack, rows, held)
            for name, estimate in ESTIMATORS.items():
                out = found.setdefault((name, factor), torch.empty_like(responses))
                out[held] = estimate(*data, responses[rows])
    return found


class Nested(NamedTuple):
    """Predictions (I, U) whose settings, an estimator and factor per fold, were chosen without their pictures."""

    predictions: Tensor
    chosen: list[tuple[str, float]]


def nested(features: Mapping[float, Tensor], responses: Tensor, *, seed: int) -> dict[str, Nested]:
    """Ten-fold predictions, of every estimator with the factor chosen, and of ``CHOSEN`` with both chosen.

    What is chosen in a fold is the best on its training pictures. Features and responses as above.
    """
    found = {name: Nested(torch.empty_like(responses), []) for name in (*ESTIMATORS, CHOSEN)}
    outer = cross_validated(features, responses, FOLDS, seed)
    for held in folds(len(responses), FOLDS, seed):
        rows = np.setdiff1d(np.arange(len(responses)), held)
        known = {factor: stack[rows] for factor, stack in features.items()}
        inner = cross_validated(known, responses[rows], INNER_FOLDS, seed)
        scores = {key: _mean_correlation(values, responses[rows]) for key, values in inner.items()}
        for label, result in found.items():
            best = max((key for key in scores if label in (key[0], CHOSEN)), key=lambda key: scores[key])
            result.predictions[held] = outer[best][held]
            result.chosen.append(best)
    return found


def _mean_correlation(predictions: Tensor, responses: Tensor) -> float:
    # a constant prediction counts as 0 where settings are compared, so that none gains by being undefined
    return float(np.nan_to_num(metrics.correlation(predictions.numpy(), responses.numpy())).mean())


def library_predictions(core: Core, pictures: Array, responses: Tensor, factors: Sequence[float]) -> Tensor:
    """Ten-fold predictions (I, U) of ``mousev1.fit_readout`` without positions, one factor per fold."""
    out = torch.empty_like(responses)
    options: dict[str, Any] = {"core": core, "constant_units": "mean", "seed": SEED, "progress": False}
    for held, factor in zip(folds(len(pictures), FOLDS, SEED), factors, strict=True):
        images = surround(pictures, factor, core.config.input_kernel).numpy()
        rows = np.setdiff1d(np.arange(len(pictures)), held)
        model = mousev1.fit_readout(images[rows], responses[rows].numpy(), **options)
        out[held] = torch.from_numpy(model.predict(images[held])).double()
    return out


def evaluate(
    core: Core, pictures: Array, regions: Sequence[Tensor], *, library: bool
) -> dict[str, list[dict[str, Any]]]:
    """Correlations of every neuron with every estimator, per region."""
    features = {
        factor: features_at_locations(core, surround(pictures, factor, core.config.input_kernel))
        for factor in FACTORS
    }
    found = []
    for responses in regions:
        results: dict[str, Any] = nested(features, responses, seed=SEED)
        if library:
            factors = [factor for _, factor in results[CHOSEN].chosen]
            results[LIBRARY] = library_predictions(core, pictures, responses, factors), factors
        found.append(
            {
                name: {"correlation": _correlations(predictions, responses), "chosen": chosen}
                for name, (predictions, chosen) in results.items()
            }
        )
    return {"regions": found}


def _correlations(predictions: Tensor, responses: Tensor) -> list[float | None]:
    values = metrics.correlation(predictions.numpy(), responses.numpy())
    return [None if np.isnan(value) else round(float(value), 5) for value in values]


def interval(correlations: Array, baseline: Array | None = None) -> dict[str, Any]:
    """Mean over cores and neurons with its 95% interval, by resampling both.

    Correlations are (K, U), of K cores, NaN where undefined; the baseline, of other cores, is subtracted.
    """
    sides = [correlations] if baseline is None else [correlations, -baseline]
    generator, units = np.random.default_rng(SEED), correlations.shape[1]
    means = np.zeros(BOOTSTRAPS)
    for k in range(BOOTSTRAPS):
        neurons = generator.integers(units, size=units)
        for side in sides:
            cores = generator.integers(len(side), size=len(side))
            means[k] += np.nanmean(side[cores][:, neurons])
    low, high = np.quantile(means, (0.025, 0.975))
    ends = {"mean": sum(np.nanmean(side) for side in sides), "low": low, "high": high}
    undefined = sum(int(np.isnan(side).sum()) for side in sides)
    return {name: round(float(value), 4) for name, value in ends.items()} | {"undefined": undefined}


def ceiling(trials: Array) -> float:
    """Mean over neurons of the correlation that knowing each picture's true rate would reach; trials (T, I, U)."""
    repeats, pictures, units = trials.shape
    ids = np.tile(np.arange(pictures), repeats)
    shared = metrics.fev(trials.reshape(repeats * pictures, units), ids)
    shared = np.clip(shared[np.isfinite(shared)], 0.0, 1.0)
    return float(np.sqrt(shared * repeats / (1.0 + shared * (repeats - 1))).mean())


def summarise(cores: dict[str, Any]) -> list[dict[str, Any]]:
    """Means and intervals per region and estimator: the core, random cores, and the difference."""
    published = next(name for name in cores if not name.startswith("random-"))
    rows = []
    for region, estimators in enumerate(cores[published]["regions"]):
        for label, of_published in estimators.items():
            own = np.array([of_published["correlation"]], dtype=float)
            others = [
                core["regions"][region][label]["correlation"]
                for name, core in cores.items()
                if name != published and label in core["regions"][region]
            ]
            row = {"region": region + 1, "estimator": label, "core": interval(own)}
            if others:
                random = np.array(others, dtype=float)
                row |= {"random_cores": len(others), "random": interval(random)}
                row["difference"] = interval(own, random)
            rows.append(row)
    return rows


def table(results: dict[str, Any]) -> str:
    """The summary as Markdown."""
    rows = []
    for row in results["summary"]:
        core, random, difference = (_entry(row.get(key)) for key in ("core", "random", "difference"))
        if "random" in row:
            random += f", {row['random_cores']} cores"
        rows.append([str(row["region"]), row["estimator"], core, random, difference])
    ceilings = ", ".join(
        f"region {region} {value:.3f}" for region, value in enumerate(results["ceiling"], start=1)
    )
    found = script.table(("region", "readout", "published core", "random cores", "difference"), rows)
    return f"{found}\n\nMost that could be reached, given the noise of the averages: {ceilings}."


def _entry(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    note = f" ({value['undefined']} undefined)" if value["undefined"] else ""
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]{note}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate the cores that the result file lacks, then summarise all."""
    options = _parser().options(arguments)
    with np.load(options.recordings) as arrays:
        pictures = arrays["images"]
        trials = [arrays[f"region{region}_responses"] for region in (1, 2)]
    regions = [torch.from_numpy(repeats).double().mean(dim=0) for repeats in trials]
    core = read_core(options.core)
    header = {
        "what": "ten-fold cross-validated correlation with the repeat average, real recordings",
        "recordings": options.recordings.name,
        "data_sha256": provenance.data_sha256(options.recordings),
        "core": core.name,
        "core_hash": core.content_hash(),
        "seed": SEED,
        "factors": list(FACTORS),
        "folds": FOLDS,
        "inner_folds": INNER_FOLDS,
    }
    # the published core first: it is what the summary compares with
    cores = [core, *(Core.random(core.config, seed=seed) for seed in range(options.seeds))]
    runs = {
        of.name: partial(evaluate, of, pictures, regions, library=number <= options.library_seeds)
        for number, of in enumerate(cores)
    }
    results = script.measured(options, header, "cores", runs, again=runs if options.rerun else ())
    results["ceiling"] = [round(ceiling(repeats), 4) for repeats in trials]
    results["summary"] = summarise(results["cores"])
    provenance.write_json(options.out, results)
    heading = (
        f"Real recordings ({results['recordings']}): correlation of each neuron's average response with "
        f"predictions of pictures held out (ten folds), mean over neurons and 95% interval. "
        f"{provenance.now()}, `{results['command']}`"
    )
    script.write_table(options.out, heading, table(results))


def _parser() -> script.Parser:
    what = "Real mouse V1, 50 pictures: the published core against random ones."
    parser = script.parser("recordings", what, "rerun", scan="", seed=False)
    parser.add_argument("recordings", type=Path, help="pictures and responses of two regions (.npz)")
    parser.add_argument("--seeds", type=int, default=5, help="random cores (default: 5)")
    parser.add_argument(
        "--library-seeds", type=int, default=1, help="random cores that fit_readout is run on (default: 1)"
    )
    return parser


if __name__ == "__main__":
    main()
