"""How long the steps of a fit take."""

from __future__ import annotations

import time
from typing import NamedTuple


class Seconds(NamedTuple):
    """What a step took.

    Attributes:
        clock: time that passed.
        processor: of all threads of the process.
        caller: of these, of the thread that called the fit, while workers may wait for it.
    """

    clock: float
    processor: float
    caller: float

    @classmethod
    def now(cls) -> Seconds:
        """Since some moment in the past."""
        return cls(time.perf_counter(), time.process_time(), time.thread_time())


class Clock:
    """Seconds between laps.

    Attributes:
        seconds: by name; laps of the same name add up.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, Seconds] = {}
        self._last = Seconds.now()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to ``name``."""
        now, before = Seconds.now(), self.seconds.get(name, Seconds(0.0, 0.0, 0.0))
        self.seconds[name] = Seconds(
            *(b + n - last for b, n, last in zip(before, now, self._last, strict=True))
        )
        self._last = now
