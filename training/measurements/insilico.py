"""Most exciting images of a whole population: how long they take, and whether they are the best that is known.

    python -m training.measurements.insilico SCAN --core CORE --truth TRUTH --gallery PATCHES.npz --out FILE.json

A model is fitted to the scan (and kept in ``--models``), and each of its units gets its most exciting image, by
100 steps from a random start, and (some of them, with ``--second-start-units``) again from another. Claims, set
beforehand: at least 99% of the well predicted units (correlation of predicted with true test rates above 0.7;
with recorded averages without ``--truth``) respond to theirs at least as much as to the best of 5,000 natural
images of the same mean and RMS contrast; two starts agree; 1,000 units take less than ten minutes on two cores,
and a loop over units at least five times as long, timed in the same run, in turns.

Two loops are timed, both over single units, whole images and the same 100 steps: one takes the gradient of
``model(image)[0, unit]``, as a user of the model would; the lean one is spared the readouts of all other units. A
stricter comparison confines natural images to the mask of each unit's own image, so that their contrast, too, is
spent where the unit looks.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mousev1.cli.unit_report import own_distance
from mousev1.insilico import AscentSettings, Frame, LocalView, OptimalImages, optimal_images
from mousev1.insilico.ascent import Ascent, noise
from mousev1.insilico.gallery import GalleryRanks, at_contrast, rank_gallery
from mousev1.insilico.masks import confine, masks_of
from mousev1.metrics.unit_scores import correlation, correlation_to_average
from mousev1.model.response_model import ResponseModel
from mousev1.readout.gaussian import as_gaussian, rate_from_drive
from mousev1.readout.interpolation import sample_at
from training import provenance
from training.measurements import script
from training.measurements.insilico_report import MASKED_CANDIDATES, draw, markdown
from training.measurements.insilico_truth import fitted_model
from training.measurements.task import Task, make_task

Array = npt.NDArray[Any]

WELL_PREDICTED = 0.7
TARGETS = {"beats_natural": 0.99, "minutes_per_1000_units": 10.0, "times_a_loop": 5.0}
BATCH_UNITS = 64


@dataclass(frozen=True)
class WholeImage:
    """What ``LocalView`` is for an ascent, without its shortcuts: whole images through the whole model.

    Patches are frames. The lean one reads out the one unit alone.
    """

    model: ResponseModel
    patch_height: int
    patch_width: int
    lean: bool

    def drive(self, images: Tensor, units: Tensor) -> Tensor:
        """(B,) drives; the log of the rate, which has the same direction, where all units are read out."""
        if not self.lean:
            response = self.model(images)[torch.arange(len(units)), units] / self.model.response_scale[units]
            # the inverse of the output nonlinearity
            return torch.where(response < 1, response.clamp_min(1e-30).log(), response - 1)
        readout = as_gaussian(self.model.readout, "loop")
        sampled = sample_at(self.model.core(images), readout.mu()[units])
        weights: Tensor = readout.weights()
        return (sampled[torch.arange(len(units)), torch.arange(len(units))] * weights[units]).sum(
            dim=1
        ) + readout.bias[units]


def loop(
    model: ResponseModel, units: Sequence[int], frame: Frame, settings: AscentSettings, *, lean: bool
) -> Array:
    """Images (U, H, W) found one by one."""
    view = WholeImage(model, frame.height, frame.width, lean)
    ascent = Ascent(view, frame, settings, sign=1.0)
    found = []
    for unit in units:
        begin = noise((frame.height, frame.width), seed=(0, 0, unit))[None]
        state, _ = ascent.run(begin, torch.tensor([unit]))
        found.append(state.patch[0, 0].numpy() + frame.background)
    return np.stack(found)


def time_in_turns(
    model: ResponseModel, frame: Frame, settings: AscentSettings, *, rounds: int, loop_units: int
) -> dict[str, Any]:
    """Seconds per unit of both loops and of batches, turn by turn; and whether the images are the same."""
    one = replace(settings, seeds=1)
    batch = np.arange(min(BATCH_UNITS, model.n_units))
    images: dict[str, Array] = {}

    batched = functools.partial(optimal_images, model, units=batch, frame=frame, settings=one)
    sides: dict[str, tuple[Callable[[], Array], int]] = {
        "batched": (lambda: batched().images, len(batch)),
        "lean loop": (lambda: loop(model, range(loop_units), frame, one, lean=True), loop_units),
        "loop": (lambda: loop(model, range(loop_units), frame, one, lean=False), loop_units),
    }
    took = {kind: {name: list[float]() for name in sides} for kind in ("seconds", "processor_seconds")}
    for turn in range(rounds + 1):
        for name, (run, units) in sides.items():
            images[name], cost = provenance.cost_of(run)
            if turn > 0:  # the first warms up
                for kind, of_sides in took.items():
                    of_sides[name].append(cost[kind] / units)
    median, processor_median = (
        {name: statistics.median(values) for name, values in of_sides.items()} for of_sides in took.values()
    )
    flat = {name: found[:loop_units].reshape(loop_units, -1) for name, found in images.items()}
    loops = ("loop", "lean loop")
    return {
        **{f"{kind}_per_unit": of_sides for kind, of_sides in took.items()},
        "median_seconds_per_unit": median,
        "ratio": {name: median[name] / median["batched"] for name in loops},
        "processor_ratio": {name: processor_median[name] / processor_median["batched"] for name in loops},
        "lowest_correlation_of_images": {
            name: float(correlation(flat[name].T, flat["batched"].T).min()) for name in loops
        },
    }


def well_predicted(task: Task, model: ResponseModel) -> Array:
    """(U,) correlation of predicted test rates with the true ones, or with recorded averages."""
    test = task.scan.trials("test")
    ids, first, which = np.unique(test.image_ids, return_index=True, return_inverse=True)
    rates = model.predict(test.images[first])
    if task.truth is None:
        return correlation_to_average(rates[which], test.responses, test.image_ids)
    return np.where(task.truth.live, correlation(rates, task.truth.of_images(ids)), np.nan)


def agreement(view: LocalView, first: Array, second: Array) -> Array:
    """(U,) correlation of two runs' images (U, H, W) over the pixels that each of the first U units sees."""
    units = torch.arange(len(first))
    patches = [view.cut(torch.from_numpy(run)[:, None], units).flatten(1) for run in (first, second)]
    return correlation(patches[0].numpy().T, patches[1].numpy().T)


