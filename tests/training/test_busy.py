"""Claims about the script that measures beside busy processes; ratios are worked out by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from training.measurements import busy
from training.measurements.turns import OURS, PEER


def cpu_seconds(process: int) -> float:
    after_name = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read from /proc")
def test_busy_processes_compute_with_one_thread_and_end_with_the_block(monkeypatch):
    started, popen = [], busy.subprocess.Popen

    def watched(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(busy.subprocess, "Popen", watched)
    with busy.busy_processes(2):
        before = [cpu_seconds(process.pid) for process in started]
        began = time.perf_counter()
        time.sleep(2.0)
        took = time.perf_counter() - began
        used = [cpu_seconds(process.pid) - b for process, b in zip(started, before, strict=True)]
        assert all(0.05 < seconds < 1.1 * took + 0.1 for seconds in used), used
    assert [process.returncode is not None for process in started] == [True, True]


def test_a_turn_with_one_thread_gives_the_others_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert busy.with_one_thread(torch.get_num_threads) == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            busy.with_one_thread(lambda: 1 / 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_ratios_say_how_many_times_faster_mousev1_is():
    rates = {PEER: [10.0, 30.0, 20.0], OURS: [100.0], busy.ONE_THREAD: [50.0]}
    found = busy.row(busy.FEATURES, busy.PYTHON, 2, rates)
    assert (found["ratio"], found["ratio_to_one_thread"]) == (5.0, 2.0)
    seconds = {PEER: [200.0], OURS: [2.0], busy.ONE_THREAD: [3.0]}
    fit = busy.row("fit 1,000 x 1,000", busy.COMMAND_LINE, 0, seconds)
    assert (fit["ratio"], fit["ratio_to_one_thread"]) == (100.0, 1.5)
    lines = busy.table([fit, found]).splitlines()
    assert lines[2].startswith(
        "| features | Python | 2 | 20 images/s | 100 images/s | 5.0x | 50 images/s | 2.00x"
    )
    assert lines[3].startswith("| fit 1,000 x 1,000 | command line | 0 | 200 s | 2 s | 100.0x | 3 s | 1.50x")
