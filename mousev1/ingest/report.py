"""What ingest did, in lines for people: what was read, what was assumed, what was dropped and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mousev1.data.scan import Scan
from mousev1.errors import printable

COLUMNS, ENLARGED, GAP, LABEL = 6, 4, 6, 14


class Report:
    """Filled while a session is read; pass one to ``read_session`` to see it.

    Attributes:
        read: what came from which file.
        assumed: what no file said, and what was taken instead.
        notes: what was dropped, clipped, chosen or left unused.
        counts: number of trials, neurons, frames, ... by what became of them.
    """

    def __init__(self) -> None:
        self.read: list[str] = []
        self.assumed: list[str] = []
        self.notes: list[str] = []
        self.counts: dict[str, int] = {}

    def count(self, what: str, number: int) -> None:
        """Add to a count; a count of 0 is shown too."""
        self.counts[what] = self.counts.get(what, 0) + int(number)

    def text(self) -> str:
        """Everything, as a text file would hold it; what is no visible character in a name is escaped."""
        counts = [f"{number:>9,}  {what}" for what, number in self.counts.items()]
        sections = {"Read": self.read, "Assumed": self.assumed, "Notes": self.notes, "Counts": counts}
        lines = []
        for title, content in sections.items():
            lines += [title, *(f"  {printable(line)}" for line in content or ["nothing"]), ""]
        return "\n".join(lines)


def contact_sheet(scan: Scan, path: Path, *, most: int = 24) -> None:
    """Write a PNG of what the animal saw, as the core will see it: ``most`` images across the session."""
    shown = np.unique(np.linspace(0, scan.n_images - 1, min(most, scan.n_images)).round().astype(int))
    height, width = (ENLARGED * side for side in scan.images.shape[2:])
    rows = -(-len(shown) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (width + GAP) + GAP, rows * (height + LABEL + GAP) + GAP), 255)
    draw = ImageDraw.Draw(sheet)
    for i, index in enumerate(shown):
        left = GAP + (i % COLUMNS) * (width + GAP)
        top = GAP + (i // COLUMNS) * (height + LABEL + GAP)
        picture = Image.fromarray(np.asarray(scan.images[index, 0]).round().astype(np.uint8))
        draw.text((left, top), str(scan.image_ids[index])[-width // 7 :], fill=0)
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top + LABEL))
    sheet.save(path, format="PNG")
