"""The in-silico commands as a user types them, on a small simulated scan; oracles are the functions behind them."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest

import mousev1
from mousev1.cli.parser import main
from mousev1.hub.model_files import load_model
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.manifest import read_manifest
from mousev1.insilico.mei import optimal_images
from mousev1.insilico.units import best_units, modulation, units_with_ids
from small import FRAME, SMALL, random_model, smooth_noise

QUICK = ["--steps", "5", "--seeds", "1", "--quiet"]
UNITS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model fitted to a scan that a random model made."""
    folder = tmp_path_factory.mktemp("insilico")
    truth = random_model(SMALL, units=UNITS)
    images = smooth_noise(np.random.default_rng(1), 150, FRAME.height, FRAME.width)
    rates = truth.predict(images)
    shown = np.concatenate([np.arange(120), np.repeat(np.arange(120, 150), 3)])
    scan = mousev1.Scan(
        name="small",
        images=images[:, None],
        image_ids=np.arange(150),
        trial_image=shown,
        tiers=["train"] * 120 + ["test"] * 90,
        responses=np.random.default_rng(2).gamma(4 * rates[shown], 0.25),
        unit_ids=truth.unit_ids.numpy(),
        positions=np.random.default_rng(3).uniform(-100, 100, (UNITS, 3)),
    )
    scan.write(folder / "scan.h5")
    mousev1.fit_scan(scan, core=truth.core, progress=False).save(folder / "model")
    np.save(folder / "natural.npy", images[:40])
    return folder


def run(capsys, *arguments: object, code: int = 0) -> str:
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_insilico_writes_tables_images_and_figures_of_the_units_asked_for(folder, tmp_path, capsys):
    out = tmp_path / "report"
    said = run(
        capsys,
        "insilico",
        folder / "model",
        "--units",
        12,
        10,
        "--scan",
        folder / "scan.h5",
        "--out",
        out,
        "--title",
        "simulated",
        *QUICK,
    )
    assert said.splitlines()[-1].startswith(f"wrote {out}: 2 neurons")
    names = {path.name for path in out.iterdir()}
    tables = ("exciting", "inhibiting", "gallery", "receptive_fields", "tuning")
    assert names >= {*(f"{name}.csv" for name in tables), "scores.csv", "images.npz"}
    assert names >= {"exciting.png", "tuning.png", "receptive_fields.png", "retinotopy.png", "scores.png"}
    for name in tables:
        assert [row["unit_id"] for row in table(out / f"{name}.csv")] == ["12", "10"]
    assert {"extrapolation", "outside"} <= set(table(out / "exciting.csv")[0])
    assert {"frequency_cpd_from", "orientation_outside"} <= set(table(out / "tuning.csv")[0])
    model = load_model(folder / "model")
    expected = optimal_images(model, units=[2, 0], settings=AscentSettings(steps=5, seeds=1))
    with np.load(out / "images.npz") as arrays:
        np.testing.assert_allclose(arrays["exciting"], expected.images, atol=0.01)


