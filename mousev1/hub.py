"""Cores by name, from a folder or from the Hub, and models shared there."""

from __future__ import annotations

import logging
import os
import tempfile
import urllib.request
from pathlib import Path

from mousev1.checkpoint import load_core_folder, save_core
from mousev1.core import Core
from mousev1.errors import listing
from mousev1.registry import DEFAULT_CORE, RELEASED

logger = logging.getLogger("mousev1")


def load_core(name: str | Path = DEFAULT_CORE, *, revision: str | None = None, verify: bool = False) -> Core:
    """A frozen core: by registered name or from a local folder."""
    released = RELEASED.get(str(name))
    if released is None:
        core = load_core_folder(name)
        core.source = str(name)
        return core
    assets = Path(__file__).parent / "assets" / released.name
    root = os.environ.get("MOUSEV1_CACHE") or Path.home() / ".cache" / "mousev1"
    folder = Path(root) / f"core-{(released.content_hash or 'none')[:16]}"
    if released.bundled and assets.is_dir():
        core = load_core_folder(assets)
    elif folder.is_dir():
        core = load_core_folder(folder)
    elif released.origin is not None:
        from mousev1.legacy import import_checkpoint

        url = os.environ.get(released.origin.variable) or released.origin.url
        logger.warning("core '%s' is fetched from its authors' own file: %s", name, url)
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "origin.pt"
            file.write_bytes(urllib.request.urlopen(url, timeout=30).read(10_000_000))
            imported = import_checkpoint(file, sha256=released.origin.sha256)
        assert isinstance(imported, Core)
        save_core(imported, folder)
        core = imported
    else:
        raise FileNotFoundError(f"core {name!r} cannot be had; known names are {listing(sorted(RELEASED))}")
    core.source = released.name
    return core
