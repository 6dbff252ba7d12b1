"""One look per condition, in every figure: colours that readers with any colour vision tell apart.

Colours are those of Okabe and Ito, with four of Tol's muted ones where a benchmark compares more. Markers
and lines differ too, so that a figure also reads in gray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle

from mousev1.plot.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

WINE, INDIGO, TEAL, OLIVE = "#882255", "#332288", "#44AA99", "#999933"


@dataclass(frozen=True)
class Style:
    """How a curve looks: lines and markers as in matplotlib."""

    colour: str
    line: str = "-"
    marker: str = "o"
    filled: bool = True


CONDITIONS = {
    "direct": Style(BLACK, marker="s"),
    "best-core/diff-readout": Style(BLUE, marker="o"),
    "diff-core/best-readout": Style(ORANGE, marker="^"),
}

READOUTS = {
    "gaussian-cortex": Style(GREEN, marker="o"),
    "gaussian": Style(SKY, marker="D"),
    "factorized": Style(PURPLE, marker="s"),
    "fully-connected": Style(OLIVE, marker="v"),
}
"""With feature sharing, or where nothing can be shared; ``without_sharing`` changes them."""

CORES = {
    "11-S": Style(VERMILION, marker="o"),
    "4-S:matched": Style(BLUE, marker="D"),
    "4-S:diff-animals": Style(SKY, marker="P"),
    "1-S": Style(GREEN, marker="X"),
    "sim-11S": Style(WINE, marker="o"),
    "task-driven": Style(ORANGE, marker="p"),
    "VGG16": Style(PURPLE, marker="h"),
    "random VGG16": Style(PURPLE, ":", "h", filled=False),
    "random 64": Style("0.60", ":", "v", filled=False),
    "random 128": Style("0.40", ":", "^", filled=False),
}

SPARE = (Style(INDIGO, marker="<"), Style(TEAL, marker=">"), Style(OLIVE, marker="d"), Style(WINE, "--", "*"))


def without_sharing(style: Style) -> Style:
    """The same condition without feature sharing."""
    return Style(style.colour, "--", style.marker, filled=False)


def kind_of_core(core: str, core_set: str) -> str | None:
    """The key of ``CORES`` that a core belongs to, by its label and the scans it was trained on."""
    name = core.lower()
    random = "random" in name
    if "vgg" in name:
        return "random VGG16" if random else "VGG16"
    if random:
        return "random 128" if "128" in name else "random 64"
    if "efficientnet" in name or "task" in name:
        return "task-driven"
    if name.startswith("sim"):
        return "sim-11S"
    return core_set if core_set in CORES else None


def core_styles(cores: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """A style by label for pairs of label and core set; the first of a kind gets the kind's look, others spare ones."""
    styles: dict[str, Style] = {}
    spare = cycle(SPARE)
    for core, core_set in cores:
        style = CORES.get(kind_of_core(core, core_set) or "")
        if core not in styles:
            styles[core] = next(spare) if style is None or style in styles.values() else style
    return styles
