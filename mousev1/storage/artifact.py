"""Artifacts on disk: a folder with ``config.json`` and safetensors, strict to read, atomic to write.

``config.json`` names the kind of artifact, the format version and the SHA-256 of every other file
that carries numbers, so that a torn or mixed-up folder is noticed before it is used. Nothing in an
artifact can run code.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mousev1.errors import listing
from mousev1.storage.atomic import check_replaceable, file_sha256, replacing, whole_version

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
MAX_CONFIG_BYTES = 10_000_000


@dataclass(frozen=True)
class Artifact:
    """What a folder holds.

    Attributes:
        kind: ``"core"`` or ``"response-model"``.
        config: everything but numbers in bulk, plain JSON values.
        tensors: file name to the tensors in it.
        texts: file name to text, such as the card ``README.md``.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    texts: dict[str, str] = field(default_factory=dict)


class DamagedFileError(ValueError):
    """A file is not what its checksum says."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


# ---------------------------------------------------------------- writing


def write_artifact(folder: str | Path, artifact: Artifact, *, overwrite: bool = False) -> Path:
    """Write an artifact as a whole or not at all.

    Args:
        folder: where to; must not exist, or be empty, or (with ``overwrite``) hold an artifact.
        artifact: what to write.
        overwrite: replace an artifact that is there. Other files in its folder are kept.

    Raises:
        FileExistsError: something is there already.
    """
    folder = Path(folder)
    check_replaceable(folder)
    whole_version(folder, lambda version: _check_target(version, overwrite))
    written = {CONFIG_FILE, *artifact.tensors, *artifact.texts}

    def foreign(version: Path) -> set[str]:
        if not version.is_dir():
            return set()
        return {entry.name for entry in version.iterdir()} - written - set(_recorded_files(version))

    def carry_over(old: Path, new: Path) -> None:
        for name in foreign(old):
            _move_if_new(old / name, new / name)

    with replacing(folder, displaced=carry_over) as staging:
        staging.mkdir()
        for name in whole_version(folder, foreign):
            _keep(folder / name, staging / name)
        _write_files(artifact, staging)
        usual = (
            (staging / CONFIG_FILE).stat().st_mode
        )  # safetensors makes files that only their owner can read
        for name in written:
            (staging / name).chmod(_mode(folder / name) or stat.S_IMODE(usual))
    return folder


def _mode(file: Path) -> int | None:
    """Permissions of a file, None if there is none; other writers may replace its folder at any time."""
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except FileNotFoundError:
        return None


def _write_files(artifact: Artifact, staging: Path) -> None:
    digests = {}
    for name, tensors in artifact.tensors.items():
        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        try:
            save_file(contiguous, staging / name, metadata={"format": "pt"})
        except SafetensorError as error:
            # it has no class of its own for a full disk, and says the system's number in its text
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error), str(staging / name)) from error
        digests[name] = file_sha256(staging / name)
    for name, text in artifact.texts.items():
        (staging / name).write_text(text, encoding="utf-8")
    header = {"format_version": FORMAT_VERSION, "kind": artifact.kind, "files": digests}
    config = json.dumps({**header, **artifact.config}, indent=2) + "\n"
    (staging / CONFIG_FILE).write_text(config, encoding="utf-8")


def _check_target(folder: Path, overwrite: bool) -> None:
    if folder.is_file():
        raise FileExistsError(f"{folder}: expected a folder to write to, found a file; name another")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"{folder}: there are files already; name another folder or pass overwrite=True"
        )
    if not _recorded_files(folder):
        raise FileExistsError(
            f"{folder}: overwrite=True replaces only a folder written by mousev1, and this one has "
            f"no {CONFIG_FILE} of it; name another folder"
        )


def _recorded_files(folder: Path) -> list[str]:
    """Files that the artifact in a folder lists as its own; none if it is no artifact."""
    try:
        config = _read_json(folder / CONFIG_FILE)
    except (FileNotFoundError, ValueError):
        return []
    files = config.get("files") if isinstance(config, dict) else None
    return [CONFIG_FILE, *files] if isinstance(files, dict) else []


def _keep(source: Path, target: Path) -> None:
    """Let a user's file or folder be in the new version, too, unless another writer has moved it on by now."""
    try:
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, copy_function=_link)
        else:
            _link(source, target)
    except OSError:
        if os.path.lexists(source):
            raise


def _link(source: str | Path, target: str | Path) -> None:
    """The same file under another name, or a copy where the file system has no such thing."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _move_if_new(old: Path, new: Path) -> None:
    """Move a user's file or folder to the new version if it came, or was changed, while that was written."""
    if not os.path.lexists(new):
        os.rename(old, new)
    elif old.is_dir() and not old.is_symlink() and new.is_dir():
        for entry in old.iterdir():
            _move_if_new(entry, new / entry.name)
    elif old.lstat().st_mtime_ns > new.lstat().st_mtime_ns:
        os.replace(old, new)


# ---------------------------------------------------------------- reading


