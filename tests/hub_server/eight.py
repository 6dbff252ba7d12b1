"""Eight processes that load one core at the same instant."""

from __future__ import annotations

import os
import subprocess
import sys

LOAD_IN_EIGHT = """
import os, sys, tempfile
import torch, mousev1.hub.cores, huggingface_hub.file_download, mousev1.hub.checkpoint_import
from mousev1.storage.core_files import save_core
from mousev1.core import network as core
torch.set_num_threads(1)
# what every process would import by itself costs seconds
with tempfile.TemporaryDirectory() as folder:
    small = core.CoreConfig(hidden_channels=2, layers=2, input_kernel=3, hidden_kernel=3)
    mousev1.hub.cores.load_core(save_core(core.Core.random(small, seed=0), folder), verify=True)
start_read, start_write = os.pipe()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os.close(start_write)
        os.read(start_read, 1)  # until all are there
        try:
            hash = mousev1.hub.cores.load_core(sys.argv[1], verify=True).content_hash()
            os._exit(0 if hash == sys.argv[2] else 1)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(2)
    children.append(child)
os.close(start_read)
os.close(start_write)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
sys.exit(0 if codes == [0] * 8 else 1)
"""


def load_in_eight_processes(name: str, content_hash: str, environment: dict[str, str]) -> None:
    """Fails unless all of eight processes, started at once, load the core with this content hash."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOAD_IN_EIGHT, name, content_hash],
        env={**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
