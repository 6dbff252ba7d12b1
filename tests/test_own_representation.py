"""A modeller's own network in ``mousev1 compare``: code of the user's, run from the user's file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

import mousev1
from mousev1.cli.own_representation import own_representation
from mousev1.cli.parser import main
from mousev1.compare.results import read_curve
from mousev1.storage.core_files import save_core
from small import simulate

CODE = """
import torch
from torch import nn
from layers import width

import mousev1

CONTRACT = mousev1.InputContract(mean=113.0, std=60.0, height=16, width=24)

def edges():
    torch.manual_seed(0)
    return nn.Conv2d(1, width, 5), CONTRACT

def wrapped():
    return mousev1.Representation(nn.Conv2d(1, 3, 7), name="seven", input=CONTRACT)

def bare():
    return nn.Conv2d(1, 4, 5)

def broken():
    return nn.Conv2d(1, 4)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "networks.py").write_text(CODE)
    (folder / "layers.py").write_text("width = 6\n")
    made = simulate(units=3, train=60, validation=2, test=10, repeats=3)
    made.scan.write(folder / "scan.h5")
    save_core(made.core, folder / "core")
    return folder


def test_a_module_with_its_contract_is_wrapped_under_its_functions_name(folder):
    # oracle: the module itself, on images scaled by hand
    found = own_representation(f"{folder}/networks.py:edges")
    assert (found.name, found.config.hidden_channels) == ("edges", 6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Conv2d(1, 6, 5)
    images = torch.full((1, 1, 16, 24), 173.0)
    assert torch.allclose(found(images), module((images - 113.0) / 60.0), atol=1e-6)
    assert own_representation(f"{folder}/networks.py:wrapped").name == "seven"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{folder}/networks.py", "expected FILE.py:FUNCTION"),
        ("11-S", "expected FILE.py:FUNCTION"),
        ("{folder}/nowhere.py:edges", "is not there"),
        ("{folder}/networks.py:corners", "no function 'corners'"),
        ("{folder}/networks.py:bare", "a torch.nn.Module and a mousev1.InputContract"),
        ("{folder}/networks.py:broken", "networks.py, line 21"),
    ],
)
def test_what_is_no_representation_is_refused_before_any_work(folder, tmp_path, capsys, text, says):
    text = text.format(folder=folder)
    out = tmp_path / "out"
    assert main(["compare", str(folder / "scan.h5"), "--representation", text, "--out", str(out)]) == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_compare_takes_own_networks_beside_a_core_and_differences_are_paired(folder, tmp_path, capsys):
    # oracle: the paired differences of the rows that were written
    own = [f"--representation={folder}/networks.py:{name}" for name in ("edges", "wrapped")]
    arguments = ["compare", folder / "scan.h5", "--core", folder / "core", *own, "--images", 20]
    more = ["--partitions", 2, "--no-baselines", "--no-cortex", "--quiet", "--out", tmp_path / "out"]
    assert main([str(argument) for argument in (*arguments, *more)]) == 0
    printed = capsys.readouterr().out
    curve = read_curve(tmp_path / "out" / "curve.csv")
    assert curve.representations == ("random-0", "edges", "seven")
    assert "core: edges (6 channels; images 0 to 255, z-scored (113.0, 60.0) inside" in printed
    assert "random-0 minus edges" in printed
    with open(tmp_path / "out" / "differences.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["score"] == "single_trial_correlation"]
    assert [(row["first"], row["second"]) for row in rows] == [
        ("random-0", "edges"), ("random-0", "seven"), ("edges", "seven"),
    ]  # fmt: skip
    of = {(row.representation, row.partition): row.single_trial_correlation for row in curve.rows}
    by_hand = sum(of["random-0", i] - of["edges", i] for i in (0, 1)) / 2
    assert float(rows[0]["difference"]) == pytest.approx(by_hand)
    assert {row["draws"] for row in rows} == {"2"}


def test_own_networks_alone_are_compared_without_a_released_core(folder, tmp_path, monkeypatch):
    def refuse(name: str) -> mousev1.Core:
        raise AssertionError(f"loaded {name}")

    monkeypatch.setattr("mousev1.cli.commands.load_core", refuse)
    out = tmp_path / "out"
    own = f"{folder}/networks.py:edges"
    arguments = ["compare", str(folder / "scan.h5"), "--representation", own, "--images", "20", "--quiet"]
    assert main([*arguments, "--partitions", "1", "--no-baselines", "--no-cortex", "--out", str(out)]) == 0
    assert read_curve(out / "curve.csv").representations == ("edges",)
    assert not (out / "differences.csv").exists()
