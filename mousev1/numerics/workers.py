"""Independent pieces of work on threads that compute with one thread each.

By default torch divides the loops inside every operation among threads, which wait for each other at the end of
each. Once another process wants a processor, one of them is nearly always without, and all wait: with two busy
processes beside it on two cores, a core network gave 38 images/s on two threads and 850 on one. Large pieces that
do not wait for each other lose only what the other processes take.

How many workers there are is torch's own number of threads, so that ``torch.set_num_threads`` and
``OMP_NUM_THREADS`` mean what they say. Torch keeps that number per thread, and once more for threads to come;
both are as before for every thread but the workers and, while it has workers, the one that asked for them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

IN_HAND = 2  # pieces per worker that are under way, or done and not taken

_local = threading.local()  # .workers: those of the thread, if it has any


class Workers:
    """Threads for pieces of work; see ``workers``.

    Attributes:
        count: how many there are at most; they start when they are first needed.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._process = os.getpid()
        self._threads: list[threading.Thread] = []
        self._tasks: SimpleQueue[tuple[Future[Any], bool, Callable[[Any], Any], Any] | None] = SimpleQueue()

    def map(self, function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        """``function`` of every piece, in their order.

        Pieces must not depend on each other. ``function`` computes with one thread, in the gradient mode of the
        caller. An error in a piece is raised here, once the pieces that are under way have ended.
        """
        # A forked process has none of its parent's threads.
        if self.count == 1 or len(pieces) < 2 or os.getpid() != self._process:
            yield from map(function, pieces)
            return
        self._start()
        under_way: deque[Future[Result]] = deque()
        try:
            for piece in pieces:
                if len(under_way) == IN_HAND * self.count:
                    yield under_way.popleft().result()
                future: Future[Result] = Future()
                self._tasks.put((future, torch.is_grad_enabled(), function, piece))
                under_way.append(future)
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
            wait(under_way)

    def slices(self, rows: int, *, most: int, least: int = 1) -> list[slice]:
        """Equal parts of ``rows`` rows, of at most ``most`` rows.

        Each worker gets at least two, unless they would have fewer than ``least`` rows.
        """
        wanted = 1 if self.count == 1 else 2 * self.count
        parts = max(-(-rows // most), min(wanted, rows // least), 1)
        edges = [rows * part // parts for part in range(parts + 1)]
        return [slice(start, stop) for start, stop in pairwise(edges)] if rows else []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The calling thread computes with all threads again: for what must not run on workers."""
        if self.count == 1:
            yield
            return
        torch.set_num_threads(self.count)
        try:
            yield
        finally:
            _compute_with_one_thread()
            _set_for_threads_to_come(self.count)

    def _start(self) -> None:
        if self._threads:
            return
        ready = threading.Barrier(self.count + 1)
        for _ in range(self.count):
            self._threads.append(threading.Thread(target=self._work, args=(ready,), daemon=True))
            self._threads[-1].start()
        ready.wait()
        _set_for_threads_to_come(self.count)

    def _work(self, ready: threading.Barrier) -> None:
        _compute_with_one_thread()
        _local.workers = Workers(1)
        ready.wait()
        while (task := self._tasks.get()) is not None:
            future, gradients, function, piece = task
            if future.set_running_or_notify_cancel():
                try:
                    with torch.set_grad_enabled(gradients):
                        future.set_result(function(piece))
                except BaseException as error:  # raised again where the result is taken
                    future.set_exception(error)
            del task, future, function, piece  # what they hold is freed while waiting

    def close(self) -> None:
        """End the threads, once they have ended what they do."""
        if os.getpid() == self._process:
            for _ in self._threads:
                self._tasks.put(None)
            for thread in self._threads:
                thread.join()
        self._threads.clear()


@contextmanager
def workers() -> Iterator[Workers]:
    """Workers for the calling thread, which meanwhile computes with one thread itself.

    Inside another such block they are that block's; on a worker there is one, the thread itself.
    """
    outer: Workers | None = getattr(_local, "workers", None)
    if outer is not None:
        yield outer
        return
    count = torch.get_num_threads()
    own = Workers(count)
    _local.workers = own
    try:
        if count > 1:
            _compute_with_one_thread()
            _set_for_threads_to_come(count)
        yield own
    finally:
        own.close()
        _local.workers = None
        if count > 1:
            torch.set_num_threads(count)


def worker_count() -> int:
    """How many workers the calling thread has, or would have."""
    outer: Workers | None = getattr(_local, "workers", None)
    return torch.get_num_threads() if outer is None else outer.count


def _compute_with_one_thread() -> None:
    torch.get_num_threads()  # torch sets a thread up when it first asks, and would overwrite what was set before
    torch.set_num_threads(1)


def _set_for_threads_to_come(count: int) -> None:
    """Undo what ``torch.set_num_threads`` of another thread does to threads that have not computed yet."""
    restore = threading.Thread(target=torch.set_num_threads, args=(count,))
    restore.start()
    restore.join()
