"""Where the work of a benchmark is done: in this process, in several, or on a Ray cluster.

Work is a function of the package and plain arguments, independent of all other work, and leaves its results
on disk. What it raises comes back as an ``Outcome``; so does the death of a worker.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RETRIES_ON_RAY = 3
"""Times that Ray starts work again whose worker died."""

SLOTS_ON_RAY = 1000


@dataclass(frozen=True)
class Outcome:
    """How the work of a name ended: an error in a line (None if there was none), and its traceback."""

    name: str
    error: str | None = None
    traceback: str = ""


def attempt(folder: str, name: str, work: Callable[..., object], *arguments: Any) -> Outcome:
    """Do the work in the working directory of whoever asked for it; what it raises becomes the outcome."""
    os.chdir(folder)
    try:
        work(*arguments)
    except Exception as error:
        return Outcome(name, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(name)


class ThisProcess(Executor):
    """Does work at once."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Do the work; the future has come already."""
        future: Future[Any] = Future()
        future.set_result(work(*arguments, **named))
        return future


class RayCluster(Executor):
    """Processes of a Ray cluster; work whose worker dies is started again elsewhere.

    All machines need the package, and the driver's working directory and files under the same paths.

    Args:
        address: of the cluster, such as ``"ray://head:10001"`` or ``"auto"``; ``"local"`` starts one on this
            machine, and ends it with ``shutdown``.
        cpus: processes of a local cluster.
    """

    def __init__(self, address: str, cpus: int) -> None:
        try:
            self._ray = importlib.import_module("ray")
        except ImportError as error:
            raise ImportError("--ray: needs Ray: pip install 'mousev1[ray]'") from error
        local = {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
        self._ray.init(address=address, log_to_driver=False, logging_level="warning", **local)
        self._remote = functools.cache(self._ray.remote(num_cpus=1, max_retries=RETRIES_ON_RAY))

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Hand a piece of work to the cluster."""
        future: Future[Any] = self._remote(work).remote(*arguments, **named).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, or end it if it is a local one."""
        self._ray.shutdown()


class Workers:
    """Takes in work and reports how it ended.

    Args:
        slots: how much work to have submitted at a time, lest one death be blamed on much of it.
        start: gives what does the work; called again after a process of a pool died, and with it the pool.
    """

    def __init__(self, slots: int, start: Callable[[], Executor]) -> None:
        self.slots, self._start = slots, start
        self._executor = start()
        self._running: dict[Future[Outcome], str] = {}

    def submit(self, name: str, work: Callable[..., object], *arguments: Any) -> None:
        """Start a piece of work."""
        call = (attempt, str(Path.cwd()), name, work, *arguments)
        try:
            future = self._executor.submit(*call)
        except BrokenProcessPool:
            self._executor = self._start()
            future = self._executor.submit(*call)
        self._running[future] = name

    def next(self) -> Outcome:
        """Wait for a piece of work to end."""
        future = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
        name, error = self._running.pop(future), future.exception()
        if isinstance(error, BrokenProcessPool):
            return Outcome(name, "the worker process died (killed, or out of memory)")
        if error is not None:
            return Outcome(name, f"{type(error).__name__}: {error}".splitlines()[0], str(error))
        return future.result()

    def close(self) -> None:
        """Wait for what is being done, and drop the rest."""
        self._executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def start_workers(jobs: int, ray_address: str | None) -> Iterator[Workers]:
    """Workers for one run.

    Args:
        jobs: number of local processes; 1 works in this one. With a local cluster, its size.
        ray_address: of a cluster, or None to work without Ray.
    """
    if ray_address is not None:
        workers = Workers(SLOTS_ON_RAY, functools.partial(RayCluster, ray_address, jobs))
    elif jobs > 1:
        # Processes start afresh, because threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        workers = Workers(jobs, functools.partial(ProcessPoolExecutor, jobs, context))
    else:
        workers = Workers(1, ThisProcess)
    try:
        yield workers
    finally:
        workers.close()