def best_masked(
    model: ResponseModel, view: LocalView, found: OptimalImages, gallery: Array, ranks: GalleryRanks
) -> Array:
    """(U,) response to the best of the gallery's leading images, confined to the mask of the unit's image."""
    masks = masks_of(found.images)
    contrast = found.settings.contrast
    best = np.full(len(found), -np.inf)
    scale = model.response_scale.cpu().numpy()
    for unit, candidates in enumerate(ranks.best):
        mask = np.broadcast_to(masks[unit], (len(candidates), *masks.shape[1:]))
        shown = confine(at_contrast(gallery[candidates], found.frame, None), mask, found.frame, contrast)
        units = torch.full((len(candidates),), unit)
        with torch.no_grad():
            drive = view.drive(view.cut(torch.from_numpy(shown)[:, None], units), units)
        best[unit] = float(rate_from_drive(drive).max()) * scale[unit]
    return best


def summary(values: Array) -> dict[str, float]:
    """Median and the quantiles that show the tails."""
    defined = values[np.isfinite(values)]
    levels = {"p01": 0.01, "p05": 0.05, "median": 0.5, "p95": 0.95}
    return {name: round(float(np.quantile(defined, level)), 4) for name, level in levels.items()}


def convergence(trace: Array, steps: int) -> dict[str, float]:
    """Median response at some steps, as a share of the last, of (U, steps + 1) responses."""
    shown = sorted({0, steps // 10, steps // 2, int(0.9 * steps)})
    return {str(step): round(float(np.median(trace[:, step] / trace[:, -1])), 4) for step in shown}


def against(response: Array, name: str, images: Array, good: Array) -> dict[str, Any]:
    """Responses (U,) to optimal images beside those to others, of the units that count."""
    return {
        f"beats_{name}": share(response >= images, good),
        f"gain_over_{name}": summary((response / images)[good]),
    }


def second_start(view: LocalView, first: OptimalImages, second: OptimalImages, good: Array) -> dict[str, Any]:
    """How much another start, of the first units, changes images and responses."""
    units = len(second.images)
    agree, counted = agreement(view, first.images[:units], second.images), good[:units]
    return {
        "units_started_twice": units,
        "agreement": summary(agree[counted]),
        "agreement_above_0.9": share(agree > 0.9, counted),
        "response_of_other_start": summary((second.response / first.response[:units])[counted]),
    }


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], ResponseModel, OptimalImages, Array]:
    """Everything that goes into the result file, and what the figures need."""
    task = make_task(options, options.units, None)
    scan = replace(task.scan, name=f"{task.scan.name}-{task.scan.n_units}-units")
    model, cached = fitted_model(scan, task.core, options.models, options.seed)
    frame = Frame.of(task.core)
    settings = AscentSettings(contrast=options.contrast, steps=options.steps, seeds=1)
    with np.load(options.gallery) as arrays:
        gallery = arrays[arrays.files[0]]
    gallery = gallery[np.random.default_rng(options.seed).permutation(len(gallery))[: options.gallery_images]]
    print(f"{model.n_units} units, {'cached' if cached else 'fitted now'}", file=sys.stderr)

    turns = time_in_turns(model, frame, settings, rounds=options.rounds, loop_units=options.loop_units)
    twice = min(options.second_start_units or model.n_units, model.n_units)
    progress = sys.stderr.isatty()
    starts = functools.partial(optimal_images, model, frame=frame, settings=settings, progress=progress)
    found, first = provenance.cost_of(lambda: starts(units=np.arange(model.n_units), seed=0))
    again, second = provenance.cost_of(lambda: starts(units=np.arange(twice), seed=1))
    both = {"first start": first, "second start": second}
    quality = well_predicted(task, model)
    good = quality > WELL_PREDICTED
    view = LocalView(model, height=frame.height, width=frame.width)
    ranks = rank_gallery(
        model, gallery, contrast=options.contrast, frame=frame, top=min(MASKED_CANDIDATES, len(gallery))
    )
    natural, masked = ranks.best_response[:, 0], best_masked(model, view, found, gallery, ranks)
    outside = own_distance(model, found.images, np.arange(model.n_units))
    results = {
        **provenance.circumstances(),
        "scan": scan.name,
        "responses": "recorded" if task.truth is None else "simulated by a published digital twin",
        "data_sha256": provenance.data_sha256(options.scan),
        "core": task.core.name,
        "core_hash": task.core.content_hash(),
        "units": model.n_units,
        "steps": options.steps,
        "contrast": options.contrast,
        "seed": options.seed,
        "gallery_images": len(gallery),
        "targets": TARGETS,
        "seconds": {name: run["seconds"] for name, run in both.items()},
        "processor_seconds": {name: run["processor_seconds"] for name, run in both.items()},
        "minutes_per_1000_units": round(first["seconds"] / model.n_units * 1000 / 60, 3),
        "turns": turns,
        "well_predicted": {
            "threshold": WELL_PREDICTED,
            "judged_by": "true rates" if task.truth is not None else "recorded averages",
            "units": int(good.sum()),
        },
        **against(found.response, "natural", natural, good),
        **against(found.response, "masked_natural", masked, good),
        **second_start(view, found, again, good),
        "trace_over_last": convergence(found.trace[good, 0], options.steps),
        "contrast_reached": summary(found.contrast),
        "extrapolation": {"distance": summary(outside[good]), "outside": share(outside > 1, good)},
        "peak_megabytes": round(provenance.peak_megabytes()),
    }
    order = np.argsort(-np.where(np.isfinite(quality), quality, -np.inf), kind="stable")
    return results, model, found, order


