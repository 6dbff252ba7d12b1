"""Tuning and receptive fields of a fitted model against the truth of a simulated scan.

    python -m training.measurements.insilico_truth SCAN --truth TRUTH --core sim-11S --out FILE.json

The model is fitted once, with default settings, and kept in ``--models``. It is then asked as any user would
(``mousev1.insilico``), with the gratings of the truth's own measurement: Michelson contrast 0.5 around the
gray of the simulation, full field, averaged over phases. Units that count, set beforehand: **well predicted**
if the predicted test rates correlate above 0.7 with the true ones, **tuned** if the true orientation
selectivity (1 - circular variance) is above 0.3. Targets: preferred orientation within 10 degrees for 90% of
them, preferred spatial frequency within half an octave for 80%, centre of the receptive field within 1 pixel
in the median.

Beside the targets, the simulation's noise-free neurons are shown the very same stimuli, so that what the truth
file measured otherwise (or not at all) can be compared, and how often the intervals hold the truth. With
``--noise-free`` the model is fitted to the neurons' true rates instead of the recorded trials: the errors that are
left are those of the core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mousev1
from mousev1.core.network import Core
from mousev1.data.scan import Scan
from mousev1.insilico import (
    Frame,
    ReceptiveFields,
    Tuning,
    TuningSettings,
    measure_tuning,
    receptive_fields,
    tuning_indices,
)
from mousev1.insilico.frame import Float, Images32
from mousev1.insilico.tuning import assemble
from mousev1.insilico.tuning_protocol import Shown, examine
from mousev1.metrics.unit_scores import correlation
from mousev1.model.response_model import ResponseModel
from training import provenance
from training.measurements import script
from training.measurements.insilico_truth_report import TARGETS, report
from training.simulation.neurons import Population
from training.simulation.response import GRAY, Responder
from training.simulation.settings import NeuronConfig

WELL_PREDICTED = 0.7
TUNED = 0.3
BANDS_CPD = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.24)
PERIODS = {"orientation_deg": 180.0, "phase_deg": 360.0}

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Neurons:
    """Simulated neurons as subjects of ``mousev1.insilico.tuning_protocol``: noise-free, so without draws."""

    population: Population
    unit: Float
    frame: Frame
    surround_ratio: float

    def to_all(self, images: Images32) -> Shown:
        """(1, U, N) responses in the scan's units; a simulation knows no distance."""
        responses = self._responses(self.population, images, self.unit)
        return Shown(responses, np.full(responses.shape[1:], np.nan))

    def to_each(self, row: int, images: Images32) -> Shown:
        """(1, N) responses of one neuron."""
        one = np.array([row])
        responses = self._responses(self.population.select(one), images, self.unit[one])[:, 0]
        return Shown(responses, np.full(len(images), np.nan))

    def _responses(self, population: Population, images: Images32, unit: Float) -> Float:
        size = {"height": self.frame.height, "width": self.frame.width}
        responder = Responder(population, surround_ratio=self.surround_ratio, **size)
        return np.asarray((responder.rates(images) * unit).T[None], dtype=np.float64)


def population_of(truth: Arrays) -> Population:
    """The simulation's neurons."""
    prefix = "parameter_"
    return Population(**{key[len(prefix) :]: truth[key] for key in truth if key.startswith(prefix)})


def without_noise(scan: Scan, truth: Arrays) -> Scan:
    """The scan with every trial's response replaced by the neurons' true rates."""
    height, width = scan.images.shape[2:]
    responder = Responder(
        population_of(truth), height=height, width=width, surround_ratio=NeuronConfig().surround_ratio
    )
    rates = responder.rates(scan.images[:, 0]) * truth["unit"].astype(np.float32)
    return replace(scan, name=f"{scan.name}-noise-free", responses=rates[scan.trial_image])


def fitted_model(scan: Scan, core: Core, folder: Path, seed: int) -> tuple[ResponseModel, bool]:
    """The model of the scan on the core, and whether it was there already."""
    folder = folder / f"{scan.name}-{core.name}-{core.content_hash()[:8]}-seed{seed}"
    if folder.is_dir():
        return mousev1.load_model(folder, core=core), True
    model = mousev1.fit_scan(scan, core=core, seed=seed, constant_units="mean", progress=sys.stderr.isatty())
    model.save(folder, include_core=True)
    return model, False


def true_tuning(
    truth: Arrays, units: npt.NDArray[np.int64], frame: Frame, settings: TuningSettings
) -> Tuning:
    """Tuning of the simulation's own neurons, shown what the model is shown."""
    population = population_of(truth).select(units)
    subject = Neurons(population, truth["unit"][units], frame, NeuronConfig().surround_ratio)
    x, y = frame.to_degrees(population.x, population.y)
    return assemble(units, settings, [examine(subject, frame, settings, x, y)])


