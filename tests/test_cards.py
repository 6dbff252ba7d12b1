"""Model cards: held against the registry, the objects they describe and the result files."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from huggingface_hub import ModelCard

from artifacts import tiny_core, tiny_model
from mousev1.hub.model_cards import (
    SIMULATED,
    TAGS,
    core_card,
    mean_scores,
    readout_card,
)
from mousev1.hub.registry import RELEASED
from mousev1.metrics.score_table import ScoreTable

CARDS = Path(__file__).parent.parent / "model_cards"


@pytest.fixture(scope="module")
def update() -> ModuleType:
    """The script beside the cards."""
    spec = importlib.util.spec_from_file_location("update", CARDS / "update.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metadata(text: str) -> ModelCard:
    """The card as the Hub's own parser reads it, without a complaint."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ModelCard(text)


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


def scores(*single: float) -> ScoreTable:
    units = len(single)
    column = np.full(units, np.nan)
    return ScoreTable(np.arange(units), np.array(single), column, column, column, column, column)


# ---------------------------------------------------------------- cards of the released cores


@pytest.mark.parametrize("name", RELEASED)
def test_card_agrees_with_registry_and_result_files(name: str, update: ModuleType):
    text = (CARDS / update.FILES[name]).read_text(encoding="utf-8")
    assert text == update.updated(name), "run `python model_cards/update.py`"


@pytest.mark.parametrize("name", RELEASED)
def test_card_tells_hash_contract_citation_and_licence(name: str, update: ModuleType):
    released = RELEASED[name]
    text = (CARDS / update.FILES[name]).read_text(encoding="utf-8")
    expected = [released.name, released.repository, released.citation, released.licence]
    expected += [value for value in (released.content_hash, released.weights_sha256) if value]
    if released.origin is not None:
        expected += [released.origin.url, released.origin.sha256]
    contract = released.input
    expected += [f"{contract.pixels_per_degree:g} pixels per degree", f"{contract.height} x {contract.width}"]
    if contract.std != 1.0:
        expected.append(f"subtracts {contract.mean:g} and divides by {contract.std:g}")
    for part in expected:
        assert part in text


@pytest.mark.parametrize("name", RELEASED)
def test_card_has_every_section_and_sound_metadata(name: str, update: ModuleType):
    text = (CARDS / update.FILES[name]).read_text(encoding="utf-8")
    needed = {"Identity", "Architecture", "Input contract", "Intended use", "When not to use it", "Citation"}
    assert needed <= set(headings(text))
    card = metadata(text)
    assert card.data.library_name == "mousev1"
    assert set(TAGS) <= set(card.data.tags)
    # nobody gave a licence for the weights of 11-S
    assert card.data.license == {"11-S": "unknown", "sim-11S": "mit"}[name]


def test_card_of_the_simulated_core_says_so_before_anything_else(update: ModuleType):
    text = (CARDS / "sim-11s.md").read_text(encoding="utf-8")
    body = text.split("---\n", 2)[2].strip()
    assert "SIMULATED" in body.splitlines()[0]
    assert body.splitlines()[2] == SIMULATED


def test_card_of_11s_promises_no_measured_result_of_ours():
    text = (CARDS / "11-s.md").read_text(encoding="utf-8")
    assert "None of these numbers was measured with mousev1" in text
    assert "does not redistribute the weights" in text


def test_identity_of_an_unreleased_core_is_said_to_be_pending(update: ModuleType):
    from dataclasses import replace

    table = update.identity(replace(RELEASED["11-S"], content_hash=None, revision="abc"))
    assert "none yet: this core has not been released" in table
    assert "| revision | `abc` |" in table
    assert "not published yet" not in table


def test_results_are_laid_out_flat_and_their_absence_is_said(update: ModuleType):
    table = update.results_table({"transfer": {"200 images": 0.123456, "note": "ok"}, "scans": 11})
    assert table.splitlines()[2:] == [
        "| transfer, 200 images | 0.1235 |",
        "| transfer, note | ok |",
        "| scans | 11 |",
    ]
    assert update.results_table(None) == "Not measured yet."


def test_block_that_is_not_there_is_an_error(update: ModuleType):
    with pytest.raises(ValueError, match="expected one block"):
        update.fill_block("no blocks here", "results", "x")


# ---------------------------------------------------------------- automatic cards


def test_automatic_card_of_a_core_describes_that_core():
    core = tiny_core()
    text = core_card(core, licence="mit")
    assert core.content_hash() in text
    assert "2 layers of 4 channels: a 3x3 convolution" in text
    assert "subtracts 100 and divides by 50" in text
    assert metadata(text).data.license == "mit"
    assert metadata(core_card(core)).data.license is None


def test_automatic_card_of_a_simulated_core_says_so(monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    core = tiny_core()
    entry = replace(RELEASED["sim-11S"], content_hash=core.content_hash())
    monkeypatch.setitem(RELEASED, "sim-11S", entry)
    assert SIMULATED in core_card(core)
    assert SIMULATED in readout_card(tiny_model(core))
    assert metadata(core_card(core)).data.license == "mit"


def test_automatic_card_of_a_readout_names_core_scores_and_how_many_neurons_lack_them():
    model = tiny_model()
    text = readout_card(model, scores=scores(0.1, 0.3, np.nan, 0.2, np.nan), repo_id="lab/mouse-7")
    assert "# Responses of 5 neurons" in text
    assert model.core.content_hash() in text
    # (0.1 + 0.3 + 0.2) / 3, and two neurons without it
    assert "| correlation with single trials | 0.2000 | 2 |" in text
    assert "| explainable variance explained (FEVE) | undefined | 5 |" in text
    assert 'load_model("lab/mouse-7")' in text
    (result,) = metadata(text).data.eval_results
    assert (result.metric_type, result.metric_value) == ("single_trial_correlation", 0.2)


def test_readout_without_scores_claims_no_results():
    card = metadata(readout_card(tiny_model()))
    assert card.data.eval_results is None
    assert "validation_correlation | 0.2500" in card.content


def test_scores_undefined_for_every_neuron_are_left_out():
    assert mean_scores(scores(np.nan, np.nan)) == {}
    assert mean_scores(scores(0.5, np.nan)) == {"single_trial_correlation": 0.5}


def test_template_has_the_sections_of_the_automatic_card():
    template = (CARDS / "readout_template.md").read_text(encoding="utf-8")
    automatic = headings(readout_card(tiny_model(), scores=scores(0.1)))
    # the core of the tiny model has no citation, and only people know about the recording
    assert [h for h in headings(template) if h not in ("Recording", "Citation")] == automatic
    assert metadata(template.replace("license: #", "license: other #")).data.tags == TAGS
