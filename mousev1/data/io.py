"""Files to ``Scan`` and back.

``file_tree`` is the format that scans are published in, as a folder or a zip; ``hdf5`` is one file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os.path import expanduser
from pathlib import Path

from mousev1.data.archive import is_scan_folder
from mousev1.data.cleaning import Cleaning, clean_fields, name_neurons, translate_tiers
from mousev1.data.file_tree import read_file_tree
from mousev1.data.file_tree_writer import write_file_tree
from mousev1.data.hdf5 import read_hdf5, write_hdf5
from mousev1.data.scan import Scan
from mousev1.errors import listing
from mousev1.storage.atomic import replacing
from mousev1.storage.reading import check_regular

logger = logging.getLogger("mousev1")

# Ending of the name to format; a folder has the empty ending, whatever it is called.
FORMATS = {"": "file tree", ".zip": "file tree", ".h5": "hdf5", ".hdf5": "hdf5"}


def read_scan(
    path: str | Path,
    *,
    tiers: Mapping[str, str | None] | None = None,
    negatives: str = "error",
    drop: str | None = None,
    progress: bool = False,
) -> Scan:
    """Read a scan from a published file tree (folder or zip) or from HDF5.

    Nothing is extracted to disk and nothing is unpickled. The responses are read straight into their
    final array, and images that were shown repeatedly are kept once.

    Args:
        path: a folder or ``.zip`` as ``mousev1.data.file_tree`` describes it, or an ``.h5`` or
            ``.hdf5`` file as ``mousev1.data.hdf5`` does.
        tiers: what the tier names of a file mean where they are not train, validation and test:
            name in the file to one of these, or to None to leave its trials out, for example
            ``{"final_test": None}``.
        negatives: ``"clip"`` sets negative responses to 0, as dF/F has them. Rounding below 0 becomes 0 in any case.
        drop: leave out the ``"trials"`` or the ``"neurons"`` with responses that are not finite (or the
            neurons without a position).
        progress: show a progress bar.

    Raises:
        FileNotFoundError: nothing at ``path``.
        ValueError: not a scan, truncated or damaged, a newer format, unknown tiers, withheld
            responses, or contents that a ``Scan`` refuses; the message names file and member.
    """
    path = Path(expanduser(path))
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a scan (folder, .zip, .h5), found nothing there")
    if not path.is_dir():
        check_regular(path)
    kind = "file tree" if path.is_dir() else FORMATS.get(path.suffix.lower() or "no ending")
    if kind == "hdf5":
        fields = read_hdf5(path)
        fields = translate_tiers(fields, tiers or {}, f"{path}: trials/tier")
    elif kind == "file tree":
        fields = read_file_tree(path, tiers=tiers, progress=progress)
    else:
        raise ValueError(
            f"{path}: expected a folder or a file ending in {listing(sorted(FORMATS)[1:])}, got '{path.suffix}'"
        )
    fields, named = name_neurons(fields)
    fields, cleaned = clean_fields(fields, Cleaning(negatives, drop))
    for note in (*named, *cleaned):
        logger.warning("%s: %s", path.name, note)
    return Scan(**fields)


def write_scan(scan: Scan, path: str | Path, *, overwrite: bool = False, progress: bool = False) -> Path:
    """Write a scan so that ``read_scan`` gives it back exactly; see ``Scan.write``."""
    path = Path(expanduser(path))
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"path: expected a name ending in {listing(sorted(FORMATS)[1:])}, or without an ending for a "
            f"folder, got '{path}'"
        )
    _check_target(path, overwrite)
    with replacing(path) as staging:
        if kind == "hdf5":
            write_hdf5(scan, staging)
        else:
            write_file_tree(scan, path, staging, progress=progress)
    return path


def _check_target(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(f"{path}: there is something already; name another path or pass overwrite=True")
    if path.is_dir() != (path.suffix == "") or (path.is_dir() and not is_scan_folder(path)):
        raise FileExistsError(
            f"{path}: overwrite=True replaces a scan by one of the same kind only, and this is none; "
            "name another path"
        )
