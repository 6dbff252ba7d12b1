"""Core features, computed once and stored the way that fits read them.

A fit reads, for one pixel of the feature map, the features of all images; a core writes, for a few
images, the features of all pixels. The store turns one into the other: it is position-major,
(H*W, N, C), so that a pixel is one contiguous (N, C) block and a bilinear sample four of them. Once it is known
where neurons look, it holds only that region of the feature map.

Values are standardised per channel and kept in half precision, in memory and on disk alike, so
that a fit gives the same numbers wherever its features live. Rounding is 2^-11 of a value, a
hundred times below the scatter of any fitted weight.
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from io import FileIO
from pathlib import Path
from threading import Lock
from types import TracebackType

import torch
from torch import Tensor
from tqdm import tqdm

from mousev1.core.crop import Region
from mousev1.core.inference import features_within, fuse, map_images
from mousev1.core.representation import FeatureExtractor, FrozenCore
from mousev1.numerics.workers import workers
from mousev1.readout.standardisation import Standardisation

IMAGES_FOR_STANDARDISATION = 96
# In memory few at a time, so that they are still in the cache; on disk many, because each write seeks once per pixel,
# and from other devices, which compute many at a time.
IMAGES_PER_WRITE = 32
IMAGES_PER_DISK_WRITE = 128
BYTES = 2  # of a float16


class FeatureStore:
    """Position-major standardised features, (pixels, N, C) float16, in memory or in a temporary file.

    Use as a context manager, or call ``close``, so that the file goes away.

    Args:
        shape: (C, H, W) of the features of one image.
        images: number of images N.
        standardisation: see ``Standardisation``.
        region: the part of the feature map to hold; all of it by default.
        known: another store that holds the first of these images, at all pixels of the region, under the same
            standardisation; it is read from, and stays the caller's to close.
        directory: where to put the file; ``None`` keeps the features in memory.

    Attributes:
        height, width, channels, images: sizes; height and width are those of the whole feature map.
        region: as given.
        known: as given.
        standardisation: as given.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        images: int,
        standardisation: Standardisation,
        *,
        region: Region | None = None,
        known: FeatureStore | None = None,
        directory: Path | None = None,
    ) -> None:
        self.channels, self.height, self.width = shape
        self.region = region or Region.whole(self.height, self.width)
        self.images, self.known = images, known
        self.standardisation = standardisation
        self._memory: Tensor | None = None
        self._file: FileIO | None = None
        self._lock = Lock()  # a place in a file is sought and then read or written
        if directory is None:
            self._memory = torch.empty(len(self.region), self._own_images, self.channels, dtype=torch.float16)
        else:
            # Read and written explicitly: pages of a memory map would count as the process's own.
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115

    @property
    def _known_images(self) -> int:
        return 0 if self.known is None else self.known.images

    @property
    def _own_images(self) -> int:
        return self.images - self._known_images

    @property
    def positions(self) -> list[int]:
        """What is held: pixels of the whole map, row * W + column."""
        region = self.region
        return [
            row * self.width + column
            for row in range(region.top, region.bottom)
            for column in range(region.left, region.right)
        ]

    def held(self) -> tuple[int, int]:
        """Bytes in memory and on disk, those of ``known`` included."""
        memory, disk = (0, 0) if self.known is None else self.known.held()
        own = len(self.region) * self._own_images * self.channels * BYTES
        return (memory + own, disk) if self._file is None else (memory, disk + own)

    def write(self, start: int, features: Tensor) -> None:
        """Take in the raw features (n, C, H', W') within the region, of images ``start`` to ``start + n``."""
        scale = (1.0 / self.standardisation.std).to(features)
        shift = (-self.standardisation.mean / self.standardisation.std).to(features)
        # Fast where channels come last in memory, as a fused core gives them.
        standardised = torch.addcmul(shift, features.flatten(2).transpose(1, 2), scale)
        # Half precision ends at 65504; a standardised feature beyond that is an outlier anyway.
        by_position = standardised.clamp_(-65504.0, 65504.0).transpose(0, 1)
        if by_position.device.type != "cpu":  # half as much to move
            by_position = by_position.half().cpu()
        start -= self._known_images
        if self._memory is not None:
            self._memory[:, start : start + len(features)] = by_position
            return
        assert self._file is not None
        rows = by_position.half().contiguous().cpu().numpy()
        with self._lock:
            for row, values in enumerate(rows):
                self._file.seek((row * self._own_images + start) * self.channels * BYTES)
                _write_all(self._file, memoryview(values).cast("B"))

    def _row(self, position: int) -> int:
        """Where a pixel (row * W + column of the whole map) is held."""
        row, column = divmod(position, self.width)
        if (row, column) not in self.region:
            raise IndexError(f"position: expected one within {self.region}, got row {row}, column {column}")
        return (row - self.region.top) * self.region.width + column - self.region.left

    def block(self, position: int, images: int | None = None) -> Tensor:
        """Features of the first ``images`` (or all) at one pixel (row * W + column), (n, C) float16.

        Do not modify.
        """
        n = self.images if images is None else min(images, self.images)
        if self.known is None:
            return self._own_block(self._row(position), n)
        block = torch.empty(n, self.channels, dtype=torch.float16)
        self.read(position, block)
        return block

    def read(self, position: int, out: Tensor) -> None:
        """Copy the features of the first n images at one pixel into ``out``, (n, C) of any real type."""
        if len(out) > self.images:
            raise ValueError(f"out: expected at most {self.images} rows as there are images, got {len(out)}")
        held = min(self._known_images, len(out))
        if self.known is not None:
            self.known.read(position, out[:held])
        if held < len(out):
            out[held:] = self._own_block(self._row(position), len(out) - held)

    def _own_block(self, row: int, images: int) -> Tensor:
        if self._memory is not None:
            return self._memory[row, :images]
        assert self._file is not None
        buffer = bytearray(images * self.channels * BYTES)
        with self._lock:
            self._file.seek(row * self._own_images * self.channels * BYTES)
            _read_all(self._file, memoryview(buffer))
        return torch.frombuffer(buffer, dtype=torch.float16).view(images, self.channels)

    def first(self, images: int) -> Tensor:
        """Features of the first ``images`` at all pixels that are held, (pixels, n, C) float16.

        Do not modify.
        """
        if self._memory is not None and self.known is None:
            return self._memory[:, :images]
        return torch.stack([self.block(position, images) for position in self.positions])

    def blocks(self, positions: list[int], images: int | None = None) -> Tensor:
        """Features of the first ``images`` (or all) at several pixels, (len(positions), n, C) float32."""
        n = self.images if images is None else min(images, self.images)
        out = torch.empty(len(positions), n, self.channels)
        for block, position in zip(out, positions, strict=True):
            self.read(position, block)
        return out

    def close(self) -> None:
        """Free the memory or the file."""
        self._memory = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def store_bytes(
    core: FeatureExtractor, images: int, height: int, width: int, region: Region | None = None
) -> int:
    """Bytes that the features of ``images`` pictures of (height, width), or a part of them, will take in a store."""
    depth, *size = core.config.feature_shape(height, width)
    return (math.prod(size) if region is None else len(region)) * depth * images * BYTES


