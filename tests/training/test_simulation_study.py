"""The simulated study is the paper's, reproducible, and survives being killed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mousev1 import read_scan
from mousev1.metrics.unit_scores import oracle_correlation
from training.provenance import data_sha256
from training.settings import read_toml
from training.simulation import (
    CORE_SETS,
    PLANS,
    TRANSFER_SCAN,
    WITHIN_ANIMAL_SCAN,
    SimulationConfig,
    simulate_scan,
    simulate_study,
)
from training.simulation.__main__ import main
from training.simulation.scans import summarise

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
TINY = SimulationConfig(
    unit_scale=0.004,
    train_images=20,
    validation_images=6,
    test_images=5,
    test_repeats=3,
    scans=("sim-a1", "sim-a2", "sim-g1"),
    truth_rates="all",
)


def hashes(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    simulate_study(TINY, folder, report=lambda line: None)
    return folder


def test_the_study_is_that_of_the_paper():
    """Oracle: numbers of Lurz et al. 2021, Fig. 1, and its description of the data."""
    assert len(PLANS) == 13
    assert len({plan.animal for plan in PLANS.values()}) == 7
    assert [len(CORE_SETS[name]) for name in ("1-S", "4-S:matched", "4-S:diff-animals", "11-S")] == [
        1,
        4,
        4,
        11,
    ]
    matched = [PLANS[name] for name in CORE_SETS["4-S:matched"]]
    assert {(plan.animal, plan.population, plan.units) for plan in matched} == {("a", "matched", 4597)}
    assert len({PLANS[name].animal for name in CORE_SETS["4-S:diff-animals"]}) == 4
    assert PLANS[TRANSFER_SCAN].units == 5335
    core_animals = {PLANS[name].animal for names in CORE_SETS.values() for name in names}
    assert PLANS[TRANSFER_SCAN].animal not in core_animals
    assert PLANS[WITHIN_ANIMAL_SCAN].animal in core_animals
    assert WITHIN_ANIMAL_SCAN not in {name for names in CORE_SETS.values() for name in names}
    assert sum(PLANS[name].units for name in CORE_SETS["11-S"]) == 72_000
    config = SimulationConfig()
    assert (config.train_images, config.validation_images) == (4472, 500)
    assert (config.test_images, config.test_repeats) == (100, 10)


def test_each_core_set_adds_data_to_the_smaller_one():
    """Oracle: subset relations."""
    one, matched, animals, eleven = (
        set(CORE_SETS[name]) for name in ("1-S", "4-S:matched", "4-S:diff-animals", "11-S")
    )
    assert one < matched < eleven
    assert one < animals < eleven


def test_a_written_scan_reads_back_with_its_truth(study):
    """Oracle: the scan in memory."""
    scan, truth = simulate_scan("sim-g1", TINY)
    assert read_scan(study / "sim-g1.h5") == scan
    assert scan.n_units == round(5335 * 0.004)
    assert scan.tier_sizes == {"train": 20, "validation": 6, "test": 15}
    with np.load(study / "sim-g1.truth.npz") as stored:
        assert set(stored) == set(truth.to_arrays())
        np.testing.assert_array_equal(stored["rate"], truth.rates)
        np.testing.assert_array_equal(stored["rate_image_id"], scan.image_ids)
        for name in (
            "rf_xy",
            "orientation_deg",
            "frequency_cpd",
            "size_deg",
            "suppression",
            "silent",
            "unit",
        ):
            assert len(stored[name]) == scan.n_units
        assert set(stored["cell_type"]) <= {"simple", "complex", "silent"}


def test_responses_average_to_the_true_rate():
    """Oracle: the law of large numbers, in the neurons' own units."""
    config = replace(TINY, test_images=3, test_repeats=800)
    scan, truth = simulate_scan("sim-g1", config)
    trials = scan.trials("test")
    steady = truth.population.fano == config.noise.fano
    for image, rate in zip(truth.rate_image_ids, truth.rates, strict=True):
        if image < 3:
            mean = trials.responses[trials.image_ids == image].mean(axis=0)
            scale = truth.population.unit
            error = np.abs(mean - rate) / np.sqrt((scale * rate + 0.1 * rate**2) / 800)
            assert np.median(error[steady]) < 1.5
            assert error[steady].max() < 6