def wrapped(values: Float, period: float) -> Float:
    """Differences of angles, brought to within half a period of zero."""
    return np.asarray((values + period / 2) % period - period / 2)


def deviation(orientation_deg: Float, truth: Arrays) -> Float:
    """(U,) degrees between orientations and the true preferred ones, 0 to 90."""
    return np.abs(wrapped(orientation_deg - truth["orientation_deg"], 180.0))


def judge(
    truth: Arrays, scores: Float, fields: ReceptiveFields, tuning: Tuning, exact: Tuning, *, least: float
) -> dict[str, Any]:
    """Errors against the truth over the tuned units whose score is above ``least``."""
    ok = (scores > least) & (truth["orientation_selectivity"] > TUNED)
    angle = deviation(tuning.orientation_deg.value, truth)[ok]
    peak = deviation(tuning_indices.peak_orientation(tuning.orientation_curve), truth)[ok]
    octaves = np.log2(tuning.frequency_cpd.value / truth["frequency_cpd"])[ok]
    frame = fields.frame
    x, y = frame.to_degrees(*truth["rf_xy"].T)
    centres = {
        "gaussian": (fields.gaussian.x_deg, fields.gaussian.y_deg),
        "gabor": (fields.gabor.x_deg, fields.gabor.y_deg),
        "readout": (fields.readout_x_deg, fields.readout_y_deg),
    }
    distance = {
        name: np.hypot(px - x, py - y) * frame.pixels_per_degree for name, (px, py) in centres.items()
    }
    kinds = {kind: ok & (truth["cell_type"] == kind) for kind in ("simple", "complex")}
    bands = {}
    for low, high in pairwise(BANDS_CPD):
        inside = (truth["frequency_cpd"][ok] >= low) & (truth["frequency_cpd"][ok] < high)
        if inside.any():
            bands[f"{low:g}-{high:g}"] = {
                "units": int(inside.sum()),
                "median_octaves": _median(octaves[inside]),
                "within_half_an_octave": round(float((np.abs(octaves[inside]) < 0.5).mean()), 3),
            }
    return {
        "least_correlation": least,
        "units": int(ok.sum()),
        "orientation_within_10_degrees": round(float((angle < 10.0).mean()), 4),
        "orientation_peak_within_10_degrees": round(float((peak < 10.0).mean()), 4),
        "orientation_median_error_deg": _median(angle),
        "frequency_within_half_an_octave": round(float((np.abs(octaves) < 0.5).mean()), 4),
        "frequency_median_octaves": _median(octaves),
        "frequency_by_true_band": bands,
        "centre_median_error_px": {name: _median(values[ok]) for name, values in distance.items()},
        "centre_median_error_px_by_cell_type": {
            kind: _median(distance["gaussian"][chosen]) for kind, chosen in kinds.items()
        },
        "gabor_r2_median": _median(fields.gabor.r2[ok]),
        "gaussian_r2_median": _median(fields.gaussian.r2[ok]),
        "indices": compare(tuning, exact, ok),
    }


