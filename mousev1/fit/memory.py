"""How much memory a fit will take, predicted before it starts."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mousev1.core.inference import CPU_IMAGES_AT_A_TIME
from mousev1.core.representation import FrozenCore
from mousev1.fit.features import IMAGES_PER_DISK_WRITE, store_bytes
from mousev1.fit.model_error import IMAGES as MODEL_ERROR_IMAGES
from mousev1.fit.model_error import UNITS as MODEL_ERROR_UNITS
from mousev1.fit.population import MATRIX_VALUES, neurons_at_once
from mousev1.fit.score_maps import FOLDS, WEIGHT_VALUES
from mousev1.numerics.workers import worker_count

MEGA = 10**6
# Allocator slack and torch's own buffers, measured.
OVERHEAD = 260 * MEGA
# Neurons and images that the steps of a fit take at once, or at most.
UNITS_PER_PASS, IMAGES_FOR_LOCATIONS = 6000, 6000


@dataclass(frozen=True)
class MemoryPlan:
    """What a fit will hold.

    Attributes:
        held: bytes that the process holds already.
        features: bytes of the core features, at most: of the whole feature map. Less if neurons look at a part.
        work: bytes of everything else, at its peak.
        limit: most bytes that the process may hold, or ``None`` for no limit.
        directory: where features go that do not fit, or ``None`` if all of them do.
    """

    held: int
    features: int
    work: int
    limit: int | None
    directory: Path | None

    @property
    def peak(self) -> int:
        """Predicted peak resident memory in bytes, at most."""
        everything = self.held + self.work + self.features
        return everything if self.limit is None else min(everything, self.limit)

    def directory_for(self, features: int) -> Path | None:
        """Where so many bytes of features go: a folder, or ``None`` for memory."""
        if self.limit is None or self.held + self.work + features <= self.limit:
            return None
        return self.directory

    def __str__(self) -> str:
        kept = f"in memory if they fit, else in {self.directory}" if self.directory else "in memory"
        return (
            f"predicted peak memory at most {self.peak / MEGA:,.0f} MB ({self.held / MEGA:,.0f} MB held now, "
            f"{self.work / MEGA:,.0f} MB to work with; core features up to {self.features / MEGA:,.0f} MB {kept})"
        )


def plan_memory(
    core: FrozenCore,
    images: Tensor,
    units: int,
    *,
    memory: int | None,
    directory: Path | None,
    keep_information: bool = False,
) -> MemoryPlan:
    """Predict the peak of a fit, and decide where its features go.

    Args:
        core: the core.
        images: (N, C_in, H, W).
        units: number of neurons U.
        memory: most bytes that the process may hold, or ``None`` for no limit.
        directory: where features may go; the system's folder for temporary files by default.
        keep_information: as for ``fit_convex``.

    Raises:
        ValueError: even with the features on disk it would take more, or, without a limit, more than the machine
            has free.
    """
    features = store_bytes(core, len(images), images.shape[2], images.shape[3])
    work = _work(core, images, units, keep_information=keep_information)
    held = current_memory()
    if memory is None:
        _check_free(core, images, held=held, work=work, features=features)
    if memory is None or held + work + features <= memory:
        return MemoryPlan(held, features, work, memory, None)
    if held + work > memory:
        got = f"{memory / MEGA:,.0f} MB" if memory >= MEGA else f"{memory:,} bytes (not MB or GB)"
        raise ValueError(
            f"memory: expected at least {(held + work) / MEGA:,.0f} MB for {units} neurons and {len(images)} images, "
            f"got {got}; {held / MEGA:,.0f} MB are held already"
        )
    return MemoryPlan(held, features, work, memory, directory or Path(tempfile.gettempdir()))


def _check_free(core: FrozenCore, images: Tensor, *, held: int, work: int, features: int) -> None:
    """Stop before a fit without a limit fills the machine."""
    free = free_memory()
    if free is None or work + features <= free:
        return
    contract, (height, width) = core.config.input, images.shape[2:]
    remedy = f"pass memory={held + (work + free) // 2} to keep features on disk"
    if work > free:
        remedy = "fit fewer neurons or images at a time"
    if height > contract.height and width > contract.width:
        remedy += (
            f"; if {height}x{width} pixels show the visual field at another resolution than the core's "
            f"{contract.pixels_per_degree:g} pixels per degree, pass pixels_per_degree= to resample them"
        )
    raise ValueError(
        f"memory: a fit of {len(images):,} images of {height}x{width} pixels may take "
        f"{(work + features) / MEGA:,.0f} MB more, of {free / MEGA:,.0f} MB that are free; {remedy}"
    )


def free_memory() -> int | None:
    """Bytes that the machine has free for another process, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None


def _work(core: FrozenCore, images: Tensor, units: int, *, keep_information: bool) -> int:
    """Bytes that a fit holds besides the core's features, at its peak: how many arrays there are of each size."""
    n = len(images)
    channels, height, width = core.config.feature_shape(images.shape[2], images.shape[3])
    pixels, size = height * width, channels + 1
    workers = worker_count()
    running = workers * channels * pixels * (IMAGES_PER_DISK_WRITE * 10 + CPU_IMAGES_AT_A_TIME * 16)
    some_images, some_units = min(n, IMAGES_FOR_LOCATIONS), min(units, UNITS_PER_PASS)
    weights = workers * max(WEIGHT_VALUES, FOLDS * channels * some_units)
    locations = 4 * (some_images * (units + 4 * some_units) + 4 * units * pixels + 6 * weights)
    at_once = min(neurons_at_once(n, channels, shared=False), units)
    regression = workers * (
        4 * at_once * n * (8 * channels + 12) + 96 * max(MATRIX_VALUES, at_once * size**2)
    )
    checked = min(n, MODEL_ERROR_IMAGES)
    model_error = 4 * checked * (units + 6 * MODEL_ERROR_UNITS)
    results = units * (48 * size + 4 * checked + 16 * keep_information * size**2)
    return OVERHEAD + max(running, locations, regression, model_error) + results


def current_memory() -> int:
    """Bytes that the process holds now, if the system says so; else its peak."""
    return _status("VmRSS") or peak_memory()


def peak_memory() -> int:
    """Most bytes that the process has held so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    # On Linux the resource module also counts what the parent process held.
    if found := _status("VmHWM"):
        return found
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(field: str) -> int:
    """A size from Linux's status of this process, in bytes; 0 elsewhere."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.split(f"{field}:")[1].split()[0]) * 1024
