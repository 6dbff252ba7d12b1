"""Every reader by a name, run over many files in one further process that reports what each file did to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_PER_BATCH = 300


@dataclass(frozen=True)
class Outcome:
    """What a file did: exception, message, rise of the peak memory in bytes, seconds, digest of what was read."""

    raised: str | None
    message: str
    peak: int
    seconds: float
    content: str


def run_batch(
    cases: Sequence[tuple[str, str, Path]], *, seconds: int = SECONDS_PER_BATCH, per_case: int = 60
) -> dict[str, Outcome]:
    """Name, reader and path of every case to its outcome; a case that hangs, or ends the process, has none."""
    done = subprocess.run(
        [sys.executable, __file__, str(per_case)],
        input="\n".join(json.dumps([name, reader, str(path)]) for name, reader, path in cases),
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=Path(__file__).parent.parent,
    )
    outcomes = {name: Outcome(*rest) for name, *rest in map(json.loads, done.stdout.splitlines())}
    if done.returncode:
        (lost, *_) = [name for name, _, _ in cases if name not in outcomes]
        raise AssertionError(f"{lost}: the process ended with {done.returncode}: {done.stderr[-2000:]}")
    return outcomes


def readers() -> dict[str, Callable[[Path], Any]]:
    """Name to what reads a path."""
    import numpy as np

    from mousev1.core.network import InputContract
    from mousev1.data.images import prepare_images
    from mousev1.data.io import read_scan
    from mousev1.data.npy import read_npy
    from mousev1.data.pictures import picture_files
    from mousev1.hub.checkpoint_import import import_checkpoint
    from mousev1.hub.cores import load_core
    from mousev1.hub.model_files import load_model
    from mousev1.ingest.options import NeuronSelection
    from mousev1.ingest.pictures import find_pictures, read_gray
    from mousev1.ingest.readers import read_recording
    from mousev1.ingest.report import Report
    from mousev1.ingest.rig import read_rig
    from mousev1.ingest.tables import read_table
    from mousev1.insilico.manifest import read_manifest

    def recording(path: Path) -> Any:
        return read_recording(path, NeuronSelection(), Report())

    def scan(path: Path) -> Any:
        found = read_scan(path)
        return {name: getattr(found, name) for name in found.__dataclass_fields__}

    def pictures(path: Path) -> Any:
        grays = [read_gray(picture, name) for name, picture in find_pictures(path).items()]
        stack = [prepare_images(file, InputContract()).numpy() for file in picture_files(path)]
        return [*grays, *map(np.asarray, stack)]

    return {
        "scan": scan,
        "npy": read_npy,
        "pictures": pictures,
        "core": lambda path: load_core(str(path)).state_dict(),
        "model": lambda path: load_model(str(path)).readout.state_dict(),
        "checkpoint": lambda path: import_checkpoint(path, contract=InputContract()).state_dict(),
        "suite2p": recording,
        "caiman": recording,
        "matlab": recording,
        "arrays": recording,
        "table": read_table,
        "rig": lambda path: read_rig(path, Report()),
        "manifest": read_manifest,
    }


def digest(value: Any) -> str:
    """Of the numbers and texts in a value, however nested."""
    import dataclasses
    import hashlib
    from collections.abc import Mapping

    import numpy as np
    import torch

    sha = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            one = one.detach().numpy()
        if dataclasses.is_dataclass(one):
            one = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
        if isinstance(one, Mapping):
            for key in sorted(one, key=str):
                sha.update(str(key).encode("utf-8", "replace"))
                add(one[key])
        elif isinstance(one, list | tuple):
            for item in one:
                add(item)
        elif isinstance(one, np.ndarray) and one.dtype.kind != "O":
            sha.update(f"{one.dtype.kind}{one.shape}".encode() + np.ascontiguousarray(one).tobytes())
        else:
            sha.update(repr(one).encode("utf-8", "replace"))

    add(value)
    return sha.hexdigest()


def _main(per_case: int) -> None:
    import resource
    import signal
    import time
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = readers()

    def late(*_: object) -> None:
        raise SystemExit(f"a case took more than {per_case} seconds")

    signal.signal(signal.SIGALRM, late)
    for line in sys.stdin:
        name, reader, path = json.loads(line)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        signal.alarm(per_case)
        raised, message, content = None, "", ""
        try:
            content = digest(known[reader](Path(path)))
        except Exception as error:
            raised, message = type(error).__name__, str(error)
        signal.alarm(0)
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        print(
            json.dumps([name, raised, message, peak, time.perf_counter() - start, content]),
            flush=True,
        )


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent.parent)]
    _main(int(sys.argv[1]))
