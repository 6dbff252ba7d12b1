"""Claims about the configs of benchmarks and the runs they stand for; counted by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarking import write_benchmark
from pretraining import small_scan

from training.settings import read_toml
from training.transfer_benchmark import __main__ as benchmark
from training.transfer_benchmark import plan as plan_module
from training.transfer_benchmark.conditions_grid import expand
from training.transfer_benchmark.config import BenchmarkConfig
from training.transfer_benchmark.identity import Identities
from training.transfer_benchmark.plan import make_plan

VALUES = {
    "name": "x",
    "title": "Simulated",
    "simulated": True,
    "study": "data/study",
    "targets": [
        {"name": "g", "scope": "across-animals", "scans": ["g.h5"]},
        {"name": "a", "scope": "within-animal", "scans": ["a1.h5", "a2.h5"], "core_units": 2},
    ],
    "cores": [{"label": "11-S", "core_set": "11-S"}, {"label": "random", "random": True}],
    "grids": [
        {
            "condition": "best-core/diff-readout",
            "target": "g",
            "cores": ["11-S", "random"],
            "readouts": ["gaussian", "factorized"],
            "images": [50, 200],
        }
    ],
}


def changed(path: str, value: object) -> dict:
    """The values with one entry set; a path like ``grids.0.images``."""
    values = copy.deepcopy(VALUES)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    table = values
    for step in steps:
        table = table[step]
    table[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("colour", 1, "unknown key 'colour'; valid keys are"),
        ("grids.0.image", [1], r"table \[grids\[0\]\]: unknown key 'image'; valid keys are"),
        ("simulated", None, "simulated: expected true or false, got None"),
        ("grids.0.condition", "transfer", r"grids\[0\]\.condition: expected one of 'direct'"),
        ("grids.0.condition", "direct", r"grids\[0\]: cores: expected none for condition 'direct'"),
        ("grids.0.cores", [], r"grids\[0\]: cores: expected at least one"),
        ("grids.0.cores", ["12-S"], "grids.cores: expected one of '11-S', 'random', got '12-S'"),
        ("grids.0.condition", "diff-core/best-readout", "needs a core_set for 'random'"),
        ("grids.0.methods", ["convex"], "expected some of 'sgd' for readout 'factorized'"),
        ("grids.0.readouts", ["linear"], r"grids\[0\]\.readouts\[0\]: expected one of 'gaussian'"),
        ("grids.0.target", "h", "grids.target: expected one of 'g', 'a'"),
        ("grids.0.images", [0], r"grids\[0\]\.images\[0\]: expected at least 1, got 0"),
        ("grids.0.sharing", [1], r"grids\[0\]\.sharing\[0\]: expected true or false, got 1"),
        ("cores.0.source", "11-S", "one of source, core_set and random = true for '11-S'"),
        ("cores.0.core_set", "12-S", "expected one of '1-S', '4-S:matched'"),
        ("cores.1.label", "11-S", "cores: '11-S' used more than once"),
        ("cores.1.label", "direct", "'direct' is the core"),
        (
            "frozen",
            {"optimizer": {}},
            "frozen.optimizer: expected one of 'readout', 'optimisation', 'compute'",
        ),
        ("direct", {"optimisation": {"speed": 1}}, r"direct: table \[optimisation\]: unknown key 'speed'"),
        ("feature_l1", {"gaussian": {"50": -1.0}}, "feature_l1.gaussian.50: expected at least 0, got -1.0"),
        ("direct_epochs", {"50": 0}, "direct_epochs.50: expected at least 1, got 0"),
        ("learning_rate", {"gaussian": -1.0}, "learning_rate.gaussian: expected a number above 0, got -1.0"),
        ("targets.0.scope", "elsewhere", r"targets\[0\]\.scope: expected one of 'within-animal'"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(path, value, message):
    BenchmarkConfig.from_dict(copy.deepcopy(VALUES))
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig.from_dict(changed(path, value))


def test_defaults_are_five_seeds_in_five_partitions_and_the_published_recipe():
    config = BenchmarkConfig.from_dict(copy.deepcopy(VALUES))
    assert config.seeds == config.partitions == (0, 1, 2, 3, 4)
    for kind in ("pretraining", "direct", "frozen"):
        recipe = config.recipe(kind).optimisation
        assert (recipe.learning_rate, recipe.batch_size, recipe.feature_l1) == (5e-3, 64, 2.439)
    assert config.core_sets["1-S"] == ("data/study/sim-a1.h5",)
    assert len(config.core_sets["11-S"]) == 11


def test_the_regulariser_of_the_closest_number_of_images_counts():
    config = BenchmarkConfig.from_dict(changed("feature_l1", {"gaussian": {"50": 9.0, "1000": 1.0}}))
    weights = [
        config.recipe("frozen", readout="gaussian", images=images).optimisation.feature_l1
        for images in (10, 200, 300, 4472)
    ]
    assert weights == [9.0, 9.0, 1.0, 1.0]  # 223.6 is halfway in ratio
    assert config.recipe("frozen", readout="factorized", images=50).optimisation.feature_l1 == 2.439


def test_direct_training_on_few_images_may_take_more_epochs():
    config = BenchmarkConfig.from_dict(changed("direct_epochs", {"50": 120, "1000": 9}))
    most = {
        (kind, images): config.recipe(kind, images=images).optimisation.max_epochs
        for kind in ("direct", "pretraining")
        for images in (0, 50, 900)
    }
    assert (most["direct", 50], most["direct", 900]) == (120, 9)
    assert most["direct", 0] == most["pretraining", 50] == 200


def test_a_readout_may_have_a_learning_rate_of_its_own_on_frozen_cores():
    config = BenchmarkConfig.from_dict(changed("learning_rate", {"factorized": 0.5}))

    def rate(kind, readout):
        return config.recipe(kind, readout=readout).optimisation.learning_rate

    assert (rate("frozen", "factorized"), rate("frozen", "gaussian"), rate("direct", "factorized")) == (
        0.5,
        5e-3,
        5e-3,
    )


def test_a_config_expands_to_every_combination_once(tmp_path):
    path = write_benchmark(tmp_path)
    plan = make_plan(path, tmp_path / "out")
    runs = expand(plan)
    assert len(runs) == len(set(runs)) == 4 * 2  # readouts x seeds
    assert {run.method for run in runs} == {"sgd"}
    assert len({Identities(plan).key(run) for run in runs}) == 8
    text = path.read_text()
    path.write_text(
        text.replace("units = [4]", "units = [4, 0]").replace("images = [12]", "images = [12, 24]")
    )
    assert len(expand(make_plan(path, tmp_path / "out"))) == 4 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("images = [12]", "images = [25]", "grids.images: expected at most 24 of 'scan.h5', got 25"),
        ("units = [4]", "units = [7]", "grids.units: expected at most 6 neurons"),
        ("units = [4]", "units = [4]\nsharing = [true]", "grids.sharing: expected several scans"),
        ('"scan.h5"', '"lost.h5"', "nothing matches 'lost.h5'"),
    ],
)
def test_what_a_scan_does_not_have_is_refused_before_any_work(old, new, message, tmp_path):
    path = write_benchmark(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        expand(make_plan(path, tmp_path / "out"))


def test_a_core_that_would_see_the_neurons_or_test_images_it_is_judged_on_is_refused(tmp_path):
    path = write_benchmark(tmp_path)
    text = (
        path.read_text()
        .replace("random = true", 'core_set = "own"')
        .replace("[core]", '[core_sets]\nown = ["scan.h5"]\n\n[core]', 1)
    )
    path.write_text(text)
    with pytest.raises(ValueError, match=r"targets\.core_units: scans of 'scan' are in core set 'own'"):
        expand(make_plan(path, tmp_path / "out"))
    path.write_text(
        text.replace("units = [4]", "").replace(
            '["scan.h5"]\n\n[[cores]]', '["scan.h5"]\ncore_units = 2\n\n[[cores]]'
        )
    )
    assert {run.units for run in expand(make_plan(path, tmp_path / "out"))} == {4}

    # the scan's test images among the training images of another scan
    scan = small_scan("scan", train=24, units=6, seed=4)
    tiers = scan.tiers.copy()
    swapped = {"train": "test", "test": "train", "validation": "validation"}
    replace(scan, name="thief", tiers=[swapped[tier] for tier in tiers]).write(tmp_path / "thief.h5")
    path.write_text(text.replace('own = ["scan.h5"]', 'own = ["thief.h5"]'))
    with pytest.raises(ValueError, match="training, validation and test images must not mix"):
        make_plan(path, tmp_path / "out")


def test_scans_are_read_once_and_again_only_if_they_change(tmp_path, monkeypatch):
    path = write_benchmark(tmp_path)
    first = make_plan(path, tmp_path / "out").index
    with monkeypatch.context() as patch:
        patch.setattr(plan_module.mousev1, "read_scan", lambda *_: pytest.fail("read again"))
        assert make_plan(path, tmp_path / "out").index == first
    write_benchmark(tmp_path, units=5)
    assert make_plan(path, tmp_path / "out").index.common_neurons([tmp_path / "scan.h5"]) == 5


@pytest.mark.parametrize(
    "name", ["benchmark-tiny", "simulated", "transfer-simulated", "transfer-twin", "twin"]
)
def test_the_configs_that_come_along_can_be_read(name):
    config = BenchmarkConfig.read(Path(benchmark.__file__).parent.parent / "configs" / f"{name}.toml")
    assert config.simulated
    assert "imulated" in config.title
    assert (
        read_toml(Path(benchmark.__file__).parent.parent / "configs" / f"{name}.toml")["name"] == config.name
    )
