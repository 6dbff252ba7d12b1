"""Files and folders replaced as a whole; oracles are killed processes, processes at once and the system itself."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts import same_tensors, tiny_core
from mousev1.storage import artifact, atomic
from mousev1.storage.atomic import check_replaceable, replacing
from mousev1.storage.core_files import load_core_folder, save_core

# A system that has no exchange, and takes its time.
WITHOUT_EXCHANGE = """
rename = os.rename
def slow(source, target):
    rename(source, target)
    time.sleep(0.01)
os.rename = slow
atomic._exchange = lambda a, b: False
"""
BOTH = pytest.mark.parametrize("system", ["", WITHOUT_EXCHANGE], ids=["exchange", "two renames"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_core(tiny_core(), tmp_path / "core")


@pytest.fixture
def two_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---------------------------------------------------------------- killed

KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from artifacts import tiny_core
from mousev1.core.self_test import make_probe
from mousev1.storage import atomic
from mousev1.storage.core_files import load_core_folder, save_core
{system}
torch.set_num_threads(1)
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
cores = [tiny_core(seed) for seed in range(2)]
for core in cores:
    core.probe = make_probe(core)
hashes = [core.content_hash() for core in cores]
start = time.perf_counter()
save_core(cores[0], folder, overwrite=True)
once = time.perf_counter() - start
(folder / "notes.txt").write_text("mine")
(folder / "figures").mkdir()
(folder / "figures" / "map.txt").write_text("mine, too")
random.seed(0)
seen, waited = set(), 0
for kill in range(kills):
    child = os.fork()
    if child == 0:
        for turn in range(10_000):
            save_core(cores[(kill + turn) % 2], folder, overwrite=True)
        os._exit(0)
    time.sleep(random.uniform(0.0, 4 * once))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    waited += not folder.exists()
    seen.add(hashes.index(load_core_folder(folder).content_hash()))
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "figures" / "map.txt").read_text() == "mine, too"
assert seen == {{0, 1}}
litter = len(list(folder.parent.iterdir())) - 1
save_core(cores[0], folder, overwrite=True)
assert list(folder.parent.iterdir()) == [folder]
print(f"{{kills}} kills, {{waited}} between two renames, {{litter}} hidden folders that the next save removed")
"""


@BOTH
def test_a_writer_killed_at_any_of_125_instants_leaves_one_whole_core_the_users_notes_and_no_litter(
    system: str, tmp_path: Path
) -> None:
    print(run(KILLED.format(system=system), tmp_path / "core", 125))


KILLED_BETWEEN_TWO_RENAMES = """
import os, signal, sys
from pathlib import Path
from artifacts import tiny_core
from mousev1.storage import atomic
from mousev1.storage.core_files import save_core
atomic._exchange = lambda a, b: False
rename = os.rename
def rename_then_die(source, target):
    rename(source, target)
    if Path(source) == Path(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename_then_die
save_core(tiny_core(1), sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("by", ["reader", "writer"])
def test_killed_between_two_renames_the_core_is_put_back_by_the_next(by: str, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(AssertionError):
        run(KILLED_BETWEEN_TWO_RENAMES, folder)
    assert not folder.exists()
    if by == "reader":
        assert same_tensors(load_core_folder(folder), tiny_core(1))
    else:
        save_core(tiny_core(2), folder, overwrite=True)
        assert same_tensors(load_core_folder(folder), tiny_core(2))
        assert list(folder.parent.iterdir()) == [folder]
    assert (folder / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- at once

AT_ONCE = """
import os, sys, time
from pathlib import Path
import torch
from artifacts import tiny_core
from mousev1.core.self_test import make_probe
from mousev1.storage import atomic
from mousev1.storage.core_files import load_core_folder, save_core
{system}
torch.set_num_threads(1)
folder = Path(sys.argv[1])
cores = [tiny_core(seed) for seed in range(6)]
for core in cores:
    core.probe = make_probe(core)
hashes = {{core.content_hash() for core in cores}}
save_core(cores[0], folder)
(folder / "notes.txt").write_text("mine")
children = []
for core in cores:
    child = os.fork()
    if child == 0:
        try:
            for _ in range(25):
                save_core(core, folder, overwrite=True)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
reads, codes = 0, []
while len(codes) < len(children):
    assert load_core_folder(folder).content_hash() in hashes
    reads += 1
    while len(codes) < len(children) and (done := os.waitpid(-1, os.WNOHANG))[0]:
        codes.append(done[1])
