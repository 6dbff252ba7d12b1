"""A core's self-test: a few images whose features travel with the weights.

A content hash shows that the weights are the right ones; the probe shows that this machine and this
version of torch compute the right features with them.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mousev1.core.network import Core

PROBE_IMAGES = 2
# side of the probe images beyond the first kernel's: enough rows for the hidden kernels to matter
PROBE_MARGIN = 4
TOLERANCE = 1e-4


@torch.no_grad()
def make_probe(core: Core) -> dict[str, Tensor]:
    """Images (N, C_in, H, W) in the core's value range and their features (N, C, H', W'), float32."""
    config = core.config
    low, high = config.input.value_range
    side = config.input_kernel + PROBE_MARGIN
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(PROBE_IMAGES, config.input_channels, side, side, generator=generator)
    images = torch.round(low + (high - low) * noise) if high - low > 1 else low + (high - low) * noise
    return {"images": images, "features": _features(core, images)}


def largest_deviation(core: Core) -> float:
    """Largest difference between a core's features now and those stored with it.

    Returns:
        The difference as a fraction of the largest stored feature. Float32 arithmetic leaves about
        1e-6; ``load_core(..., verify=True)`` refuses more than 1e-4.

    Raises:
        ValueError: the core came without stored features.
    """
    if core.probe is None:
        raise ValueError(
            f"core {core.name!r} came without a probe (images and their features), so there is nothing to "
            "compare with; a core that was saved with mousev1.storage.core_files.save_core has one"
        )
    expected = core.probe["features"]
    deviation = (_features(core, core.probe["images"]) - expected).abs().max()
    return float(deviation / expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def check_probe(core: Core) -> None:
    """Raise ``ValueError`` if the core's features are not those stored with it."""
    deviation = largest_deviation(core)
    # written so that NaN fails too
    if not deviation <= TOLERANCE:
        raise ValueError(
            f"verify: features of core {core.name!r} deviate by {deviation:.2g} of the largest one from those "
            f"stored with it (allowed: {TOLERANCE:g}); this machine or its torch computes something else"
        )


@torch.no_grad()
def _features(core: Core, images: Tensor) -> Tensor:
    """Features in evaluation mode and on the CPU, whatever state the core is in."""
    twin = core if core.frozen and _on_cpu(core) else copy.deepcopy(core).cpu().freeze()
    features: Tensor = twin(images)
    return features


def _on_cpu(core: Core) -> bool:
    return next(core.parameters()).device.type == "cpu"
