"""Receptive fields on the monitor, and the map from cortex to the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico.frame import Float, Frame
from mousev1.insilico.receptive_field import ReceptiveFields
from mousev1.plot.figure import extent, new_figure, plain, sheet
from mousev1.plot.palette import BLUE, GREY, INK, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse


def receptive_field_sheet(
    fields: ReceptiveFields,
    *,
    units: NDArray[Any] | None = None,
    columns: int = 6,
    title: str | None = None,
) -> Figure:
    """Principal filters, each on its own colour scale, with the fitted Gaussian and where the readout looks.

    Args:
        fields: of a population.
        units: rows of ``fields`` to show; the first 24 by default.
        columns: filters in a row.
        title: of the sheet.
    """
    frame = fields.frame
    shown = np.arange(min(24, len(fields))) if units is None else np.asarray(units)
    figure, panels = sheet(len(shown), columns, frame, title)
    for axes, i in zip(panels, shown.tolist(), strict=True):
        image = fields.principal[i]
        reach = float(np.abs(image).max()) or 1.0
        axes.imshow(
            image, cmap="RdBu_r", vmin=-reach, vmax=reach, extent=extent(frame), interpolation="nearest"
        )
        axes.add_patch(_ellipse(fields, i, INK))
        axes.plot(fields.readout_x_deg[i], fields.readout_y_deg[i], "+", color=INK, markersize=4)
        axes.set_xlim(extent(frame)[:2])
        axes.set_ylim(extent(frame)[2:])
        fits = f"Gabor r2 {fields.gabor.r2[i]:.2f}, Gaussian {fields.gaussian.r2[i]:.2f}"
        axes.set_title(f"{fields.unit_ids[i]}: {fits}", fontsize=6, pad=2)
    return figure


def fields_on_monitor(fields: ReceptiveFields, *, title: str | None = None) -> Figure:
    """Fitted Gaussians at one standard deviation on the monitor, with lines to where the readouts look."""
    frame = fields.frame
    height, width = frame.size_deg
    figure = new_figure(
        7.0, 7.0 * height / width + 0.8, title or f"receptive fields of {len(fields)} neurons"
    )
    axes = figure.subplots()
    for i in range(len(fields)):
        if np.isfinite(fields.gaussian.x_deg[i]):
            axes.add_patch(_ellipse(fields, i, BLUE, alpha=0.6))
            axes.plot(
                [fields.gaussian.x_deg[i], fields.readout_x_deg[i]],
                [fields.gaussian.y_deg[i], fields.readout_y_deg[i]],
                color=VERMILION,
                linewidth=0.7,
            )
    axes.plot(fields.readout_x_deg, fields.readout_y_deg, ".", color=INK, markersize=2)
    left, right, bottom, top = extent(frame)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set(xlabel="azimuth (degrees from the frame's centre)", ylabel="elevation (degrees)")
    plain(axes)
    return figure


def retinotopic_map(
    cortex: NDArray[Any], x_deg: Float, y_deg: Float, frame: Frame, *, title: str | None = None
) -> Figure:
    """Neurons on cortex, coloured by where they look; and the same neurons on the monitor.

    Args:
        cortex: (U, 2) or (U, 3) cortical positions, any unit of length; micrometres as scans have them.
        x_deg: (U,) where each looks, degrees to the right of the frame's centre.
        y_deg: (U,) the same, up.
        frame: the screen.
        title: of the figure.
    """
    from matplotlib.patches import Rectangle

    if len(cortex) != len(x_deg) or len(cortex) != len(y_deg):
        raise ValueError(f"cortex: expected one position per unit, {len(x_deg)}, got {len(cortex)}")
    figure = new_figure(10.5, 3.2, title or f"retinotopic map of {len(cortex)} neurons")
    panels = figure.subplots(1, 3)
    for axes, values, name in ((panels[0], x_deg, "azimuth"), (panels[1], y_deg, "elevation")):
        dots = axes.scatter(cortex[:, 0], cortex[:, 1], c=values, s=4, cmap="viridis")
        axes.set(xlabel="cortex, first axis (um)", ylabel="second axis (um)", aspect="equal")
        bar = figure.colorbar(dots, ax=axes, shrink=0.8)
        bar.set_label(f"{name} (degrees)", fontsize=8)
        bar.ax.tick_params(labelsize=7, length=2)
        plain(axes)
    # one colour per position on cortex, the same neurons on the monitor
    spread = cortex[:, 0] - cortex[:, 0].min()
    panels[2].scatter(x_deg, y_deg, c=spread, s=4, cmap="plasma")
    left, right, bottom, top = extent(frame)
    border = Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=GREY, linewidth=0.7)
    panels[2].add_patch(border)
    panels[2].set(xlabel="azimuth (degrees)", ylabel="elevation (degrees)", aspect="equal")
    panels[2].set_title("on the monitor, coloured by the first axis", fontsize=8)
    plain(panels[2])
    return figure


def _ellipse(fields: ReceptiveFields, row: int, colour: str, *, alpha: float = 1.0) -> Ellipse:
    """One standard deviation around the fitted Gaussian."""
    from matplotlib.patches import Ellipse

    fit = fields.gaussian
    width, height = 2 * fit.long_deg[row], 2 * fit.short_deg[row]
    line = {"fill": False, "edgecolor": colour, "linewidth": 0.6, "alpha": alpha}
    return Ellipse((fit.x_deg[row], fit.y_deg[row]), width, height, angle=fit.orientation_deg[row], **line)
