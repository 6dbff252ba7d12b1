"""The index of results: no file without a line that says what it is, no line without a file, no unknown config."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "training" / "results"
INDEX = (RESULTS / "README.md").read_text(encoding="utf-8")


def sections() -> dict[str, set[str]]:
    """Folder to the names and patterns in the first column of its tables."""
    parts = re.split(r"^## `(\S+)/`.*$", INDEX, flags=re.M)
    return {
        folder: {
            name
            for line in re.findall(r"^\|(.+?)\|", text, flags=re.M)
            for name in re.findall("`(.+?)`", line)
        }
        for folder, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("folder", sorted(path.name for path in RESULTS.iterdir() if path.is_dir()))
def test_every_result_has_a_line_and_every_line_a_result(folder):
    # oracle: the files themselves
    listed = sections()
    patterns = listed["simulated" if folder == "twin" else folder]
    names = {path.name for path in (RESULTS / folder).rglob("*") if path.is_file()} - {"README.md"}
    assert {name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)} == set()
    assert {pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)} == set()


def test_every_config_and_linked_file_of_the_index_exists():
    named = re.findall(r"training/configs/\S+?\.toml", INDEX)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
    links = re.findall(r"\]\((\S+?)\)", INDEX)
    assert [link for link in links if not (RESULTS / link).is_file()] == []
