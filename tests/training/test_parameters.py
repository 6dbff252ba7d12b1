"""The table of parameters per readout. Oracle: the paper's formulas, and numbers worked out by hand."""

from __future__ import annotations

import pytest

from training.measurements.parameter_count import TABLE, Size, count, main

BY_HAND = {
    # 10 neurons, 4 channels, a map of 5 x 6
    "fully connected": (10 * 4 * 5 * 6, 10, 0),
    "factorized": (10 * (4 + 5 * 6), 10, 0),
    "Gaussian": (10 * (4 + 2 + 4), 10, 0),
    "Gaussian with retinotopy": (10 * (4 + 4), 10, 2 * 2 + 2),
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_counts_are_those_by_hand(row):
    found = count(row, Size(10, 4, 5, 6))
    assert (found.weights, found.bias, found.network) == BY_HAND[row.name]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest.mark.parametrize("size", [Size(1, 1, 1, 1), Size(3597, 64, 22, 50), Size(72000, 128, 22, 50)])
def test_the_paper_s_formulas_hold_for_the_modules(row, size):
    found = count(row, size)
    assert row.expected(size) == found.weights + (found.bias if row.bias_in_formula else 0)


def test_the_table_prints_formula_and_count(capsys):
    assert main(["--units", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    gaussian = next(line for line in lines if line.startswith("Gaussian  "))
    assert "N * (c + 7) (with bias)" in gaussian
    assert "71,000" in gaussian
    assert "70,400,000" in next(line for line in lines if line.startswith("fully connected"))


def test_a_size_of_nothing_is_refused(capsys):
    assert main(["--height", "0"]) == 1
    assert "height: expected at least 1, got 0" in capsys.readouterr().err
