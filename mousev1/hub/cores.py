"""Cores by name, from a folder or from the Hub.

A name stands for exact numbers: whatever its source, a core is accepted under a registered name only
with the content hash in the registry.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mousev1.core.network import Core
from mousev1.core.self_test import check_probe
from mousev1.core.self_test import largest_deviation as largest_deviation
from mousev1.errors import listing
from mousev1.hub.core_checkpoint import core_from_state, read_torch_state
from mousev1.hub.registry import BUNDLED_CORE, DEFAULT_CORE, RELEASED, ReleasedCore, find_released
from mousev1.storage.artifact import WEIGHTS_FILE, DamagedFileError, open_safetensors, read_config, read_kind
from mousev1.storage.core_files import (
    PRIOR_FILE,
    PROBE_FILE,
    load_core_folder,
    load_core_of_model,
    save_core,
)

logger = logging.getLogger("mousev1")

ASSETS = Path(__file__).parent.parent / "assets"
CORE_FILES = (WEIGHTS_FILE, PROBE_FILE, PRIOR_FILE)

_REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


class CoreUnavailableError(OSError):
    """A core that the library knows by name could not be had from anywhere."""


def load_core(name: str | Path = DEFAULT_CORE, *, revision: str | None = None, verify: bool = False) -> Core:
    """A frozen core: by name, from a local folder, or from the Hub.

    Args:
        name: a registered name (``"11-S"``, ``"sim-11S"``), a folder written by ``save_core``, the folder
            of a model, whose core is taken, or ``"owner/repo"`` on the Hub. A registered name is looked
            for inside the package, in the local caches, on the Hub and, for 11-S, at its authors' own
            file, which is converted once and kept in ``cache_folder()``. Whatever the source, the content
            hash has to be the registered one.
        revision: branch, tag or commit of a Hub repository. Without it the newest commit is taken; the
            core's ``revision`` is then that commit.
        verify: compute the features stored with the core again and compare.

    Returns:
        The core, with ``source`` and ``revision`` such that ``load_core(core.source,
        revision=core.revision)`` gives it again.

    Raises:
        FileNotFoundError: no such folder, repository or revision.
        CoreUnavailableError: a registered core that no source could give; says what was tried.
        PermissionError: a private or gated repository.
        ConnectionError: the Hub failed; ``TimeoutError`` if it did not answer.
        ValueError: damaged, foreign or wrong content.
    """
    if isinstance(name, str) and name in RELEASED:
        core = _load_released(RELEASED[name], revision)
    elif Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"revision: a local folder has no revisions, got {revision!r} for {name}")
        found = load_core_of_model(name) if read_kind(name) == "response-model" else load_core_folder(name)
        if isinstance(found, str):
            return load_core(found, verify=verify)
        core = found
        core.source = str(Path(name).resolve())
    elif Path(name).is_file():
        raise ValueError(
            f"core: expected a name or a folder, got the file {name}; if it is a published checkpoint, `mousev1 "
            f"import {name} --out FOLDER` turns it into a folder"
        )
    elif is_repo_id(name):
        core = _load_from_hub(str(name), revision)
    else:
        raise FileNotFoundError(
            f"core: expected a known name ({listing(sorted(RELEASED))}), an existing folder or 'owner/repo' on "
            f"the Hub, got {str(name)!r}"
        )
    if verify:
        check_probe(core)
    released = find_released(core.content_hash())
    if released is not None and released.simulated:
        logger.warning("core '%s' was trained on simulated recordings, not on neurons", core.name)
    return core


def is_repo_id(name: str | Path) -> bool:
    """Whether something can only be meant as ``owner/repo`` on the Hub."""
    return isinstance(name, str) and bool(_REPO_ID.fullmatch(name)) and not name.startswith(".")


def is_reachable(source: str | None) -> bool:
    """Whether others can load a core from where it came from."""
    return source is not None and (source in RELEASED or is_repo_id(source))


def cache_folder() -> Path:
    """Where converted cores are kept: ``MOUSEV1_CACHE``, or mousev1 in ``XDG_CACHE_HOME`` or ~/.cache."""
    if chosen := os.environ.get("MOUSEV1_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mousev1"


# ---------------------------------------------------------------- registered names


def _load_released(released: ReleasedCore, revision: str | None) -> Core:
    """From the first source that has it, with the registered content hash."""
    tried: list[tuple[str, Exception]] = []
    for where, load in _sources(released, revision):
        try:
            core = load()
            _check_identity(core, released)
        except (OSError, ValueError) as error:
            tried.append((where, error))
            continue
        core.name, core.source = released.name, released.name
        return core
    reasons = "".join(f"\n  - {where}: {error}" for where, error in tried)
    raise CoreUnavailableError(
        f"core '{released.name}' could not be had. Tried:{reasons}\nRemedies: {_remedies(released)}"
    ) from tried[-1][1]


def _sources(released: ReleasedCore, revision: str | None) -> list[tuple[str, Callable[[], Core]]]:
    """Where to look, in order."""
    sources: list[tuple[str, Callable[[], Core]]] = []
    if released.bundled:
        sources.append(("the package", lambda: load_core_folder(ASSETS / released.name)))
    if released.origin is not None:
        sources.append((f"the cache {cache_folder()}", lambda: _load_converted(released)))
    revision = revision or released.revision
    repo = released.repository
    sources += [
        ("the Hub's cache", lambda: _load_from_hub(repo, revision, local_only=True)),
        (f"the Hub, {repo}", lambda: _load_from_hub(repo, revision)),
    ]
    if released.origin is not None:
        sources.append(("its authors' file", lambda: _convert_origin(released)))
    return sources


def _check_identity(core: Core, released: ReleasedCore) -> None:
    if released.content_hash is None:
        raise ValueError(
            f"this version of mousev1 knows no content hash of '{released.name}' to compare with, so nothing "
            f"can be accepted under that name (this one has {core.content_hash()})"
        )
    if core.content_hash() != released.content_hash:
        raise ValueError(
            f"not '{released.name}': content hash {core.content_hash()}, expected {released.content_hash}"
        )


def _remedies(released: ReleasedCore) -> str:
    remedies = ["check the connection and try again"]
    if released.origin is not None:
        remedies.append(
            f"fetch {released.origin.url} by hand and set {released.origin.variable}=file:///... to it"
        )
    if released.name != BUNDLED_CORE:
        remedies.append(
            f"take the bundled core instead, load_core('{BUNDLED_CORE}'), which was trained on simulated "
            "recordings and is no substitute for results about neurons"
        )
    else:
        remedies.append("install mousev1 from a complete wheel, which holds this core")
    return "; ".join(remedies) + "."


def _converted_folder(released: ReleasedCore) -> Path:
    return cache_folder() / "cores" / f"{released.name}-{(released.content_hash or 'unknown')[:16]}"


def _load_converted(released: ReleasedCore) -> Core:
    """A core that was converted from its authors' file before.

    One whose checksum fails or that lacks a file is removed; what cannot be read for another reason, such as a
    newer format, may be sound and stays.
    """
    folder = _converted_folder(released)
    try:
        core = load_core_folder(folder)
    except (FileNotFoundError, DamagedFileError) as error:
        if folder.is_dir():
            logger.warning("%s was damaged and is made again (%s)", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
        raise
    _check_identity(core, released)
    return core


def _convert_origin(released: ReleasedCore) -> Core:
    """A core from the file that its authors published, converted and kept."""
    from mousev1.hub.download import fetch_origin

    assert released.origin is not None
    file = io.BytesIO()
    url = fetch_origin(released.origin, file)
    file.seek(0)
    core = core_from_state(read_torch_state(file, source=url), released.input, released.name, source=url)
    _check_identity(core, released)
    # features computed when this library was made, not now: else a broken torch would confirm itself
    core.probe = open_safetensors(ASSETS / "probes" / f"{released.name}.safetensors")
    logger.warning("core '%s' comes from its authors' own file, %s", released.name, url)
    folder = _converted_folder(released)
    try:
        _keep(core, folder)
    except OSError as error:
        logger.warning("core '%s' could not be kept in %s (%s)", released.name, folder, error)
    return core


def _keep(core: Core, folder: Path) -> None:
    """Put a core into the cache, as a whole or not at all, whoever else does the same."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = save_core(core, Path(temporary) / "core")
        try:
            os.rename(made, folder)
        except OSError:
            # another process was first, with the same bytes
            if not folder.is_dir():
                raise


# ---------------------------------------------------------------- the Hub


def _load_from_hub(repo_id: str, revision: str | None, *, local_only: bool = False) -> Core:
    from mousev1.hub.download import load_artifact

    def load(folder: Path) -> Core:
        core = load_core_folder(folder)
        core.source, core.revision = repo_id, folder.name
        _check_prior(core, folder)
        return core

    return load_artifact(repo_id, revision, "core", CORE_FILES, load, local_only=local_only)


def _check_prior(core: Core, folder: Path) -> None:
    """The prior is not part of a core's content hash, so a released core's has a checksum of its own."""
    released = find_released(core.content_hash())
    got = read_config(folder, "core")["files"].get(PRIOR_FILE)
    if released is not None and got != released.prior_sha256:
        raise ValueError(
            f"{folder}: {PRIOR_FILE} of core '{released.name}' has SHA-256 {got}, expected {released.prior_sha256}"
        )
