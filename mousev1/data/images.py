"""Any picture to what a core was trained on: raw gray values at the core's resolution.

Images stay uint8 where they come as uint8 and need no resampling, a quarter of the memory of float32;
whoever feeds a core converts per batch with ``images[i:j].float()``.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from mousev1.core.network import InputContract
from mousev1.data.gray_values import check_gray_values
from mousev1.data.pictures import opened, picture_files
from mousev1.data.validation import plain_array
from mousev1.errors import listing

Picture: TypeAlias = "str | Path | Image.Image | NDArray[Any] | Tensor"
Images: TypeAlias = "Picture | Sequence[Picture]"

# ITU-R BT.601 luma of red, green and blue in 1/65536, as Pillow's convert("L") has it.
LUMA = (19595, 38470, 7471)
IMAGES_PER_CHUNK = 1024


def prepare_images(
    images: Images,
    contract: InputContract,
    *,
    channels: int = 1,
    pixels_per_degree: float | None = None,
) -> Tensor:
    """Images as a core with this contract expects them, checked.

    Args:
        images: one of

            - an array or tensor (N, H, W), (N, C, H, W) or (H, W), uint8 or float, or other integers
              within the range; three axes always mean N gray images;
            - a Pillow picture, the path of a picture, or the path of a folder of pictures (taken in the
              natural order of their names, ``2.png`` before ``10.png``);
            - a list of such pictures, paths or (H, W) or (C, H, W) arrays, all of one size.
        contract: the core's input contract, ``core.config.input``.
        channels: channels that the core takes, ``core.config.input_channels``. With 1, colour becomes
            luminance, .299 red + .587 green + .114 blue, rounded for uint8; with 3, gray is repeated.
        pixels_per_degree: resolution of these images on the animal's retina, if it is not the
            contract's; they are then resampled (bicubic with antialiasing, clamped to the range).

    Returns:
        (N, C, H, W) gray values in the contract's ``value_range``: uint8 if they came so and were not
        resampled, float32 otherwise. It may share memory with ``images``. Any H and W are allowed here;
        the core refuses images smaller than its first kernel.

    Raises:
        ValueError: no images, wrong axes, mixed sizes, NaN, values outside of the range or apparently
            scaled to 0..1 or z-scored, unreadable or transparent pictures.
        TypeError: not images at all.
        FileNotFoundError: a path that leads nowhere.

    Example:
        >>> prepare_images(np.zeros((5, 36, 64), np.uint8), InputContract()).shape
        torch.Size([5, 1, 36, 64])
    """
    tensor = _gather(images, contract)
    if 0 in tensor.shape:
        raise ValueError(f"images: expected at least one image, got {tuple(tensor.shape)}")
    tensor = _fit_channels(_lean(tensor), channels)
    check_gray_values(tensor, contract)
    return tensor if pixels_per_degree is None else resample(tensor, contract, pixels_per_degree)


def image_identities(images: NDArray[Any] | Tensor) -> NDArray[np.int64]:
    """(N,) ids of images (N, ...): equal exactly if the images are the same bytes.

    The id is 64 bits of the BLAKE2 hash of an image's bytes, so it is the same in another call, and two
    of 100,000 distinct images get one id with a chance below 1e-9. Images of another type of number have
    other bytes and so other ids.
    """
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.ndim < 2 or array.dtype.kind not in "uif":
        raise ValueError(f"images: expected numbers as (N, ...), got {array.dtype} {array.shape}")
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in array)
    return np.frombuffer(digests, "<i8").astype(np.int64)


def check_ids(images: Tensor, ids: NDArray[Any]) -> None:
    """Refuse ids that two different pictures share: their trials would count as repeats.

    Args:
        images: (N, C, H, W), one per trial.
        ids: (N,) of the images.

    Raises:
        ValueError: such an id; the message names two rows.
    """
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    repeats = np.flatnonzero(first[which] != np.arange(len(ids)))
    if not len(repeats):
        return
    earlier = first[which[repeats]]
    same = np.array([bool((images[a] == images[b]).all()) for a, b in zip(repeats, earlier, strict=True)])
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        raise ValueError(
            f"image_ids: {ids[repeats[row]]!r} stands for two different pictures, in rows {earlier[row]} and "
            f"{repeats[row]} ({int((~same).sum())} rows in all); give every picture an id of its own, or leave "
            "image_ids out to find equal pictures by their content"
        )


# ---------------------------------------------------------------- gathering


def _gather(images: Images, contract: InputContract) -> Tensor:
    """Whatever came, as one (N, C, H, W) tensor of whatever numbers it had."""
    if isinstance(images, np.ndarray | Tensor):
        return _with_four_axes(images)
    if isinstance(images, str | Path | Image.Image):
        images = [images]
    if not isinstance(images, Sequence):
        raise TypeError(
            f"images: expected an array, pictures or paths, got {type(images).__name__}; "
            "np.stack a generator or dict of images first"
        )
    if not images:
        raise ValueError("images: expected at least one image, got an empty list")
    singles = [single for item in images for single in _singles(item, contract)]
    sizes = Counter(tuple(image.shape) for _, image in singles)
    if len(sizes) > 1:
        names = {
            shape: listing([n for n, image in singles if tuple(image.shape) == shape], 3) for shape in sizes
        }
        what = "; ".join(f"{count} of {'x'.join(map(str, s))} ({names[s]})" for s, count in sizes.items())
        raise ValueError(
            f"images: expected one size (C x H x W), got {what}; crop or resize them, or pass each size on its own"
        )
    kinds = {image.dtype for _, image in singles}
    dtype = kinds.pop() if len(kinds) == 1 else torch.float32
    return torch.stack([image.to(dtype) for _, image in singles])


def _singles(item: Picture, contract: InputContract) -> list[tuple[str, Tensor]]:
    """Name and (C, H, W) of every image that one element of a list stands for."""
    if isinstance(item, str | Path):
        return [(str(path), _from_file(path, contract)) for path in picture_files(item)]
    if isinstance(item, Image.Image):
        return [("a picture", _from_picture(item, "picture", contract))]
    array = item if isinstance(item, Tensor) else _to_tensor(plain_array("images", item))
    if array.ndim not in (2, 3):
        raise ValueError(
            f"images: expected every array of a list as (H, W) or (C, H, W), got {tuple(array.shape)}"
        )
    _refuse_channels_last(array.shape)
    return [("an array", array if array.ndim == 3 else array[None])]


def _with_four_axes(images: NDArray[Any] | Tensor) -> Tensor:
    shape = tuple(images.shape)
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"images: expected (N, H, W), (N, C, H, W) or (H, W), got {shape}")
    if len(shape) > 2:
        _refuse_channels_last(shape[-3:])
    tensor = images if isinstance(images, Tensor) else _to_tensor(plain_array("images", images))
    if len(shape) == 2:
        return tensor[None, None]
    return tensor[:, None] if len(shape) == 3 else tensor


def _refuse_channels_last(shape: Sequence[int]) -> None:
    if len(shape) == 3 and shape[-1] in (3, 4) and shape[0] not in (1, 3):
        raise ValueError(
            f"images: the last axis of {tuple(shape)} looks like colours; "
            "expected (N, C, H, W): move it, e.g. np.moveaxis(images, -1, -3)"
        )


def _to_tensor(array: NDArray[Any]) -> Tensor:
    if array.dtype == bool:
        raise TypeError("images: expected gray values, got booleans; multiply them by 255")
    if array.dtype.kind not in "uif":
        raise TypeError(f"images: expected uint8 or float gray values, got {array.dtype}")
    if array.dtype.kind in "ui" and array.dtype != np.uint8:
        # torch knows few of these types; larger numbers are out of range anyway, as the check says.
        small = array.size and array.min() >= 0 and array.max() <= 255
        array = array.astype(np.uint8 if small else np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize not in (2, 4, 8):
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    # torch can neither take negative strides nor promise to leave a read-only array alone.
    sound = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if sound else array.copy())


def _from_file(path: Path, contract: InputContract) -> Tensor:
    with opened(path) as picture:
        return _from_picture(picture, str(path), contract)


def _from_picture(picture: Image.Image, name: str, contract: InputContract) -> Tensor:
    """(1, H, W) or (3, H, W): uint8, or float32 where the picture or the contract is."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return _to_tensor(np.array(picture))[None]
    if "transparency" in picture.info or picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        alpha = picture.convert("RGBA").getchannel("A").getextrema()
        if alpha != (255, 255):
            raise ValueError(
                f"images: {name} is partly transparent, so its gray values depend on what lies behind; "
                "flatten it onto a background"
            )
    array = np.array(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    tensor = torch.from_numpy(array)
    tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    low, high = contract.value_range
    return tensor if (low, high) == (0.0, 255.0) else tensor.float() / 255 * (high - low) + low


# ---------------------------------------------------------------- values


def _lean(images: Tensor) -> Tensor:
    """uint8 or float32, whichever holds the numbers."""
    if images.dtype == torch.bool or images.is_complex():
        raise TypeError(f"images: expected gray values, got {images.dtype}; multiply masks by 255")
    if images.dtype in (torch.uint8, torch.float32):
        return images
    if not images.is_floating_point():
        low, high = (int(value) for value in torch.aminmax(images))
        return images.to(torch.uint8 if low >= 0 and high <= 255 else torch.float32)
    return images.float()


def _fit_channels(images: Tensor, channels: int) -> Tensor:
    have = images.shape[1]
    if have == channels:
        return images
    if (have, channels) == (3, 1):
        return _luminance(images)
    if (have, channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    raise ValueError(
        f"images: expected {channels} channel{'s' if channels > 1 else ''} in (N, C, H, W), got {tuple(images.shape)}; "
        "only colour to gray and gray to colour are converted"
    )


def _luminance(images: Tensor) -> Tensor:
    gray = images.new_empty(len(images), 1, *images.shape[2:])
    for start in range(0, len(images), IMAGES_PER_CHUNK):
        chunk = images[start : start + IMAGES_PER_CHUNK]
        if images.dtype == torch.uint8:
            weights = torch.tensor(LUMA, device=images.device)[:, None, None]
            # Adding one half rounds, as Pillow does.
            luma = ((chunk * weights).sum(dim=1, keepdim=True) + 32768) // 65536
        else:
            luma = (chunk * (chunk.new_tensor(LUMA) / 65536)[:, None, None]).sum(dim=1, keepdim=True)
        gray[start : start + len(chunk)] = luma
    return gray


def resample(images: Tensor, contract: InputContract, pixels_per_degree: float) -> Tensor:
    """Images (N, C, H, W) of a resolution at the contract's: bicubic with antialiasing, clamped to its range.

    Raises:
        ValueError: no positive number, or one at which nothing would be left of the images.
    """
    if not (math.isfinite(pixels_per_degree) and pixels_per_degree > 0):
        raise ValueError(f"pixels_per_degree: expected a positive number, got {pixels_per_degree}")
    factor = contract.pixels_per_degree / pixels_per_degree
    if factor == 1.0:
        return images
    size = [round(side * factor) for side in images.shape[2:]]
    if min(size) < 1:
        raise ValueError(
            f"pixels_per_degree: images of {images.shape[2]} x {images.shape[3]} pixels would shrink to "
            f"{size[0]} x {size[1]} at {contract.pixels_per_degree} pixels per degree; check the number"
        )
    resampled = torch.empty(*images.shape[:2], *size, device=images.device)
    for start in range(0, len(images), IMAGES_PER_CHUNK):
        chunk = images[start : start + IMAGES_PER_CHUNK].float()
        chunk = F.interpolate(chunk, size=size, mode="bicubic", antialias=True)
        # Bicubic overshoots at edges, which no screen could show.
        resampled[start : start + len(chunk)] = chunk.clamp(*contract.value_range)
    return resampled


def in_frame(images: Tensor, contract: InputContract, size: tuple[int, int] | None = None) -> Tensor:
    """Images (N, C, H, W) at the contract's resolution cut or padded with gray to a frame, centred.

    Args:
        images: as ``prepare_images`` gives them.
        contract: the core's input contract; gray is its mean, or the middle of its range if it subtracts none.
        size: (H, W) of the frame; the contract's by default.
    """
    height, width = size or (contract.height, contract.width)
    gray = contract.mean if contract.mean > 0 else sum(contract.value_range) / 2
    if images.dtype == torch.uint8:
        gray = round(gray)
    frame = torch.full((*images.shape[:2], height, width), gray, dtype=images.dtype, device=images.device)
    (frame_rows, rows), (frame_columns, columns) = (
        _centred(room, side) for room, side in zip((height, width), images.shape[2:], strict=True)
    )
    frame[..., frame_rows, frame_columns] = images[..., rows, columns]
    return frame


def _centred(room: int, side: int) -> tuple[slice, slice]:
    """Where in the frame, and which part of the image, along one axis."""
    shared = min(room, side)
    first, skipped = (room - shared) // 2, (side - shared) // 2
    return slice(first, first + shared), slice(skipped, skipped + shared)
