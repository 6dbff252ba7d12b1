"""Where the members of a file tree come from and go to: a folder, or a zip that is never extracted."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from mousev1.errors import printable
from mousev1.storage.reading import check_regular, check_unpacked

MAX_MEMBER_BYTES = 1 << 30
MEMBER_DATE = (1980, 1, 1, 0, 0, 0)  # the same scan gives the same zip, byte for byte


class Tree(Protocol):
    """Members by name, such as ``meta/trials/tiers.npy``, under the folder of one scan."""

    name: str

    def has(self, member: str) -> bool:
        """Whether there is such a member."""

    def children(self, folder: str) -> list[str]:
        """Names of the files right inside a folder, sorted; none if there is no such folder."""

    def read(self, member: str) -> bytes:
        """The bytes of a member; ``ValueError`` naming it if it is missing or broken."""

    def where(self, member: str) -> str:
        """What to call a member in messages."""


class FolderTree:
    """A scan in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name

    def has(self, member: str) -> bool:
        """Whether there is such a file."""
        return (self.root / member).is_file()

    def children(self, folder: str) -> list[str]:
        """Names of the files right inside a folder, sorted."""
        path = self.root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def read(self, member: str) -> bytes:
        """The bytes of a file."""
        path = self.root / member
        try:
            size = check_regular(path)
            if size > MAX_MEMBER_BYTES:
                raise ValueError(
                    f"{self.where(member)}: {size:,} bytes, more than a file of a scan has; refused"
                )
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(f"{self.where(member)}: missing; fetch or export the scan again") from error

    def where(self, member: str) -> str:
        """Its path."""
        return printable(self.root / member)


class ZipTree:
    """A scan in a zip, with or without a folder around it."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, prefix: str) -> None:
        self.archive = archive
        self.path = path
        self.prefix = prefix
        self.name = PurePosixPath(prefix).name or path.stem
        self.members = {
            info.filename[len(prefix) :]: info
            for info in archive.infolist()
            if info.filename.startswith(prefix) and not info.is_dir()
        }

    def has(self, member: str) -> bool:
        """Whether there is such a member."""
        return member in self.members

    def children(self, folder: str) -> list[str]:
        """Names of the members right inside a folder, sorted."""
        start = folder + "/"
        inside = (name[len(start) :] for name in self.members if name.startswith(start))
        return sorted(name for name in inside if "/" not in name)

    def read(self, member: str) -> bytes:
        """The bytes of a member, its checksum verified."""
        if member not in self.members:
            raise ValueError(f"{self.where(member)}: missing; fetch or export the scan again")
        return read_member(self.archive, self.members[member].filename)

    def where(self, member: str) -> str:
        """The path of the zip and the member's name in it."""
        return printable(f"{self.path}: {self.prefix}{member}")


def is_scan_folder(path: Path) -> bool:
    """Whether a folder looks like a file tree: it has the images, or the tiers of the trials."""
    return (path / "data" / "images").is_dir() or (path / "meta" / "trials").is_dir()


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """The file tree in a folder or zip, whether or not one more folder lies around it.

    Raises:
        ValueError: no scan there, several of them, not a sound zip, or a zip with names that lead
            out of it.
    """
    if path.is_dir():
        roots = [path] if is_scan_folder(path) else [p for p in sorted(path.iterdir()) if is_scan_folder(p)]
        yield FolderTree(path / _only(path, [str(root.relative_to(path)) for root in roots]))
        return
    with opened_zip(path) as archive:
        _refuse_escapes(archive, path)
        yield ZipTree(archive, path, _only(path, _scan_prefixes(archive)))


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip open for reading, whose contents fit its size.

    Raises:
        ValueError: no regular file, not a sound zip, or one that unpacks to more than recordings do.
    """
    size = check_regular(path)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, OSError, ValueError) as error:
        raise ValueError(
            f"{printable(path)}: not a sound zip ({error}); truncated download or not a zip at all, fetch it again"
        ) from error
    with archive:
        check_unpacked(printable(path), sum(info.file_size for info in archive.infolist()), size)
        yield archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, its checksum verified; ``ValueError`` naming it if it is damaged."""
    where = printable(f"{archive.filename}: {name}")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error, ValueError) as error:
        raise ValueError(f"{where}: damaged ({error}); fetch the zip again") from error
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{where}: cannot be read ({error}); zip it again, without a password") from error


def _scan_prefixes(archive: zipfile.ZipFile) -> list[str]:
    prefixes = set()
    for name in archive.namelist():
        for landmark in ("data/images/", "meta/trials/"):
            before, found, _ = f"/{name}".partition(f"/{landmark}")
            if found and not before.startswith("/__MACOSX"):
                prefixes.add(f"{before[1:]}/" if before else "")
    return sorted(prefixes)


def _only(path: Path, candidates: list[str]) -> str:
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ValueError(
            f"{path}: expected one scan, got {len(candidates)} ({printable(', '.join(candidates[:5]))}); "
            "give each its own path"
        )
    raise ValueError(
        f"{path}: not a scan: expected data/images/<trial>.npy, data/responses/<trial>.npy and "
        "meta/trials/tiers.npy in it, or in one folder inside; is it empty or something else?"
    )


def _refuse_escapes(archive: zipfile.ZipFile, path: Path) -> None:
    for info in archive.infolist():
        name = info.filename
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise ValueError(f"{path}: refused, because its member {name!r} points outside of the zip")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"{path}: refused, because its member {name!r} is a symbolic link")


# ---------------------------------------------------------------- writing


def write_folder(folder: Path, members: Iterator[tuple[str, bytes]]) -> None:
    """Write members as files of a new folder."""
    made = set()
    for name, data in members:
        target = folder / name
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        target.write_bytes(data)


def write_zip(path: Path, members: Iterator[tuple[str, bytes]], *, top: str) -> None:
    """Write members to a new zip, inside a folder ``top`` as the published ones have it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(f"{top}/{name}", MEMBER_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            # Level 1: responses are noise, on which higher levels take 3 times as long for 2% in size.
            archive.writestr(info, data, compresslevel=1)
