"""Two sides measured in turns, in new processes: other work on the machine then slows both alike."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple, TypeVar

import torch

Result = TypeVar("Result")

PEER, OURS = "neuralpredictors", "mousev1"
PROCESSES = 5


class Turns(NamedTuple):
    """What each side measured, turn by turn, and the processor time of all threads that it took."""

    values: dict[str, list[float]]
    processor_seconds: dict[str, list[float]]


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> Turns:
    """What each side returns, turn by turn, after one turn that does not count."""
    turns = Turns({side: [] for side in sides}, {side: [] for side in sides})
    for turn in range(rounds + 1):
        for side, run in sides.items():
            busy = time.process_time()
            value = run()
            if turn > 0:
                turns.values[side].append(value)
                turns.processor_seconds[side].append(time.process_time() - busy)
    return turns


def in_new_processes(run: Callable[[], Result], processes: int = PROCESSES) -> list[Result]:
    """What ``run``, which can be pickled, returns in several processes one after the other.

    How fast a side is depends on how memory happens to lie in its process: on whether what it frees goes back to
    the system and must be cleared when it is needed again.
    """
    pool = ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(torch.get_num_threads(),),
        max_tasks_per_child=1,
    )
    with pool:
        return [pool.submit(run).result() for _ in range(processes)]


def in_new_process(run: Callable[[], Result]) -> Result:
    """What ``run``, which can be pickled, returns in a process of its own, whose peak memory is that of ``run``."""
    return in_new_processes(run, 1)[0]


def joined(parts: Iterable[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The values of several processes by name, one after the other."""
    found: dict[str, list[float]] = {}
    for part in parts:
        for name, values in part.items():
            found.setdefault(name, []).extend(values)
    return found


def medians(values: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each side."""
    return {side: statistics.median(found) for side, found in values.items()}


def compared(unit: str, turns: Turns, *, higher_is_better: bool = False) -> dict[str, Any]:
    """Turns, their medians, and how many times better ours is, by the clock and by processor time."""
    median, busy = medians(turns.values), medians(turns.processor_seconds)
    ratio = median[OURS] / median[PEER] if higher_is_better else median[PEER] / median[OURS]
    found = {"unit": unit, "rounds": turns.values, "median": median, "ratio": ratio}
    return {**found, "processor_seconds": busy, "processor_ratio": busy[PEER] / max(busy[OURS], 1e-9)}


def compared_rates(unit: str, run: Callable[[], tuple[Turns, float]]) -> dict[str, Any]:
    """``compared`` for rates measured in new processes, also in each, and by how much results differ at most."""
    measured, differences = zip(*in_new_processes(run), strict=True)
    turns = Turns(*(joined(getattr(part, field) for part in measured) for field in Turns._fields))
    each = [medians(part.values) for part in measured]
    return {
        **compared(unit, turns, higher_is_better=True),
        "ratio_by_process": [median[OURS] / median[PEER] for median in each],
        "largest_difference": max(differences),
    }


def seconds_of(run: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