def test_without_repeats_there_is_no_oracle_rather_than_a_zero(tmp_path):
    """Oracle: NaN becomes null in strict JSON."""
    config = replace(TINY, scans=("sim-g1",), test_repeats=1)
    path = simulate_study(config, tmp_path, report=lambda line: None)

    def refuse(constant):
        raise AssertionError(constant)

    manifest = json.loads(path.read_text(), parse_constant=refuse)
    assert manifest["scans"]["sim-g1"]["oracle"] is None


def test_trials_are_shuffled_so_that_repeats_are_spread():
    """Oracle: repeats side by side have gaps of 1 only."""
    scan, _ = simulate_scan("sim-g1", TINY)
    shown = np.flatnonzero(scan.tiers == "test")
    assert np.ptp(shown) > 20
    assert (np.bincount(scan.trial_image) == np.r_[np.ones(26), np.full(5, 3)]).all()


def test_matched_scans_show_the_same_neurons(study):
    """Oracle: truth of both days."""
    first, second = read_scan(study / "sim-a1.h5"), read_scan(study / "sim-a2.h5")
    np.testing.assert_array_equal(first.match_ids, second.match_ids)
    assert read_scan(study / "sim-g1.h5").match_ids is None
    assert np.abs(first.positions - second.positions).max() < 12
    with np.load(study / "sim-a1.truth.npz") as a, np.load(study / "sim-a2.truth.npz") as b:
        np.testing.assert_array_equal(a["cell_type"], b["cell_type"])
        np.testing.assert_array_equal(a["parameter_orientation"], b["parameter_orientation"])
        assert not np.array_equal(a["unit"], b["unit"])
        shift = b["rf_xy"] - a["rf_xy"]
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-9)


def test_a_scan_does_not_depend_on_which_others_are_made(study, tmp_path):
    """Oracle: the same scan made alone."""
    simulate_study(replace(TINY, scans=("sim-g1",)), tmp_path, report=lambda line: None)
    alone, together = hashes(tmp_path), hashes(study)
    for name in ("sim-g1.h5", "sim-g1.truth.npz"):
        assert alone[name] == together[name]


def test_another_seed_gives_another_study():
    """Oracle: no image, neuron or response in common."""
    (a, truth_a), (b, truth_b) = (simulate_scan("sim-g1", replace(TINY, seed=s)) for s in (0, 1))
    assert not np.array_equal(a.images, b.images)
    assert not np.array_equal(truth_a.population.orientation, truth_b.population.orientation)
    assert not np.array_equal(a.responses, b.responses)


def test_the_manifest_accounts_for_every_file(study):
    """Oracle: hashlib over the files."""
    manifest = json.loads((study / "manifest.json").read_text())
    found = hashes(study)
    del found["manifest.json"]
    listed = {file: sha for scan in manifest["scans"].values() for file, sha in scan["sha256"].items()}
    assert listed == found
    assert manifest["seed"] == 0
    assert SimulationConfig.from_dict(manifest["config"]) == TINY


def test_killed_in_the_middle_and_run_again_gives_the_same_bytes(tmp_path):
    """Oracle: the same command undisturbed, against one killed while it writes its second scan."""
    config = tmp_path / "tiny.toml"
    config.write_text(
        "unit_scale = 0.004\ntrain_images = 20\nvalidation_images = 6\ntest_images = 5\n"
        'scans = ["sim-a1", "sim-a2", "sim-g1"]\n'
    )

    def command(out):
        return [sys.executable, "-m", "training.simulation", str(config), "--out", str(out)]

    out, root = tmp_path / "killed", CONFIGS.parents[1]
    with subprocess.Popen(command(out), stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert "sim-a1" in process.stdout.readline()
        deadline = time.monotonic() + 60
        while not (out / ".partial").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert process.returncode != 0
    assert "sim-g1.h5" not in hashes(out)
    again = subprocess.run(command(out), capture_output=True, text=True, cwd=root, check=True).stdout
    assert "sim-a1: already there" in again
    assert f"wrote {out / 'sim-g1.h5'}" in again
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(command(undisturbed), capture_output=True, cwd=root, check=True)
    assert hashes(out) == hashes(undisturbed)
    assert not (out / ".partial").exists()


def test_a_damaged_file_is_made_again(study, tmp_path):
    """Oracle: the bytes before the damage."""
    config = replace(TINY, scans=("sim-a1",))
    simulate_study(config, tmp_path, report=lambda line: None)
    before = hashes(tmp_path)
    with (tmp_path / "sim-a1.h5").open("r+b") as file:
        file.truncate(1000)
    simulate_study(config, tmp_path, report=lambda line: None)
    assert hashes(tmp_path) == before


def test_scans_can_be_added_but_configs_not_mixed(tmp_path):
    """Oracle: the message, and the files of the first run left alone."""
    simulate_study(replace(TINY, scans=("sim-g1",)), tmp_path, report=lambda line: None)
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match="scans of another config"):
        simulate_study(replace(TINY, scans=("sim-g1",), seed=1), tmp_path, report=lambda line: None)
    assert hashes(tmp_path) == before
    simulate_study(replace(TINY, scans=("sim-f1",)), tmp_path, report=lambda line: None)
    assert set(json.loads((tmp_path / "manifest.json").read_text())["scans"]) == {"sim-g1", "sim-f1"}


