"""Files and folders that are written as a whole or not at all.

A new version is written beside its target, in a hidden folder ``.NAME.XXXXXXXX.writing`` that its writer keeps locked.
Once it is complete and on the disk, it becomes the target in one step: a file by a rename, a folder by an exchange
with the old one, where the system has such a thing (Linux, macOS). Elsewhere the old folder steps aside for an
instant. A writer that is killed in this instant leaves both versions in its hidden folder, from where the next writer
or reader puts one back. What else killed writers leave is removed by the next writer of the same target.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

if sys.platform != "win32":
    import fcntl

SUFFIX = ".writing"
LOCK, NEW, OLD = "lock", "new", "old"
READ_AGAIN_SECONDS = 30.0
POLL_SECONDS = 0.005
# From Linux' fcntl.h and fs.h, and macOS' stdio.h.
AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2

Found = TypeVar("Found")


@contextmanager
def replacing(target: Path, *, displaced: Callable[[Path, Path], None] | None = None) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its name when the block ends without error.

    Works for files and for folders. An error leaves the target as it was and removes the temporary; a killed process
    leaves the old version or the new one, whole. Permissions of a target that is there are kept, and of a link the
    link, while what it leads to is replaced.

    Args:
        target: file or folder, there already or not.
        displaced: called with the old version of a folder, before it is removed, and where the new one is.

    Raises:
        OSError: what ``check_replaceable`` refuses, or the file system.
    """
    target = check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy(target)
    with _holder(target) as holder:
        yield holder / NEW
        _sync(holder / NEW)
        _put(holder, target, displaced)
        _sync_folder(target.parent)


def check_replaceable(target: Path) -> Path:
    """Where ``target`` leads to, links followed; refuses what cannot be replaced as a whole.

    Raises:
        FileExistsError: the current folder or one above it, the root of a file system, a pipe or device.
        NotADirectoryError: below a file.
        PermissionError: a folder that may not be written to.
        OSError: a link that leads to itself.
    """
    given, target = target, Path(os.path.realpath(target))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "a link that leads to itself; name another path", str(given))
    kind = _kind(target)
    if kind == "other":
        raise FileExistsError(
            f"{given}: neither a file nor a folder, so nothing is written to it; name another path"
        )
    above = next((folder for folder in target.parents if folder.exists()), target)
    if not above.is_dir():
        raise NotADirectoryError(
            f"{given}: {above} is a file, in which nothing can be written; name another path"
        )
    if kind is None:
        _check_writable(above, given)
    if kind == "folder":
        if Path.cwd().is_relative_to(target) or os.path.ismount(target):
            what = (
                "the root of a file system"
                if os.path.ismount(target)
                else "the current folder or one above it"
            )
            raise FileExistsError(f"{given}: {what} cannot be replaced as a whole; name a folder in it")
        before = _version(target)  # another writer may be between two renames
        if not os.access(target, os.W_OK) and before == _version(target) is not None:
            raise PermissionError(
                f"{given}: a folder without permission to write; change that or name another"
            )
    return target


def _check_writable(folder: Path, given: Path) -> None:
    """Permissions do not say it all: some file systems take no file from anybody."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(
            f"{given}: nothing can be written in {folder} ({error.strerror}); name a path elsewhere"
        ) from error


def _kind(path: Path) -> str | None:
    """``"folder"``, ``"file"``, ``"other"``, or None for nothing: asked once, as other writers replace it."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def whole_version(folder: Path, read: Callable[[Path], Found]) -> Found:
    """What ``read`` makes of a folder, of one version of it even while other processes replace it.

    Args:
        folder: written by ``replacing``.
        read: reads the folder, possibly several times.
    """
    give_up = time.monotonic() + READ_AGAIN_SECONDS
    while True:
        before = _version(folder)
        if before is None and _recover(folder):
            continue
        try:
            found = read(folder)
        except (OSError, ValueError):
            if before == _version(folder) or time.monotonic() > give_up:
                raise
        else:
            if before == _version(folder) or time.monotonic() > give_up:
                return found


