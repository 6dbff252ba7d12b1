"""Freed memory is kept, and only where that is possible."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from mousev1.numerics import allocator


def kept_bytes(call: str) -> int:
    """What the heap keeps of a tensor of 40 MB that was freed, in a process of its own."""
    code = (
        "import ctypes, torch\n"
        "from mousev1.numerics.allocator import keep_freed_memory\n"
        "class Info(ctypes.Structure):\n"
        "    names = 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()\n"
        "    _fields_ = [(name, ctypes.c_size_t) for name in names]\n"
        "info = ctypes.CDLL(None).mallinfo2\n"
        "info.restype = Info\n"
        f"{call}\n"
        "x = torch.zeros(10_000_000)\n"
        "del x\n"
        "print(info().fordblks)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer, which counts free memory"
)
def test_memory_of_freed_tensors_stays_in_the_process() -> None:
    # Oracle: the C library's own count of free memory on the heap.
    assert kept_bytes("assert keep_freed_memory()") >= 40_000_000
    assert kept_bytes("") < 40_000_000


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
