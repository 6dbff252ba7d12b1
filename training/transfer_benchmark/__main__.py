"""The transfer benchmarks of Lurz et al. 2021: ``python -m training.transfer_benchmark CONFIG.toml --out DIR``.

A config expands to independent runs: condition x readout x core x images x neurons x seed x partition. Each
run writes one row to ``DIR/rows/``; cores that runs need are trained once, in ``DIR/cores/``. Called again,
finished runs are skipped and failed ones tried again. At the end all rows are merged to
``DIR/results.parquet``. On a cluster (``--ray``), DIR and the scans must be on a file system that all
machines share.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from training.provenance import commit, now, write_json
from training.transfer_benchmark.conditions_grid import Run, expand, select
from training.transfer_benchmark.cores import (
    Training,
    is_trained,
    needed_training,
    train,
    training_folder,
)
from training.transfer_benchmark.identity import Identities
from training.transfer_benchmark.plan import Plan, make_plan
from training.transfer_benchmark.results_table import RESULTS_FILE, read_rows, write_rows
from training.transfer_benchmark.run_condition import Origin, compute, row_file
from training.transfer_benchmark.workers import Outcome, Workers, start_workers


@dataclass(frozen=True)
class Failure:
    """A run that could not be computed, and why."""

    run: Run
    key: str
    error: str


def failure_file(out: Path, key: str) -> Path:
    """Where the failure of a run goes."""
    return out / "failed" / f"{key}.json"


class Schedule:
    """Runs and the trainings they need, in an order that can be computed; ``runs`` are those to compute, by key."""

    def __init__(self, plan: Plan, runs: dict[str, Run], identities: Identities, origin: Origin) -> None:
        self._plan, self._runs, self._identities, self._origin = plan, runs, identities, origin
        self._waiting: dict[str, list[str]] = {}  # folder of a training to keys of the runs that need it
        self._trainings: dict[str, Training] = {}
        self._ready: deque[str] = deque()
        self.failures: list[Failure] = []
        for key, run in runs.items():
            training = needed_training(plan, run)
            if training is None or is_trained(plan, training):
                self._ready.append(key)
                continue
            folder = training_folder(plan, training).name
            if folder not in self._trainings:
                self._trainings[folder] = training
                self._ready.append(folder)
            self._waiting.setdefault(folder, []).append(key)

    def __len__(self) -> int:
        """Number of steps."""
        return len(self._runs) + len(self._trainings)

    @property
    def ready(self) -> bool:
        """Whether there is a step that waits for no other."""
        return bool(self._ready)

    def start(self, workers: Workers) -> None:
        """Hand the next step to the workers."""
        name = self._ready.popleft()
        if name in self._trainings:
            workers.submit(name, train, self._plan, self._trainings[name])
        else:
            run = self._runs[name]
            workers.submit(name, compute, self._plan, run, self._identities.of(run), self._origin)

    def end(self, outcome: Outcome) -> int:
        """Take in how a step ended; returns how many steps are over with it."""
        if outcome.name not in self._trainings:
            if outcome.error is None:
                failure_file(self._plan.out, outcome.name).unlink(missing_ok=True)
            else:
                self._fail(outcome.name, outcome.error, outcome.traceback)
            return 1
        dependent = self._waiting.pop(outcome.name)
        if outcome.error is None:
            self._ready.extendleft(reversed(dependent))
            return 1
        for key in dependent:
            self._fail(key, f"its training failed: {outcome.error}", outcome.traceback)
        return 1 + len(dependent)

    def _fail(self, key: str, error: str, traceback: str) -> None:
        run = self._runs[key]
        self.failures.append(Failure(run, key, error))
        values = {"key": key, "run": asdict(run), "error": error, "traceback": traceback}
        file = failure_file(self._plan.out, key)
        write_json(file, {**values, "command": self._origin.command, "date": now()})


def compute_all(schedule: Schedule, workers: Workers, name: str) -> list[Failure]:
    """Compute runs and the trainings they need; returns what failed, which does not stop the rest."""
    running = 0
    with tqdm(total=len(schedule), desc=name, unit="step", smoothing=0.05) as bar:
        while schedule.ready or running:
            while schedule.ready and running < workers.slots:
                schedule.start(workers)
                running += 1
            bar.update(schedule.end(workers.next()))
            running -= 1
            if schedule.failures:
                bar.set_postfix_str(f"{len(schedule.failures)} failed")
    return schedule.failures


def merge(plan: Plan, keys: Iterable[str]) -> int:
    """Write the rows of all finished runs to one file; returns their number."""
    files = [row_file(plan, key) for key in keys]
    rows = [row for file in files if file.is_file() for row in read_rows(file)]
    write_rows(rows, plan.out / RESULTS_FILE)
    return len(rows)


def run_benchmark(
    config_path: Path, out: Path, *, jobs: int = 1, ray_address: str | None = None, only: Sequence[str] = ()
) -> list[Failure]:
    """Compute what is missing of a benchmark, and merge the rows; returns the runs that failed.

    Args:
        config_path: TOML file, see ``training.transfer_benchmark.config``.
        out: folder of results.
        jobs: number of processes.
        ray_address: of a Ray cluster; ``"local"`` starts one with ``jobs`` processes.
        only: which runs, see ``conditions_grid.select``.
    """
    plan = make_plan(config_path, out)
    identities = Identities(plan)
    key = identities.key
    runs = {key(run): run for run in expand(plan)}
    chosen = {key(run): run for run in select([*runs.values()], key, only)} if only else runs
    missing = {key: run for key, run in chosen.items() if not row_file(plan, key).is_file()}
    print(f"{out}: {len(runs):,} runs, {len(missing):,} of {len(chosen):,} to compute", flush=True)
    command = ["python", "-m", "training.transfer_benchmark", config_path.as_posix(), "--out", out.as_posix()]
    failures: list[Failure] = []
    if missing:
        schedule = Schedule(plan, missing, identities, Origin(shlex.join(command), commit()))
        with start_workers(jobs, ray_address) as workers:
            failures = compute_all(schedule, workers, plan.config.name)
    print(f"{out / RESULTS_FILE}: {merge(plan, runs):,} rows", flush=True)
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 if a run failed or after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.transfer_benchmark",
        description="Compute a transfer benchmark run by run. Run again, it goes on with what is missing.",
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
        help="runs like these: condition=direct core=11-S images=50 key=3f2a ...",
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs: expected at least 1, got {options.jobs}")
    try:
        failures = run_benchmark(
            options.config, options.out, jobs=options.jobs, ray_address=options.ray, only=options.only
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for failure in failures:
        print(f"failed: {failure.run}: {failure.error}", file=sys.stderr)
    if failures:
        where = options.out / "failed"
        print(
            f"{len(failures)} runs failed; {where} has the details, and running again tries them again",
            file=sys.stderr,
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
