"""Freed memory is kept, and only where that is possible."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from mousev1 import allocator


def page_faults(largest: int, kept: int) -> int:
    """Page faults of 20 allocations of 40 MB in a process of their own."""
    code = (
        "import resource, sys, torch\n"
        "from mousev1.allocator import keep_freed_memory\n"
        f"assert not {kept} or keep_freed_memory(largest={largest}, kept={kept})\n"
        "x = torch.zeros(10_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20):\n"
        "    y = x + 1\n"
        "    del y\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="glibc only")
def test_kept_memory_is_not_cleared_again() -> None:
    assert page_faults(64 << 20, 256 << 20) < 0.2 * page_faults(0, 0)


def test_a_later_call_never_lowers_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def mallopt(name: int, value: int) -> int:
            asked.append((name, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    monkeypatch.setattr(allocator, "_limits", {allocator.M_MMAP_THRESHOLD: 0, allocator.M_TRIM_THRESHOLD: 0})
    assert allocator.keep_freed_memory(largest=30, kept=50)
    assert allocator.keep_freed_memory(largest=20, kept=60)
    assert asked[-2:] == [(allocator.M_MMAP_THRESHOLD, 30), (allocator.M_TRIM_THRESHOLD, 60)]


def test_a_system_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not allocator.keep_freed_memory()
