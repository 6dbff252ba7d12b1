"""Any file or folder to a ``Recording``, by what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mousev1.errors import listing
from mousev1.ingest.caiman import is_caiman, read_caiman
from mousev1.ingest.matlab import read_matlab
from mousev1.ingest.named_arrays import read_named_arrays
from mousev1.ingest.nwb import read_nwb
from mousev1.ingest.options import NeuronSelection
from mousev1.ingest.recording import Recording
from mousev1.ingest.report import Report
from mousev1.ingest.suite2p import is_suite2p, read_suite2p
from mousev1.storage.reading import check_regular

DAMAGE = (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, AssertionError)
Source = str | Path | Sequence[str | Path]


def read_recording(source: Source, chosen: NeuronSelection, report: Report) -> Recording:
    """The recording in a file or folder, by what it is.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: nothing that is known.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"source: expected a recording, found nothing at {path}")
    try:
        return _read(paths, chosen, report)
    except DAMAGE as error:  # whatever a damaged file, or one of another layout, happens to hit
        raise ValueError(
            f"source: {listing(paths, 3)}: not a recording of a layout that is known, or damaged "
            f"({type(error).__name__}: {error}); write it again"
        ) from error


def _read(paths: Sequence[Path], chosen: NeuronSelection, report: Report) -> Recording:
    first = paths[0]
    if not first.is_dir():
        check_regular(first)
    if all(path.is_file() and is_caiman(path) for path in paths):
        return read_caiman(paths, report, signal=chosen.signal)
    if len(paths) > 1:
        raise ValueError("source: only files of CaImAn may be several, one per plane; give one path")
    if is_suite2p(first):
        return read_suite2p(first, report, signal=chosen.signal, min_probability=chosen.min_probability)
    suffix = "folder" if first.is_dir() else first.suffix.lower()
    readers: dict[str, Callable[[], Recording]] = {
        ".nwb": lambda: read_nwb(first, report, signal=chosen.signal, series=chosen.series),
        ".mat": lambda: read_matlab(first, report, signal=chosen.signal),
        ".npz": lambda: read_named_arrays(first, report, signal=chosen.signal),
        "folder": lambda: read_named_arrays(first, report, signal=chosen.signal),
    }
    if suffix not in readers:
        raise ValueError(
            f"source: expected a suite2p folder, .nwb, CaImAn's .hdf5, .mat, .npz or a folder of arrays, got {first}"
        )
    return readers[suffix]()
