"""Which devices torch can compute on here."""

from __future__ import annotations

import torch

from mousev1.errors import listing


def available_devices() -> list[str]:
    """Names that ``device`` arguments take on this machine; ``cpu`` always."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def usable_device(device: str | torch.device) -> torch.device:
    """The device of an argument.

    Raises:
        ValueError: a name that torch does not know, or a device that is not there or not compiled in.
    """
    if str(device) not in (names := available_devices()):
        raise ValueError(f"device: expected {listing(names)}, which this torch can use here, got '{device}'")
    return torch.device(device)