def compare(tuning: Tuning, exact: Tuning, ok: npt.NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """Every index of the model beside that of the true neurons under the same stimuli."""
    out = {}
    for name, model in tuning.estimates.items():
        true = exact.estimates[name].value
        error = true - model.value
        if name in PERIODS:
            error = wrapped(error, PERIODS[name])
        used = ok & np.isfinite(error)
        known = used & np.isfinite(model.low)
        held = (model.value + error >= model.low) & (model.value + error <= model.high)
        out[name] = {
            "units": int(used.sum()),
            "true_median": _median(true[used]),
            "model_median": _median(model.value[used]),
            "median_absolute_error": _median(np.abs(error[used])),
            "rank_correlation": None
            if name in PERIODS
            else _rounded(_spearman(true[used], model.value[used])),
            "interval_holds_truth": _rounded(held[known].mean()) if known.any() else None,
        }
    return out


def true_rate_correlation(model: ResponseModel, scan: Scan, truth: Arrays) -> Float:
    """(U,) correlation of predicted with true rates."""
    row_of = {int(image): row for row, image in enumerate(scan.image_ids)}
    tested = scan.images[[row_of[int(image)] for image in truth["rate_image_id"]]]
    return correlation(model.predict(tested), truth["rate"])


def file_against_stimuli(exact: Tuning, truth: Arrays) -> dict[str, float | None]:
    """How far the truth in the file is at most from what the true neurons say to the same stimuli."""
    peak = tuning_indices.peak_orientation(exact.orientation_curve)
    octaves = np.abs(np.log2(exact.frequency_cpd.value / truth["frequency_cpd"]))
    return {
        "orientation_deg": _rounded(np.nanmax(deviation(exact.orientation_deg.value, truth))),
        "orientation_peak_deg": _rounded(np.nanmax(deviation(peak, truth))),
        "frequency_octaves": _rounded(np.nanmax(octaves)),
    }


def ask(
    model: ResponseModel,
    natural: npt.NDArray[Any],
    units: npt.NDArray[np.int64],
    frame: Frame,
    settings: TuningSettings,
    seed: int,
) -> tuple[ReceptiveFields, Tuning, dict[str, float | None]]:
    """Receptive fields and tuning of a model's units, and the seconds they took."""
    progress = sys.stderr.isatty()
    fields, of_fields = provenance.cost_of(
        lambda: receptive_fields(model, natural, units=units, frame=frame, progress=progress)
    )
    tuning, of_tuning = provenance.cost_of(
        lambda: measure_tuning(
            model,
            units=units,
            settings=settings,
            frame=frame,
            centres_deg=fields.centres_on_frame(),
            seed=seed,
            progress=progress,
        )
    )
    return fields, tuning, {"receptive_fields": of_fields["seconds"], "tuning": of_tuning["seconds"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit or load the model, ask it, compare with the truth, write JSON and Markdown."""
    options = _parser().options(arguments)
    scan, core = mousev1.read_scan(options.scan), mousev1.load_core(str(options.core))
    with np.load(options.truth) as file:
        truth = {name: file[name] for name in file.files}
    if options.noise_free:
        scan = without_noise(scan, truth)
    (model, cached), cost = provenance.cost_of(lambda: fitted_model(scan, core, options.models, options.seed))
    seconds = {"fit": None if cached else cost["seconds"]}
    units = np.arange(scan.n_units)
    if options.units is not None:
        units = np.sort(np.random.default_rng(options.seed).permutation(scan.n_units)[: options.units])
    scores = true_rate_correlation(model, scan, truth)[units]
    truth = {name: values[units] for name, values in truth.items() if len(values) == scan.n_units}

    frame = Frame.of(core, background=GRAY)
    shown = scan.trials("train").images
    natural = shown[np.random.default_rng(options.seed).permutation(len(shown))[: options.images]]
    settings = TuningSettings(draws=options.draws)
    fields, tuning, took = ask(model, natural, units, frame, settings, options.seed)
    seconds |= took
    exact = true_tuning(truth, np.arange(len(units)), frame, settings)
    if not ((scores > WELL_PREDICTED) & (truth["orientation_selectivity"] > TUNED)).any():
        raise SystemExit(f"no unit is predicted with a correlation above {WELL_PREDICTED}: nothing to judge")

    results: dict[str, Any] = {
        "what": "tuning and receptive fields of a model fitted to SIMULATED responses, against their truth",
        **provenance.circumstances(),
        "scan": options.scan.name,
        "data_sha256": provenance.data_sha256(options.scan),
        "core": core.name,
        "core_hash": core.content_hash(),
        "noise_free_fit": options.noise_free,
        "seed": options.seed,
        "units": len(units),
        "images_for_gradients": options.images,
        "draws": options.draws,
        "rules": {"well_predicted_above": WELL_PREDICTED, "tuned_above": TUNED},
        "targets": TARGETS,
        "seconds": seconds,
        "truth_of_file_against_same_stimuli": file_against_stimuli(exact, truth),
        "results": [
            judge(truth, scores, fields, tuning, exact, least=least)
            for least in (WELL_PREDICTED, 0.8, 0.9)
            if ((scores > least) & (truth["orientation_selectivity"] > TUNED)).any()
        ],
    }
    provenance.write_json(options.out, results)
    text = report(results)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def _spearman(a: Float, b: Float) -> Float:
    return correlation(a.argsort().argsort(), b.argsort().argsort())


def _median(values: Float) -> float | None:
    values = values[np.isfinite(values)]
    return _rounded(np.median(values)) if len(values) else None


def _rounded(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _parser() -> script.Parser:
    parser = script.parser(
        "insilico_truth",
        "In-silico tuning and receptive fields against the truth of a simulated scan.",
        scan="a simulated scan",
    )
    parser.add_argument("--truth", type=Path, required=True, help="its truth (.truth.npz)")
    parser.add_argument(
        "--models", type=Path, default=Path("runs/insilico"), help="where fitted models are kept"
    )
    parser.add_argument("--units", type=int, help="how many units, chosen by the seed (default: all)")
    parser.add_argument("--noise-free", action="store_true", help="fit true rates instead of recorded trials")
    parser.add_argument("--images", type=int, default=40, help="natural images for gradients (default: 40)")
    parser.add_argument("--draws", type=int, default=100, help="from the posterior (default: 100)")
    return parser


if __name__ == "__main__":
    main()
