"""Write the blocks of the model cards anew, from the registry and the result files.

Run ``python model_cards/update.py`` after a change of either; the tests hold the cards against them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mousev1.core.network import CoreConfig
from mousev1.hub.model_cards import architecture, fill_block, identity, input_contract, results_table
from mousev1.hub.registry import RELEASED

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


if __name__ == "__main__":
    for name, file in FILES.items():
        (CARDS / file).write_text(updated(name), encoding="utf-8")
