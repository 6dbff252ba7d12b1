"""The transfer benchmarks of Lurz et al. 2021: ``python -m training.transfer_benchmark CONFIG.toml --out DIR``.

A config expands to independent cells: condition x readout x core x images x neurons x seed x partition. Each
cell writes one row to ``DIR/cells/``; cores that cells need are trained once, in ``DIR/cores/``. Run again,
finished cells are skipped and failed ones tried again. At the end all rows are merged to
``DIR/results.parquet``. On a cluster (``--ray``), DIR and the scans must be on a file system that all
machines share.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from training.provenance import commit, now, write_json
from training.transfer_benchmark.conditions_grid import Cell, Plan, Training, select
from training.transfer_benchmark.config import BenchmarkConfig
from training.transfer_benchmark.results_table import RESULTS_FILE, read_rows, write_rows
from training.transfer_benchmark.run_condition import Origin, cell_file, compute, is_trained, train_only
from training.transfer_benchmark.scan_index import Survey, make_survey
from training.transfer_benchmark.workers import Outcome, Workers, start_workers

SURVEY = "survey.json"


@dataclass(frozen=True)
class Failure:
    """A cell that could not be computed, and why."""

    cell: Cell
    key: str
    error: str


def make_plan(config_path: Path, out: Path) -> Plan:
    """Read a config, find its files, and check that no image is in two tiers.

    Raises:
        FileNotFoundError: no such config, scan or truth.
        ValueError: a mistake in the config, or scans that do not fit it.
    """
    config = BenchmarkConfig.read(config_path)
    blind = Plan(config, config_path.parent, out, Survey({}))
    targets = [config.target(name) for name in dict.fromkeys(grid.target for grid in config.grids)]
    labels = dict.fromkeys(label for grid in config.grids for label in grid.cores)
    trained = [config.entry(label) for label in labels if config.entry(label).core_set is not None]
    scans = [file for target in targets for file in blind.target_files(target)]
    scans += [file for entry in trained for file in blind.core_files(entry)]
    truths = [file for target in targets for file in blind.truth_files(target)]
    survey = make_survey(list(dict.fromkeys(scans)), truths, out / SURVEY)
    return Plan(config, config_path.parent, out, survey)


def failure_file(plan: Plan, key: str) -> Path:
    """Where the failure of a cell goes."""
    return plan.out / "failed" / f"{key}.json"


def compute_cells(plan: Plan, cells: Sequence[Cell], workers: Workers, origin: Origin) -> list[Failure]:
    """Compute cells and the trainings they need; returns what failed, which does not stop the rest."""
    keys = {plan.key(cell): cell for cell in cells}
    waiting: dict[str, list[str]] = {}  # folder of a training to keys of the cells that need it
    trainings: dict[str, Training] = {}
    ready: deque[tuple[str, bool]] = deque()  # name, whether it is a training
    for key, cell in keys.items():
        training = plan.training(cell)
        if training is None or is_trained(plan, training):
            ready.append((key, False))
            continue
        folder = plan.training_folder(training).name
        if folder not in trainings:
            trainings[folder] = training
            ready.append((folder, True))
        waiting.setdefault(folder, []).append(key)

    failures: list[Failure] = []

    def fail(key: str, error: str, traceback: str) -> None:
        failures.append(Failure(keys[key], key, error))
        values = {"key": key, "cell": asdict(keys[key]), "error": error, "traceback": traceback}
        write_json(failure_file(plan, key), {**values, "command": origin.command, "date": now()})

    def end(outcome: Outcome) -> int:
        """Take in what happened; returns how many steps are over."""
        if outcome.name in trainings:
            dependent = waiting.pop(outcome.name)
            if outcome.error is None:
                ready.extendleft((key, False) for key in reversed(dependent))
                return 1
            for key in dependent:
                fail(key, f"its training failed: {outcome.error}", outcome.traceback)
            return 1 + len(dependent)
        if outcome.error is None:
            failure_file(plan, outcome.name).unlink(missing_ok=True)
        else:
            fail(outcome.name, outcome.error, outcome.traceback)
        return 1

    running = 0
    with tqdm(total=len(keys) + len(trainings), desc=plan.config.name, unit="step", smoothing=0.05) as bar:
        while ready or running:
            while ready and running < workers.slots:
                name, is_training = ready.popleft()
                if is_training:
                    workers.submit(name, train_only, plan, trainings[name])
                else:
                    workers.submit(name, compute, plan, keys[name], origin)
                running += 1
            bar.update(end(workers.next()))
            running -= 1
            if failures:
                bar.set_postfix_str(f"{len(failures)} failed")
    return failures


def merge(plan: Plan, cells: Sequence[Cell]) -> int:
    """Write the rows of all finished cells to one file; returns their number."""
    files = [cell_file(plan, plan.key(cell)) for cell in cells]
    rows = [row for file in files if file.is_file() for row in read_rows(file)]
    write_rows(rows, plan.out / RESULTS_FILE)
    return len(rows)


def run(
    config_path: Path, out: Path, *, jobs: int = 1, ray_address: str | None = None, only: Sequence[str] = ()
) -> list[Failure]:
    """Compute what is missing of a benchmark, and merge the rows; returns the cells that failed.

    Args:
        config_path: TOML file, see ``training.transfer_benchmark.config``.
        out: folder of results.
        jobs: number of processes.
        ray_address: of a Ray cluster; ``"local"`` starts one with ``jobs`` processes.
        only: which cells, see ``training.transfer_benchmark.conditions_grid.select``.
    """
    plan = make_plan(config_path, out)
    cells = plan.cells()
    chosen = select(cells, plan, only) if only else cells
    missing = [cell for cell in chosen if not cell_file(plan, plan.key(cell)).is_file()]
    print(f"{out}: {len(cells):,} cells, {len(missing):,} of {len(chosen):,} to compute", flush=True)
    command = ["python", "-m", "training.transfer_benchmark", config_path.as_posix(), "--out", out.as_posix()]
    origin = Origin(shlex.join(command), commit())
    failures: list[Failure] = []
    if missing:
        with start_workers(jobs, ray_address) as workers:
            failures = compute_cells(plan, missing, workers, origin)
    print(f"{out / RESULTS_FILE}: {merge(plan, cells):,} rows", flush=True)
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 if a cell failed or after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.transfer_benchmark",
        description="Compute a transfer benchmark cell by cell. Run again, it goes on with what is missing.",
    )
    parser.add_argument("config", type=Path, help="TOML file; see training/configs/benchmark-tiny.toml")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of results")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes of one thread; default 1")
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="work on this Ray cluster; 'local' starts one with --jobs processes"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="cells like these: condition=direct core=11-S images=50 key=3f2a ...",
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs: expected at least 1, got {options.jobs}")
    try:
        failures = run(
            options.config, options.out, jobs=options.jobs, ray_address=options.ray, only=options.only
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for failure in failures:
        print(f"failed: {failure.cell}: {failure.error}", file=sys.stderr)
    if failures:
        where = options.out / "failed"
        print(
            f"{len(failures)} cells failed; {where} has the details, and running again tries them again",
            file=sys.stderr,
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
