"""Where the work of a benchmark is done: in this process, in several, or on a Ray cluster.

Work is a function of the package and plain arguments, independent of all other work, and leaves its results
on disk. What it raises comes back as an ``Outcome``; so does the death of a worker.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import importlib
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

RETRIES_ON_RAY = 3
"""Times that Ray starts work again whose worker died."""


@dataclass(frozen=True)
class Outcome:
    """How a piece of work ended.

    Attributes:
        name: that it was submitted under.
        error: what went wrong, in a line; None if nothing did.
        traceback: where, for developers.
    """

    name: str
    error: str | None = None
    traceback: str = ""


Work = Callable[..., None]


class Workers(Protocol):
    """Something that takes in work and tells how it ended."""

    slots: int
    """How much work to have submitted at a time."""

    def submit(self, name: str, work: Work, *arguments: Any) -> None:
        """Take in a piece of work."""

    def next(self) -> Outcome:
        """Wait for a piece of work to end."""

    def close(self) -> None:
        """Drop what has not ended."""


def attempt(name: str, work: Work, *arguments: Any) -> Outcome:
    """Do the work; whatever it raises becomes part of the outcome."""
    try:
        work(*arguments)
    except Exception as error:
        line = f"{type(error).__name__}: {error}"
        return Outcome(name, line, traceback.format_exc())
    return Outcome(name)


def attempt_in(folder: str, name: str, work: Work, *arguments: Any) -> Outcome:
    """The same with the working directory of whoever asked for it, which relative paths start from."""
    os.chdir(folder)
    return attempt(name, work, *arguments)


class ThisProcess:
    """One piece of work after the other, in this process."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: collections.deque[tuple[Any, ...]] = collections.deque()

    def submit(self, name: str, work: Work, *arguments: Any) -> None:
        """Take in a piece of work."""
        self._waiting.append((name, work, *arguments))

    def next(self) -> Outcome:
        """Do the next piece of work."""
        return attempt(*self._waiting.popleft())

    def close(self) -> None:
        """Drop what has not been done."""
        self._waiting.clear()


class LocalProcesses:
    """Several processes of this machine, which start afresh, because threads do not survive a fork.

    Args:
        jobs: number of processes.
    """

    def __init__(self, jobs: int) -> None:
        self.slots = jobs
        self._running: dict[concurrent.futures.Future[Outcome], str] = {}
        self._ended: collections.deque[Outcome] = collections.deque()
        self._pool = self._start()

    def _start(self) -> concurrent.futures.ProcessPoolExecutor:
        return concurrent.futures.ProcessPoolExecutor(
            self.slots, mp_context=multiprocessing.get_context("spawn")
        )

    def submit(self, name: str, work: Work, *arguments: Any) -> None:
        """Start a piece of work; at most ``slots`` at a time, lest one death be blamed on many."""
        try:
            future = self._pool.submit(attempt, name, work, *arguments)
        except BrokenProcessPool:
            self._restart()
            future = self._pool.submit(attempt, name, work, *arguments)
        self._running[future] = name

    def next(self) -> Outcome:
        """Wait for a piece of work to end."""
        if self._ended:
            return self._ended.popleft()
        done, _ = concurrent.futures.wait(self._running, return_when=concurrent.futures.FIRST_COMPLETED)
        future = next(iter(done))
        if isinstance(future.exception(), BrokenProcessPool):
            self._restart()
            return self._ended.popleft()
        self._running.pop(future)
        return future.result()

    def _restart(self) -> None:
        """A process died, and with it the pool: nobody knows which of the work was its own."""
        for future, name in self._running.items():
            done = future.done() and future.exception() is None
            self._ended.append(
                future.result()
                if done
                else Outcome(name, "the worker process died (killed, or out of memory)")
            )
        self._running.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._start()

    def close(self) -> None:
        """Wait for what is being done, and drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class RayCluster:
    """Processes of a Ray cluster; work whose worker dies is started again elsewhere.

    All machines need the package, and the driver's working directory and files under the same paths.

    Args:
        address: of the cluster, such as ``"ray://head:10001"`` or ``"auto"``; ``"local"`` starts one on this
            machine, and ends it with ``close``.
        cpus: processes of a local cluster; None for all CPUs.
    """

    slots = 1000

    def __init__(self, address: str, cpus: int | None = None) -> None:
        try:
            ray = importlib.import_module("ray")
        except ImportError as error:
            raise ImportError("--ray: needs Ray: pip install 'mousev1[ray]'") from error
        self._ray = ray
        local = {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
        ray.init(address=address, log_to_driver=False, logging_level="warning", **local)
        self._attempt = ray.remote(num_cpus=1, max_retries=RETRIES_ON_RAY)(attempt_in)
        self._running: dict[Any, str] = {}

    def submit(self, name: str, work: Work, *arguments: Any) -> None:
        """Hand a piece of work to the cluster."""
        self._running[self._attempt.remote(str(Path.cwd()), name, work, *arguments)] = name

    def next(self) -> Outcome:
        """Wait for a piece of work to end."""
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
        name = self._running.pop(done)
        try:
            outcome: Outcome = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            return Outcome(name, f"{type(error).__name__}: {error}".splitlines()[0], str(error))
        return outcome

    def close(self) -> None:
        """Leave the cluster, or end it if it is a local one."""
        self._ray.shutdown()


@contextlib.contextmanager
def start_workers(jobs: int, ray_address: str | None) -> Iterator[Workers]:
    """Workers for one run.

    Args:
        jobs: number of local processes; 1 works in this one. With a local cluster, its size.
        ray_address: of a cluster, or None to work without Ray.
    """
    workers: Workers
    if ray_address is not None:
        workers = RayCluster(ray_address, jobs if ray_address == "local" else None)
    elif jobs > 1:
        workers = LocalProcesses(jobs)
    else:
        workers = ThisProcess()
    try:
        yield workers
    finally:
        workers.close()
