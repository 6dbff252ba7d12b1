"""What can go wrong on the way: attached to requests by a pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """A fault of the server.

    Attributes:
        pattern: regular expression on ``"METHOD /path"``.
        status: answer with this HTTP status instead.
        headers: of that answer.
        hang: say nothing for this many seconds, then close.
        cut: close the connection after this many bytes of the body.
        flip: flip a bit of the body's last byte.
        times: how often; None for ever.
    """

    pattern: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: float | None = None
    cut: int | None = None
    flip: bool = False
    times: int | None = None

    def applies(self, request: str) -> bool:
        """Whether this request is hit, which uses up one of ``times``."""
        if self.times == 0 or not re.search(self.pattern, request):
            return False
        if self.times is not None:
            self.times -= 1
        return True
