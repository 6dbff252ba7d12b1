"""What a user installs: the wheel holds the package and its assets, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ASSETS = {"demo-scan.h5", "sim-11S/config.json", "sim-11S/model.safetensors", "sim-11S/README.md"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_holds_only_what_belongs_inside(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith(("mousev1/", "mousev1-")) for name in names)
    assert "mousev1/py.typed" in names
    assert {f"mousev1/assets/{name}" for name in ASSETS} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".pt", ".pth"))]
    assert wheel.stat().st_size < 4_000_000
    core = zipfile.ZipFile(wheel).getinfo("mousev1/assets/sim-11S/model.safetensors")
    assert core.file_size < 400_000


def test_the_metadata_is_complete(built):
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (path,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    metadata = HeaderParser().parsestr(archive.read(path).decode())
    assert metadata["Name"] == "mousev1"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    needed = {
        line.split(">")[0].split(";")[0] for line in metadata.get_all("Requires-Dist") if "extra" not in line
    }
    assert needed == {"torch", "huggingface-hub", "safetensors", "numpy", "pillow", "h5py", "scipy", "tqdm"}


def test_the_sdist_builds_on_and_has_no_stray_files(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "tests/conftest.py",
        "training/pretraining/__main__.py",
    } <= names
    assert not [name for name in names if name.startswith(("data/", "runs/", ".venv"))]


def test_importing_costs_next_to_nothing_and_brings_no_torch():
    script = (
        "import sys, time; t = time.process_time(); import mousev1; "
        "assert time.process_time() - t < 0.2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_folders_with_public_names_are_found_after_a_plain_import():
    folders = ["ingest", "insilico", "metrics", "plot"]
    script = f"import mousev1; print(*(getattr(mousev1, name).__name__ for name in {folders}))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [f"mousev1.{name}" for name in folders]