def share(values: Array, among: Array) -> dict[str, float | int]:
    """How many of some units, and their share."""
    return {"units": int(values[among].sum()), "share": round(float(values[among].mean()), 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the result file with its table and figures."""
    options = _parser().options(arguments)
    results, model, found, order = measure(options)
    provenance.write_json(options.out, results)
    title = f"{results['core']} core, {results['responses'].split()[0]} responses"
    if results["responses"] != "recorded":
        title = f"Real {results['core']} core, responses simulated by a published digital twin"
    text = markdown(results, title)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(options.out.parent, model, found, order, title)
    print(text)


def _parser() -> script.Parser:
    parser = script.parser(
        "insilico", "Most exciting images of a population: time, and whether natural images do better."
    )
    parser.add_argument("--truth", type=Path, help="true rates of a simulated scan (.npz)")
    parser.add_argument(
        "--gallery", type=Path, required=True, help="natural images: an .npz whose first array is (N, H, W)"
    )
    parser.add_argument("--units", type=int, help="how many neurons, chosen by the seed (default: all)")
    parser.add_argument("--second-start-units", type=int, help="how many start twice (default: all)")
    parser.add_argument("--gallery-images", type=int, default=5000, help="how many (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--contrast", type=float, default=0.1, help="RMS contrast (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that are timed (default: %(default)s)")
    parser.add_argument("--loop-units", type=int, default=2, help="units of a loop's turn (default: 2)")
    parser.add_argument(
        "--models", type=Path, default=Path("runs/insilico-models"), help="where fitted models are kept"
    )
    return parser


if __name__ == "__main__":
    main()
