"""Workers compute the same as one thread, hand on errors, and leave torch's settings as they were."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from mousev1.numerics.workers import Workers, workers

if sys.platform == "win32":
    pytest.skip("signals and forks are others on Windows", allow_module_level=True)


@pytest.fixture(params=[1, 2, 5])
def count(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def threads_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_results_come_in_order_whatever_ends_first(count):
    def late_if_even(number):
        time.sleep(0.02 * (number % 2 == 0))
        return number**2

    with workers() as own:
        assert own.count == count
        assert list(own.map(late_if_even, range(20))) == [number**2 for number in range(20)]
        assert list(own.map(late_if_even, [])) == []
        assert list(own.map(late_if_even, range(3))) == [0, 1, 4]


def test_workers_and_the_caller_compute_with_one_thread_and_nobody_else_does(count):
    with workers() as own:
        inside = set(own.map(lambda _: torch.get_num_threads(), range(30)))
        assert inside == {1}
        assert torch.get_num_threads() == 1
        assert threads_of_a_new_thread() == count
        with own.paused():
            assert torch.get_num_threads() == count
        assert torch.get_num_threads() == 1
        assert threads_of_a_new_thread() == count
    assert torch.get_num_threads() == count
    assert threads_of_a_new_thread() == count


def test_pieces_run_at_the_same_time(count):
    together = threading.Barrier(count, timeout=20)
    with workers() as own:
        ended = list(own.map(lambda _: together.wait(), range(count)))
    assert sorted(ended) == list(range(count))


def test_few_pieces_are_in_hand(count):
    started = []
    with workers() as own:
        results = own.map(started.append, range(100))
        next(results)
        time.sleep(0.1)
        assert len(started) <= 2 * count + 1
        results.close()
    assert len(started) <= 2 * count + 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_a_piece_is_raised_and_settings_are_restored(count, error):
    ended = []

    def fail_at_three(number):
        if number == 3:
            raise error("three")
        time.sleep(0.01)
        ended.append(number)

    def run():
        with workers() as own:
            list(own.map(fail_at_three, range(50)))

    with pytest.raises(error, match="three"):
        run()
    after = len(ended)
    assert after < 20
    time.sleep(0.05)
    assert len(ended) == after, "no piece runs on"
    assert torch.get_num_threads() == count
    with workers() as own:
        assert list(own.map(str, range(3))) == ["0", "1", "2"]


def test_gradient_mode_is_the_callers(count):
    with workers() as own:
        for enabled in (True, False):
            with torch.set_grad_enabled(enabled):
                assert set(own.map(lambda _: torch.is_grad_enabled(), range(8))) == {enabled}


def test_blocks_inside_blocks_and_pieces_inside_pieces_share_the_workers(count):
    def nested(number):
        with workers() as inner:
            assert inner.count == 1
            return sum(inner.map(lambda n: n + number, range(4)))

    with workers() as own:
        with workers() as again:
            assert again is own
        assert list(own.map(nested, range(6))) == [6 + 4 * number for number in range(6)]


def test_threads_end_with_the_block(count):
    before = threading.active_count()
    with workers() as own:
        list(own.map(str, range(10)))
        assert threading.active_count() == before + (count if count > 1 else 0)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("rows", "most", "least", "count", "expected"),
    [
        (0, 8, 1, 2, []),
        (5, 8, 1, 1, [5]),
        (5, 2, 1, 1, [1, 2, 2]),
        (8, 8, 1, 2, [2, 2, 2, 2]),
        (100, 16, 1, 2, [14, 14, 14, 15, 14, 14, 15]),
        (40, 64, 16, 2, [20, 20]),
        (10, 64, 16, 2, [10]),
    ],
)
def test_slices_cover_all_rows_in_equal_parts(rows, most, least, count, expected):
    slices = Workers(count).slices(rows, most=most, least=least)
    assert [part.stop - part.start for part in slices] == expected
    assert [row for part in slices for row in range(rows)[part]] == list(range(rows))


INTERRUPTED = """
import threading, time, torch
torch.set_num_threads(2)
from mousev1.numerics.workers import workers

def piece(number):
    print("piece", flush=True)
    time.sleep(0.2)

try:
    with workers() as own:
        list(own.map(piece, range(1000)))
except KeyboardInterrupt:
    print("interrupted", torch.get_num_threads(), threading.active_count(), flush=True)
"""


def test_an_interrupt_of_the_process_stops_the_work_at_once():
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "piece\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert rest.splitlines()[-1] == "interrupted 2 1"
    assert len(rest.splitlines()) < 20
    assert process.returncode == 0


def _in_a_fork(own, sender):
    sender.send([list(own.map(lambda n: (n, os.getpid()), range(5))), torch.get_num_threads()])


def test_a_fork_inside_a_block_computes_by_itself(count):
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    with workers() as own:
        list(own.map(str, range(10)))
        child = fork.Process(target=_in_a_fork, args=(own, sender))
        child.start()
        assert receiver.poll(60), "the child hangs"
        results, threads = receiver.recv()
        child.join()
        assert child.exitcode == 0
        assert results == [(n, child.pid) for n in range(5)]
        assert threads == 1
        assert list(own.map(str, range(3))) == ["0", "1", "2"]
