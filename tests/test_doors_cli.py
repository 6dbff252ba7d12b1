"""What a user types and reads: each remedy can be typed, and helps."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest

import mousev1
from mousev1.cli.messages import for_the_command_line
from mousev1.cli.parser import build_parser, main
from mousev1.storage.core_files import save_core
from small import simulate
from test_doors_scan import IMAGES, RATES, scan_of, written

CORE = simulate(units=2, train=2, validation=2, test=2, repeats=1).core


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A core, scans with something amiss, and a model of the sound one."""
    folder = tmp_path_factory.mktemp("doors")
    save_core(CORE, folder / "core")
    scan_of().write(folder / "sound.h5")
    noisy, holes, constant = RATES - 0.2, RATES.copy(), RATES.copy()
    holes[3, 1], constant[:, 2] = np.nan, 0.0
    written(folder / "noisy.h5", responses=noisy)
    written(folder / "holes.h5", responses=holes)
    written(folder / "constant.h5", responses=constant)
    names = np.array([b"train"] * IMAGES + [b"final_test"] * 9)
    written(folder / "tiers.h5", trials__tier=names)
    positions = scan_of().positions.copy()
    positions[:] = 1.0
    written(folder / "together.h5", neurons__positions=positions)
    mousev1.fit_scan(scan_of(), core=CORE, progress=False).save(folder / "model")
    return folder


def run(capsys, *arguments: object) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize(
    ("scan", "remedy"),
    [
        ("noisy", "--negatives clip"),
        ("holes", "--drop trials"),
        ("holes", "--drop neurons"),
        ("constant", "--constant-units mean"),
        ("tiers", "--skip-tier final_test"),
        ("together", "--no-cortex"),
    ],
)
def test_the_remedy_of_a_refusal_is_typed_and_the_fit_succeeds(folder, tmp_path, capsys, scan, remedy):
    out = tmp_path / "model"
    command = ["fit", folder / f"{scan}.h5", "--core", folder / "core", "--out", out, "--quiet"]
    code, said = run(capsys, *command)
    assert code == 1
    last = said.splitlines()[-1]
    assert remedy in last
    assert not re.search(r"\w+=['\"{]|pass None", last)  # nothing of Python
    assert not out.exists()
    code, said = run(capsys, *command, *shlex.split(remedy))
    assert code == 0, said
    assert mousev1.load_model(out).n_units >= 3


@pytest.mark.parametrize("command", ["score", "compare", "info", "insilico"])
def test_every_command_that_reads_a_scan_takes_the_same_options(folder, tmp_path, capsys, command):
    start = {
        "score": ["score", folder / "model", folder / "tiers.h5", "--quiet"],
        "info": ["info", folder / "tiers.h5"],
        "compare": [
            *("compare", folder / "tiers.h5", "--core", folder / "core", "--images", 20, "--no-baselines"),
            *("--partitions", 1, "--out", tmp_path / "out", "--quiet"),
        ],
        "insilico": [
            *(
                "insilico",
                folder / "model",
                "--scan",
                folder / "tiers.h5",
                "--best",
                1,
                "--steps",
                1,
                "--seeds",
                1,
            ),
            *("--no-figures", "--out", tmp_path / "out", "--quiet"),
        ],
    }[command]
    code, said = run(capsys, *start)
    assert code == 1
    assert "--skip-tier final_test" in said.splitlines()[-1]
    code, said = run(capsys, *start, "--tiers", "final_test=test")
    assert code == 0, said
    overwrite = [] if command in ("score", "info") else ["--overwrite"]
    code, said = run(capsys, *start, "--tiers", "final_test", *overwrite)
    assert "--tiers: expected NAME=TIER, such as val=validation" in said


def test_score_refuses_what_fit_refuses(folder, capsys):
    # oracle: the same message, and the same option that helps
    for scan, remedy in (("noisy", "--negatives clip"), ("holes", "--drop trials")):
        code, said = run(capsys, "score", folder / "model", folder / f"{scan}.h5", "--quiet")
        assert (code, remedy in said) == (1, True)
        code, said = run(
            capsys, "score", folder / "model", folder / f"{scan}.h5", "--quiet", *shlex.split(remedy)
        )
        assert code == 0, said
    model, test = mousev1.load_model(folder / "model"), scan_of().trials("test")
    responses = test.responses.copy()
    responses[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"responses: .*NaN"):
        model.score(test.images, responses, test.image_ids)
    with pytest.raises(ValueError, match=r"image_ids: .*two different pictures"):
        model.score(test.images, test.responses, np.zeros(9, int))
    with pytest.raises(ValueError, match=r"responses: .*masked array"):
        model.score(test.images, np.ma.masked_greater(test.responses, 1), test.image_ids)


def test_quiet_silences_bars_and_not_notes(folder, tmp_path, capsys):
    command = ["fit", folder / "noisy.h5", "--core", folder / "core", "--negatives", "clip", "--quiet"]
    code, said = run(capsys, *command, "--out", tmp_path / "model")
    assert code == 0
    assert "responses were negative" in said
    assert "predicted peak memory" in said
    assert "it/s" not in said
    assert "%|" not in said


