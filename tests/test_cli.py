"""The command line as a user meets it: real processes, exit codes, and the files that are left."""

from __future__ import annotations

import argparse
import csv
import logging
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import mousev1
from mousev1.cli import commands
from mousev1.cli.parser import build_parser, main
from mousev1.ingest import Rig
from mousev1.insilico import measure_extrapolation
from mousev1.storage.core_files import save_core
from small import simulate


def run(*arguments: object, code: int = 0) -> str:
    """Output of a command, in the order of a terminal; fails unless it exits with the code."""
    done = subprocess.run(
        [sys.executable, "-u", "-m", "mousev1", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output = done.stdout
    assert done.returncode == code, output
    assert "Traceback" not in output
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scan, a core and a model fitted from the command line."""
    folder = tmp_path_factory.mktemp("cli")
    simulated = simulate()
    simulated.scan.write(folder / "scan.zip")
    save_core(simulated.core, folder / "core")
    output = run(
        "fit",
        folder / "scan.zip",
        "--core",
        folder / "core",
        "--out",
        folder / "model",
        "--units",
        5,
        "--quiet",
    )
    assert output.rstrip().splitlines()[-1].startswith(f"wrote {folder / 'model'}: a model of 5 neurons")
    assert "single-trial correlation" in output
    return folder


def test_fit_writes_a_model_that_python_loads(folder):
    model = mousev1.load_model(folder / "model")
    assert model.unit_ids.tolist() == [1, 2, 3, 4, 5]


def test_predict_reads_pictures_folders_and_arrays_alike(folder, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(3, 16, 24), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{i}.png")
    np.save(tmp_path / "images.npy", images)
    last = run(
        "predict",
        folder / "model",
        tmp_path / "pictures",
        tmp_path / "images.npy",
        "--out",
        tmp_path / "rates.h5",
        "--quiet",
    )
    assert "responses of 5 neurons to 6 images" in last
    with h5py.File(tmp_path / "rates.h5") as file:
        rates = file["rates"][:]
        assert file["unit_ids"][:].tolist() == [1, 2, 3, 4, 5]
        far = file["extrapolation"][:]
    expected = measure_extrapolation(mousev1.load_model(folder / "model"), images).image_distance
    np.testing.assert_allclose(far, np.tile(expected, 2), rtol=1e-5)
    # white noise is no natural image
    assert (far > 1).all()
    assert "note: 6 of 6 images are farther from the training images than 99% of these" in last
    np.testing.assert_allclose(rates[:3], rates[3:], atol=1e-6)
    np.testing.assert_allclose(rates[:3], mousev1.load_model(folder / "model").predict(images), atol=1e-6)

    run(
        "predict",
        folder / "model",
        tmp_path / "pictures" / "1.png",
        "--out",
        tmp_path / "rates.csv",
        "--quiet",
    )
    with open(tmp_path / "rates.csv", newline="") as file:
        header, row = csv.reader(file)
    assert header == ["image", "unit_1", "unit_2", "unit_3", "unit_4", "unit_5"]
    np.testing.assert_allclose([float(value) for value in row[1:]], rates[1], rtol=1e-5)


def test_score_prints_and_writes_one_row_per_unit(folder, tmp_path):
    output = run("score", folder / "model", folder / "scan.zip", "--out", tmp_path / "scores.csv", "--quiet")
    assert "fraction oracle" in output
    with open(tmp_path / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5


def test_compare_writes_and_prints_the_curve_of_every_core_and_baseline(folder, tmp_path):
    output = run(
        *("compare", folder / "scan.zip", "--core", folder / "core", "--images", 30),
        *(
            "--units",
            4,
            "--partitions",
            2,
            "--no-cortex",
            "--simulated",
            "--out",
            tmp_path / "out",
            "--quiet",
        ),
    )
    assert output.rstrip().endswith(f"wrote {tmp_path / 'out'}: curve.csv, curve.txt and curve.png")
    text = (tmp_path / "out" / "curve.txt").read_text()
    assert text.startswith(
        "Simulated responses: small, 4 neurons, without cortical positions\nfraction oracle"
    )
    assert text.split("\n\n")[0] in output
    with open(tmp_path / "out" / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    conditions = {(row["representation"], row["images"], row["partition"]) for row in rows}
    assert len(conditions) == len(rows) == 4 * 2
    assert {name for name, _, _ in conditions} == {
        "random-0",
        "random core",
        "linear-nonlinear",
        "mean response",
    }
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("what", "says"), [("scan.zip", "8 neurons"), ("core", "random-0"), ("model", "model of 5 neurons")]
)
def test_info_knows_what_it_is_shown(folder, what, says):
    assert says in run("info", folder / what)


def test_import_turns_the_published_core_into_a_folder(shared, tmp_path):
    output = run("import", shared("weights/lurz_11s_core.pt"), tmp_path / "11-S-imported")
    assert f"wrote {tmp_path / '11-S-imported'}" in output
    assert mousev1.load_core(tmp_path / "11-S-imported").name == "11-S"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "none.zip", "--core", "{core}", "--out", "{new}"], "none.zip"),
        (["fit", "{scan}", "--core", "no-such-core", "--out", "{new}"], "no-such-core"),
        (
            ["fit", "{scan}", "--core", "{core}", "--out", "{new}", "--units", "900"],
            "--units: expected 1 to 8",
        ),
        (["fit", "{scan}", "--core", "{core}", "--out", "{model}"], "is there already"),
        (
            ["fit", "{scan}", "--core", "{core}", "--out", "{new}", "--memory", "0.005"],
            "memory: expected at least",
        ),
        (
            ["fit", "{scan}", "--core", "{core}", "--out", "{new}", "--memory", "nan"],
            "--memory: expected gigabytes above 0, got nan",
        ),
        (["predict", "{model}", "{scan}", "--out", "{new}.txt"], "expected a name ending in .h5 or .csv"),
        (["predict", "{scan}", "x.png", "--out", "{new}.csv"], "scan.zip"),
        (["compare", "{scan}", "--core", "{core}", "--out", "{model}"], "is there already"),
        (
            ["compare", "{scan}", "--core", "{core}", "--out", "{new}", "--images", "5"],
            "expected numbers from 10",
        ),
        (["score", "{core}", "{scan}"], "expected a response-model, got a 'core'"),
        (["import", "{scan}", "{new}"], "no checkpoint that mousev1 knows"),
        (["import", "{scan}", "{new}", "--mean", "3"], "--std"),
    ],
)
def test_mistakes_end_with_one_clear_line_and_write_nothing(folder, tmp_path, arguments, says):
    names = {name: folder / name for name in ("core", "model")} | {
        "scan": folder / "scan.zip",
        "new": tmp_path / "new",
    }
    output = run(*[str(argument).format(**names) for argument in arguments], code=1)
    assert says in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("mousev1: error: ")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_demo_says_so_and_draws_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["demo", "--out", str(tmp_path / "demo"), "--quiet"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("scores.csv; no figure, because matplotlib is not installed: pip install matplotlib")
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"scan.h5", "images", "model", "scores.csv"}


def test_every_option_is_declared_once_and_read_by_its_command():
    # oracle: the source of the commands; an option that nobody reads would be ignored in silence
    source = "".join(path.read_text() for path in Path(commands.__file__).parent.glob("*.py"))
    (subparsers,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for parser in subparsers.choices.values():
        for action in parser._actions:
            known = {"help", *(field.name for field in fields(Rig))}  # the rig is read as a whole
            if action.dest not in known:
                assert re.search(rf'options\.{action.dest}\b|"{action.dest}"', source), action.dest


def test_wrong_usage_exits_with_two():
    assert "usage" in run("fit", code=2)


def test_what_other_libraries_log_does_not_reach_the_user(monkeypatch, capsys):
    # oracle: Python's own record of handlers, and the stream itself
    def chatty(options: object) -> str:
        logging.getLogger("matplotlib.font_manager").info("generated new fontManager")
        logging.getLogger("mousev1").info("what mousev1 says")
        return "the last line"

    monkeypatch.setattr(commands, "info", chatty)
    ours = logging.getLogger("mousev1")
    before = (list(logging.getLogger().handlers), list(ours.handlers), ours.level)
    assert main(["info", "anything"]) == 0
    assert (list(logging.getLogger().handlers), list(ours.handlers), ours.level) == before
    out, err = capsys.readouterr()
    assert out == "the last line\n"
    assert err == "what mousev1 says\n"


def test_pictures_of_another_size_are_predicted_as_the_message_says(folder, tmp_path):
    picture = tmp_path / "large.png"
    Image.fromarray(np.full((40, 40), 90, dtype=np.uint8)).save(picture)
    refused = run("predict", folder / "model", picture, "--out", tmp_path / "r.csv", code=1)
    assert "--to-frame" in refused
    asked = run("predict", folder / "model", picture, "--to-frame", "--out", tmp_path / "r.csv", code=1)
    assert "add --pixels-per-degree N" in asked
    ready = ("--to-frame", "--pixels-per-degree", 0.53)
    run("predict", folder / "model", picture, *ready, "--out", tmp_path / "r.csv", "--quiet")
    assert (tmp_path / "r.csv").exists()


def test_a_device_that_is_not_there_is_named_with_those_that_are(folder, tmp_path):
    command = (
        "predict",
        folder / "model",
        folder / "scan.zip",
        "--out",
        tmp_path / "r.csv",
        "--device",
        "cdua",
    )
    assert "device: expected 'cpu'" in run(*command, code=1)


def test_help_is_instant_because_torch_stays_out():
    script = (
        "import sys; from mousev1.cli.parser import build_parser; build_parser().format_help(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert "fit a readout" in run("--help")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_a_tier_of_the_file_can_be_left_out(folder):
    output = run("score", folder / "model", folder / "scan.zip", "--skip-tier", "test", "--quiet", code=1)
    assert "the scan has no test trials" in output


@pytest.mark.parametrize("command", ["fit", "predict", "score", "compare", "import", "info"])
def test_every_command_explains_itself(command):
    assert len(run(command, "--help").splitlines()) > 8


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that takes no files")
@pytest.mark.parametrize("command", ["fit", "predict", "score", "demo"])
def test_a_folder_that_takes_no_files_is_refused_before_any_work(command, folder, tmp_path):
    words = {
        "fit": (folder / "scan.zip", "--core", folder / "core"),
        "predict": (folder / "model", folder / "scan.zip"),
        "score": (folder / "model", folder / "scan.zip"),
        "demo": (),
    }[command]
    out = "/proc/out.csv" if command in ("predict", "score") else "/proc/out"
    output = run(command, *words, "--out", out, code=1)
    assert f"{out}: nothing can be written in /proc" in output
    assert len(output.splitlines()) == 1