assert codes == [0] * 6, codes
assert (folder / "notes.txt").read_text() == "mine"
assert list(folder.parent.iterdir()) == [folder]
print(reads)
"""


@BOTH
def test_a_reader_beside_six_writers_gets_one_whole_core_every_time(system: str, tmp_path: Path) -> None:
    assert int(run(AT_ONCE.format(system=system), tmp_path / "core")) > 5


# ---------------------------------------------------------------- what is the user's


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "copies"])
@pytest.mark.parametrize("renames", [False, True], ids=["exchange", "two renames"])
def test_the_users_files_links_and_subfolders_stay(
    links: bool, renames: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    if renames:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("a")
    (folder / "elsewhere").symlink_to("../beside")
    (folder / "notes" / "loop").symlink_to("..")
    (folder / "to-weights").symlink_to("model.safetensors")
    save_core(tiny_core(1), folder, overwrite=True)
    assert same_tensors(load_core_folder(folder), tiny_core(1))
    assert (folder / "notes" / "a.txt").read_text() == "a"
    targets = {name: os.readlink(folder / name) for name in ("elsewhere", "notes/loop", "to-weights")}
    assert targets == {"elsewhere": "../beside", "notes/loop": "..", "to-weights": "model.safetensors"}
    assert list(folder.parent.iterdir()) == [folder]


def test_notes_that_come_or_change_while_a_core_is_written_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = artifact.save_file
    (folder / "changed.txt").write_text("before")
    (folder / "log").mkdir()

    def write_meanwhile(tensors, path, **options):
        write(tensors, path, **options)
        (folder / "came.txt").write_text("late")
        (folder / "log" / "day-1.txt").write_text("late")
        (folder / "new.txt").write_text("after")
        os.replace(folder / "new.txt", folder / "changed.txt")  # as editors do

    monkeypatch.setattr(artifact, "save_file", write_meanwhile)
    save_core(tiny_core(1), folder, overwrite=True)
    assert (folder / "came.txt").read_text() == "late"
    assert (folder / "log" / "day-1.txt").read_text() == "late"
    assert (folder / "changed.txt").read_text() == "after"


def test_permissions_of_folder_and_files_stay(folder: Path) -> None:
    folder.chmod(0o750)
    (folder / "config.json").chmod(0o640)
    (folder / "model.safetensors").chmod(0o600)
    save_core(tiny_core(1), folder, overwrite=True)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "config.json")]
    assert modes == [0o750, 0o640]
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == 0o600
    file = folder.parent / "file"
    file.write_text("old")
    file.chmod(0o604)
    with replacing(file) as staging:
        staging.write_text("new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o604


def test_a_link_stays_and_what_it_leads_to_is_replaced(folder: Path) -> None:
    link, other = folder.parent / "latest", folder.parent / "file-link"
    link.symlink_to("core")
    save_core(tiny_core(1), link, overwrite=True)
    assert os.readlink(link) == "core"
    assert same_tensors(load_core_folder(folder), tiny_core(1))
    other.symlink_to("file")
    with replacing(other) as staging:
        staging.write_text("new")
    assert os.readlink(other) == "file"
    assert (folder.parent / "file").read_text() == "new"


# ---------------------------------------------------------------- refused


def test_the_current_folder_and_those_above_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for target in (".", "..", folder):
        with pytest.raises(FileExistsError, match="the current folder or one above it"):
            save_core(tiny_core(1), target, overwrite=True)
    assert same_tensors(load_core_folder("."), tiny_core())


def test_what_cannot_be_replaced_is_refused_by_name(folder: Path) -> None:
    file, pipe, loop = (folder.parent / name for name in ("file", "pipe", "loop"))
    file.touch()
    os.mkfifo(pipe)
    loop.symlink_to("loop")
    refused = (
        (file / "core", NotADirectoryError, "file is a file, in which nothing can be written"),
        (pipe, FileExistsError, "neither a file nor a folder"),
        (loop, OSError, "a link that leads to itself"),
        (Path("/"), FileExistsError, "cannot be replaced as a whole"),
    )
    for target, kind, says in refused:
        with pytest.raises(kind, match=says):
            check_replaceable(target)
        with pytest.raises(kind, match=says), replacing(target):
            pytest.fail("refused only after the work")
    with (
        pytest.raises(FileExistsError, match="expected a file to replace, found a folder"),
        replacing(folder) as new,
    ):
        new.write_text("a file")
    assert same_tensors(load_core_folder(folder), tiny_core())


def test_a_folder_of_another_with_a_similar_name_is_left_alone(folder: Path) -> None:
    mine = folder.parent / ".core.backup.writing"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    save_core(tiny_core(1), folder, overwrite=True)
    assert (mine / "notes.txt").read_text() == "mine"


FULL = """
import resource, sys
from artifacts import tiny_core
from mousev1.storage.core_files import save_core
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    save_core(tiny_core(1), sys.argv[1], overwrite=True)
except OSError as error:
    print(error.errno)
"""


def test_a_write_that_the_system_refuses_is_an_error_of_the_system_and_changes_nothing(folder: Path) -> None:
    assert int(run(FULL, folder)) == errno.EFBIG
    assert same_tensors(load_core_folder(folder), tiny_core())
    assert list(folder.parent.iterdir()) == [folder]
