"""Figures and tables of a benchmark: ``python -m training.paper_figures RESULTS [--out DIR]``.

Draws the paper's Figures 3, 4 and 5 as far as there are rows for them, and writes a report with every
score, the paper's numbers beside ours, and which of its findings hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mousev1.storage.atomic import replacing
from training.paper_figures.figures import TITLES, figures
from training.paper_figures.report import report
from training.paper_figures.results import DRAWN, Results, by_benchmark
from training.transfer_benchmark.results_table import read_rows


def run(source: Path, out: Path | None, score: str) -> None:
    """Read rows, and write figures and a report for each benchmark among them."""
    folder = out or (source if source.is_dir() else source.parent)
    found = by_benchmark(read_rows(source))
    for results in found:
        if score not in results.scores():
            raise ValueError(
                f"--score: no row of {results.name} has {score}; there are {', '.join(results.scores())}"
            )
        kind = "simulated" if results.simulated else "real"
        same_name = [other for other in found if other.name == results.name]
        prefix = f"{results.name}-" if len(found) > 1 else ""
        prefix += f"{kind}-" if len(same_name) > 1 else ""
        write_figures(results, folder, score, prefix)


def write_figures(results: Results, out: Path, score: str, prefix: str = "") -> None:
    """Draw what there are rows for, write the report, and print what was and was not written."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = figures(results, score)
    for name, figure in drawn.items():
        path = out / f"{prefix}{name}.png"
        figure.savefig(path, dpi=150)
        print(f"wrote {path}")
    path = out / f"{prefix}report.md"
    with replacing(path) as staging:
        text = report(results, score, [f"{prefix}{name}.png" for name in drawn])
        staging.write_text(text, encoding="utf-8")
    print(f"wrote {path}")
    for name, title in TITLES.items():
        if not any(drawn_name.startswith(name) for drawn_name in drawn):
            print(f"{results.name}: no rows for {name.replace('-', ' ')} ({title})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.paper_figures",
        description="Draw the paper's Figures 3, 4 and 5 from the results of a benchmark, and write a report.",
    )
    parser.add_argument("results", type=Path, help="Parquet file, or the folder of a benchmark")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: that of RESULTS)"
    )
    parser.add_argument(
        "--score",
        choices=DRAWN,
        default="fraction_oracle",
        help="default: %(default)s, as in the paper",
    )
    options = parser.parse_args(arguments)
    try:
        run(options.results, options.out, options.score)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
