"""A scan is checked once, at the door. Oracle: hand-made scans of which everything is known."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from mousev1.data.scan import Scan, trial_image_index


def parts(**changes: Any) -> dict[str, Any]:
    """Three images, five trials, two neurons; images 10 and 11 are trained on, 12 is shown three times."""
    values: dict[str, Any] = {
        "name": "demo",
        "images": np.arange(3 * 16 * 20, dtype=np.uint8).reshape(3, 1, 16, 20),
        "image_ids": np.array([10, 11, 12]),
        "trial_image": np.array([2, 0, 1, 2, 2]),
        "tiers": np.array(["test", "train", "validation", "test", "test"]),
        "responses": np.array([[1, 0], [2, 0], [3, 0], [4, 0], [5, 0]], np.float32),
        "unit_ids": np.array([7, 3]),
        "positions": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "neuron_meta": {"area": np.array(["V1", "LM"])},
    }
    return values | changes


def test_trials_of_a_tier_come_in_recorded_order_with_their_images() -> None:
    trials = Scan(**parts()).trials("test")
    assert len(trials) == 3
    assert trials.responses[:, 0].tolist() == [1, 4, 5]
    assert trials.image_ids.tolist() == [12, 12, 12]
    assert (trials.images == parts()["images"][2]).all()
    assert trials.images.shape == (3, 1, 16, 20)


def test_a_tier_without_trials_is_empty_and_an_unknown_one_is_refused() -> None:
    scan = Scan(**parts(tiers=np.array(["test", "train", "train", "test", "test"])))
    assert scan.trials("validation").responses.shape == (0, 2)
    assert scan.tier_sizes == {"train": 2, "test": 3}
    with pytest.raises(ValueError, match=r"tier: expected one of 'train', .* got 'oracle'"):
        scan.trials("oracle")


def test_sizes_and_summary_count_images_trials_and_repeats() -> None:
    scan = Scan(**parts(animal_id="26872"))
    assert (scan.n_images, scan.n_trials, scan.n_units) == (3, 5, 2)
    lines = scan.summary().splitlines()
    assert lines[0] == "Scan 'demo' of animal 26872"
    assert [line.split() for line in lines if line.split()[0] in ("train", "test")] == [
        ["train", "1", "1", "1"],
        ["test", "1", "3", "3"],
    ]
    assert repr(scan) == "Scan('demo': 2 neurons, 3 images, 5 trials (train 1, validation 1, test 3))"


def test_selected_units_keep_everything_that_belongs_to_them() -> None:
    scan = Scan(**parts(match_ids=[-1, 5]))
    one = scan.select_units([1])
    assert one.unit_ids.tolist() == [3]
    assert one.responses.shape == (5, 1)
    assert one.positions is not None
    assert one.positions.tolist() == [[4, 5, 6]]
    assert one.match_ids is not None
    assert one.match_ids.tolist() == [5]
    assert one.neuron_meta["area"].tolist() == ["LM"]
    assert one == scan.select_units([False, True]) == scan.select_units([-1])
    assert scan.select_units([1, 0]).unit_ids.tolist() == [3, 7]


@pytest.mark.parametrize("index", [[], [2], [-3], [0, 0], [True], [0.0], [[0]]])
def test_impossible_selections_are_refused(index: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"index|unit_ids"):
        Scan(**parts()).select_units(index)


def test_arrays_of_the_right_type_are_kept_and_not_copied() -> None:
    values = parts()
    scan = Scan(**values)
    assert scan.responses is values["responses"]
    assert scan.images is values["images"]
    contiguous = Scan(**parts(trial_image=[0, 1, 2, 2, 2], tiers=["train", "validation", *3 * ["test"]]))
    assert np.shares_memory(contiguous.trials("test").responses, contiguous.responses)


def test_checking_a_large_scan_takes_no_memory_to_speak_of() -> None:
    responses = np.ones((2000, 2000), np.float32)
    values = parts(
        responses=responses,
        trial_image=np.arange(2000) % 3,
        tiers=np.full(2000, "train"),
        unit_ids=np.arange(2000),
        positions=None,
        neuron_meta={},
    )
    tracemalloc.start()
    Scan(**values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < responses.nbytes / 20


def test_plain_lists_float64_and_gray_images_without_channel_are_taken() -> None:
    scan = Scan(
        **parts(images=np.zeros((3, 16, 20)), responses=np.ones((5, 2)).tolist(), image_ids=["a", "b", "c"])
    )
    assert (scan.images.shape, scan.images.dtype) == ((3, 1, 16, 20), np.float32)
    assert scan.responses.dtype == np.float32
    assert scan.trials("train").image_ids.tolist() == ["a"]


def test_neurons_that_never_respond_are_legal() -> None:
    assert Scan(**parts(responses=np.zeros((5, 2), np.float32))).n_units == 2


def test_scans_are_equal_only_if_every_value_is() -> None:
    assert Scan(**parts()) == Scan(**parts())
    assert Scan(**parts()) != Scan(**parts(name="other"))
    assert Scan(**parts()) != Scan(**parts(neuron_meta={"area": np.array(["V1", "AL"])}))
    assert Scan(**parts()) != Scan(**parts(images=parts()["images"].astype(np.float32)))
    assert Scan(**parts()) != Scan(**parts(positions=None))


def with_value(value: float, *, at: tuple[int, int] = (3, 1)) -> np.ndarray[Any, Any]:
    responses = parts()["responses"].copy()
    responses[at] = value
    return responses


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nan": (
        {"responses": with_value(np.nan)},
        r"responses: .*1 NaN values in 1 of 5 trials.*trial 3, neuron 1",
    ),
    "infinite": ({"responses": with_value(np.inf)}, r"responses: .*1 infinite .*trial 3, neuron 1"),
    "negative": ({"responses": with_value(-0.1)}, r"responses: .*1 negative .*trial 3, neuron 1; .*clip"),
    "too large for float32": ({"responses": with_value(1.0).astype(float) * 1e300}, r"responses: .*infinite"),
    "no trials": ({"responses": np.zeros((0, 2))}, r"responses: expected at least one trial.*\(0, 2\)"),
    "flat responses": ({"responses": np.zeros(5)}, r"responses: .*\(T, U\), got \(5,\)"),
    "fewer positions": ({"positions": np.zeros((1, 3))}, r"positions: expected 2 rows.*got 1 \(fewer\)"),
    "more positions": ({"positions": np.zeros((3, 3))}, r"positions: expected 2 rows.*got 3 \(more\)"),
    "flat positions": ({"positions": np.zeros(2)}, r"positions: expected \(2, 2\) or \(2, 3\), got \(2,\)"),
    "unknown position": (
        {"positions": [[0, np.nan], [0, 0]]},
        r"positions: .*1 of 2 neurons, the first at index 0",
    ),
    "repeated image id": ({"image_ids": [10, 12, 12]}, r"image_ids: .*1 of them more than once: '12'"),
    "missing image id": ({"image_ids": [10, 12]}, r"image_ids: expected \(3,\).*got \(2,\)"),
    "image out of range": ({"trial_image": [2, 0, 1, 3, 2]}, r"trial_image: .*0 to 2 .*first 3 in trial 3"),
    "negative image": ({"trial_image": [2, 0, -1, 2, 2]}, r"trial_image: .*first -1 in trial 2"),
    "short trial_image": ({"trial_image": [2, 0, 1]}, r"trial_image: expected \(5,\).*got \(3,\)"),
    "two tiers": (
        {"tiers": ["test", "train", "validation", "train", "test"]},
        r"tiers: .*1 images in several.*ids '12'",
    ),
    "unknown tier": ({"tiers": ["test", "train", "oracle", "x", "x"]}, r"tiers: .*got also 'oracle', 'x'"),
    "short tiers": ({"tiers": ["test", "train"]}, r"tiers: expected \(5,\).*got \(2,\)"),
    "no images": ({"images": np.zeros((0, 1, 16, 20))}, r"images: expected at least one image"),
    "one image": ({"images": np.zeros((16, 20))}, r"images: .*got \(16, 20\)"),
    "nan image": ({"images": np.full((3, 16, 20), np.nan)}, r"images: .*NaN or infinity in 3 of 3 images"),
    "short unit_ids": ({"unit_ids": [7]}, r"unit_ids: expected \(2,\).*got \(1,\)"),
    "repeated unit id": ({"unit_ids": [7, 7]}, r"unit_ids: .*more than once: '7'"),
    "short match_ids": ({"match_ids": [7]}, r"match_ids: expected \(2,\)"),
    "short meta": ({"neuron_meta": {"area": np.array(["V1"])}}, r"neuron_meta\['area'\]: expected 2 rows"),
    "meta name": ({"neuron_meta": {"../area": np.zeros(2)}}, r"neuron_meta: .*'../area'"),
    "empty name": ({"name": ""}, r"name: "),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scan(**parts(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.array([["a"]])}, "images: expected uint8 or float"),
        ({"responses": np.array([["a"]])}, "responses: expected numbers"),
        ({"unit_ids": [1.0, 2.0]}, r"unit_ids: expected whole numbers, got float64; pass unit_ids.astype"),
        ({"tiers": [1, 2, 3, 4, 5]}, "tiers: expected a list of names"),
        ({"animal_id": 26872}, r"animal_id: .*str\(animal_id\)"),
        (
            {"neuron_meta": {"area": np.array([None, None])}},
            r"neuron_meta\['area'\]: expected numbers or strings",
        ),
    ],
)
def test_wrong_types_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Scan(**parts(**changes))


def test_images_in_two_tiers_are_listed_sorted_and_cut() -> None:
    count = 30
    with pytest.raises(ValueError, match=r"got 30 images in several.* ids '100', '101', .*'119' and 10 more"):
        Scan(
            name="leaky",
            images=np.zeros((count, 1, 16, 16), np.uint8),
            image_ids=100 + np.arange(count)[::-1],
            trial_image=np.tile(np.arange(count), 2),
            tiers=np.repeat(["train", "test"], count),
            responses=np.ones((2 * count, 1)),
            unit_ids=[1],
        )


def test_trial_image_index_inverts_ids_and_names_those_never_seen() -> None:
    assert trial_image_index([30, 10, 20], [10, 10, 30]).tolist() == [1, 1, 0]
    assert trial_image_index(["b", "a"], ["a", "b"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"2 of 3 trials show an image .*: '99'"):
        trial_image_index([30, 10, 20], [99, 10, 99])
    with pytest.raises(ValueError, match="same type"):
        trial_image_index([30, 10], ["10"])
    with pytest.raises(ValueError, match="more than once"):
        trial_image_index([30, 30], [30])


# What the documentation of Scan says, as it says it, and a scan that breaks or uses it.
REFUSED = {
    "finite": {"images": np.full((3, 16, 20), np.inf)},
    "Every image is shown in a trial": {"trial_image": [1, 0, 1, 1, 1], "tiers": ["test"] * 5},
    "whole numbers (int64) or strings, each once": {"image_ids": [10, 12, 12]},
    "index into ``images`` of what each trial showed": {"trial_image": [2, 0, 1, 2, 3]},
    '``"train"``, ``"validation"`` or ``"test"``': {"tiers": ["test", "train", "oracle", "test", "test"]},
    "All trials of an image are in one tier": {"tiers": ["test", "train", "validation", "train", "test"]},
    "at least 0": {"responses": np.full((5, 2), -1.0)},
    "whole numbers, each once": {"unit_ids": [7, 7]},
    "(U, 3) or (U, 2) cortical positions": {"positions": np.zeros((2, 4))},
    "array with U rows": {"neuron_meta": {"area": np.zeros(3)}},
    "name to (T,) numbers": {"covariates": {"running": np.zeros(4)}},
}
ALLOWED = {
    "Neurons that never respond are allowed": {"responses": np.zeros((5, 2))},
    "or None": {"positions": None, "match_ids": None, "animal_id": None},
    "or strings, each once": {"image_ids": ["a", "b", "c"]},
    "-1 means unmatched": {"match_ids": [-1, -1]},
    "NaN where a value is missing": {"covariates": {"running": np.full(5, np.nan)}},
    "any other is kept too": {"covariates": {"mood": np.zeros(5)}},
}


def test_what_the_documentation_of_a_scan_says_holds() -> None:
    # oracle: the scans that the sentences are about
    text = " ".join(str(Scan.__doc__).split())
    for sentence, changes in REFUSED.items():
        assert sentence in text
        with pytest.raises(ValueError, match="expected"):
            Scan(**parts(**changes))
    for sentence, changes in ALLOWED.items():
        assert sentence in text
        Scan(**parts(**changes))
    # nothing is promised besides
    assert text.count("allowed") == sum(sentence.count("allowed") for sentence in ALLOWED)
    assert text.count("each once") == 2
