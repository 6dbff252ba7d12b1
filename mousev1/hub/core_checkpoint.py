"""Published checkpoints of cores: state dicts of torch with the names of neuralpredictors, turned into ours."""

from __future__ import annotations

import os
import re
import struct
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.errors import listing
from mousev1.storage.artifact import build_on_meta, fill


def read_torch_state(file: Path | BinaryIO, *, source: str) -> dict[str, Tensor]:
    """The state dict in a file of torch; ``ValueError`` for anything but named tensors.

    Code in it is never run, and what is read takes no more memory than the file has bytes.
    """
    size = _size_unless_packed(file, source)
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails in many ways on a file that is not plain tensors
        raise ValueError(
            f"{source}: not a plain state dict of tensors, or a truncated one; files that need code to "
            f"load are refused ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{source}: expected a state dict (names to tensors), got {type(state).__name__}")
    claimed = sum(value.nbytes for value in state.values())
    if claimed > size:
        raise ValueError(
            f"{source}: tensors of {claimed} bytes in a file of {size}, so that numbers repeat; refused"
        )
    return dict(state)


def _size_unless_packed(file: Path | BinaryIO, source: str) -> int:
    """Bytes of a file; ``ValueError`` if it is a zip that unpacks to more, which torch never writes."""
    with open(file, "rb") if isinstance(file, Path) else nullcontext(file) as handle:
        size = handle.seek(0, os.SEEK_END)
        try:
            unpacked = 0
            if zipfile.is_zipfile(handle):
                with zipfile.ZipFile(handle) as archive:
                    unpacked = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{source}: not a sound checkpoint ({error}); truncated or altered, fetch it again"
            ) from error
        if unpacked > size:
            raise ValueError(f"{source}: unpacks to {unpacked} bytes from {size}; refused")
        handle.seek(0)
        return size


def _drop_constants(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the Laplace filter of the regulariser, which published state dicts carry along."""
    return {key: value for key, value in state.items() if not key.endswith("regularizer.laplace.filter")}


_LAYER_NAMES = (
    (re.compile(r"^features\.layer0\.conv\."), "layers.0.conv."),
    (re.compile(r"^features\.layer(\d+)\.ds_conv\.in_depth_conv\."), r"layers.\1.pointwise_in."),
    (re.compile(r"^features\.layer(\d+)\.ds_conv\.spatial_conv\."), r"layers.\1.depthwise."),
    (re.compile(r"^features\.layer(\d+)\.ds_conv\.out_depth_conv\."), r"layers.\1.pointwise_out."),
    (re.compile(r"^features\.layer(\d+)\.norm\."), r"layers.\1.norm."),
)


def _rename(key: str) -> str:
    for pattern, replacement in _LAYER_NAMES:
        if pattern.match(key):
            return pattern.sub(replacement, key)
    return key


def core_from_state(state: dict[str, Tensor], contract: InputContract, name: str, *, source: str) -> Core:
    """A frozen core from a published state dict.

    Args:
        state: names as in neuralpredictors, without a prefix.
        contract: how the core's images were scaled.
        name: what to call it.
        source: where the state is from, for messages.

    Raises:
        ValueError: names or shapes that are no such core.
    """
    state = _drop_constants(state)
    renamed = {_rename(key): value for key, value in state.items()}
    first, hidden = renamed.get("layers.0.conv.weight"), renamed.get("layers.1.depthwise.weight")
    if first is None or hidden is None or first.ndim != 4 or hidden.ndim != 4:
        raise ValueError(
            f"{source}: not a core of the kind this library knows: expected 'features.layer0.conv.weight' "
            f"and 'features.layer1.ds_conv.spatial_conv.weight', got {listing(sorted(state), 6)}"
        )
    config = CoreConfig(
        input_channels=first.shape[1],
        hidden_channels=first.shape[0],
        layers=1 + max(int(key.split(".")[1]) for key in renamed if re.match(r"layers\.\d+\.", key)),
        input_kernel=first.shape[-1],
        hidden_kernel=hidden.shape[-1],
        input=contract,
    )
    core = build_on_meta(lambda: Core(config, name=name))
    assert isinstance(core, Core)
    fill(core, {key: value.clone() for key, value in renamed.items()}, source=source)
    return core.freeze()
