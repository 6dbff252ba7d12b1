"""Everything about some neurons of a model in one folder: tables, images and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.extrapolation import LEVEL, measure_extrapolation
from mousev1.insilico.frame import Frame, Images32
from mousev1.insilico.gallery import rank_gallery
from mousev1.insilico.mei import OptimalImages, optimal_images
from mousev1.insilico.receptive_field import ReceptiveFields, readout_position, receptive_fields
from mousev1.insilico.tuning import Tuning, measure_tuning
from mousev1.insilico.tuning_protocol import TuningSettings
from mousev1.metrics.score_table import ScoreTable
from mousev1.model.response_model import ResponseModel
from mousev1.storage.atomic import replacing
from mousev1.storage.table import check_parquet, write_csv, write_parquet

FIELD_IMAGES = 60
SHEET_UNITS, PANEL_UNITS = 24, 8


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found about U neurons.

    Attributes:
        exciting: most exciting images.
        inhibiting: most inhibiting images.
        fields: receptive fields.
        tuning: tuning curves and indices.
        far: (U,) distance of each most exciting image from the training images for its neuron, as a multiple of
            the limit; NaN if the model knows no statistics of them.
        tables: name of the file to its columns.
    """

    exciting: OptimalImages
    inhibiting: OptimalImages
    fields: ReceptiveFields
    tuning: Tuning
    far: NDArray[np.float64]
    tables: Mapping[str, Mapping[str, NDArray[Any]]]


