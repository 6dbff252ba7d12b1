"""The process stays as its owner set it up, unless mousev1 is asked to tune it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from mousev1.numerics import process_settings


def kept_bytes(call: str) -> int:
    """What the heap keeps of a tensor of 40 MB that was freed, in a process of its own."""
    code = (
        "import ctypes, torch\n"
        "from mousev1.numerics.process_settings import tune_process\n"
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
    assert kept_bytes("assert tune_process()") >= 40_000_000
    assert kept_bytes("") < 40_000_000


def test_a_later_call_never_lowers_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def mallopt(name: int, value: int) -> int:
            asked.append((name, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    monkeypatch.setattr(
        process_settings,
        "_limits",
        {process_settings.M_MMAP_THRESHOLD: 0, process_settings.M_TRIM_THRESHOLD: 0},
    )
    assert process_settings.tune_process(largest=30, kept=50)
    assert process_settings.tune_process(largest=20, kept=60)
    assert asked[-2:] == [(process_settings.M_MMAP_THRESHOLD, 30), (process_settings.M_TRIM_THRESHOLD, 60)]


def test_a_system_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert not process_settings.tune_process()
    assert os.environ["GOMP_SPINCOUNT"] == "7"  # what the user chose


USED_AS_A_LIBRARY = """
import ctypes, os, random, sys, tempfile, warnings
import numpy as np
import scipy.sparse, scipy.special, torch, torch._dynamo, torch._inductor.runtime.cache_dir_utils  # these set filters

torch._inductor.runtime.cache_dir_utils.cache_dir()  # what torch's optimizers set
torch.set_num_threads(3)
torch.manual_seed(5)
np.random.seed(6)
random.seed(7)
warnings.simplefilter("always", UserWarning)
asked, library = [], ctypes.CDLL

class Watched(library):
    def __getattr__(self, name):
        asked.append(name)
        return super().__getattr__(name)

ctypes.CDLL = Watched

def settings():
    return {
        "environment": dict(os.environ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "python": random.getstate(),
        "filters": list(warnings.filters),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "printed numbers": np.get_printoptions(),
    }

before = settings()
import mousev1

core = mousev1.Core.random(mousev1.CoreConfig(hidden_channels=4, layers=2, input_kernel=5, hidden_kernel=3), seed=0)
rng = np.random.default_rng(0)
images, responses = rng.integers(0, 256, (60, 12, 16)), rng.gamma(1.0, size=(60, 3))
with tempfile.TemporaryDirectory() as folder:
    for method in ("convex", "sgd"):
        chosen = mousev1.SGDSettings(max_epochs=2) if method == "sgd" else None
        model = mousev1.fit_readout(
            images, responses, rng.normal(size=(3, 2)), core=core, method=method, settings=chosen, progress=False
        )
        model.predict(images[:4])
        model.score(images, responses)
        mousev1.load_model(model.save(f"{folder}/{method}"))
after = settings()
changed = [name for name in before if before[name] != after[name]]
print(changed, [name for name in asked if "mall" in name])
if len(sys.argv) > 1:
    mousev1.tune_process()
    print([name for name in asked if "mall" in name])
"""


def test_importing_fitting_predicting_and_saving_leave_the_process_as_it_was() -> None:
    """Oracle: the settings before and after, and the C library's functions that were asked for."""
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    found = subprocess.run(
        [sys.executable, "-c", USED_AS_A_LIBRARY, "tune"],
        capture_output=True,
        text=True,
        check=True,
        env=clean,
    )
    # the last line shows that the watch sees what tune_process asks for
    assert found.stdout.splitlines() == ["[] []", "['mallopt']"]


def test_the_command_line_tunes_its_own_process_before_torch_is_there() -> None:
    code = (
        "import sys\n"
        "from mousev1.cli import parser\n"
        "parser.tune_process = lambda: print('tuned', 'torch' in sys.modules)\n"
        "parser.main(['info', 'nowhere'])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[0] == "tuned False"
