"""Files from the Hub and from a core's authors: bounded in size, checked, and failures explained.

The transfer itself is ``huggingface_hub``'s, so its cache and its settings hold (``HF_ENDPOINT``,
``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``). It compares the size of a body but not its checksum: that is in
the artifact's own config, and a file that fails leaves the cache.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from mousev1.hub.registry import Origin
from mousev1.storage.artifact import CONFIG_FILE, MAX_CONFIG_BYTES, DamagedFileError, read_config
from mousev1.storage.atomic import file_sha256

logger = logging.getLogger("mousev1")

DEFAULT_REVISION = "main"
ORIGIN_TIMEOUT_SECONDS = 30.0
MAX_ORIGIN_BYTES = 10_000_000
# a thousand times 11-S, and a readout of sixteen million neurons on 64 channels
MAX_BYTES = {"core": 300_000_000, "response-model": 5_000_000_000}

_COMMIT = re.compile(r"[0-9a-f]{40}")
Loaded = TypeVar("Loaded")


# ---------------------------------------------------------------- the Hub


def load_artifact(
    repo_id: str,
    revision: str | None,
    kind: str,
    names: tuple[str, ...],
    load: Callable[[Path], Loaded],
    *,
    local_only: bool = False,
) -> Loaded:
    """What ``load`` makes of an artifact's folder in the Hub's cache, whose name is the commit.

    A file that turns out to be damaged leaves the cache and is fetched once more.

    Args:
        repo_id: ``owner/repo``.
        revision: branch, tag or commit; the main branch if None.
        kind: of the artifact, see ``artifact.Artifact``.
        names: files to get beside ``config.json``, if the config lists them.
        load: reads the folder; raises ``DamagedFileError`` for a file that is not what its checksum says.
        local_only: look at the cache alone.

    Raises:
        FileNotFoundError: no such repository, revision or file.
        PermissionError: private or gated.
        ConnectionError: the Hub could not be reached or failed; ``TimeoutError`` if it did not answer.
        ValueError: too large, not what its checksum says, or no artifact of this kind.
        OSError: the cache cannot be written, for example because the disk is full.
    """

    def attempt() -> Loaded:
        config = _fetch(repo_id, CONFIG_FILE, revision or DEFAULT_REVISION, MAX_CONFIG_BYTES, local_only)
        _check_config(config)
        folder = config.parent
        listed = read_config(folder, kind)["files"]
        for name in names:
            if name in listed:
                _fetch(repo_id, name, folder.name, MAX_BYTES[kind], local_only)
        return load(folder)

    with _no_folder_but_a_repository(repo_id):
        try:
            return attempt()
        except DamagedFileError as error:
            _evict(error, kind, repo_id)
            logger.warning("%s was damaged in the cache and is fetched again (%s)", error.path, error)
        try:
            return attempt()
        except DamagedFileError as error:
            _evict(error, kind, repo_id)
            raise ValueError(
                f"{error.path.name} of {repo_id} does not match its checksum ({error}) and was removed from the "
                "cache; try again, and if it stays, something on the way alters downloads"
            ) from error


def _fetch(repo_id: str, name: str, revision: str, most: int, local_only: bool) -> Path:
    """One file, from the cache if its commit is known, from the Hub otherwise."""
    from huggingface_hub import (
        constants,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    found = try_to_load_from_cache(repo_id, name, revision=revision)
    cached = Path(found) if isinstance(found, str) else None
    if cached is not None and (local_only or _offline() or _COMMIT.fullmatch(revision)):
        return cached
    if local_only:
        raise FileNotFoundError(f"{name} of {repo_id} is not in the cache")
    if _offline():
        raise ConnectionError(
            f"{name} of {repo_id} is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub"
        )
    try:
        url = hf_hub_url(repo_id, name, revision=revision)
        size = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT).size
        if size is None or size <= most:
            return Path(hf_hub_download(repo_id, name, revision=revision))
    except Exception as error:  # the client raises its transport's exceptions, which differ by version
        explained = _explained(error, repo_id, name, revision)
        if cached is not None and isinstance(explained, ConnectionError | TimeoutError):
            logger.warning("%s; using the copy of commit %s in the cache", explained, cached.parent.name)
            return cached
        raise explained from error
    raise ValueError(f"{name} of {repo_id} has {size} bytes, more than the {most} allowed; refused")


def _check_config(path: Path) -> None:
    """Compare a small file with its name in the Hub's cache, which is what git calls its content."""
    blob = Path(os.readlink(path)).name if path.is_symlink() else ""
    content = path.read_bytes()
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if _COMMIT.fullmatch(blob) and blob != digest:
        raise DamagedFileError(path, f"git's SHA-1 is {digest}, expected {blob}")


def _evict(error: DamagedFileError, kind: str, repo_id: str) -> None:
    """Remove all damaged files of an artifact from the Hub's cache, the contents behind their links included."""
    folder = error.path.parent
    if "models--" + repo_id.replace("/", "--") not in folder.parts:
        raise error  # of another folder, which is not ours to change
    damaged = {error.path}
    if error.path.name != CONFIG_FILE:
        files = read_config(folder, kind)["files"]
        there = {folder / name: digest for name, digest in files.items() if (folder / name).is_file()}
        damaged |= {path for path, digest in there.items() if file_sha256(path) != digest}
    for path in damaged:
        if path.is_symlink():
            (path.parent / os.readlink(path)).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


@contextmanager
def _no_folder_but_a_repository(name: str) -> Iterator[None]:
    """Errors of the Hub add that a folder may have been meant, whose path is mistyped."""
    try:
        yield
    except (ConnectionError, FileNotFoundError, PermissionError, TimeoutError) as error:
        if error.errno is None:  # else it is about this machine's files
            error.args = (f"{error} ({name!r} is no folder here and was taken for a repository on the Hub)",)
        raise


