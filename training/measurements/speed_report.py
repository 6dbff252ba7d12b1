"""The results of ``training.measurements.speed`` as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from training.measurements import script
from training.measurements.speed_features import IMAGES, MACHINE
from training.measurements.turns import OURS, PEER

COLUMNS = ("what", "neuralpredictors 0.3.0", "mousev1", "ratio", "ratio of processor time")


def table(results: dict[str, Any]) -> str:
    """All ratios, and what is to be known about them."""
    parts = results["parts"]
    fits = {name: part for name, part in parts.items() if name.startswith("fit")}
    rows = [_row(name, part) for name, part in parts.items() if "median" in part and name not in fits]
    rows += [
        _fit_row(name, part, parts.get(name.replace("fit", "memory"), {})) for name, part in fits.items()
    ]
    notes = [note for name, part in fits.items() for note in _fit_notes(name, part)]
    for name, part in parts.items():
        if "ratio_by_process" in part:
            digits = 0 if name in fits else 1
            each = ", ".join(f"{ratio:.{digits}f}" for ratio in sorted(part["ratio_by_process"]))
            notes.append(f"Ratios within each of the processes, {name}: {each}.")
    if "features" in parts:
        notes.append(_shares(parts["features"]))
    return "\n\n".join([script.table(COLUMNS, rows), *notes])


def _row(name: str, part: Mapping[str, Any]) -> list[str]:
    median, unit = part["median"], part["unit"]
    theirs, ours = (f"{median[side]:,.4g} {unit}" if side in median else "-" for side in (PEER, OURS))
    return [name, theirs, ours, _times(part, "ratio", 1), _times(part, "processor_ratio", 1)]


def _fit_row(name: str, part: Mapping[str, Any], memory: Mapping[str, Any]) -> list[str]:
    peaks = {side: f", {memory[side]['peak']:,.0f} MB" if side in memory else "" for side in (PEER, OURS)}
    median, epochs = part["median"], part["peer_epochs"]["epochs"]
    epoch = statistics.median(part["seconds"]["peer_per_epoch"])
    their_test = part["peer_epochs"].get("test")
    their_score = f", {_true_rate(their_test)}" if their_test else ""
    return [
        f"{name}, {part['responses']} responses",
        f"{median[PEER]:,.0f} s ({epochs} epochs of {epoch:.2f} s){their_score}{peaks[PEER]}",
        f"{median[OURS]:,.1f} s, {_true_rate(part['mousev1_test'])}{peaks[OURS]}",
        _times(part, "ratio", 0),
        _times(part, "processor_ratio", 1),
    ]


def _fit_notes(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    """Where the number of epochs is from, and how soon their score was reached."""
    source = part["peer_epochs"]
    epochs = str(source["epochs"])
    if len(source["epochs_by_seed"]) > 1:
        each = (f"{count} with seed {seed}" for seed, count in source["epochs_by_seed"].items())
        epochs += f", the median ({', '.join(each)})"
    yield (
        f"Epochs for the {name}: {epochs}, of {source['recorded_by']} with "
        f"{source['recorded_units']:,} neurons and {source['recorded_images']:,} images "
        f"(`{source['record']}`); loads {part['machine']['load_1_minute']} to {part['load_at_end']}."
    )
    if reach := part.get("reach"):
        yield (
            f"The recorded score of that recipe took mousev1 {reach['images']:,} of the images and "
            f"{reach['seconds']:.1f} s ({_true_rate(reach['test'])}), "
            f"{part['median'][PEER] / reach['seconds']:.0f} times less."
        )


def _shares(features: Mapping[str, Any]) -> str:
    """How close to the processor's multiply rate the cores come, as a sentence."""
    needed, busy = features["multiply_adds_per_image"], features["processor_seconds"]
    share, fastest = features["share_of_peak"], features["peak_of"]
    # by processor time, which other work on the machine hardly touches
    fair = {side: IMAGES * needed / busy[side] * busy[fastest] / MACHINE[fastest] for side in (PEER, OURS)}
    return (
        f"Features take {needed / 1e6:.1f} million multiply-adds per image. Of the "
        f"{features['peak_multiply_adds_per_second'] / 1e9:.0f} billion per second that the best float32 "
        f"{fastest} reached, neuralpredictors gets {share[PEER]:.0%} and mousev1 "
        f"{share[OURS]:.0%} (medians; best turn {features['best_share_of_peak']:.0%}); per second of "
        f"processor time, compared with that of the {fastest}, {fair[PEER]:.0%} and {fair[OURS]:.0%}."
    )


def _true_rate(test: Mapping[str, Any]) -> str:
    return f"true rate {test.get('true_rate_correlation', math.nan):.4f}"


def _times(part: Mapping[str, Any], name: str, digits: int) -> str:
    return f"{part[name]:.{digits}f}x" if name in part else "-"
