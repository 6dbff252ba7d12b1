"""What every benchmark writes beside its numbers: when, on what machine, with which software and data."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from mousev1.fit.memory import peak_memory
from mousev1.storage.atomic import file_sha256, replacing

Result = TypeVar("Result")

PACKAGES = ("mousev1", "torch", "numpy", "pillow", "h5py", "neuralpredictors")


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def machine() -> dict[str, Any]:
    """CPU model, number of CPUs and threads in use, operating system, and how busy it all is.

    A load well above the benchmark's own threads means that others worked at the same time, and that
    the times say little.
    """
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_1_minute": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
    }


def versions(*more: str) -> dict[str, str | None]:
    """Versions of Python and the packages that matter, and of ``more``; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    found["torch"] = torch.__version__  # with the kind of build, which a package's metadata may lack
    return found


def commit() -> str | None:
    """Commit of the code, with ``+changes`` if tracked code differs from it; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=here, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/mousev1", ":/training/*.py")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def circumstances() -> dict[str, Any]:
    """When, where, with what and by which command a number was measured."""
    command = shlex.join(["python", *sys.orig_argv[1:]])
    return {
        "command": command,
        "date": now(),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }


def peak_megabytes() -> float:
    """Most memory that this process has held, in MB."""
    return peak_memory() / 1e6


def cost_of(run: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """What a call returns, and its seconds, processor seconds, and this process's memory at most, in MB."""
    before = peak_megabytes()
    started, busy = time.perf_counter(), time.process_time()
    result = run()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return result, {
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_megabytes(), 1),
        "memory_before_mb": round(before, 1),
        "processor_seconds": round(busy, 3),
    }


def resume(path: Path, header: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
    """The results so far, or ``header`` and ``empty`` ones; ``SystemExit`` if the file is of another task.

    Args:
        path: result file.
        header: what must be the same for results to belong together.
        empty: where results will go, by name.
    """
    if not path.exists():
        return {**header, **empty}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    other = [
        f"{key} is {results.get(key)!r}, now {value!r}"
        for key, value in header.items()
        if results.get(key) != value
    ]
    if other:
        raise SystemExit(
            f"--out: {path} holds results of another task ({'; '.join(other)}); choose another file"
        )
    return results


def data_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write plain values as JSON, complete or not at all."""
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    with replacing(path) as staging:
        staging.write_text(text, encoding="utf-8")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
