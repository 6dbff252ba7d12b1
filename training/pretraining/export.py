"""What a finished run hands on: the core with its prior, figures, a card and the result in numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from mousev1.core.network import Core, CoreConfig, InputLayer
from mousev1.fit.early_stopping import EarlyStopping
from mousev1.hub.model_cards import core_card
from mousev1.plot.figure import grid, new_figure, plain, save
from mousev1.readout.gaussian import GaussianReadout, Readout
from mousev1.storage.core_files import save_core
from training.pretraining.config import PretrainConfig
from training.pretraining.data import PretrainScan
from training.pretraining.readout_prior import readout_prior
from training.pretraining.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.pretraining.model import PretrainModel

FIRST_SCANS = 4
"""Positions are drawn for so many scans; the others look alike."""


def export(
    model: PretrainModel,
    scans: Sequence[PretrainScan],
    folder: RunFolder,
    config: PretrainConfig,
    history: Sequence[Mapping[str, float]],
    stopping: EarlyStopping,
    *,
    figures: bool = True,
) -> None:
    """Write figures, the core in Hub format, cards and, last of all, ``result.json``.

    The model has the weights of the best epoch, in evaluation mode. Many small trainings would spend most of their
    time on figures, and go without.
    """
    core = Core(config.core, name=config.name)
    core.load_state_dict({key: value.cpu() for key, value in model.core.state_dict().items()})
    core.freeze()
    model = model.cpu()
    readouts = [model.readout(number) for number in range(len(scans))]
    # The prior is on weights at one position: readouts that weigh the whole map have none.
    gaussian = [readout for readout in readouts if isinstance(readout, GaussianReadout)]
    if gaussian:
        core.readout_prior = readout_prior(core, gaussian, list(scans))

    drawn: dict[str, Figure] = {}
    if figures:
        drawn = {
            "loss": loss_figure(history),
            "correlation": correlation_figure(history, [scan.name for scan in scans]),
            "filters": filter_figure(first_filters(core)),
            "positions": position_figure(scans[:FIRST_SCANS], readouts[:FIRST_SCANS], core.config),
        }
    for name, figure in drawn.items():
        save(figure, folder.path / "figures" / f"{name}.png")

    result = {"name": config.name, "content_hash": core.content_hash(), **summarise(history, stopping)}
    section = training_section(config, scans, result, folder)
    save_core(
        core,
        folder.path / "core",
        card=f"{core_card(core)}\n{section}" + "\n![first-layer filters](filters.png)\n" * figures,
        overwrite=(folder.path / "core").exists(),
    )
    if figures:
        shutil.copyfile(folder.path / "figures" / "filters.png", folder.path / "core" / "filters.png")
    pictures = "\n".join(f"![{name}](figures/{name}.png)\n" for name in drawn)
    folder.write_text("README.md", f"# Pretraining of {config.name}\n\n{section}\n{pictures}\n{FILES}")
    folder.write_metrics(history)
    folder.finish(result)


def summarise(history: Sequence[Mapping[str, float]], stopping: EarlyStopping) -> dict[str, Any]:
    """How training ended, the best epoch's correlations of all neurons and of each scan, and what it took."""
    return {
        **dataclasses.asdict(stopping),
        "validation_correlation": {
            key.partition("/")[2] or "all": value if np.isfinite(value) else None
            for key, value in history[stopping.best_epoch - 1].items()
            if key.startswith("validation_correlation")
        },
        "hours": sum(row["seconds"] for row in history) / 3600,
        "images_per_second": float(np.median([row["images_per_second"] for row in history])),
    }


FILES = """## Files

| file | what |
|---|---|
| `run.json` | config with every default, scans with SHA-256, and each start of the run: commit, versions, machine |
| `metrics.csv`, `tensorboard/` | every epoch |
| `best.pt`, `last.pt` | weights of the best epoch; everything to go on after the last one (`torch.load`) |
| `core/` | the core, for `mousev1.load_core`, with its prior on readouts |
| `result.json` | the result in numbers |
"""


