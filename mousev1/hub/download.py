"""Files from the Hub and from a core's authors: bounded in size, checked, and failures explained.

The transfer itself is ``huggingface_hub``'s, so its cache and its settings hold (``HF_ENDPOINT``,
``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``). It compares the size of a body but not its checksum, so
that is done here, and a file that fails leaves the cache.
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
from pathlib import Path
from typing import BinaryIO

from mousev1.hub.registry import Origin
from mousev1.storage.artifact import CONFIG_FILE, MAX_CONFIG_BYTES, read_config

logger = logging.getLogger("mousev1")

DEFAULT_REVISION = "main"
ORIGIN_TIMEOUT_SECONDS = 30.0
MAX_ORIGIN_BYTES = 10_000_000
# a thousand times 11-S, and a readout of sixteen million neurons on 64 channels
MAX_BYTES = {"core": 300_000_000, "response-model": 5_000_000_000}

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


# ---------------------------------------------------------------- the Hub


def fetch_artifact(
    repo_id: str, revision: str | None, kind: str, names: tuple[str, ...], *, local_only: bool = False
) -> Path:
    """A folder of the Hub's cache with an artifact in it; its name is the commit.

    Args:
        repo_id: ``owner/repo``.
        revision: branch, tag or commit; the main branch if None.
        kind: of the artifact, see ``checkpoint.Artifact``.
        names: files to get beside ``config.json``, if the config lists them.
        local_only: look at the cache alone.

    Raises:
        FileNotFoundError: no such repository, revision or file.
        PermissionError: private or gated.
        ConnectionError: the Hub could not be reached or failed; ``TimeoutError`` if it did not answer.
        ValueError: too large, not what its checksum says, or no artifact of this kind.
        OSError: the cache cannot be written, for example because the disk is full.
    """
    config_path = _fetch(repo_id, CONFIG_FILE, revision or DEFAULT_REVISION, MAX_CONFIG_BYTES, local_only)
    folder = config_path.parent
    listed = read_config(folder, kind)["files"]
    for name in names:
        if name in listed:
            _fetch(repo_id, name, folder.name, MAX_BYTES[kind], local_only)
    return folder


def _fetch(repo_id: str, name: str, revision: str, most: int, local_only: bool) -> Path:
    """One file, from the cache if its commit is known, from the Hub otherwise."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    cached = _cached(repo_id, name, revision)
    if cached is not None and (local_only or _offline() or _COMMIT.fullmatch(revision)):
        return cached
    if local_only:
        raise FileNotFoundError(f"{name} of {repo_id} is not in the cache")
    if _offline():
        raise ConnectionError(
            f"{name} of {repo_id} is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub"
        )
    try:
        metadata = get_hf_file_metadata(
            hf_hub_url(repo_id, name, revision=revision), timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except Exception as error:  # the client raises its transport's exceptions, which differ by version
        explained = _explained(error, repo_id, name, revision)
        if cached is not None and isinstance(explained, ConnectionError | TimeoutError):
            logger.warning("%s; using the copy of commit %s in the cache", explained, cached.parent.name)
            return cached
        raise explained from error
    if metadata.size is not None and metadata.size > most:
        raise ValueError(
            f"{name} of {repo_id} has {metadata.size} bytes, more than the {most} allowed; refused"
        )
    try:
        path = Path(hf_hub_download(repo_id, name, revision=revision))
    except Exception as error:
        raise _explained(error, repo_id, name, revision) from error
    if problem := _mismatch(path, _blob_name(path) or metadata.etag or ""):
        _evict(path)
        raise ValueError(
            f"{name} of {repo_id} does not match its checksum ({problem}) and was removed from the cache; try "
            "again, and if it stays, something on the way alters downloads"
        )
    return path


def _cached(repo_id: str, name: str, revision: str) -> Path | None:
    """The file in the cache, if it is there and sound; a damaged one is removed."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, name, revision=revision)
    if not isinstance(found, str):
        return None
    path = Path(found)
    if problem := _mismatch(path, _blob_name(path) or ""):
        logger.warning("%s was damaged in the cache (%s) and is fetched again", path, problem)
        _evict(path)
        return None
    return path


def _blob_name(path: Path) -> str | None:
    """What the cache calls the content of a file: its checksum on the Hub."""
    return Path(os.readlink(path)).name if path.is_symlink() else None


def _mismatch(path: Path, etag: str) -> str:
    """How a file differs from the checksum in its etag; empty if it does not."""
    if _SHA256.fullmatch(etag):
        digest = hashlib.sha256()
    elif _COMMIT.fullmatch(etag):
        # small files are named as git names them
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return ""
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return "" if digest.hexdigest() == etag else f"{digest.hexdigest()}, expected {etag}"


def _evict(path: Path) -> None:
    """Remove a file from the cache, the content behind its link included."""
    if path.is_symlink():
        (path.parent / os.readlink(path)).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


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