def examine_units(
    model: ResponseModel,
    index: NDArray[np.int64],
    natural: NDArray[Any],
    *,
    ascent: AscentSettings | None = None,
    tuning: TuningSettings | None = None,
    frame: Frame | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Findings:
    """Optimal images, gallery, receptive fields and tuning of neurons, with what lies outside marked.

    Args:
        model: a fitted model of a core of gray images.
        index: (U,) indices of neurons.
        natural: (N, H, W) natural images of the frame's size: the gallery; receptive fields are measured
            at up to 60 of them.
        ascent: settings of the optimal images; their contrast is also that of the gallery.
        tuning: settings of the tuning curves.
        frame: the screen; that of the images of the fit by default.
        seed: of everything random.
        progress: show progress bars.
    """
    ascent = ascent or AscentSettings()
    frame = frame or Frame.of_model(model)
    shared: dict[str, Any] = {"units": index, "frame": frame, "progress": progress}
    exciting = optimal_images(model, settings=ascent, seed=seed, **shared)
    inhibiting = optimal_images(model, kind="inhibiting", settings=ascent, seed=seed, **shared)
    ranks = rank_gallery(model, natural, contrast=ascent.contrast, top=min(3, len(natural)), **shared)
    chosen = np.linspace(0, len(natural) - 1, min(len(natural), FIELD_IMAGES)).round().astype(int)
    fields = receptive_fields(model, np.asarray(natural[chosen]), **shared)
    found = measure_tuning(model, settings=tuning, seed=seed, **shared)

    far = {name: own_distance(model, images, index) for name, images in _sets(exciting, inhibiting).items()}
    tables = {
        "exciting": {**exciting.columns, **_marks(far["exciting"])},
        "inhibiting": {**inhibiting.columns, **_marks(far["inhibiting"])},
        "gallery": ranks.columns,
        "receptive_fields": fields.columns,
        "tuning": found.columns,
    }
    return Findings(exciting, inhibiting, fields, found, far["exciting"], tables)


def write_report(
    folder: str | Path,
    model: ResponseModel,
    found: Findings,
    *,
    cortex: NDArray[Any] | None = None,
    scores: ScoreTable | None = None,
    title: str | None = None,
    figures: bool = True,
    parquet: bool = False,
) -> list[str]:
    """Write findings as a folder of tables, images and figures; returns the names of its files.

    Args:
        folder: where to; an older one is replaced whole.
        model: that was examined.
        found: from ``examine_units``.
        cortex: (all neurons of the model, 2 or 3) cortical positions, for the retinotopic map.
        scores: of the model's neurons, for their distributions.
        title: begins the title of every figure, such as the name of the scan; say there if it is simulated.
        figures: draw figures (needs matplotlib).
        parquet: write tables as Parquet too (needs pyarrow).

    Raises:
        ModuleNotFoundError: matplotlib or pyarrow is asked for and not installed.
    """
    drawn = _figures(model, found, cortex, scores, title) if figures else {}
    if parquet:
        check_parquet()
    with replacing(Path(folder)) as staging:
        staging.mkdir(parents=True)
        for name, columns in found.tables.items():
            write_csv(staging / f"{name}.csv", columns)
            if parquet:
                write_parquet(staging / f"{name}.parquet", columns)
        if scores is not None:
            scores.to_csv(staging / "scores.csv")
        np.savez_compressed(
            staging / "images.npz",
            unit_ids=found.exciting.unit_ids,
            exciting=found.exciting.images,
            inhibiting=found.inhibiting.images,
            receptive_fields=found.fields.principal,
        )
        for name, figure in drawn.items():
            from mousev1.plot import save

            save(figure, staging / f"{name}.png")
        return sorted(path.name for path in staging.iterdir())


def _figures(
    model: ResponseModel,
    found: Findings,
    cortex: NDArray[Any] | None,
    scores: ScoreTable | None,
    title: str | None,
) -> dict[str, Any]:
    from mousev1 import plot

    def named(what: str) -> str:
        return f"{title}: {what}" if title else what

    frame, shown = found.exciting.frame, slice(0, SHEET_UNITS)
    out = {}
    for name, optimal in _optimal(found).items():
        labels = [
            f"{unit}: {response:.2g}, blank {blank:.2g}"
            for unit, response, blank in zip(
                optimal.unit_ids[shown], optimal.response[shown], optimal.blank_response[shown], strict=True
            )
        ]
        what = f"most {name} images and predicted responses, RMS contrast {optimal.settings.contrast:g}"
        if (found.far > 1).any() and name == "exciting":
            what += f"\nred: farther from the training images than {LEVEL:g}% of these"
        outside = (found.far > 1)[shown] if name == "exciting" else None
        out[name] = plot.image_sheet(optimal.images[shown], frame, labels, outside=outside, title=named(what))
    out["convergence"] = plot.traces(found.exciting, title=named("ascent"))
    out["receptive_fields"] = plot.receptive_field_sheet(
        found.fields, title=named("receptive fields (principal gradient at natural images)")
    )
    out["fields_on_monitor"] = plot.fields_on_monitor(
        found.fields, title=named(f"receptive fields of {len(found.fields)} neurons")
    )
    out["tuning"] = plot.tuning_panels(
        found.tuning,
        units=np.arange(min(PANEL_UNITS, len(found.tuning))),
        title=named("tuning, evoked responses; bands: 95% intervals; hollow: outside the training images"),
    )
    out["population_tuning"] = plot.population_tuning(
        found.tuning, title=named(f"tuning of {len(found.tuning)} neurons")
    )
    if cortex is not None:
        x, y = readout_position(model, frame)
        out["retinotopy"] = plot.retinotopic_map(cortex, x, y, frame, title=named("retinotopic map"))
    if scores is not None:
        out["scores"] = plot.score_distributions(scores, title=named(f"scores of {len(scores)} neurons"))
    return out


def _optimal(found: Findings) -> dict[str, OptimalImages]:
    return {"exciting": found.exciting, "inhibiting": found.inhibiting}


def _sets(exciting: OptimalImages, inhibiting: OptimalImages) -> dict[str, Images32]:
    return {"exciting": exciting.images, "inhibiting": inhibiting.images}


def own_distance(model: ResponseModel, images: Images32, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """(U,) distance of each neuron's own image for that neuron; NaN without statistics."""
    if model.training_statistics is None:
        return np.full(len(index), np.nan)
    distance = measure_extrapolation(model, images, units=index).unit_distance
    return np.diagonal(distance).astype(np.float64)


def _marks(distance: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    return {"extrapolation": distance, "outside": distance > 1}
