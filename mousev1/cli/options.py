"""Options of the command line, each declared once; nothing here imports torch, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
from os.path import expanduser
from pathlib import Path
from typing import Any


def path(text: str) -> Path:
    """A path as typed, with ``~`` for the home folder."""
    return Path(expanduser(text))


_OPTIONS: dict[str, dict[str, Any]] = {
    "model": {"type": expanduser, "help": "a model folder, or owner/repo on the Hub"},
    "scan": {"type": path, "help": "scan: a file-tree folder or zip as published, or HDF5 (.h5)"},
    "--skip-tier": {
        "action": "append",
        "default": [],
        "metavar": "NAME",
        "help": "leave out the trials of a tier of the file, such as final_test (may be repeated)",
    },
    "--tiers": {
        "default": "",
        "metavar": "NAME=TIER,...",
        "help": "what other tiers of the file mean, for example val=validation,live=test; nothing after = leaves its "
        "trials out",
    },
    "--negatives": {
        "choices": ["error", "clip"],
        "default": "error",
        "help": "negative responses, as dF/F has: stop, or set them to 0 (default: %(default)s)",
    },
    "--drop": {
        "choices": ["neurons", "trials"],
        "help": "leave out the neurons, or the trials, with responses that are not finite",
    },
    "--core": {
        "type": expanduser,
        "default": "11-S",
        "help": "a released name, a folder, or owner/repo on the Hub (default: %(default)s)",
    },
    "--out": {"type": path, "required": True, "help": "what to write"},
    "--no-cortex": {"action": "store_true", "help": "do not use cortical positions"},
    "--pixels-per-degree": {
        "type": float,
        "help": "resolution of the images if it is not the core's; they are resampled",
    },
    "--seed": {"type": int, "default": 0, "help": "of everything random (default: %(default)s)"},
    "--device": {"default": "cpu", "help": "cpu, cuda or mps (default: %(default)s)"},
    "--overwrite": {"action": "store_true", "help": "replace what an earlier run wrote"},
    "--quiet": {"action": "store_true", "help": "no progress bars (notes are printed all the same)"},
    "--best": {
        "type": int,
        "default": 24,
        "metavar": "N",
        "help": "how many of the best predicted neurons, by the scan's scores if there is one, else by how strongly "
        "natural images modulate them (default: %(default)s)",
    },
    "--contrast": {
        "type": float,
        "default": 0.1,
        "help": "RMS contrast of all images (default: %(default)s)",
    },
    "--steps": {"type": int, "default": 100, "help": "of the ascent (default: %(default)s)"},
    "--seeds": {"type": int, "default": 2, "help": "random starts (default: %(default)s)"},
}


READING = ("--skip-tier", "--tiers", "--negatives", "--drop")
"""Options of every command that reads a scan."""


def add_options(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add options by name; ``changes`` are further keywords of ``add_argument`` for all of them."""
    for name in names:
        parser.add_argument(name, **{**_OPTIONS[name], **changes})
