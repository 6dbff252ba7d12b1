"""What the scripts that measure have in common: arguments, and result files with a table beside them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mousev1.core.network import Core
from training import provenance


def parser(
    module: str,
    description: str,
    scan: str = "a scan with tiers train, validation and test",
    *,
    seed: bool = True,
) -> Parser:
    """Command line of ``training.measurements.<module>`` with the arguments of all.

    Args:
        module: name of the script.
        description: what it measures.
        scan: what the first argument is; empty for a script without a scan.
        seed: whether the script has one to choose.
    """
    found = Parser(prog=f"python -m training.measurements.{module}", description=description)
    if scan:
        found.add_argument("scan", type=Path, help=scan)
    found.add_argument("--core", type=Path, required=True, help="a published checkpoint, or a core's folder")
    if seed:
        found.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    found.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    found.add_argument("--out", type=Path, required=True, help="result file (.json); tables go beside it")
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
    """The results so far, with the present command; see ``training.provenance.resume``.

    Args:
        options: of ``Parser.options``.
        header: what must be the same.
        rows: under which name the results go.
    """
    return {**provenance.resume(options.out, header, {rows: {}}), "command": options.command}


def write_table(out: Path, heading: str, table: str) -> None:
    """Print a table, and write it beside a result file, under a heading."""
    print(table)
    out.with_suffix(".md").write_text(f"{heading}\n\n{table}\n", encoding="utf-8")
