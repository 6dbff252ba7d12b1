"""What the scripts that measure have in common: arguments, and result files with a table beside them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mousev1.core.network import Core
from training import provenance

# Options that several scripts have.
OPTIONS: dict[str, dict[str, Any]] = {
    "truth": {"type": Path, "help": "true rates of a simulated scan (.npz)"},
    "max-epochs": {"type": int, "default": 200, "help": "limit of the recipe (default: 200)"},
    "rerun": {"action": "store_true", "help": "measure again what the result file has"},
    "figure": {"type": Path, "help": "also draw the results into this file (.png)"},
}


def parser(
    module: str,
    description: str,
    *more: str,
    scan: str = "a scan with tiers train, validation and test",
    seed: bool = True,
) -> Parser:
    """Command line of ``training.measurements.<module>``: the arguments of all scripts, and ``more`` of ``OPTIONS``.

    The first argument is a scan unless ``scan``, its help, is empty.
    """
    found = Parser(prog=f"python -m training.measurements.{module}", description=description)
    if scan:
        found.add_argument("scan", type=Path, help=scan)
    found.add_argument("--core", type=Path, required=True, help="a published checkpoint, or a core's folder")
    if seed:
        found.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    found.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    found.add_argument("--out", type=Path, required=True, help="result file (.json); tables go beside it")
    for name in more:
        found.add_argument(f"--{name}", **OPTIONS[name])
    return found


class Parser(argparse.ArgumentParser):
    """A parser that keeps what was given, and sets torch's threads."""

    def options(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options, ``given`` (the arguments as they came) and ``command`` (to type them again)."""
        given = sys.argv[1:] if arguments is None else list(arguments)
        options = self.parse_args(given)
        options.given, options.command = given, f"{self.prog} {shlex.join(given)}"
        if options.threads:
            torch.set_num_threads(options.threads)
        return options


def identity(what: str, data: Path, core: Core, seed: int) -> dict[str, Any]:
    """What must be the same for results to stand in one file: data, core and seed."""
    return {
        "what": what,
        "scan": data.name,
        "data_sha256": provenance.data_sha256(data),
        "core": core.name,
        "core_hash": core.content_hash(),
        "seed": seed,
    }


def resume(options: argparse.Namespace, header: dict[str, Any], rows: str) -> dict[str, Any]:
    """The results so far, with the present command; see ``training.provenance.resume``."""
    return {**provenance.resume(options.out, header, {rows: {}}), "command": options.command}


def measured(
    options: argparse.Namespace,
    header: dict[str, Any],
    rows: str,
    runs: Mapping[str, Callable[[], dict[str, Any]]],
    again: Collection[str] = (),
) -> dict[str, Any]:
    """The results after the runs that they lack under ``rows``, or that are to be done ``again``.

    Each is written as soon as it is there.
    """
    results = resume(options, header, rows)
    for name, run in runs.items():
        if name in results[rows] and name not in again:
            continue
        print(name, file=sys.stderr, flush=True)
        before = provenance.circumstances()
        results[rows][name] = {**before, **run(), "load_at_end": provenance.machine()["load_1_minute"]}
        provenance.write_json(options.out, results)
    return results


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(entries)} |" for entries in (columns, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]])


def write_table(out: Path, heading: str, table: str) -> None:
    """Print a table, and write it beside a result file, under a heading."""
    print(table)
    out.with_suffix(".md").write_text(f"{heading}\n\n{table}\n", encoding="utf-8")


def decimal_ticks(axis: Any, *factors: int) -> None:
    """Ticks of a logarithmic axis at these factors of powers of ten, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=factors))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())


def digits(value: float | None) -> str:
    """A score to four digits, "-" for None."""
    return "-" if value is None else f"{value:.4f}"