def training_section(
    config: PretrainConfig, scans: Sequence[PretrainScan], result: Mapping[str, Any], folder: RunFolder
) -> str:
    """How the core came about, in Markdown: data, recipe, course and provenance."""
    sessions = folder.sessions()
    recipe = json.dumps(dataclasses.asdict(config.optimisation), indent=1)
    per_scan = result["validation_correlation"]
    rows = [
        f"| {scan.name} | {scan.units:,} | {len(scan.train):,} | {len(scan.validation):,} | "
        + ("-" if per_scan[scan.name] is None else f"{per_scan[scan.name]:.3f}")
        + " |"
        for scan in scans
    ]
    commits = ", ".join(sorted({f"`{session['commit']}`" for session in sessions}))
    packages = sessions[-1]["versions"]
    lines = [
        "## Training\n",
        f"Trained end to end on {len(scans)} scans by `python -m training.pretraining`, seed {config.seed}, from "
        f"commit {commits}, with torch {packages['torch']} on {sessions[-1]['machine']['cpu']}.",
        f"{result['epoch']} epochs in {result['hours']:.2f} hours and {len(sessions)} "
        f"start{'s' if len(sessions) > 1 else ''}; the best was epoch {result['best_epoch']}, with a validation "
        f"correlation of {result['best']:.4f} with single trials, averaged over the neurons of all scans.\n",
        "| scan | neurons | training trials | validation trials | validation correlation |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Readout: {config.readout.kind}, {'with' if config.readout.cortex else 'without'} cortex"
        f"{', features shared across matched neurons' if config.readout.share_features else ''}. Recipe:\n",
        f"```json\n{recipe}\n```",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- figures


def first_filters(core: Core) -> Tensor:
    """(C, k, k) kernels of the first layer, of the first input channel."""
    return cast(InputLayer, core.layers[0]).conv.weight.detach()[:, 0]


def filter_figure(filters: Tensor) -> Figure:
    """All filters, strongest first, each on a symmetric gray scale of its own."""
    order = filters.square().sum(dim=(1, 2)).argsort(descending=True)
    rows, columns = grid(len(filters), math.ceil(math.sqrt(len(filters))))
    figure = new_figure(max(0.62 * columns, 2.6), 0.62 * rows + 0.3, "first-layer filters, strongest first")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, kernel in zip(axes, filters[order].numpy(), strict=False):
        largest = float(np.abs(kernel).max()) or 1.0
        axis.imshow(kernel, cmap="gray", vmin=-largest, vmax=largest, interpolation="nearest")
    return figure


def loss_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training loss per epoch, with the epochs at which the learning rate fell."""
    figure, axis = _curve_axes(history)
    axis.plot(_column(history, "epoch"), _column(history, "train_loss"), color="black")
    axis.set_ylabel("Poisson loss per response")
    return figure


def correlation_figure(history: Sequence[Mapping[str, float]], names: Sequence[str]) -> Figure:
    """Validation correlation per epoch, of every scan and over all neurons."""
    figure, axis = _curve_axes(history)
    epochs = _column(history, "epoch")
    for number, name in enumerate(names):
        label = "single scans" if number == 0 else None
        axis.plot(
            epochs, _column(history, f"validation_correlation/{name}"), color="0.75", lw=0.8, label=label
        )
    axis.plot(epochs, _column(history, "validation_correlation"), color="black", label="all neurons")
    axis.set_ylabel("validation correlation")
    axis.legend(frameon=False, loc="lower right")
    return figure


def position_figure(scans: Sequence[PretrainScan], readouts: Sequence[Readout], core: CoreConfig) -> Figure:
    """Where neurons look, in image pixels: coloured on cortex if cortex is known, else on the image."""
    extent = (core.input.width, core.input.height)
    figure = new_figure(2.6 * len(scans) + 0.6, 6.4, None)
    axes = figure.subplots(3, len(scans), squeeze=False, gridspec_kw={"height_ratios": [0.7, 1.0, 1.0]})
    for column, (scan, readout) in enumerate(zip(scans, readouts, strict=True)):
        pixels = image_positions(readout.mu().detach(), core).numpy()
        frame = axes[0, column]
        frame.scatter(pixels[:, 0], pixels[:, 1], s=2, color="black", alpha=0.4, linewidths=0)
        frame.set(xlim=(-0.5, extent[0] - 0.5), ylim=(extent[1] - 0.5, -0.5), aspect="equal")
        frame.set_title(f"{scan.name}: on the image", fontsize=8)
        for row, word in ((1, "azimuth"), (2, "elevation")):
            axis = axes[row, column]
            axis.set_aspect("equal")
            if scan.cortex is None:
                axis.axis("off")
                continue
            cortex = scan.cortex.numpy()
            shade = pixels[:, row - 1]
            points = axis.scatter(cortex[:, 0], cortex[:, 1], s=3, c=shade, cmap="viridis", linewidths=0)
            axis.set_title(f"on cortex (um): {word}", fontsize=8)
            bar = figure.colorbar(points, ax=axis, shrink=0.8)
            bar.ax.tick_params(labelsize=6)
            bar.set_label("pixel", fontsize=7)
    for axis in axes.ravel():
        axis.tick_params(labelsize=6)
    return figure


def image_positions(mu: Tensor, core: CoreConfig) -> Tensor:
    """(U, 2) readout positions to (U, 2) image pixels (column, row).

    The first layer has no padding, so that the feature map starts half a kernel inside the image.
    """
    _, height, width = core.feature_shape(core.input.height, core.input.width)
    extent = torch.tensor([width - 1, height - 1])
    return (mu + 1.0) / 2.0 * extent + (core.input_kernel - 1) / 2.0


def _curve_axes(history: Sequence[Mapping[str, float]]) -> tuple[Figure, Any]:
    figure = new_figure(5.0, 3.2, None)
    axis = figure.subplots()
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    plain(axis)
    for before, after in pairwise(history):
        if after["learning_rate"] < before["learning_rate"]:
            axis.axvline(before["epoch"] + 0.5, color="0.6", lw=0.7, ls=":")
    return figure, axis


def _column(history: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [row[name] for row in history]
