"""How well a representation transfers to a scan it was not trained on, and to what that compares.

The across-animal benchmark of Lurz et al. 2021, section 3.3, for one representation on one scan: freeze
it, fit readouts to few and to many training images, score on the test images.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn
from tqdm import tqdm

from mousev1.compare.draws import draw_partition, training_images
from mousev1.compare.linear_nonlinear import fit_linear_nonlinear
from mousev1.compare.results import BASELINES, LINEAR, MEAN, RANDOM, CurveRow, LearningCurve
from mousev1.core.network import Core, CoreConfig
from mousev1.core.representation import Representation
from mousev1.data.images import image_identities
from mousev1.data.scan import Scan, Trials
from mousev1.fit.fitting import fit_scan
from mousev1.fit.inputs import MIN_IMAGES
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.population_scores import Truth, transfer_scores
from mousev1.metrics.unit_scores import oracle_correlation

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Predict = Callable[[Array], FloatArray]
Fit = Callable[[Scan, int], Predict]

PAPER_IMAGES = (50, 200, 500, 1000, 2500, 4472)
RANDOM_CORE = 20210503  # a stream of random numbers of its own


def transfer_curve(  # noqa: PLR0913
    core: Core | Representation,
    scan: Scan,
    *,
    images: Sequence[int] | None = None,
    units: int | None = None,
    partitions: int = 3,
    seed: int = 0,
    truth: Truth | None = None,
    baselines: bool = True,
    cortex: bool = True,
    simulated: bool = False,
    progress: bool = True,
    **options: Any,
) -> LearningCurve:
    """Fit readouts on a frozen representation to growing numbers of training images, and score them.

    Every partition is one random draw of training images, and of neurons if ``units`` is given. Within a
    partition fewer images are among the more. All images and all neurons can be drawn in one way only,
    and are fitted once. Readouts are fitted to the tier ``"train"`` alone, and
    scored on the tier ``"test"``; the tier ``"validation"`` is used by ``method="sgd"``, to stop.

    Args:
        core: a frozen core, or any other network wrapped in ``mousev1.Representation``. It should not
            have been trained on this scan.
        scan: with trials of the tiers ``"train"`` and ``"test"``.
        images: numbers of training images, from 10 to those of the scan. The default is the paper's, as
            far as the scan has them: 50, 200, 500, 1,000, 2,500 and 4,472.
        units: number of neurons to draw in each partition; None takes all, so that the intervals say
            how results depend on the draw of images alone.
        partitions: number of draws; at least two give intervals.
        seed: of all draws and fits.
        truth: true rates of a simulated scan, to score against as well.
        baselines: also score the mean response over the training images, a linear-nonlinear model of
            each neuron, and a random core of the same shape (of the default shape where ``core`` is no
            ``Core``), which sees z-scored images.
        cortex: use the neurons' cortical positions, if the scan has any.
        simulated: the responses are simulated, as they are if there is a ``truth``: tables and figures
            then say so.
        progress: show a progress bar.
        options: further keyword arguments of ``fit_readout``: ``method``, ``settings``,
            ``pixels_per_degree``, ``device``, ``memory``.

    Returns:
        One row per representation, number of images and partition, with means and 95% intervals over
        partitions.

    Raises:
        TypeError: ``core`` is a plain torch module, or not a network at all.
        ValueError: numbers that the scan cannot give, or a training image that is also a test image.

    Example:
        >>> import mousev1
        >>> from mousev1.cli.demo import SCAN
        >>> scan = mousev1.read_scan(SCAN).select_units(range(3))
        >>> core = mousev1.Core.random(mousev1.CoreConfig(hidden_channels=4, layers=2), seed=1)
        >>> curve = mousev1.transfer_curve(core, scan, images=[20], partitions=1, progress=False)
        >>> curve.representations
        ('random-1', 'random core', 'linear-nonlinear', 'mean response')
    """
    _check_core(core)
    available = _training_images(scan)
    counts = _check_counts(scan, images, available)
    _check_draws(scan, units, partitions, truth)
    _check_disjoint(scan)
    if not cortex:
        scan = replace(scan, positions=None)
    fits = {core.name: _readout_fit(core, options)}
    if baselines:
        random = _random_core(core.config if isinstance(core, Core) else CoreConfig(), scan, seed)
        fits |= {RANDOM: _readout_fit(random, options), LINEAR: _linear_fit, MEAN: _mean_fit}
    draws = [(partition, count) for partition in range(partitions) for count in counts]
    if units is None:  # all images and all neurons are the same in every partition
        draws = [(partition, count) for partition, count in draws if not partition or count != available]
    test = scan.trials("test")
    rows: list[CurveRow] = []
    bar = tqdm(itertools.product(draws, fits), total=len(draws) * len(fits), unit="fit", disable=not progress)
    for (partition, count), name in bar:
        subset, known = draw_partition(scan, count, seed=(seed, partition), neurons=units, truth=truth)
        started = time.perf_counter()
        predict = fits[name](subset, seed)
        seconds = round(time.perf_counter() - started, 3)
        scores = transfer_scores(_per_trial(predict, test), subset, known)
        rows.append(CurveRow(name, count, partition, subset.n_units, seconds, **scores))
    return LearningCurve(
        rows=tuple(rows),
        scan=scan.name,
        cortex=scan.positions is not None,
        units_drawn=units is not None,
        oracle=mean_of_defined(oracle_correlation(test.responses, test.image_ids)),
        seed=seed,
        simulated=simulated or truth is not None,
    )


def _per_trial(predict: Predict, trials: Trials) -> Array:
    """Rates (T, U) of trials; every image is predicted once."""
    _, first, image = np.unique(trials.image_ids, return_index=True, return_inverse=True)
    return predict(trials.images[first])[image]


def _check_core(core: object) -> None:
    if isinstance(core, Core | Representation):
        if core.name in BASELINES:
            raise ValueError(f"core: expected a name that is not a baseline's, got {core.name!r}; rename it")
        return
    if isinstance(core, nn.Module):
        raise TypeError(
            f"core: expected a mousev1.Core or a mousev1.Representation, got the torch module "
            f"{type(core).__name__}, which does not say what images it expects; wrap it: "
            "mousev1.Representation(module, name=..., input=mousev1.InputContract(...), ...)"
        )
    raise TypeError(
        f"core: expected a mousev1.Core or a mousev1.Representation, got {type(core).__name__}; "
        "mousev1.load_core loads a core by name"
    )


def _training_images(scan: Scan) -> int:
    for tier in ("train", "test"):
        if not (scan.tiers == tier).any():
            raise ValueError(
                f"scan: expected trials of tier '{tier}', {scan.name} has only {scan.tier_sizes}"
            )
    return training_images(scan)


def _check_counts(scan: Scan, images: Sequence[int] | None, available: int) -> tuple[int, ...]:
    """The numbers of training images, rising."""
    if images is None:
        counts = tuple(count for count in PAPER_IMAGES if count <= available) or (available,)
    else:
        counts = tuple(sorted(set(images)))
    if not counts or counts[0] < MIN_IMAGES or counts[-1] > available:
        raise ValueError(
            f"images: expected numbers from {MIN_IMAGES} to {available}, the training images of {scan.name}, "
            f"got {list(counts)}"
        )
    return counts


def _check_draws(scan: Scan, units: int | None, partitions: int, truth: Truth | None) -> None:
    if units is not None and not 1 <= units <= scan.n_units:
        raise ValueError(f"units: expected 1 to {scan.n_units}, the scan's neurons, got {units}")
    if partitions < 1:
        raise ValueError(f"partitions: expected at least 1, got {partitions}")
    if truth is not None and truth.rates.shape != (len(truth.image_ids), scan.n_units):
        raise ValueError(
            f"truth: expected rates of ({len(truth.image_ids)}, {scan.n_units}), its images by the scan's "
            f"neurons, got {truth.rates.shape}"
        )


def _check_disjoint(scan: Scan) -> None:
    """A scan keeps images of one id in one tier; here, that no picture hides behind two ids."""
    shown = {tier: scan.images[np.unique(scan.trial_image[scan.tiers == tier])] for tier in ("train", "test")}
    both = np.intersect1d(image_identities(shown["train"]), image_identities(shown["test"]))
    if len(both):
        raise ValueError(
            f"scan: {len(both)} pictures of tier 'test' are also in tier 'train', under other ids; a score on "
            "them would mean nothing: give equal pictures one id, in one tier"
        )


def _random_core(config: CoreConfig, scan: Scan, seed: int) -> Core:
    """A random core of the same shape."""
    if (config.input.mean, config.input.std) == (0.0, 1.0):
        # Random filters on raw gray values would mostly measure how bright an image is: too easy to beat.
        gray = scan.trials("train").images
        contract = replace(config.input, mean=float(gray.mean()), std=float(gray.std()))
        config = replace(config, input=contract)
    # Not the seed itself: a random core of that seed may be what is compared.
    return Core.random(config, seed=int(np.random.default_rng([seed, RANDOM_CORE]).integers(2**31)))


def _readout_fit(core: Core | Representation, options: Mapping[str, Any]) -> Fit:
    def fit(scan: Scan, seed: int) -> Predict:
        model = fit_scan(scan, core=core, seed=seed, progress=False, **{"constant_units": "mean", **options})
        resolution = model.record.pixels_per_degree
        return lambda images: model.predict(images, pixels_per_degree=resolution)

    return fit


def _linear_fit(scan: Scan, seed: int) -> Predict:
    train = scan.trials("train")
    model = fit_linear_nonlinear(train.images, train.responses, image_ids=train.image_ids, seed=seed)
    return model.predict


def _mean_fit(scan: Scan, seed: int) -> Predict:
    mean = scan.trials("train").responses.mean(axis=0)
    return lambda images: np.repeat(mean[None], len(images), axis=0)