def explain_push(error: Exception, repo_id: str) -> Exception:
    """A failed push in words of this library."""
    return _explained(error, repo_id, "", "")


def _explained(error: Exception, repo_id: str, name: str, revision: str) -> Exception:
    """The builtin exception that fits a failure of the client, with its cause and the remedy."""
    from huggingface_hub import errors

    # the client wraps what failed while it looked for or uploaded a file
    cause: BaseException = error
    while isinstance(cause, errors.LocalEntryNotFoundError | RuntimeError) and cause.__cause__ is not None:
        cause = cause.__cause__
    where = f"{name} of {repo_id}" if name else repo_id
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.GatedRepoError):
        return PermissionError(
            f"{repo_id} is gated (HTTP {status}): ask for access on its page, then log in with `hf auth login` "
            "or set HF_TOKEN"
        )
    if isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        denied = f"{repo_id} does not exist or is private (HTTP {status})"
        if status == 401:
            return PermissionError(f"{denied}: log in with `hf auth login` or set HF_TOKEN to a valid token")
        return FileNotFoundError(f"{denied}: check the name; for a private one, log in or set HF_TOKEN")
    if isinstance(cause, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{repo_id} has no revision '{revision}' (HTTP {status})")
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return ConnectionError(f"{where}: HF_HUB_OFFLINE forbids to ask the Hub")
    if isinstance(cause, errors.LocalEntryNotFoundError):
        return ConnectionError(f"{where}: the Hub could not be reached ({_one_line(cause)})")
    if isinstance(cause, errors.EntryNotFoundError):
        return FileNotFoundError(f"{repo_id} has no {name} (HTTP {status}); is it a mousev1 repository?")
    if status == 403:
        return PermissionError(f"{where} is forbidden for this token (HTTP 403): check its permissions")
    if status == 429:
        return ConnectionError(f"{where}: the Hub asks to slow down (HTTP 429); wait some minutes, or log in")
    if status is not None and status < 500:
        return ConnectionError(f"{where}: the Hub refused (HTTP {status}): {_one_line(cause)}")
    if status is not None:
        return ConnectionError(f"{where}: the Hub failed (HTTP {status}); try again later")
    return _explained_transport(cause, where)


def _explained_transport(cause: BaseException, where: str) -> Exception:
    """Failures below HTTP, from whatever library carries it."""
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    detail = f"{type(cause).__name__}: {_one_line(cause)}"
    if kinds & {"TimeoutException", "Timeout", "TimeoutError"}:
        return TimeoutError(f"{where}: no answer in time ({detail}); check the connection, try again")
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return OSError(
            errno.ENOSPC, f"{where}: no space left on the disk of the cache; free some or set HF_HOME"
        )
    if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EROFS, errno.EFBIG, errno.EDQUOT):
        return OSError(
            cause.errno, f"{where}: the cache cannot be written ({detail}); set HF_HOME to elsewhere"
        )
    if isinstance(cause, OSError | ValueError) and "Consistency check failed" in str(cause):
        return ConnectionError(f"{where}: the connection broke off before the end; try again")
    if kinds & {"TransportError", "HTTPError", "ConnectionError", "RequestException"}:
        return ConnectionError(f"{where}: the connection failed or broke off ({detail}); try again")
    if isinstance(cause, ValueError):
        return ValueError(f"{where}: {detail}")
    return ConnectionError(f"{where}: the Hub could not be used ({detail})")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


# ---------------------------------------------------------------- authors' own files


def fetch_origin(origin: Origin, target: BinaryIO) -> str:
    """Write a core's published file, checksum verified, to an open file; returns where it came from.

    Raises:
        ConnectionError: unreachable, failed or cut; ``TimeoutError`` if it did not answer.
        FileNotFoundError: nothing there.
        ValueError: too large, another checksum, or a URL of another kind than http, https and file.
    """
    url = os.environ.get(origin.variable) or origin.url
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https", "file"):
        raise ValueError(f"{origin.variable}: expected a URL with http, https or file, got {url!r}")
    if scheme != "file" and _offline():
        raise ConnectionError(f"{url} was not asked, because HF_HUB_OFFLINE forbids to use the network")
    request = urllib.request.Request(url, headers={"User-Agent": "mousev1"})
    try:
        with urllib.request.urlopen(request, timeout=ORIGIN_TIMEOUT_SECONDS) as response:
            body: bytes = response.read(MAX_ORIGIN_BYTES + 1)
            promised = response.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        kind = FileNotFoundError if error.code in (404, 410) else ConnectionError
        raise kind(f"{url} answered with HTTP {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise TimeoutError(f"{url} did not answer within {ORIGIN_TIMEOUT_SECONDS:g} seconds") from error
        if isinstance(reason, FileNotFoundError):
            raise FileNotFoundError(f"{url}: no such file") from error
        raise ConnectionError(f"{url} could not be read ({type(reason).__name__}: {reason})") from error
    if len(body) > MAX_ORIGIN_BYTES:
        raise ValueError(f"{url} has more than the {MAX_ORIGIN_BYTES} bytes allowed; refused")
    if promised is not None and len(body) != int(promised):
        raise ConnectionError(f"{url}: the connection broke off after {len(body)} of {promised} bytes")
    digest = hashlib.sha256(body).hexdigest()
    if digest != origin.sha256:
        raise ValueError(f"{url} does not match its checksum (SHA-256 {digest}, expected {origin.sha256})")
    target.write(body)
    target.flush()
    return url


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
