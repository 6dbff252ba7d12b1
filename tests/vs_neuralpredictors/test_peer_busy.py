"""Beside busy processes predictions must not fall behind the authors' library."""

from __future__ import annotations

import statistics

import numpy as np
import torch

from mousev1.core.network import Core
from training.measurements.busy import busy_processes, seconds_of, with_one_thread
from training.measurements.speed import same_model

IMAGES = 96


def test_predictions_beside_two_busy_processes_are_faster_than_theirs_and_no_slower_than_with_one_thread(
    peer,
):
    theirs, ours = same_model(Core.random(seed=0), 200)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 36, 64), dtype=np.uint8)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    sides = {
        "theirs": lambda: len(theirs.predict(images)),
        "ours": lambda: len(ours.predict(images)),
        "one thread": lambda: with_one_thread(lambda: len(ours.predict(images))),
    }
    try:
        with busy_processes(2):
            seconds = {side: [] for side in sides}
            for turn in range(4):
                for side, run in sides.items():
                    took = seconds_of(run)
                    if turn:
                        seconds[side].append(took)
    finally:
        torch.set_num_threads(before)
    fastest = {side: min(took) for side, took in seconds.items()}
    assert fastest["ours"] < fastest["theirs"], seconds
    assert fastest["ours"] < 1.5 * fastest["one thread"], seconds
    assert statistics.median(seconds["ours"]) < statistics.median(seconds["theirs"]), seconds