def _version(folder: Path) -> tuple[int, ...] | None:
    """Differs between the versions of a folder, whose numbers (inodes) the system may use again."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


# ---------------------------------------------------------------- the new version takes the name


def _put(holder: Path, target: Path, displaced: Callable[[Path, Path], None] | None) -> None:
    """Give the new version the target's name."""
    new = holder / NEW
    for attempt in range(1000):  # other writers may come in between
        kind, wanted = _kind(target), _kind(new)
        if kind not in (None, wanted):
            raise FileExistsError(
                f"{target}: expected a {wanted} to replace, found a {kind}; name another path"
            )
        try:
            if kind is not None:
                os.chmod(new, stat.S_IMODE(target.stat().st_mode))
            if kind != "folder":
                os.replace(new, target)
                return
            if _exchange(new, target):
                old, now = new, target
            else:
                old, now = holder / f"{OLD}{attempt}", new
                os.rename(target, old)
            if displaced is not None:
                displaced(old, now)
            if now == new:
                os.rename(new, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST) or not new.exists():
                raise
    raise FileExistsError(f"{target}: others write to it all the time; try again")


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change names in one step; False where the system or the file system has no such step."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return False
    first, second = os.fsencode(a), os.fsencode(b)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(first, second, RENAME_SWAP)
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(b))
    return not failed


def _sync(path: Path) -> None:
    """Force a file, or a folder with all in it, to the disk before it is renamed."""
    if path.is_dir():
        for entry in path.iterdir():
            if not entry.is_symlink():
                _sync(entry)
        _sync_folder(path)
    elif path.is_file():
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # folders cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- hidden folders of writers


@contextmanager
def _holder(target: Path) -> Iterator[Path]:
    """A locked hidden folder beside ``target``; at its end the target is there again, and the folder gone."""
    while True:
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent))
        with _locked(holder, create=True) as locked:
            if not locked:
                continue  # another writer took it for a leftover
            try:
                yield holder
            finally:
                _restore(holder, target)
                _remove(holder)
            return


@contextmanager
def _locked(holder: Path, *, create: bool = False) -> Iterator[bool]:
    """Whether this process has the hidden folder for itself: none that lives writes in it."""
    if sys.platform == "win32":  # no such locks
        yield True
        return
    try:
        handle = os.open(holder / LOCK, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    try:
        yield _lock(handle, otherwise=create) and (holder / LOCK).exists()
    finally:
        os.close(handle)


def _lock(handle: int, *, otherwise: bool) -> bool:
    """Lock an open file unless another process has; ``otherwise`` where the file system has no locks."""
    if sys.platform == "win32":
        return otherwise
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True


def _remove(holder: Path) -> None:
    """The lock goes last: what a process that is killed here leaves can still be locked, or is empty."""
    for entry in _entries(holder):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK:
            entry.unlink()
    (holder / LOCK).unlink(missing_ok=True)
    _remove_if_empty(holder)


def _remove_if_empty(holder: Path) -> None:
    with suppress(OSError):  # not empty, or another process was first
        holder.rmdir()


def _holders(target: Path) -> list[Path]:
    """Hidden folders of writers of ``target``, of this process too."""
    start = f".{target.name}."
    try:
        names = os.listdir(target.parent)
    except OSError:
        return []
    return [target.parent / name for name in names if name.startswith(start) and name.endswith(SUFFIX)]


def _tidy(target: Path) -> None:
    """Remove what killed writers left, and put the target back if one of them was killed between two renames."""
    if sys.platform == "win32":  # whether a writer lives is not known: what a killed one left stays
        return
    for holder in _holders(target):
        with _locked(holder) as locked:
            if locked:
                _restore(holder, target)
                _remove(holder)
        if not locked:
            _remove_if_empty(holder)


def _set_aside(holder: Path) -> list[Path]:
    """Versions that stepped aside into a hidden folder, the last one at the end."""
    return sorted(entry for entry in _entries(holder) if entry.name.startswith(OLD))


def _entries(holder: Path) -> list[Path]:
    """What is in a hidden folder, nothing if another process has removed it."""
    try:
        return list(holder.iterdir())
    except FileNotFoundError:
        return []


def _restore(holder: Path, target: Path) -> bool:
    """Put a version back from a hidden folder if the target is missing and one stepped aside."""
    olds = _set_aside(holder)
    if not olds or target.exists():
        return False
    try:
        os.rename(holder / NEW if (holder / NEW).exists() else olds[-1], target)
    except OSError:
        if not target.exists():
            raise
        return False  # another writer was first
    return True


def _recover(target: Path) -> bool:
    """Whether a missing target is back, or will be in an instant: a writer that lives is between two renames."""
    target = Path(os.path.realpath(target))
    for holder in _holders(target):
        with _locked(holder) as locked:
            if locked and _restore(holder, target):
                return True
        if not locked and _set_aside(holder):
            time.sleep(POLL_SECONDS)
            return True
    return target.exists()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
