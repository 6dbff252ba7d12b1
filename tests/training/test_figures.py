"""The paper's figures and tables from made-up rows: what is drawn and written is what the rows say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import across_animals, changed, make_row, within_animal
from matplotlib.colors import to_rgb

from mousev1.metrics.intervals import mean_interval
from training.paper_figures.__main__ import main
from training.paper_figures.figures import TITLES, figure_rows, figures, palette
from training.paper_figures.published_values import PUBLISHED
from training.paper_figures.report import report
from training.paper_figures.results import Results, by_benchmark, intervals
from training.transfer_benchmark.results_table import write_rows


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return within_animal() + across_animals()


@pytest.fixture(scope="module")
def results(rows) -> Results:
    return Results.of(rows)


@pytest.fixture(scope="module")
def drawn(results):
    return figures(results, "fraction_oracle")


def lines(axis) -> dict[str, tuple[list[float], list[float]]]:
    """x and y of every curve of a panel, by colour and marker."""
    found = {}
    for container in axis.containers:
        line = container[0]
        found[line.get_color(), line.get_marker()] = (line.get_xdata().tolist(), line.get_ydata().tolist())
    return found


def test_every_figure_of_the_paper_is_drawn_and_says_simulated(drawn):
    assert sorted(drawn) == sorted(TITLES)
    for figure in drawn.values():
        assert "(simulated responses)" in figure.get_suptitle()


def test_recorded_data_are_not_called_simulated(rows):
    real = figures(Results.of(changed(rows, lambda row: {"simulated": False})), "fraction_oracle")
    assert all("(recorded responses)" in figure.get_suptitle() for figure in real.values())


def test_a_curve_shows_means_and_intervals_over_partitions(rows, drawn):
    # oracle: mean and interval from the rows themselves
    axis = drawn["figure-5"].axes[0]
    style = palette.CORES["11-S"]
    (container,) = (c for c in axis.containers if c[0].get_color() == style.colour)
    line, _, (bars,) = container
    for images, mean, bar in zip(line.get_xdata(), line.get_ydata(), bars.get_segments(), strict=True):
        values = [
            row["fraction_oracle"]
            for row in rows
            if (row["core"], row["readout"], row["images"]) == ("11-S", "gaussian-cortex", images)
        ]
        assert len(values) == 5
        interval = mean_interval(values)
        assert mean == pytest.approx(interval.mean)
        assert bar[:, 1].tolist() == pytest.approx([interval.low, interval.high])


def test_panels_are_numbers_of_neurons_or_readouts(drawn):
    titles = {name: [axis.get_title() for axis in figure.axes] for name, figure in drawn.items()}
    assert titles["figure-3"] == ["50 neurons", "500 neurons", "3,597 neurons"]
    assert [title.splitlines()[1] for title in titles["figure-4"]] == titles["figure-3"]
    assert [title.splitlines()[0] for title in titles["figure-5"]] == [
        "Gaussian, with cortical positions",
        "Gaussian, without cortical positions",
        "what cortical positions add",
    ]
    for name, count in (("figure-3", 4), ("figure-4", 3), ("figure-5", 9)):
        assert {len(axis.containers) for axis in drawn[name].axes} == {count}
        (legend,) = drawn[name].legends
        assert len(legend.get_texts()) == count


def test_what_cortex_adds_is_the_paired_difference(rows, drawn):
    # oracle: differences of the rows
    gains = lines(drawn["figure-5"].axes[2])[palette.CORES["1-S"].colour, palette.CORES["1-S"].marker]

    def score(readout: str, partition: int) -> float:
        (found,) = (
            row["fraction_oracle"]
            for row in rows
            if (row["core"], row["readout"], row["images"], row["partition"])
            == ("1-S", readout, 500, partition)
        )
        return found

    expected = sum(score("gaussian-cortex", p) - score("gaussian", p) for p in range(5)) / 5
    assert gains[1][gains[0].index(500)] == pytest.approx(expected)


def test_a_condition_looks_the_same_in_every_panel_and_no_other_looks_like_it(drawn):
    for figure in drawn.values():
        (legend,) = figure.legends
        looks = [
            (handle.get_color(), handle.get_linestyle(), handle.get_marker(), handle.get_markerfacecolor())
            for handle in legend.legend_handles
        ]
        assert len(set(looks)) == len(looks)
        for axis in figure.axes:
            shown = {
                (c[0].get_color(), c[0].get_linestyle(), c[0].get_marker(), c[0].get_markerfacecolor())
                for c in axis.containers
            }
            assert shown <= set(looks)
    direct = palette.CONDITIONS["direct"]
    for name in ("figure-4", "figure-5"):
        assert (direct.colour, direct.marker) in lines(drawn[name].axes[0])


def luminance(colour: str) -> float:
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("styles", [palette.CORES, palette.READOUTS, palette.CONDITIONS])
def test_looks_differ_in_marker_and_are_dark_enough_for_white_paper(styles):
    markers = [(style.marker, style.filled) for style in styles.values()]
    # of equal markers, colours must differ in lightness, which no colour blindness takes away
    for i, one in enumerate(styles.values()):
        assert luminance(one.colour) < 0.72
        for j, other in enumerate(styles.values()):
            if i < j and markers[i] == markers[j]:
                assert abs(luminance(one.colour) - luminance(other.colour)) > 0.1


def test_cores_are_known_by_label_or_by_the_scans_they_were_trained_on():
    known = {
        ("11-S", "11-S"): "11-S",
        ("11-S, real", "11-S"): "11-S",
        ("sim-11S", "11-S"): "sim-11S",
        ("bashiri", "1-S"): "1-S",
        ("mine", ""): None,
        ("vgg16-imagenet", ""): "VGG16",
        ("vgg16-random", ""): "random VGG16",
        ("random-64", ""): "random 64",
        ("random-128", ""): "random 128",
        ("efficientnet-lite0", ""): "task-driven",
    }
    for (label, core_set), kind in known.items():
        assert palette.kind_of_core(label, core_set) == kind
    styles = palette.core_styles([*known, ("another", "11-S"), ("a third", "")])
    looks = [(s.colour, s.line, s.marker) for s in styles.values()]
    assert len(set(looks)) == len(looks) == 12
    assert styles["11-S"] == palette.CORES["11-S"]


def test_transfer_rows_alone_are_enough_for_figure_5():
    rows = across_animals(direct=False, cores=["11-S", "random-64"])
    found = Results.of(changed(rows, lambda row: {"condition": "transfer"}))
    assert list(figure_rows(found)) == ["figure-5"]
    (figure,) = figures(found, "fraction_oracle").values()
    assert len(figure.axes) == 3
    text = report(found, "fraction_oracle", ["figure-5.png"])
    assert "No rows for figure 3 (direct training: readouts)." in text
    assert "No rows for figure 4 (generalisation within an animal)." in text
    assert "| 11-S is better than direct training | - | not measured |" in text


def test_direct_training_serves_as_reference_for_readouts_fitted_by_the_convex_solver():
    rows = across_animals("convex") + across_animals("sgd", direct=False)
    (figure,) = figures(Results.of(rows), "fraction_oracle").values()
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0].startswith("Gaussian, with cortical positions; published recipe")
    assert titles[3].startswith("Gaussian, with cortical positions; convex solver")
    direct = palette.CONDITIONS["direct"]
    for axis in (figure.axes[0], figure.axes[3]):
        assert (direct.colour, direct.marker) in lines(axis)


def test_panels_without_any_curve_are_left_out():
    # random cores alone have factorized readouts, and only by the recipe
    rows = across_animals("convex", cores=["11-S"], direct=False)
    rows += changed(
        across_animals("sgd", cores=["random-64"], direct=False),
        lambda row: {"readout": "factorized", "partition": row["partition"]},
    )
    (figure,) = figures(Results.of(rows), "fraction_oracle").values()
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title().splitlines()[0] for axis in shown] == [
        "factorized; published recipe",
        "Gaussian, with cortical positions; convex solver",
        "Gaussian, without cortical positions; convex solver",
        "what cortical positions add",
    ]
    assert all(axis.containers for axis in shown)


def test_the_legend_fits_into_a_narrow_figure():
    # oracle: sizes as drawn
    rows = [row for row in within_animal() if row["condition"] == "direct" and row["units"] == 50]
    (figure,) = figures(Results.of(rows), "fraction_oracle").values()
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_scans_are_drawn_apart():
    rows = across_animals(cores=["11-S"])
    rows += changed(rows, lambda row: {"scan": "another"})
    assert sorted(figures(Results.of(rows), "fraction_oracle")) == ["figure-5-1", "figure-5-2"]


def test_one_partition_has_no_bars_and_the_figure_says_so():
    rows = [row for row in across_animals(cores=["11-S"]) if row["partition"] == 0]
    (figure,) = figures(Results.of(rows), "fraction_oracle").values()
    assert "no intervals" in figure.legends[0].get_title().get_text()


# ---------------------------------------------------------------- results


def test_rows_are_grouped_by_benchmark_and_kind_of_data():
    rows = [make_row(0.5), make_row(0.5, benchmark="b"), make_row(0.5, simulated=False)]
    assert [(r.name, r.simulated) for r in by_benchmark(rows)] == [
        ("made-up", True),
        ("b", True),
        ("made-up", False),
    ]
    with pytest.raises(ValueError, match="rows: expected those of one benchmark"):
        Results.of(rows)
    with pytest.raises(ValueError, match="got those of none"):
        Results.of([])


@pytest.mark.parametrize("undefined", [None, math.nan, math.inf])
def test_undefined_scores_are_left_out_and_counted(undefined):
    rows = [
        make_row(0.5, partition=p, fraction_oracle=value) for p, value in enumerate((0.4, undefined, 0.6))
    ]
    found = Results.of([rows[0] | {"undefined_units": 7}, *rows[1:]])
    (interval,) = intervals(found.rows, "fraction_oracle", ["curve", "images", "units"])
    assert (interval.mean, interval.count) == (pytest.approx(0.5), 2)


def test_seeds_are_no_partitions():
    rows = [make_row(0.5 + 0.1 * s, seed=s, partition=p) for s in range(3) for p in range(2)]
    found = Results.of(rows)
    assert (len(found.partitions), len(found.rows)) == (2, 2)
    assert set(found.rows["seed"]) == {2}
    assert found.protocol() == "means over 2 partitions, the best of 3 seeds by validation in each"


def test_the_protocol_says_where_partitions_and_seeds_differ():
    many = [make_row(0.5, seed=s, partition=p) for s in range(2) for p in range(3)]
    one = make_row(0.5, readout="factorized")
    found = Results.of([*many, one])
    assert found.protocol() == "means over 1 to 3 partitions, the best of 1 to 2 seeds by validation in each"
    assert found.protocol(found.rows[found.rows["readout"] == "factorized"]) == "one partition, one seed"


def test_a_curve_does_not_depend_on_spelling():
    one = make_row(0.5, core_set="4-S:diff animals", condition="transfer", core="c")
    two = one | {"core_set": "4-S:diff-animals", "condition": "best-core/diff-readout"}
    rows = Results.of([one, two, make_row(0.5)]).rows
    assert rows["curve"].tolist() == [1, 1, 0]
    assert rows["transferred"].tolist() == [True, True, False]


# ---------------------------------------------------------------- report


@pytest.fixture(scope="module")
def text(results) -> str:
    return report(results, "fraction_oracle", ["figure-3.png"])


def test_every_published_number_stands_beside_ours_and_both_say_what_they_are(text):
    assert "| the paper says | paper, real data | ours, simulated |" in text
    for published in PUBLISHED:
        (line,) = (line for line in text.splitlines() if published.quote in line)
        entries = [entry.strip() for entry in line.split("|")[1:-1]]
        assert entries[0] == f'"{published.quote}" (abstract)'
        assert entries[1] == f"{published.value:.0%}"
        assert "images" in entries[2]
    assert [f"{published.value:.0%}" for published in PUBLISHED] == ["7%", "12%", "33%", "40%"]


def test_our_gain_is_that_of_the_rows_with_most_neurons_and_images(rows, text):
    # oracle: ratio of 11-S to direct in each partition at 4,472 images
    def score(core: str, readout: str, partition: int) -> float:
        (found,) = (
            row["fraction_oracle"]
            for row in rows
            if (row["core"], row["readout"], row["images"], row["partition"], row["scope"])
            == (core, readout, 4472, partition, "across-animals")
        )
        return found

    gains = [
        sum(score("11-S", r, p) / score("direct", r, p) for r in ("gaussian", "gaussian-cortex")) / 2 - 1
        for p in range(5)
    ]
    assert f"{100 * sum(gains) / 5:.0f}% (" in next(line for line in text.splitlines() if "by 12%" in line)


def test_tables_hold_every_score_of_every_curve(rows, results, text):
    # oracle: the rows
    values = [
        row["correlation_to_average"]
        for row in rows
        if (row["core"], row["readout"], row["images"]) == ("1-S", "gaussian", 500)
    ]
    table = text.split("### Correlation with the average over repeats: sim-g1, 1,000 neurons")[1]
    line = next(line for line in table.splitlines() if "| 1-S | Gaussian, without" in line)
    assert f" {mean_interval(values)} " in line
    for score in ("Fraction oracle", "Correlation with single trials", "Correlation with the true rate"):
        assert f"### {score}: sim-g1, 1,000 neurons" in text


def test_the_report_says_what_is_simulated_and_where_it_comes_from(text):
    assert "**All responses are simulated.**" in text
    assert "`python -m training.transfer_benchmark made-up.toml`" in text
    assert "means over 5 partitions, one seed in each" in text
    assert "a processor, 2 CPUs, Linux" in text


def test_neurons_without_a_score_are_counted():
    rows = changed(across_animals(cores=["11-S"]), lambda row: {"undefined_units": row["partition"]})
    assert "Up to 4 neurons have no correlation" in report(Results.of(rows), "fraction_oracle", [])


# ---------------------------------------------------------------- command line


def test_the_command_reads_parquet_and_writes_figures_and_a_report(rows, tmp_path, capsys):
    write_rows(rows, tmp_path / "results.parquet")
    assert main([str(tmp_path)]) == 0
    for name in TITLES:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "![figure-3.png](figure-3.png)" in (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.count("wrote ") == 4


def test_several_benchmarks_do_not_overwrite_each_other(tmp_path, capsys):
    rows = across_animals(direct=False, cores=["11-S"])
    rows += changed(rows, lambda row: {"benchmark": "b"}) + changed(rows, lambda row: {"simulated": False})
    write_rows(rows, tmp_path / "in" / "results.parquet")
    out = tmp_path / "out"
    assert main([str(tmp_path / "in" / "results.parquet"), "--out", str(out)]) == 0
    names = ("b-", "made-up-real-", "made-up-simulated-")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}{file}" for name in names for file in ("figure-5.png", "report.md")
    )
    assert "b: no rows for figure 3" in capsys.readouterr().out
    assert "Responses are recorded ones" in (out / "made-up-real-report.md").read_text()


def test_mistakes_end_with_one_line(tmp_path: Path, capsys):
    assert main([str(tmp_path / "none.parquet")]) == 1
    write_rows([make_row(0.5, true_rate_correlation=None)], tmp_path / "results.parquet")
    assert main([str(tmp_path), "--score", "true_rate_correlation"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "no file" in errors[0]
    assert "no row of made-up has true_rate_correlation" in errors[1]
