"""Claims about runs that are killed and checkpoints that are damaged; the oracle is a run that nothing disturbed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import random
import shutil
import signal
import subprocess
from itertools import count

import pytest
import torch
from pretraining import command, environment, run_killed, write_study
from test_pretrain_runs import assert_same_bits, metrics_of, state_of

from mousev1.storage.core_files import load_core_folder
from training.pretraining.__main__ import main
from training.pretraining.checkpoint import load_checkpoint, save_checkpoint
from training.pretraining.config import PretrainConfig
from training.pretraining.end_to_end import train_end_to_end


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def undisturbed(study):
    out = study.parent / "undisturbed"
    assert main([str(study), "--out", str(out)]) == 0
    return out


def assert_same_run(out, undisturbed):
    assert_same_bits(state_of(out), state_of(undisturbed))
    assert metrics_of(out) == metrics_of(undisturbed)
    results = [json.loads((folder / "result.json").read_text()) for folder in (out, undisturbed)]
    for result in results:
        del result["hours"], result["images_per_second"]
    assert results[0] == results[1]
    cores = [load_core_folder(folder / "core") for folder in (out, undisturbed)]
    assert cores[0].content_hash() == cores[1].content_hash()
    assert not list(out.glob(".*"))
    names = [{file.relative_to(folder) for file in folder.rglob("*.*")} for folder in (out, undisturbed)]
    assert {name for name in names[0] ^ names[1] if "events" not in str(name)} == set()


# ---------------------------------------------------------------- killed


def test_a_run_killed_at_every_write_goes_on_and_ends_with_the_same_bits(study, undisturbed):
    out = study.parent / "killed at writes"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.pretraining.__main__"])
    kills = 0
    for renames, after in ((number, after) for number in count(1) for after in (False, True)):
        process = context.Process(target=run_killed, args=(study, out, renames, after))
        process.start()
        process.join(timeout=120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 8
    assert_same_run(out, undisturbed)


@pytest.mark.slow
def test_runs_killed_at_forty_random_instants_go_on_and_end_with_the_same_bits(study, undisturbed):
    instants = random.Random(0)
    kills = runs = 0
    while kills < 40:
        runs += 1
        out = study.parent / f"killed at random {runs}"
        longest = 2.0
        while not (out / "result.json").exists():
            process = subprocess.Popen(
                command(study, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
            )
            try:
                _, complaint = process.communicate(timeout=instants.uniform(0.0, longest))
                assert process.returncode == 0, complaint
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                longest *= 1.2
        assert_same_run(out, undisturbed)


def test_a_run_that_fills_the_disk_says_so_and_goes_on_when_there_is_room(
    study, undisturbed, tmp_path, monkeypatch, capsys
):
    out, written = tmp_path / "run", []
    save = torch.save

    def full(values, path):
        written.append(path)
        if len(written) < 4:  # best and last of the first epoch, best of the second
            save(values, path)
            return
        path.write_bytes(b"half of")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert main([str(study), "--out", str(out)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert state_of(out)["stopping"]["epoch"] == 1
    assert main([str(study), "--out", str(out)]) == 0
    assert_same_run(out, undisturbed)


# ---------------------------------------------------------------- damaged


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.arange(500.0), "epoch": 3})
    return path


def test_a_checkpoint_gives_back_what_was_saved_and_torch_reads_it_too(checkpoint):
    for values in (load_checkpoint(checkpoint), torch.load(checkpoint, weights_only=True)):
        assert values["epoch"] == 3
        assert torch.equal(values["weights"], torch.arange(500.0))


def test_a_flipped_bit_is_noticed_wherever_it_is(checkpoint):
    sound = checkpoint.read_bytes()
    for position in {*range(0, len(sound), 13), *range(len(sound) - 110, len(sound))}:
        flipped = bytearray(sound)
        flipped[position] ^= 1 << position % 8
        checkpoint.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"last\.pt: .*(altered|truncated)"):
            load_checkpoint(checkpoint)


def test_a_checkpoint_cut_off_anywhere_is_refused(checkpoint):
    sound = checkpoint.read_bytes()
    for length in (0, 1, 50, 103, 104, len(sound) // 2, len(sound) - 64, len(sound) - 1):
        checkpoint.write_bytes(sound[:length])
        with pytest.raises(ValueError, match=r"last\.pt: expected a checkpoint .* truncated"):
            load_checkpoint(checkpoint)


@pytest.mark.parametrize("damage", ["flipped", "empty", "torch file", "text", "other run"])
def test_a_run_refuses_a_damaged_checkpoint_and_changes_nothing(damage, study, undisturbed, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    (out / "result.json").unlink()
    last = out / "last.pt"
    content = bytearray(last.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 16
        last.write_bytes(content)
    elif damage == "torch file":
        torch.save(state_of(out), last)
    elif damage == "other run":
        other = tmp_path / "other.toml"
        other.write_text(study.read_text().replace("seed = 3", "seed = 4").replace('"*.h5"', '"a.h5"'))
        shutil.copy(study.parent / "a.h5", tmp_path)
        assert main([str(other), "--out", str(tmp_path / "other")]) == 0
        shutil.copy(tmp_path / "other" / "last.pt", last)
    else:
        last.write_text("" if damage == "empty" else "weights\n" * 1000)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert main([str(study), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert f"error: {last}: " in message
    assert f"remove {out} to start the run from the beginning" in message
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_the_remedy_for_a_damaged_checkpoint_works(study, undisturbed, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    (out / "result.json").unlink()
    (out / "last.pt").write_bytes(b"")
    assert main([str(study), "--out", str(out)]) == 1
    folder = capsys.readouterr().err.partition("remove ")[2].partition(" to start")[0]
    shutil.rmtree(folder)
    assert main([str(study), "--out", str(out)]) == 0
    assert_same_run(out, undisturbed)


def test_a_damaged_description_of_the_run_is_refused(study, undisturbed, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    (out / "result.json").unlink()
    for text in ("", '{"config": ', "[]", '{"config": {}}'):
        (out / "run.json").write_text(text)
        assert main([str(study), "--out", str(out)]) == 1
        assert "run.json: expected what a run writes" in capsys.readouterr().err


def test_a_comparison_refuses_damaged_weights_of_a_finished_training(study, tmp_path):
    config = PretrainConfig.read(study)
    files = [study.parent / "a.h5"]
    trained = train_end_to_end(files, config, tmp_path, figures=False)
    again = train_end_to_end(files, config, tmp_path)
    assert again.models[0].core.content_hash() == trained.models[0].core.content_hash()
    best = tmp_path / "run" / "best.pt"
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(content)
    with pytest.raises(ValueError, match=r"best\.pt: .* altered"):
        train_end_to_end(files, config, tmp_path)
