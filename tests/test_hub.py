"""The Hub's client, unmodified, over HTTP against ``hub_server``; oracles are the bytes that were shared."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants

from artifacts import core_files, files_of, same_tensors, tiny_core, tiny_model, watch_hashing
from hub_server import Fault, HubServer
from hub_server.client import assert_sound, point_client, shorten_timeouts
from hub_server.eight import load_in_eight_processes
from hub_server.server import OTHER_TOKEN, TOKEN
from mousev1.fit.fitting import fit_readout
from mousev1.hub import download
from mousev1.hub.cores import load_core
from mousev1.hub.model_files import load_model, save_model
from mousev1.hub.push import push_core, push_model
from mousev1.insilico.extrapolation import measure_extrapolation
from mousev1.metrics.score_table import score_table
from mousev1.storage.core_files import load_core_folder, save_core

REPO = "lab/tiny"

# huggingface_hub 2.4 uploads in a way that its own HTTP library calls outdated
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub-cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        point_client(server, cache, monkeypatch)
        yield server


# ---------------------------------------------------------------- loading


def test_first_load_gives_the_shared_core_and_tells_its_commit(hub: HubServer, cache: Path):
    core = tiny_core()
    commit = hub.add(REPO, core_files(core))
    loaded = load_core(REPO, verify=True)
    assert same_tensors(loaded, core)
    assert (loaded.source, loaded.revision) == (REPO, commit)
    assert loaded.frozen
    assert_sound(cache)


def test_second_load_transfers_no_file(hub: HubServer):
    hub.add(REPO, core_files(tiny_core()))
    first = load_core(REPO)
    sent = hub.file_bytes
    assert sent > 0
    assert same_tensors(load_core(REPO), first)
    assert hub.file_bytes == sent


def test_second_load_of_a_pinned_commit_asks_nothing(hub: HubServer):
    commit = hub.add(REPO, core_files(tiny_core()))
    load_core(REPO, revision=commit)
    asked = len(hub.asked)
    load_core(REPO, revision=commit)
    assert len(hub.asked) == asked


def test_pinned_revision_stays_when_the_branch_moves_on(hub: HubServer):
    old, new = tiny_core(0), tiny_core(1)
    commit = hub.add(REPO, core_files(old))
    hub.add(REPO, core_files(new))
    assert same_tensors(load_core(REPO, revision=commit), old)
    assert same_tensors(load_core(REPO), new)
    assert same_tensors(load_core(REPO, revision="main"), new)


def test_source_and_revision_of_a_core_load_it_again(hub: HubServer):
    hub.add(REPO, core_files(tiny_core(0)))
    loaded = load_core(REPO)
    hub.add(REPO, core_files(tiny_core(1)))
    assert loaded.source is not None
    assert same_tensors(load_core(loaded.source, revision=loaded.revision), loaded)


def test_unreachable_hub_is_no_obstacle_for_what_is_cached(hub: HubServer, caplog: pytest.LogCaptureFixture):
    core = tiny_core()
    commit = hub.add(REPO, core_files(core))
    load_core(REPO)
    hub.faults.append(Fault("HEAD", status=500))
    with caplog.at_level(logging.WARNING, "mousev1"):
        assert same_tensors(load_core(REPO), core)
    assert "HTTP 500" in caplog.text
    assert commit in caplog.text


def test_file_damaged_in_the_cache_is_fetched_again(hub: HubServer, cache: Path):
    core = tiny_core()
    commit = hub.add(REPO, core_files(core))
    load_core(REPO)
    blob = next(cache.rglob("model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:-5])
    assert same_tensors(load_core(REPO, revision=commit), core)
    assert_sound(cache)


def test_a_core_from_the_hub_is_hashed_once_for_its_files_and_once_for_its_identity(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
):
    core = tiny_core()
    files = core_files(core)
    hub.add(REPO, files)
    load_core(REPO)
    hashed = watch_hashing(monkeypatch)
    load_core(REPO)
    stored = sum(len(content) for name, content in files.items() if name.endswith(".safetensors"))
    weights = sum(tensor.nbytes for tensor in core.state_dict().values())
    described = sum(len(data) for data in hashed if data.startswith((b"{", b"layers.")))
    assert sum(map(len, hashed)) == stored + weights + described


def test_damage_to_several_files_in_the_cache_is_mended_at_once(hub: HubServer, cache: Path):
    core = tiny_core()
    hub.add(REPO, core_files(core))
    load_core(REPO)
    for name in ("model.safetensors", "probe.safetensors"):
        blob = next(cache.rglob(name)).resolve()
        blob.write_bytes(blob.read_bytes()[:-5])
    assert same_tensors(load_core(REPO, verify=True), core)
    assert_sound(cache)


def test_offline_variable_is_respected(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    commit = hub.add(REPO, core_files(tiny_core()))
    load_core(REPO, revision=commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    load_core(REPO, revision=commit)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        load_core("lab/other")
    assert len(hub.asked) == asked


# ---------------------------------------------------------------- faults

WEIGHTS = "GET /storage"
FAULTS = {
    "429 on metadata": (Fault("HEAD", status=429), ConnectionError, "HTTP 429"),
    "429 on the body": (Fault(WEIGHTS, status=429), ConnectionError, "HTTP 429"),
    "500 on metadata": (Fault("HEAD", status=500), ConnectionError, "HTTP 500"),
    "500 on the body": (Fault(WEIGHTS, status=500), ConnectionError, "HTTP 500"),
    "503 on the config": (Fault("GET .*config", status=503), ConnectionError, "HTTP 503"),
    "timeout on metadata": (Fault("HEAD", hang=2.0), TimeoutError, "no answer in time"),
    "timeout on the body": (Fault(WEIGHTS, hang=2.0), TimeoutError, "no answer in time"),
    "connection cut": (Fault(WEIGHTS, cut=0), ConnectionError, "broke off"),
    "wrong checksum": (Fault(WEIGHTS, flip=True), ValueError, "does not match its checksum"),
    "wrong checksum of the config": (
        Fault("GET .*config", flip=True),
        ValueError,
        "does not match its checksum",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_and_leaves_no_bad_file(name, hub, cache, monkeypatch):
    fault, error, message = FAULTS[name]
    core = tiny_core()
    hub.add(REPO, core_files(core))
    hub.faults.append(fault)
    with monkeypatch.context() as patch:
        if fault.hang:
            shorten_timeouts(0.3, patch)
        with pytest.raises(error, match=message) as raised:
            load_core(REPO)
    assert REPO in str(raised.value)
    assert_sound(cache)
    hub.faults.clear()
    assert same_tensors(load_core(REPO), core)


def test_connection_cut_once_in_mid_body_is_overcome(hub: HubServer, cache: Path):
    core = tiny_core()
    hub.add(REPO, core_files(core))
    hub.faults.append(Fault(WEIGHTS, cut=100, times=1))
    # clients before 2.0 give up where later ones go on
    with contextlib.suppress(ConnectionError):
        load_core(REPO)
    assert hub.faults[0].times == 0
    assert same_tensors(load_core(REPO), core)
    assert_sound(cache)


@pytest.mark.parametrize(
    ("token", "options", "error", "message"),
    [
        ("", {"private": True}, PermissionError, "HTTP 401.*log in"),
        ("hf_wrong", {}, PermissionError, "HTTP 401"),
        ("", {"gated": True}, PermissionError, "gated.*ask for access"),
        (OTHER_TOKEN, {"gated": True}, PermissionError, r"gated \(HTTP 403\)"),
        (OTHER_TOKEN, {"private": True}, FileNotFoundError, "HTTP 404"),
    ],
)
def test_refused_access_tells_what_to_do(token, options, error, message, hub, cache, monkeypatch):
    core = tiny_core()
    hub.add(REPO, core_files(core), **options)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(error, match=message):
        load_core(REPO)
    assert_sound(cache)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert same_tensors(load_core(REPO), core)


def test_missing_repository_revision_and_file_are_told_apart(hub: HubServer):
    hub.add(REPO, core_files(tiny_core()))
    hub.add("lab/foreign", {"weights.bin": b"no artifact"})
    with pytest.raises(FileNotFoundError, match="lab/nothing does not exist or is private"):
        load_core("lab/nothing")
    with pytest.raises(FileNotFoundError, match="lab/tiny has no revision 'v9'"):
        load_core(REPO, revision="v9")
    with pytest.raises(FileNotFoundError, match=r"lab/foreign has no config.json.*mousev1 repository"):
        load_core("lab/foreign")


def test_what_may_be_a_mistyped_path_is_said_to_be_no_folder(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_for = "'lab/outptu' is no folder here and was taken for a repository on the Hub"
    for load in (load_core, load_model):
        with pytest.raises(FileNotFoundError, match=f"lab/outptu does not exist or is private.*{taken_for}"):
            load("lab/outptu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for load in (load_core, load_model):
        with pytest.raises(ConnectionError, match=f"HF_HUB_OFFLINE forbids.*{taken_for}"):
            load("lab/outptu")


def test_full_disk_is_named_and_leaves_no_bad_file(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.add(REPO, core_files(tiny_core()))
    real_open = Path.open

    class Full:
        """A file on a disk with room for 100 bytes more."""

        def __init__(self, file):
            self.file, self.room = file, 100

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, data):
            self.file.write(data[: self.room])
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_full(self, *args, **options):
        file = real_open(self, *args, **options)
        return Full(file) if self.name.endswith(".incomplete") else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(OSError, match=r"no space left on the disk of the cache.*HF_HOME") as raised:
            load_core(REPO)
    assert raised.value.errno == errno.ENOSPC
    assert_sound(cache)
    load_core(REPO)


def test_file_beyond_the_allowed_size_is_not_downloaded(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    hub.add(REPO, core_files(tiny_core()))
    monkeypatch.setitem(download.MAX_BYTES, "core", 500)
    with pytest.raises(ValueError, match=r"model.safetensors of lab/tiny has \d+ bytes, more than the 500"):
        load_core(REPO)
    assert not [asked for asked in hub.asked if asked.line.startswith("GET /storage")]


def test_eight_processes_fill_an_empty_cache_at_once(hub: HubServer, tmp_path: Path):
    core = tiny_core()
    hub.add(REPO, core_files(core), private=True)
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    load_in_eight_processes(REPO, core.content_hash(), environment)
    assert list((tmp_path / "home").rglob("model.safetensors"))
    assert_sound(tmp_path / "home")


# ---------------------------------------------------------------- sharing


def test_pushed_core_comes_back_bit_identical(hub: HubServer):
    core = tiny_core()
    core.readout_prior = {"mean": torch.arange(4.0), "covariance": torch.eye(4)}
    commit = push_core(core, REPO, licence="mit", commit_message="first")
    stored = hub.repositories[REPO].commits[commit.oid]
    assert stored.message == "first"
    loaded = load_core(REPO, revision=commit.oid, verify=True)
    assert same_tensors(loaded, core)
    assert loaded.readout_prior is not None
    assert torch.equal(loaded.readout_prior["mean"], core.readout_prior["mean"])
    again = core_files(loaded)
    assert {k: v for k, v in stored.files.items() if k.endswith((".json", ".safetensors"))} == {
        k: v for k, v in again.items() if k.endswith((".json", ".safetensors"))
    }
    card = ModelCard(stored.files["README.md"].decode())
    assert (card.data.library_name, card.data.license) == ("mousev1", "mit")


def test_pushed_model_comes_back_bit_identical_with_the_readout_alone(hub: HubServer):
    push_core(tiny_core(), "lab/core")
    model = tiny_model(load_core("lab/core"))
    commit = push_model(model, "lab/readout", private=True)
    stored = hub.repositories["lab/readout"]
    assert stored.private
    names = {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert set(stored.commits[commit.oid].files) == names
    # the core's repository moves on; the model keeps the core it was fitted on
    hub.add("lab/core", core_files(tiny_core(5)))
    loaded = load_model("lab/readout", revision=commit.oid)
    assert same_tensors(loaded, model)
    images = np.random.default_rng(0).integers(0, 256, size=(3, 10, 12), dtype=np.uint8)
    assert np.array_equal(loaded.predict(images), model.predict(images))


def test_what_a_fit_knows_beside_the_readout_comes_back_too(hub: HubServer):
    push_core(tiny_core(), "lab/core")
    images = np.random.default_rng(0).integers(0, 256, size=(20, 10, 12), dtype=np.uint8)
    responses = np.random.default_rng(1).gamma(1.0, size=(20, 3))
    model = fit_readout(images, responses, core=load_core("lab/core"), progress=False)
    push_model(model, "lab/readout")
    loaded = load_model("lab/readout")
    spread, expected = (m.predict(images, return_std=True)[1] for m in (loaded, model))
    np.testing.assert_allclose(spread, expected, rtol=1e-5)
    distance, expected = (measure_extrapolation(m, images).unit_distance for m in (loaded, model))
    np.testing.assert_allclose(distance, expected, rtol=1e-5)


def test_model_refuses_another_core(hub: HubServer):
    push_core(tiny_core(), "lab/core")
    push_model(tiny_model(load_core("lab/core")), "lab/readout")
    with pytest.raises(ValueError, match="a readout means nothing on another core"):
        load_model("lab/readout", core=tiny_core(3))


def test_a_shared_model_cannot_make_this_machine_read_its_own_files(hub: HubServer, tmp_path: Path):
    secret = save_core(tiny_core(), tmp_path / "secret")
    model = tiny_model(load_core(secret))
    hub.add(REPO, files_of(save_model(model, tmp_path / "model", include_core=False)))
    with pytest.raises(ValueError, match="must not name files of this machine"):
        load_model(REPO)
    assert same_tensors(load_model(REPO, core=tiny_core()).core, tiny_core())
    assert same_tensors(load_model(tmp_path / "model").core, tiny_core())  # one's own may


def test_core_that_others_cannot_load_goes_with_the_model(hub: HubServer, tmp_path: Path):
    core = load_core_folder(save_core(tiny_core(), tmp_path / "core"))
    core.source = str(tmp_path / "core")
    commit = push_model(tiny_model(core), REPO)
    files = hub.repositories[REPO].commits[commit.oid].files
    assert "core.safetensors" in files
    assert str(tmp_path) not in files["config.json"].decode()
    assert same_tensors(load_model(REPO).core, core)


def test_scores_become_results_in_the_metadata(hub: HubServer):
    rng = np.random.default_rng(0)
    image_ids = np.repeat(np.arange(20), 4)
    rates = rng.gamma(2.0, size=(20, 5))[image_ids]
    table = score_table(rates, rates + rng.normal(size=rates.shape), image_ids, np.arange(5))
    commit = push_model(tiny_model(), REPO, scores=table, dataset="mouse 1, scan 2", licence="cc-by-4.0")
    card = ModelCard(hub.repositories[REPO].commits[commit.oid].files["README.md"].decode())
    results = {result.metric_type: result for result in card.data.eval_results}
    expected = float(np.nanmean(table.single_trial_correlation))
    assert results["single_trial_correlation"].metric_value == pytest.approx(expected, abs=1e-4)
    assert results["single_trial_correlation"].dataset_name == "mouse 1, scan 2"
    # what the recording gives at most is no result of the model
    assert "oracle_correlation" not in results


def test_push_to_a_branch_leaves_main_alone(hub: HubServer):
    push_core(tiny_core(0), REPO)
    push_core(tiny_core(1), REPO, revision="trial")
    assert same_tensors(load_core(REPO), tiny_core(0))
    assert same_tensors(load_core(REPO, revision="trial"), tiny_core(1))


def test_pull_request_leaves_main_alone(hub: HubServer):
    push_core(tiny_core(0), REPO)
    commit = push_core(tiny_core(1), REPO, create_pr=True)
    assert commit.pr_url is not None
    assert same_tensors(load_core(REPO), tiny_core(0))
    assert same_tensors(load_core(REPO, revision="refs/pr/1"), tiny_core(1))


def test_second_push_removes_what_the_artifact_no_longer_has(hub: HubServer):
    core = tiny_core()
    core.readout_prior = {"mean": torch.zeros(4)}
    push_core(core, REPO)
    core.readout_prior = None
    commit = push_core(core, REPO)
    assert "prior.safetensors" not in hub.repositories[REPO].commits[commit.oid].files
    assert load_core(REPO).readout_prior is None


@pytest.mark.parametrize(
    ("token", "message"), [("hf_wrong", "HTTP 401"), (OTHER_TOKEN, "HTTP 403"), ("", "HF_TOKEN")]
)
def test_push_without_permission_says_so(token, message, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PermissionError, match=message):
        push_core(tiny_core(), REPO)
    assert REPO not in hub.repositories


def test_failed_commit_is_named_and_changes_nothing(hub: HubServer):
    first = push_core(tiny_core(0), REPO)
    hub.faults.append(Fault("POST .*/commit/", status=500))
    with pytest.raises(ConnectionError, match="HTTP 500"):
        push_core(tiny_core(1), REPO)
    hub.faults.clear()
    assert load_core(REPO).revision == first.oid


def test_name_that_is_no_repository_is_refused():
    with pytest.raises(ValueError, match=re.escape("expected 'owner/repo', got 'tiny'")):
        push_core(tiny_core(), "tiny")


def test_saved_model_without_its_core_folder_says_how_to_go_on(tmp_path: Path):
    core = load_core(save_core(tiny_core(), tmp_path / "core"))
    save_model(tiny_model(core), tmp_path / "model")
    for path in (tmp_path / "core").iterdir():
        path.unlink()
    (tmp_path / "core").rmdir()
    with pytest.raises(FileNotFoundError, match=r"fitted on core 'tiny'.*pass it as core="):
        load_model(tmp_path / "model")
    assert same_tensors(load_model(tmp_path / "model", core=tiny_core()).core, core)


def test_folder_read_from_disk_equals_what_was_pushed(hub: HubServer, tmp_path: Path):
    model = tiny_model()
    commit = push_model(model, REPO, card="---\nlibrary_name: mousev1\n---\nA card of my own.\n")
    save_model(
        model,
        tmp_path / "m",
        include_core=True,
        card="---\nlibrary_name: mousev1\n---\nA card of my own.\n",
    )
    stored = dict(hub.repositories[REPO].commits[commit.oid].files)
    del stored[".gitattributes"]
    assert stored == files_of(tmp_path / "m")