@torch.no_grad()
def compute_features(
    core: FrozenCore,
    images: Tensor,
    *,
    device: torch.device | str = "cpu",
    order: Tensor | None = None,
    known: FeatureStore | None = None,
    region: Region | None = None,
    directory: Path | None = None,
    progress: bool = False,
) -> FeatureStore:
    """Run the core once over images.

    Args:
        core: frozen core.
        images: (N, C_in, H, W), gray values in the core's ``value_range``, any real type.
        device: where the core runs; the store is in main memory or on disk.
        order: (n,) which images: ``order[i]`` becomes row i of the store. All, as given, by default. Channels
            are standardised by the first rows, so that their order should be random.
        known: features of the first of these images, fewer than all, which are not computed again, and their
            standardisation; must hold the region, and stay open as long as what is returned.
        region: the part of the feature map to compute and hold; all of it by default.
        directory: keep the features in a temporary file there instead of in memory.
        progress: show a progress bar.
    """
    order = torch.arange(len(images)) if order is None else order
    n = len(order)
    if n == 0:
        raise ValueError("images: expected at least one, got none")
    shape = core.config.feature_shape(images.shape[2], images.shape[3])
    region = region or Region.whole(shape[1], shape[2])
    module = fuse(core).to(device)

    def run(index: Tensor, part: Region) -> Tensor:
        return _checked(features_within(module, images[index].to(device), part), core)

    few = directory is None and torch.device(device).type == "cpu"
    step = IMAGES_PER_WRITE if few else IMAGES_PER_DISK_WRITE
    if known is None:
        first = run(order[: max(step, IMAGES_FOR_STANDARDISATION)], Region.whole(shape[1], shape[2]))
        standardisation, done = _measure(first[:IMAGES_FOR_STANDARDISATION].cpu()), len(first)
    else:
        standardisation, done = known.standardisation, known.images
    store = FeatureStore(shape, n, standardisation, region=region, known=known, directory=directory)
    try:
        if known is None:
            store.write(0, region.of(first))
            del first
        starts = range(done, n, step)

        def fill(start: int) -> None:
            store.write(start, run(order[start : start + step], region))

        with workers() as threads:
            filled = map_images(threads, module, fill, starts, device=torch.device(device))
            deque(tqdm(filled, total=len(starts), desc="features", unit="batch", disable=not progress), 0)
    except BaseException:
        store.close()
        raise
    return store


def _checked(features: Tensor, core: FrozenCore) -> Tensor:
    """The features themselves; ``ValueError`` if they are not finite."""
    if not torch.isfinite(features.sum()):
        raise ValueError(
            "images: the core's features are not finite; check the images for NaN or values far "
            f"outside {core.config.input.value_range}"
        )
    return features


def _measure(features: Tensor) -> Standardisation:
    """Mean and standard deviation of each channel over some images and all pixels."""
    # Single precision over a map, double precision over the maps: a tenth of the time of torch.var_mean.
    maps = features.flatten(2)
    mean = maps.mean(dim=2).mean(dim=0, dtype=torch.float64)
    away = maps - mean.float()[:, None]
    std = away.square_().mean(dim=2).mean(dim=0, dtype=torch.float64).sqrt()
    constant = std <= 1e-6 * mean.abs().clamp_min(1e-6)
    return Standardisation(mean=mean, std=torch.where(constant, torch.ones_like(std), std))


def _write_all(file: FileIO, view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]


def _read_all(file: FileIO, view: memoryview) -> None:
    while view:
        done = file.readinto(view)
        if not done:
            raise OSError("the temporary feature file ended early; is the disk full?")
        view = view[done:]
