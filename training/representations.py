"""What can be compared as a core, by the name that config files give it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mousev1.core import Core, CoreConfig
from mousev1.hub import load_core
from mousev1.legacy import import_checkpoint


def random_64(seed: int) -> Core:
    """The published core's shape with random weights."""
    return Core.random(CoreConfig(hidden_channels=64), seed=seed)


def random_128(seed: int) -> Core:
    """The same with twice the channels."""
    return Core.random(CoreConfig(hidden_channels=128), seed=seed)


REPRESENTATIONS: dict[str, Callable[[int], Core]] = {
    "random-64": random_64,
    "random-128": random_128,
}
"""Names that config files can give, and what builds them from a seed.

Anything else is what ``mousev1.load_core`` takes, or the file of a published checkpoint.
"""


def load_representation(source: str, *, seed: int = 0) -> Core:
    """What a config file calls by a name, frozen.

    Args:
        source: a key of ``REPRESENTATIONS``; a name, folder or Hub repository for
            ``mousev1.load_core``; or the file of a published checkpoint.
        seed: of random weights; without effect on everything else.
    """
    if source in REPRESENTATIONS:
        return REPRESENTATIONS[source](seed)
    if Path(source).is_file():
        found = import_checkpoint(source)
        return found if isinstance(found, Core) else found.core
    return load_core(source)
