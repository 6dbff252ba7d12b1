"""Torch's modes as a computation needs them, whatever the caller has set; all are the caller's again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def plain_modes(device: str | torch.device = "cpu") -> Iterator[None]:
    """Without the caller's inference mode, ``no_grad`` and autocast, which belong to this thread alone.

    Args:
        device: where is computed, besides the processor.
    """
    kind = torch.device(device).type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        if kind == "cpu":
            yield
        else:
            with torch.autocast(kind, enabled=False):
                yield


def check_defaults(purpose: str) -> None:
    """Refuse default types and devices that tensors of a computation would silently take over.

    They hold for the whole process, so that they cannot be set aside for one computation.

    Raises:
        ValueError: torch's default type is not float32, or its default device is not the processor.
    """
    kind, device = torch.get_default_dtype(), torch.get_default_device()
    if kind != torch.float32:
        raise ValueError(
            f"{purpose}: expected torch's default type float32, got {kind}; call "
            "torch.set_default_dtype(torch.float32) first, and set it back afterwards if you need it"
        )
    if device.type != "cpu":
        raise ValueError(
            f"{purpose}: expected torch's default device cpu, got {device}; call torch.set_default_device('cpu') "
            f"first and pass device='{device.type}' instead"
        )