def read_config(folder: str | Path, kind: str) -> dict[str, Any]:
    """The checked ``config.json`` of an artifact, header included.

    Raises:
        FileNotFoundError: no such folder, or no config in it.
        ValueError: not an artifact of this kind, broken JSON, or a newer format.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder with {CONFIG_FILE}, found nothing there")
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG_FILE} in this folder; is it a mousev1 {kind}?")
    config = _read_json(path)
    if not isinstance(config, dict) or "format_version" not in config:
        raise ValueError(f"{path}: no format_version in it, so not a file written by mousev1")
    version = config["format_version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"{path}: format_version: expected a whole number from 1, got {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version} is newer than this mousev1 reads ({FORMAT_VERSION}); "
            "upgrade with `pip install -U mousev1`"
        )
    if config.get("kind") != kind:
        raise ValueError(f"{path}: expected a {kind}, got a {config.get('kind')!r}")
    if not isinstance(config.get("files"), dict):
        raise ValueError(f"{path}: no list of files with their SHA-256; fetch or save the artifact again")
    return config


def read_kind(folder: str | Path) -> str | None:
    """The kind of artifact in a folder, without judging it; None if it is none of ours."""
    try:
        config = _read_json(Path(folder) / CONFIG_FILE)
    except (OSError, ValueError):
        return None
    return config.get("kind") if isinstance(config, dict) else None


def _read_json(path: Path) -> Any:
    """Plain values of a small regular file; ``ValueError`` for another one or for what is no JSON."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: expected a regular file")
    if status.st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path}: {status.st_size} bytes is too large for a config; refused")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); fetch or save the artifact again") from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def check_keys(path: Path, values: dict[str, Any], *, required: set[str], optional: set[str]) -> None:
    """Refuse missing or unknown keys of a config, listing them sorted."""
    header = {"format_version", "kind", "files"}
    missing, unknown = sorted(required - set(values)), sorted(set(values) - required - optional - header)
    if missing or unknown:
        parts = [f"missing {listing(missing)}"] if missing else []
        parts += [f"unknown {listing(unknown)}"] if unknown else []
        raise ValueError(f"{path}: keys do not fit this format: {'; '.join(parts)}")


def check_files(folder: Path, config: dict[str, Any], *, required: set[str], optional: set[str]) -> None:
    """Refuse missing or unknown entries in a config's list of files, listing them sorted."""
    files = set(config["files"])
    missing, unknown = sorted(required - files), sorted(files - required - optional)
    if missing or unknown:
        parts = [f"missing {listing(missing)}"] if missing else []
        parts += [f"unknown {listing(unknown)}; a newer mousev1 may know more"] if unknown else []
        raise ValueError(f"{folder / CONFIG_FILE}: 'files' does not fit this format: {'; '.join(parts)}")


def read_tensors(folder: str | Path, name: str, config: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of one file of an artifact, after its checksum held.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: truncated, altered or not safetensors.
    """
    path = Path(folder) / name
    expected = config["files"].get(name)
    if expected is None:
        raise ValueError(f"{Path(folder) / CONFIG_FILE}: 'files' does not list {name}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; fetch or save the artifact again")
    got = file_sha256(path)
    if got != expected:
        raise DamagedFileError(
            path, f"truncated or altered (SHA-256 {got}, expected {expected}); fetch or save it again"
        )
    return open_safetensors(path)


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; ``ValueError`` if it is not a sound one."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        header = int.from_bytes(handle.read(8), "little")
    # Checked before the parser sees it: a hostile header must not make anything allocate.
    if size < 8 or header > size - 8:
        raise ValueError(
            f"{path}: not a sound safetensors file (a header of {header} bytes in a file of {size}); "
            "truncated download or not safetensors at all"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a sound safetensors file ({error})") from error
    except RuntimeError as error:  # torch's word for a file that cannot be opened
        raise OSError(f"{path}: could not be read ({error})") from error


def fill(module: torch.nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """Give a module built on the meta device its tensors: every one, no other, in the right shape.

    Raises:
        ValueError: listing missing and unknown names, and wrong shapes or types, sorted.
    """
    expected = module.state_dict()
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    problems = [f"missing {listing(missing)}"] if missing else []
    problems += [f"unknown {listing(unknown)}"] if unknown else []
    for key in sorted(set(expected) & set(tensors)):
        want, got = expected[key], tensors[key]
        if want.shape != got.shape:
            problems.append(f"'{key}' has shape {tuple(got.shape)}, expected {tuple(want.shape)}")
        elif want.dtype != got.dtype:
            problems.append(f"'{key}' is {got.dtype}, expected {want.dtype}")
        elif got.is_floating_point() and not bool(torch.isfinite(got).all()):
            problems.append(f"'{key}' holds NaN or infinite values")
    if problems:
        raise ValueError(f"{source}: tensors do not fit the config: {'; '.join(problems)}")
    module.load_state_dict(tensors, strict=True, assign=True)


def build_on_meta(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A module without memory behind it: its shapes can be compared before anything is allocated."""
    with torch.device("meta"):
        return build().float()  # whatever torch's default type is, files hold float32
