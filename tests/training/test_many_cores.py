"""The model of many cores, worked out by hand."""

from __future__ import annotations

import pytest

from training.measurements.many_cores import model, table


def test_seconds_follow_from_the_callers_and_the_workers_processor_time():
    # the caller takes 1 s; pieces take 8 s with one worker, 10 s with two: half a second more per worker and second
    one = {"a": [6.0, 6.0, 0.4], "b": [3.0, 3.0, 0.6]}
    two = {"a": [3.5, 7.0, 0.4], "b": [2.5, 4.0, 0.6]}
    found = model(one, two, 2)
    assert found["caller_seconds"] == pytest.approx(1.0)
    assert found["pieces_seconds"] == pytest.approx(8.0)
    assert found["growth_per_worker"] == pytest.approx(0.25)
    assert found["seconds"]["1"] == pytest.approx(9.0)
    assert found["seconds"]["2"] == pytest.approx(1.0 + 1.25 * 8 / 2)
    assert found["seconds"]["4"] == pytest.approx(1.0 + 1.75 * 8 / 4)
    assert found["efficiency"]["2"] == pytest.approx(9.0 / 6.0 / 2)
    assert found["measured"] == {"1": 9.0, "2": 6.0}
    text = table({"10x20": {"model": found, "steps": {"1": one, "2": two}}})
    assert "| 10x20 | 1.00 s | 8.00 s | 9.00 s (100%) | 6.00 s (75%) |" in text
    assert "| 10x20 | b | 2 | 2.500 | 4.000 | 0.600 |" in text


def test_pieces_that_take_no_more_time_together_scale_but_for_the_caller():
    steps = {"a": [9.0, 9.0, 1.0]}
    found = model(steps, {"a": [5.0, 9.0, 1.0]}, 2)
    assert found["growth_per_worker"] == 0.0
    assert found["seconds"]["8"] == pytest.approx(2.0)