@pytest.mark.parametrize(
    ("module", "option", "says"),
    [("matplotlib.figure", "--quiet", "--no-figures"), ("pyarrow", "--parquet", "pip install pyarrow")],
)
def test_what_is_not_installed_is_told_before_the_work(
    module, option, says, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("mousev1.cli.insilico.examine_units", None)  # calling it would fail another way
    model, natural = folder / "model", folder / "natural.npy"
    said = run(
        capsys,
        "insilico",
        model,
        "--units",
        10,
        "--images",
        natural,
        "--out",
        tmp_path / "out",
        option,
        code=1,
    )
    assert says in said


def test_best_units_are_those_with_the_best_scores_on_the_scan(folder, tmp_path, capsys):
    out = tmp_path / "report"
    options = ["--best", 2, "--no-figures", "--parquet", *QUICK]
    pytest.importorskip("pyarrow")
    run(capsys, "insilico", folder / "model", "--scan", folder / "scan.h5", "--out", out, *options)
    scores = {
        int(row["unit_id"]): float(row["single_trial_correlation"]) for row in table(out / "scores.csv")
    }
    best = sorted(scores, key=lambda unit: -scores[unit])[:2]
    assert [int(row["unit_id"]) for row in table(out / "tuning.csv")] == best
    assert not list(out.glob("*.png"))
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(out / "tuning.parquet")["unit_id"].to_pylist() == best


def test_export_is_recorded_and_scored_by_class(folder, tmp_path, capsys):
    out = tmp_path / "stimuli"
    options = [
        "--images",
        folder / "natural.npy",
        "--random-images",
        5,
        "--gamma",
        2.2,
        "--magnify",
        2,
        *QUICK,
    ]
    said = run(capsys, "export", folder / "model", "--best", 3, "--out", out, *options)
    assert (
        "18 images (3 mei, 3 inhibiting, 3 natural, 3 noise, 5 natural-random, 1 blank) for 3 neurons" in said
    )
    manifest = read_manifest(out)
    shown = np.repeat(np.arange(18), 2)
    mousev1.Scan(
        name="tomorrow",
        images=np.zeros((18, 1, FRAME.height, FRAME.width), np.uint8),
        image_ids=list(manifest.files),
        trial_image=shown,
        tiers=["test"] * 36,
        responses=manifest.predictions[shown],
        unit_ids=manifest.unit_ids,
    ).write(tmp_path / "tomorrow.h5")
    said = run(
        capsys,
        "score",
        folder / "model",
        tmp_path / "tomorrow.h5",
        "--manifest",
        out / "manifest.csv",
        "--out",
        tmp_path / "classes.csv",
        "--quiet",
    )
    assert "natural-random" in said
    rows = {row["class"]: row for row in table(tmp_path / "classes.csv")}
    assert float(rows["mei"]["correlation"]) == pytest.approx(1.0)
    assert rows["all"]["trials"] == "36"


def test_units_are_ranked_by_what_images_do_to_them_where_nothing_was_recorded():
    model = random_model(SMALL, units=4)
    model.readout.weights.weight.data[2] = 0.0
    images = smooth_noise(np.random.default_rng(0), 50, FRAME.height, FRAME.width)
    rates = model.predict(images).astype(float) / model.response_scale.numpy()
    expected = rates.var(axis=0) / rates.mean(axis=0)
    np.testing.assert_allclose(modulation(model, images), expected, rtol=1e-5)
    assert best_units(modulation(model, images), 4)[-1] == 2
    assert best_units(np.array([0.1, np.nan, 0.3]), 3).tolist() == [2, 0, 1]
    assert units_with_ids(model, [13, 10]).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["insilico", "{model}", "--units", 99, "--out", "{new}"],
            "units: the model has no neuron with unit id '99'",
        ),
        (
            ["insilico", "{model}", "--contrast", 0.9, "--out", "{new}"],
            "contrast: expected an RMS contrast of at most",
        ),
        (["insilico", "{model}", "--out", "{model}"], "is there already"),
        (["insilico", "{model}", "--best", 0, "--out", "{new}"], "count: expected at least 1"),
        (
            ["insilico", "{model}", "--images", "{demo}", "--out", "{new}"],
            "expected 18x30 pixels at the core's resolution",
        ),
        (["export", "{model}", "--gamma", 0, "--out", "{new}"], "gamma: expected the exponent of a monitor"),
        (["export", "{model}", "--random-images", 99, "--out", "{new}"], "--random-images: expected 0 to 40"),
        (["export", "{model}", "--steps", 0, "--out", "{new}"], "steps: expected a whole number"),
        (["score", "{model}", "{scan}", "--manifest", "{new}"], "manifest: no file at"),
    ],
)
def test_mistakes_end_with_one_clear_line_and_write_nothing(arguments, says, folder, tmp_path, capsys):
    names = {
        "model": folder / "model",
        "scan": folder / "scan.h5",
        "new": tmp_path / "new",
        "demo": tmp_path / "wrong.npy",
    }
    np.save(tmp_path / "wrong.npy", np.zeros((2, 8, 8), np.uint8))
    arguments = [str(argument).format(**names) for argument in arguments]
    if arguments[0] != "score" and "--images" not in arguments:
        arguments += ["--images", str(folder / "natural.npy")]
    said = run(capsys, *arguments, "--quiet", code=1)
    assert said.splitlines()[-1].startswith("mousev1: error: ")
    assert says in said.splitlines()[-1]
    assert not (tmp_path / "new").exists()
