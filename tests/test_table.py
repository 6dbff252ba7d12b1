"""Results as tables: whatever was measured, the same rows, files, frames, and columns as documented."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from mousev1.compare.results import CurveRow, LearningCurve
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.class_scores import ClassScores
from mousev1.insilico.field_fits import GaborFit, GaussianFit
from mousev1.insilico.frame import Frame
from mousev1.insilico.gallery import GalleryRanks
from mousev1.insilico.mei import OptimalImages
from mousev1.insilico.posterior_samples import Estimate
from mousev1.insilico.receptive_field import ReceptiveFields
from mousev1.insilico.tuning import Tuning
from mousev1.insilico.tuning_protocol import TuningExtrapolation, TuningSettings
from mousev1.metrics.score_table import ScoreTable
from mousev1.storage.table import Table, check_parquet, write_parquet

ONE, TWO = np.array([0.25, np.nan]), np.array([[1.0, 2.0], [3.0, np.nan]])
IDS, FRAME = np.array([7, 3]), Frame(4, 6, pixels_per_degree=0.53, value_range=(0.0, 255.0), background=113.0)


def filled(kind, **known):
    """An instance with the same numbers in every field that is not given."""
    return kind(**{field.name: ONE for field in fields(kind)} | known)


TABLES = {
    type(table): table
    for table in (
        filled(ScoreTable, unit_ids=IDS),
        LearningCurve((CurveRow("a", 50, 0, 9, 1.0, *[0.5] * 5, np.nan, 0),) * 2, "s", True, False, 0.3),
        filled(ClassScores, classes=("mei", "all"), unit_correlation=TWO),
        filled(OptimalImages, unit_ids=IDS, frame=FRAME, settings=AscentSettings(), start_response=TWO),
        filled(
            GalleryRanks,
            unit_ids=IDS,
            frame=FRAME,
            best=TWO,
            worst=TWO,
            best_response=TWO,
            worst_response=TWO,
        ),
        filled(
            ReceptiveFields, unit_ids=IDS, frame=FRAME, gaussian=filled(GaussianFit), gabor=filled(GaborFit)
        ),
        filled(
            Tuning,
            unit_ids=IDS,
            settings=TuningSettings(),
            extrapolation=filled(TuningExtrapolation, orientation=TWO, frequency=TWO, size=TWO, contrast=TWO),
            **{f.name: Estimate(ONE, ONE, ONE) for f in fields(Tuning) if f.type == "Estimate"},
        ),
    )
}


def documented(table: Table) -> set[str]:
    """The names of columns in the documentation, with placeholders filled in."""
    text = type(table).columns.fget.__doc__
    if isinstance(table, LearningCurve):
        return {field.name for kind in (CurveRow, LearningCurve) for field in fields(kind)} - {"rows"}
    fits = {"gaussian": GaussianFit, "gabor": GaborFit}
    found = set()
    for name in re.findall(r"``([\w<>]+)``", text):
        fit = fits.get(name.split("_")[0], GaborFit)
        values = {
            "<number>": ("1", "2") if isinstance(table, GalleryRanks) else ("0", "1"),
            "<estimate>": tuple(getattr(table, "estimates", ())),
            "<field>": tuple(field.name for field in fields(fit)),
        }
        placeholder = next((key for key in values if key in name), None)
        found |= (
            {name.replace(placeholder, value) for value in values[placeholder]} if placeholder else {name}
        )
    return found - {"estimates"}


def test_every_table_of_the_package_is_tried_here():
    assert set(Table.__subclasses__()) == set(TABLES)


@pytest.mark.parametrize("table", TABLES.values(), ids=[kind.__name__ for kind in TABLES])
def test_columns_are_the_documented_ones(table):
    # oracle: the documentation of the property
    assert set(table.columns) == documented(table)


@pytest.mark.parametrize("table", TABLES.values(), ids=[kind.__name__ for kind in TABLES])
def test_a_table_with_a_row_per_neuron_begins_with_unit_id_and_arrays_are_unit_ids(table):
    columns = list(table.columns)
    assert "unit_ids" not in columns
    assert not any(name in columns for name in ("unit", "neuron", "neuron_id"))
    per_neuron = not isinstance(table, LearningCurve | ClassScores)  # rows of these are fits and classes
    assert per_neuron == ("unit_id" in columns)
    if per_neuron:
        assert columns[0] == "unit_id"
        np.testing.assert_array_equal(table.columns["unit_id"], table.unit_ids)


@pytest.mark.parametrize("table", TABLES.values(), ids=[kind.__name__ for kind in TABLES])
def test_rows_csv_and_frame_hold_the_columns(table, tmp_path):
    # oracle: the csv module and pandas' own reader
    table.to_csv(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    rows, frame = table.to_rows(), table.to_dataframe()
    assert len(table) == len(rows) == len(written) == len(frame) == 2
    assert list(rows[0]) == list(written[0]) == list(frame.columns) == list(table.columns)
    for name, column in table.columns.items():
        np.testing.assert_array_equal([row[name] for row in rows], column)
        np.testing.assert_array_equal(
            [type(row[name])(text[name]) for row, text in zip(rows, written, strict=True)], column
        )
        np.testing.assert_array_equal(frame[name].to_numpy(), column)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), frame, check_dtype=False)


def test_parquet_holds_the_columns(tmp_path):
    # oracle: pandas' reader
    table = TABLES[ScoreTable]
    check_parquet()
    write_parquet(tmp_path / "table.parquet", table.columns)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table.to_dataframe())


@pytest.mark.parametrize(
    ("module", "use"),
    [("pandas", lambda: TABLES[ScoreTable].to_dataframe()), ("pyarrow.parquet", check_parquet)],
)
def test_a_missing_library_is_named_with_how_to_get_it(module, use, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {module.split('.')[0]}"):
        use()
