"""What can be compared as a core, by the name that config files give it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.core.representation import Representation, as_core
from mousev1.errors import listing
from mousev1.hub.checkpoint_import import import_checkpoint
from mousev1.hub.cores import load_core
from training.networks.task_driven import (
    efficientnet_lite0,
    efficientnet_lite0_early,
    vgg16_imagenet,
    vgg16_random,
)


def random_core(channels: int, seed: int) -> Core:
    """The published core's shape with so many channels and random weights, on z-scored images.

    Without z-scoring (mean 113, sd 60, as for sim-11S), features of random weights would mostly be how
    bright an image is on the whole.
    """
    config = CoreConfig(hidden_channels=channels, input=InputContract(mean=113.0, std=60.0))
    return Core.random(config, seed=seed)


REPRESENTATIONS: dict[str, Callable[[int], Core | Representation]] = {
    "random-64": lambda seed: random_core(64, seed),
    "random-128": lambda seed: random_core(128, seed),
    "vgg16-random": vgg16_random,
    "vgg16-imagenet": lambda seed: vgg16_imagenet(),
    "efficientnet-lite0": lambda seed: efficientnet_lite0(),
    "efficientnet-lite0-early": lambda seed: efficientnet_lite0_early(),
}
"""Names that config files can give, and what builds them from a seed.

Anything else is what ``mousev1.load_core`` takes, or the file of a published checkpoint.
"""


def load_representation(source: str, *, seed: int = 0) -> Core | Representation:
    """What a config file calls by a name, frozen.

    Args:
        source: a key of ``REPRESENTATIONS``; a name, folder or Hub repository for ``mousev1.load_core``; or
            the file of a published checkpoint that mousev1 knows by its checksum.
        seed: of random weights; without effect on everything else.

    Raises:
        ImportError: the packages of a task-driven network are not installed.
        FileNotFoundError: none of these; further errors as from ``mousev1.load_core``.
    """
    if source in REPRESENTATIONS:
        return REPRESENTATIONS[source](seed)
    if Path(source).is_file():
        found = import_checkpoint(source)
        return found if isinstance(found, Core) else as_core(found.core, source)
    try:
        return load_core(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; or, for a comparison, one of {listing(REPRESENTATIONS)}") from None