def test_a_device_that_is_not_there_and_an_output_that_cannot_be_written_are_refused_before_work(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("mousev1.cli.common.read_scan", None)  # calling it would fail another way
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    start = ["fit", folder / "sound.h5", "--core", folder / "core", "--quiet"]
    code, said = run(capsys, *start, "--out", tmp_path / "model", "--device", "cuda")
    assert code == 1
    last = "mousev1: error: --device: expected 'cpu', which this torch can use here, got 'cuda'"
    assert said.splitlines()[-1] == last
    (tmp_path / "file").write_text("")
    code, said = run(capsys, *start, "--out", tmp_path / "file" / "model")
    assert code == 1
    assert str(tmp_path / "file") in said.splitlines()[-1]


def test_paths_may_begin_at_home(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    code, said = run(capsys, "score", "~/model", "~/sound.h5", "--quiet", "--out", tmp_path / "scores.csv")
    assert code == 0, said
    code, said = run(capsys, "info", "~/core")
    assert code == 0, said


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ("pass pixels_per_degree= to resample them", "pass --pixels-per-degree to resample them"),
        ("pass pixels_per_degree=2.5; or not", "pass --pixels-per-degree 2.5; or not"),
        ("memory: pass memory=8_500_000_000.", "--memory: pass --memory 8.5."),
        ("pass overwrite=True", "pass --overwrite"),
        ("tiers={'a': None, 'b': None}", "--skip-tier a --skip-tier b"),
        ("n=3 and unknown='x' stay", "n=3 and unknown='x' stay"),
        ("constant_units: no", "--constant-units: no"),
    ],
)
def test_keyword_arguments_become_options(python, typed):
    options = {"--pixels-per-degree", "--memory", "--overwrite", "--skip-tier", "--constant-units"}
    assert for_the_command_line(python, options) == typed


def test_every_remedy_of_the_package_that_is_a_keyword_is_an_option_where_it_can_come_up():
    # oracle: the source of what fit reads and does
    (commands,) = (action for action in build_parser()._actions if action.dest == "command")
    options = {name for action in commands.choices["fit"]._actions for name in action.option_strings}
    source = ""
    for path in (
        "data/cleaning.py",
        "data/validation.py",
        "fit/inputs.py",
        "fit/fitting.py",
        "fit/memory.py",
    ):
        source += (Path(mousev1.__file__).parent / path).read_text()
    wanted = set(re.findall(r"pass (?:\"\s+f?\")?([a-z_]+)=", source))
    assert {"drop", "negatives", "constant_units", "memory"} <= wanted
    missing = {name for name in wanted if f"--{name.replace('_', '-')}" not in options}
    assert missing <= {"tiers"}  # --skip-tier


def test_scoring_neurons_that_are_only_numbered_says_how_they_are_matched(folder, tmp_path, capsys):
    numbered = written(tmp_path / "numbered.h5", neurons__unit_ids=None)
    said = "neurons are matched by their order in the file"
    mousev1.fit_scan(mousev1.read_scan(numbered), core=CORE, progress=False).save(tmp_path / "model")
    code, output = run(capsys, "score", tmp_path / "model", numbered, "--quiet")
    assert code == 0
    assert f"{said}, so that the scan and what it is joined with must have the same order" in output
    code, output = run(capsys, "score", folder / "model", folder / "sound.h5", "--quiet")
    assert code == 0
    assert said not in output


def test_predict_writes_how_well_each_mean_is_known_where_asked(folder, tmp_path, capsys):
    # oracle: ResponseModel.predict
    images = np.random.default_rng(3).integers(0, 256, (3, 16, 24), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    model = mousev1.load_model(folder / "model")
    rates, std = model.predict(images, return_std=True)
    for name in ("rates.h5", "rates.csv", "plain.h5", "plain.csv"):
        asked = ["--std"] if name.startswith("rates") else []
        arguments = [folder / "model", tmp_path / "images.npy", "--out", tmp_path / name, "--quiet", *asked]
        assert run(capsys, "predict", *arguments)[0] == 0
    with h5py.File(tmp_path / "rates.h5") as file, h5py.File(tmp_path / "plain.h5") as plain:
        np.testing.assert_allclose(file["rates"], rates, rtol=1e-5)
        np.testing.assert_allclose(file["std"], std, rtol=1e-5)
        assert file["unit_ids"][:].tolist() == model.unit_ids.tolist()
        assert "std" not in plain
    header, *rows = csv.reader((tmp_path / "rates.csv").read_text().splitlines())
    ids = model.unit_ids.tolist()
    assert header == ["image", *(f"unit_{unit}" for unit in ids), *(f"unit_{unit}_std" for unit in ids)]
    numbers = np.array([[float(value) for value in row[1:]] for row in rows])
    np.testing.assert_allclose(numbers, np.concatenate([rates, std], axis=1), rtol=1e-5)
    assert (tmp_path / "plain.csv").read_text().splitlines()[0] == ",".join(header[: 1 + len(ids)])


def test_standard_deviations_that_a_model_does_not_know_are_refused_before_any_work(folder, tmp_path, capsys):
    np.save(tmp_path / "images.npy", np.zeros((1, 16, 24), np.uint8))
    mousev1.load_model(folder / "model").save(tmp_path / "model", include_posterior=False)
    out = tmp_path / "rates.h5"
    code, output = run(capsys, "predict", tmp_path / "model", tmp_path / "images.npy", "--std", "--out", out)
    assert code == 1
    assert "--std: the model, fitted by 'convex', does not know" in output
    assert not out.exists()
