"""What a fit's time consists of, and what follows for more cores than this machine has.

    python -m training.measurements.many_cores SCAN --core CHECKPOINT --sizes 1000x1000 5335x4472 --out FILE.json

A step of the fit is work of the calling thread, C seconds of its processor time, and pieces of work that its
workers share, P seconds with one worker. With w workers it takes, if none waits for another,

    T(w) = C + f(w) P / w,

where f is how much more processor time pieces take because workers share caches and the way to memory. f is
measured with as many threads as the machine has, and for more of them taken from that by f(w) = 1 + (w - 1) g:
a pessimistic line where memory has more channels, as on servers. What is left out: the end of each step, where workers
wait for the last piece (there are tens to hundreds of pieces in every step but the map from cortex).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mousev1.fit.convex import ConvexFit, fit_convex
from mousev1.fit.inputs import check_inputs, response_scale
from mousev1.fit.timing import Seconds
from mousev1.readout.gaussian import normalise_cortex
from training import provenance
from training.measurements import script
from training.measurements.task import Task, make_task, read_core

WORKERS = (1, 2, 4, 8, 16)


def fit(task: Task) -> ConvexFit:
    """The convex fit of a task, with its times."""
    images, responses, image_ids = task.training
    data = check_inputs(
        task.core,
        images,
        responses,
        task.scan.positions,
        image_ids=image_ids,
        validation=None,
        pixels_per_degree=None,
    )
    cortex = None if data.cortex is None else normalise_cortex(data.cortex)
    scale, _ = response_scale(data.responses)
    return fit_convex(task.core, data.images, data.responses, cortex, scale=scale, seed=task.seed)


def times(task: Task, threads: int, rounds: int) -> dict[str, list[float]]:
    """Median seconds (clock, processor, caller) of each step with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = [fit(task).seconds for _ in range(rounds + 1)][1:]  # the first warms up
    finally:
        torch.set_num_threads(before)
    return {
        step: [statistics.median(values) for values in zip(*(run[step] for run in runs), strict=True)]
        for step in runs[0]
    }


def model(
    one: Mapping[str, Sequence[float]], all_: Mapping[str, Sequence[float]], threads: int
) -> dict[str, Any]:
    """What follows from the times with one thread and with ``threads``: seconds with other numbers of workers.

    Args:
        one: seconds of each step with one thread, see ``Seconds``.
        all_: with ``threads``.
        threads: number of them.
    """
    caller = sum(Seconds(*seconds).caller for seconds in all_.values())
    pieces = sum(Seconds(*seconds).processor for seconds in one.values()) - caller
    pieces_of_all = sum(Seconds(*seconds).processor for seconds in all_.values()) - caller
    growth = max(0.0, (pieces_of_all / pieces - 1.0) / (threads - 1)) if threads > 1 else 0.0

    def seconds(workers: int) -> float:
        return caller + (1.0 + (workers - 1) * growth) * pieces / workers

    return {
        "caller_seconds": caller,
        "pieces_seconds": pieces,
        "growth_per_worker": growth,
        "seconds": {str(workers): seconds(workers) for workers in WORKERS},
        "efficiency": {str(workers): seconds(1) / seconds(workers) / workers for workers in WORKERS},
        "measured": {
            str(count): sum(Seconds(*seconds).clock for seconds in found.values())
            for count, found in ((1, one), (threads, all_))
        },
    }


def table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """All sizes as Markdown tables."""
    heads = " | ".join(f"{workers} workers" for workers in WORKERS)
    lines = [f"| neurons x images | calling thread | pieces, one worker | {heads} |", "|---" * 8 + "|"]
    for size, found in sizes.items():
        modelled = found["model"]
        cells = " | ".join(
            f"{modelled['seconds'][str(w)]:.2f} s ({100 * modelled['efficiency'][str(w)]:.0f}%)"
            for w in WORKERS
        )
        lines.append(
            f"| {size} | {modelled['caller_seconds']:.2f} s | {modelled['pieces_seconds']:.2f} s | {cells} |"
        )
    lines += ["", "Measured steps, seconds on the clock, of all threads and of the calling thread:", ""]
    lines += ["| neurons x images | step | threads | clock | processor | calling thread |", "|---" * 6 + "|"]
    for size, found in sizes.items():
        for threads, steps in found["steps"].items():
            for step, seconds in steps.items():
                numbers = " | ".join(f"{value:.3f}" for value in seconds)
                lines.append(f"| {size} | {step} | {threads} | {numbers} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sizes that the result file lacks, and print all of it as tables."""
    options = _parser().options(arguments)
    header = script.identity("times of a fit's steps", options.scan, read_core(options.core), options.seed)
    results = script.resume(options, header, "sizes")
    threads = torch.get_num_threads()
    for size in options.sizes:
        if size in results["sizes"]:
            continue
        print(size, file=sys.stderr, flush=True)
        neurons, images = (int(number) for number in size.split("x"))
        task, before = make_task(options, neurons, images), provenance.circumstances()
        one, all_ = (times(task, count, options.rounds) for count in (1, threads))
        results["sizes"][size] = {
            **before,
            "steps": {"1": one, str(threads): all_},
            "model": model(one, all_, threads),
        }
        provenance.write_json(options.out, results)
    machine = provenance.machine()
    heading = (
        f"{provenance.now()}, {machine['cpu']}, {machine['cpus']} cores, torch {provenance.versions()['torch']}. "
        f"`{results['command']}`\n\nSeconds with other numbers of workers, and their efficiency, are modelled from "
        "what was measured with one thread and with all of this machine's: see the script."
    )
    script.write_table(options.out, heading, table(results["sizes"]))


def _parser() -> script.Parser:
    parser = script.parser("many_cores", "What a fit's time consists of, and what follows for more cores.")
    parser.add_argument("--truth", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", nargs="+", default=["1000x1000", "5335x4472"], help="neurons x images")
    parser.add_argument("--rounds", type=int, default=3, help="fits that count (default: 3)")
    return parser


if __name__ == "__main__":
    main()
