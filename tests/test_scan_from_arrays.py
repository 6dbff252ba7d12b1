"""Scans from arrays with named axes. Oracle: the same arrays transposed by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mousev1.data.scan import Scan

RNG = np.random.default_rng(0)
RESPONSES = RNG.gamma(1.0, size=(4, 3)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (2, 1, 5, 6), np.uint8)
TIERS = ["train", "test", "test", "train"]
EXPECTED = Scan(
    name="mine", images=IMAGES, image_ids=[0, 1], trial_image=[0, 1, 1, 0], tiers=TIERS, responses=RESPONSES,
    unit_ids=[0, 1, 2],
)  # fmt: skip


@pytest.mark.parametrize("order", list(itertools.permutations(("image", "channel", "height", "width"))))
def test_axes_in_any_order_give_the_same_scan(order: tuple[str, ...]) -> None:
    usual = ("image", "channel", "height", "width")
    images = IMAGES.transpose([usual.index(axis) for axis in order])
    scan = Scan.from_arrays(
        name="mine", responses=RESPONSES.T, response_axes="neuron trial", images=images,
        image_axes=" ".join(order), tiers=TIERS, trial_image=[0, 1, 1, 0],
    )  # fmt: skip
    assert scan == EXPECTED


def test_responses_by_image_and_repeat_become_trials_without_the_missing_repeats() -> None:
    table = np.full((3, 2, 3), np.nan, np.float32)  # neuron, image, repeat
    table[:, 0, 0], table[:, 1] = 1.0, np.arange(9).reshape(3, 3)
    scan = Scan.from_arrays(
        name="mine", responses=table, response_axes="neuron image repeat", images=IMAGES[:, 0],
        image_axes="image height width", tiers=["train", "test"],
    )  # fmt: skip
    assert scan.tiers.tolist() == ["train", "test", "test", "test"]
    assert scan.trial_image.tolist() == [0, 1, 1, 1]
    assert scan.responses.tolist() == [[1, 1, 1], [0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("trial", "a name for each axis"),
        ("trial trial", "once each"),
        ("trial time", "among 'trial', 'neuron'"),
    ],
)
def test_axes_that_do_not_name_the_array_are_refused(axes: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scan.from_arrays(
            name="mine", responses=RESPONSES, response_axes=axes, images=IMAGES[:, 0],
            image_axes="image height width", tiers=TIERS, trial_image=[0, 1, 1, 0],
        )  # fmt: skip


def test_trials_need_their_image() -> None:
    with pytest.raises(ValueError, match="trial_image: expected which image each trial showed"):
        Scan.from_arrays(
            name="mine", responses=RESPONSES, response_axes="trial neuron", images=IMAGES[:, 0],
            image_axes="image height width", tiers=TIERS,
        )  # fmt: skip


def test_masked_values_are_refused_as_at_every_other_door():
    responses = np.ma.masked_array(np.ones((4, 2)), mask=np.eye(4, 2, dtype=bool))
    images = np.random.default_rng(0).integers(0, 256, (4, 36, 64), dtype=np.uint8)
    with pytest.raises(ValueError, match="responses: expected every value, got a masked array with 2 of 8"):
        Scan.from_arrays(
            name="masked",
            responses=responses,
            response_axes="trial neuron",
            images=images,
            image_axes="image height width",
            tiers=["train"] * 3 + ["test"],
            trial_image=range(4),
        )
