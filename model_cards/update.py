"""Write the blocks of the model cards anew, from the registry and the result files.

Run ``python model_cards/update.py`` after a change of either; the tests hold the cards against them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mousev1.core.network import CoreConfig
from mousev1.hub.model_cards import architecture, input_contract
from mousev1.hub.registry import RELEASED, ReleasedCore

CARDS = Path(__file__).parent
RESULTS = CARDS.parent / "training" / "results"
FILES = {"11-S": "11-s.md", "sim-11S": "sim-11s.md"}


def read_results(name: str) -> dict[str, Any] | None:
    """Results of a core's own training run, or None if there are none."""
    path = RESULTS / name / "results.json"
    if not path.is_file():
        return None
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def updated(name: str) -> str:
    """The card of a released core as it should be."""
    released = RELEASED[name]
    config = CoreConfig(input=released.input)
    card = (CARDS / FILES[name]).read_text(encoding="utf-8")
    blocks = {
        "identity": identity(released),
        "architecture": architecture(config),
        "input": input_contract(config),
        "citation": released.citation,
    }
    if released.simulated:
        blocks["results"] = results_table(read_results(name))
    for block, text in blocks.items():
        card = fill_block(card, block, text)
    return card


def fill_block(card: str, block: str, text: str) -> str:
    """A hand-written card with one of its blocks written anew.

    Args:
        card: text with lines ``<!-- BLOCK: start -->`` and ``<!-- BLOCK: end -->``, once each.
        block: name of the block.
        text: what goes between the two.
    """
    start, end = f"<!-- {block}: start -->", f"<!-- {block}: end -->"
    if card.count(start) != 1 or card.count(end) != 1:
        raise ValueError(f"card: expected one block between '{start}' and '{end}'")
    before, rest = card.split(start)
    after = rest.split(end)[1]
    return f"{before}{start}\n\n{text.strip()}\n\n{end}{after}"


def identity(released: ReleasedCore) -> str:
    """The registry's entry of a core, as the table in its card."""
    pending = "none yet: this core has not been released"
    rows = [
        ("name", f"`{released.name}`"),
        ("Hub repository", f"`{released.repository}`" + ("" if released.revision else ", not published yet")),
        ("content hash", f"`{released.content_hash}`" if released.content_hash else pending),
        (
            "SHA-256 of `model.safetensors`",
            f"`{released.weights_sha256}`" if released.weights_sha256 else pending,
        ),
        ("licence of the weights", released.licence),
    ]
    if released.revision:
        rows.insert(2, ("revision", f"`{released.revision}`"))
    if released.origin is not None:
        rows += [("authors' file", released.origin.url), ("its SHA-256", f"`{released.origin.sha256}`")]
    return _table("", "", rows)


def results_table(results: Mapping[str, Any] | None) -> str:
    """Measured results as a table: names to numbers, texts or further such mappings; None if there are none."""
    return "Not measured yet." if results is None else _table("what", "value", _flatten(results))


def _table(left: str, right: str, rows: list[tuple[str, str]]) -> str:
    return "\n".join(
        [f"| {left} | {right} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    )


def _flatten(results: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in results.items():
        label = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{label}, ")
        else:
            rows.append((label, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


if __name__ == "__main__":
    for name, file in FILES.items():
        (CARDS / file).write_text(updated(name), encoding="utf-8")