@pytest.mark.parametrize(("file_format", "name"), [("zip", "sim-g1.zip"), ("tree", "sim-g1")])
def test_the_published_file_tree_holds_the_same_scan(tmp_path, file_format, name):
    """Oracle: responses and images of the scan in memory, and equal bytes when made twice."""
    config = replace(TINY, scans=("sim-g1",), file_format=file_format)
    digests = []
    for run in ("a", "b"):
        simulate_study(config, tmp_path / run, report=lambda line: None)
        digests.append(data_sha256(tmp_path / run / name))
    assert digests[0] == digests[1]
    scan, _ = simulate_scan("sim-g1", config)
    back = read_scan(tmp_path / "a" / name)
    for tier in ("train", "validation", "test"):
        np.testing.assert_allclose(back.trials(tier).responses, scan.trials(tier).responses)
        np.testing.assert_array_equal(back.trials(tier).images, scan.trials(tier).images)


def test_oracle_correlations_are_those_of_real_scans():
    """Oracle: means of .3 to .45, as in published scans of mouse V1; the blind are near 0."""
    config = SimulationConfig(unit_scale=0.06, train_images=10, validation_images=5)
    scan, truth = simulate_scan("sim-g1", config)
    assert 0.3 < summarise(scan, truth)["oracle"] < 0.45
    trials = scan.trials("test")
    blind = oracle_correlation(trials.responses, trials.image_ids)[truth.population.silent]
    assert abs(blind.mean()) < 0.1


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("simulated-*.toml")), ids=lambda path: path.stem)
def test_every_config_file_is_valid(path):
    """Oracle: the config reader; a config lists departures from the defaults only."""
    config = SimulationConfig.read(path)
    values = config.to_dict()
    for key, value in read_toml(path).items():
        if not isinstance(value, dict):
            assert value != SimulationConfig().to_dict()[key], key
        else:
            assert value.items() <= values[key].items()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("neurons_scale = 1", "unknown key 'neurons_scale'; valid keys are 'file_format'"),
        ("[noise]\nfanoo = 2.0", r"table \[noise\]: unknown key 'fanoo'; valid keys are 'fano'"),
        ("unit_scale = 2.0", "unit_scale: expected at most 1, got 2.0"),
        ("unit_scale = 'all'", "unit_scale: expected a number, got 'all'"),
        ("noise = 3", "noise: expected a table, got 3"),
        ("scans = ['sim-z9']", "scans\\[0\\]: expected one of 'sim-a1'"),
        ("file_format = 'mat'", "file_format: expected one of 'hdf5', 'zip', 'tree', got 'mat'"),
        ("height = 10", "height: expected at least 18 pixels"),
        ("seed = -1", "seed: expected at least 0, got -1"),
        ("[neurons]\nsimple_share = 1.5", "simple_share: expected at most 1, got 1.5"),
        ("[neurons]\nfrequency_range_cpd = [0.2, 0.1]", "frequency_range_cpd: expected 0 < low < high"),
        ("seed = ", "is not valid TOML"),
    ],
)
def test_a_wrong_config_is_explained_without_a_traceback(tmp_path, capsys, text, message):
    """Oracle: the message that the command prints."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert not list(tmp_path.glob("out/*.h5"))


@pytest.mark.slow
def test_five_thousand_neurons_and_images_take_less_than_a_minute(tmp_path):
    """Oracle: the clock; images, rates, noise, truth and writing included."""
    config = SimulationConfig(unit_scale=5000 / 5335, train_images=4400, scans=("sim-g1",))
    start = time.perf_counter()
    simulate_study(config, tmp_path, report=print)
    assert time.perf_counter() - start < 60
    scan = read_scan(tmp_path / "sim-g1.h5")
    assert (scan.n_units, scan.n_images) == (5000, 5000)
