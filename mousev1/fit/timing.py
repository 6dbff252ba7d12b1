"""How long the steps of a fit take."""

from __future__ import annotations

import time


class Clock:
    """Seconds between laps.

    Attributes:
        seconds: by name; laps of the same name add up.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to ``name``."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
