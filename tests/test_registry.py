"""Cores by name: order of the sources, the authors' file, and never another core under a name.

Oracles are the content hashes in the registry and the bytes that a local server sends.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors import SafetensorError

from artifacts import core_files, same_tensors, tiny_core
from hub_server import Fault, HubServer
from hub_server.client import assert_sound, point_client
from hub_server.eight import load_in_eight_processes
from mousev1.core.network import InputContract
from mousev1.core.self_test import make_probe
from mousev1.hub import cores as hub_module
from mousev1.hub import download
from mousev1.hub.cores import CoreUnavailableError, cache_folder, largest_deviation, load_core
from mousev1.hub.registry import BUNDLED_CORE, DEFAULT_CORE, RELEASED, Origin, ReleasedCore, find_released
from mousev1.storage import artifact as checkpoint
from mousev1.storage.artifact import read_config
from mousev1.storage.atomic import file_sha256
from mousev1.storage.core_files import load_core_folder, save_core

TINY = ReleasedCore(
    name="tiny",
    summary="a stand-in",
    repository="lab/tiny",
    revision=None,
    weights_sha256=None,
    content_hash=tiny_core().content_hash(),
    input=InputContract(),
    citation="nobody",
    licence="MIT",
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("MOUSEV1_CACHE", str(tmp_path / "cache"))
    with HubServer() as server:
        point_client(server, tmp_path / "hub-cache", monkeypatch)
        # no test may reach the authors' server
        monkeypatch.setenv("MOUSEV1_11S_URL", f"{server.url}/static/core")
        yield server


@pytest.fixture
def published(hub: HubServer, shared: Callable[[str], Path]) -> HubServer:
    """A server that has the authors' file of 11-S."""
    hub.static["core"] = shared("weights/lurz_11s_core.pt").read_bytes()
    return hub


def register(monkeypatch: pytest.MonkeyPatch, released: ReleasedCore) -> None:
    monkeypatch.setitem(RELEASED, released.name, released)


# ---------------------------------------------------------------- what is registered


def test_default_is_the_published_core():
    assert DEFAULT_CORE == "11-S"
    assert RELEASED[DEFAULT_CORE].origin is not None
    assert RELEASED[BUNDLED_CORE].simulated


def test_every_entry_is_found_under_its_own_name_and_hash():
    for name, released in RELEASED.items():
        assert released.name == name
        for digest in (released.content_hash, released.weights_sha256):
            assert digest is None or len(bytes.fromhex(digest)) == 32
        if released.content_hash is not None:
            assert find_released(released.content_hash) is released


def test_registered_numbers_of_11s_are_those_of_its_authors_file(
    shared: Callable[[str], Path], tmp_path: Path
):
    from mousev1.hub.checkpoint_import import import_checkpoint

    released = RELEASED["11-S"]
    file = shared("weights/lurz_11s_core.pt")
    core = import_checkpoint(file)
    assert released.origin is not None
    assert released.origin.sha256 == file_sha256(file)
    assert released.content_hash == core.content_hash()
    assert released.input == core.config.input
    assert released.weights_sha256 == file_sha256(save_core(core, tmp_path / "core") / "model.safetensors")
    probe = checkpoint.open_safetensors(hub_module.ASSETS / "probes" / "11-S.safetensors")
    assert torch.equal(probe["images"], make_probe(core)["images"])
    torch.testing.assert_close(probe["features"], make_probe(core)["features"], rtol=1e-5, atol=1e-5)


def test_bundled_core_is_the_registered_one(caplog: pytest.LogCaptureFixture):
    folder = hub_module.ASSETS / BUNDLED_CORE
    if not folder.is_dir():
        pytest.skip(f"{BUNDLED_CORE} is not in this checkout")
    released = RELEASED[BUNDLED_CORE]
    with caplog.at_level(logging.WARNING, "mousev1"):
        core = load_core(BUNDLED_CORE, verify=True)
    assert core.content_hash() == released.content_hash
    assert core.config.input == released.input
    assert file_sha256(folder / "model.safetensors") == released.weights_sha256
    prior = read_config(folder, "core")["files"].get("prior.safetensors")
    assert prior == released.prior_sha256
    assert sum(path.stat().st_size for path in folder.iterdir()) < 400_000
    assert "simulated recordings" in caplog.text


# ---------------------------------------------------------------- order of the sources


def test_bundled_core_needs_no_network_and_says_it_is_simulated(tmp_path, monkeypatch, hub, caplog):
    register(monkeypatch, replace(TINY, bundled=True, simulated=True))
    monkeypatch.setattr(hub_module, "ASSETS", tmp_path / "assets")
    folder = save_core(tiny_core(), tmp_path / "assets" / "tiny")
    # under its name and, the same numbers, from a folder
    for name in ("tiny", folder):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "mousev1"):
            core = load_core(name, verify=True)
        assert core.source == str(name)
        assert "simulated recordings, not on neurons" in caplog.text
    assert not hub.asked


def test_absent_bundled_core_is_looked_for_on_the_hub_and_then_missed(tmp_path, monkeypatch, hub):
    register(monkeypatch, replace(TINY, bundled=True))
    monkeypatch.setattr(hub_module, "ASSETS", tmp_path / "assets")
    with pytest.raises(CoreUnavailableError, match=r"(?s)the package: .*the Hub, lab/tiny: .*Remedies"):
        load_core("tiny")
    hub.add("lab/tiny", core_files(tiny_core()))
    assert same_tensors(load_core("tiny"), tiny_core())


def test_core_on_the_hub_is_taken_and_then_needs_no_network(monkeypatch, hub):
    register(monkeypatch, TINY)
    commit = hub.add("lab/tiny", core_files(tiny_core()))
    first = load_core("tiny")
    assert (first.source, first.revision) == ("tiny", commit)
    asked = len(hub.asked)
    assert same_tensors(load_core("tiny"), first)
    assert len(hub.asked) == asked


def test_other_weights_are_never_accepted_under_a_name(monkeypatch, hub, tmp_path):
    register(monkeypatch, TINY)
    hub.add("lab/tiny", core_files(tiny_core(seed=1)))
    with pytest.raises(CoreUnavailableError, match=r"not 'tiny': content hash"):
        load_core("tiny")
    assert_sound(tmp_path / "hub-cache")


def test_core_without_a_registered_hash_is_not_accepted(monkeypatch, hub):
    register(monkeypatch, replace(TINY, content_hash=None))
    hub.add("lab/tiny", core_files(tiny_core()))
    with pytest.raises(CoreUnavailableError, match="knows no content hash of 'tiny'"):
        load_core("tiny")


def test_prior_of_a_released_core_has_to_be_the_registered_one(monkeypatch, hub):
    core = tiny_core()
    core.readout_prior = {"mean": torch.zeros(4)}
    files = core_files(core)
    hub.add("lab/tiny", files)
    register(monkeypatch, TINY)
    with pytest.raises(CoreUnavailableError, match=r"prior.safetensors of core 'tiny' has SHA-256"):
        load_core("tiny")
    register(monkeypatch, replace(TINY, prior_sha256=hashlib.sha256(files["prior.safetensors"]).hexdigest()))
    assert load_core("tiny").readout_prior is not None


def test_name_that_means_nothing_lists_what_would():
    with pytest.raises(FileNotFoundError, match=r"'11-S', 'sim-11S'.*owner/repo.*got 'V1'"):
        load_core("V1")


def test_local_folder_has_no_revision(tmp_path: Path):
    folder = save_core(tiny_core(), tmp_path / "core")
    with pytest.raises(ValueError, match="revision: a local folder has no revisions"):
        load_core(folder, revision="main")
    assert load_core(folder).source == str(folder.resolve())


def test_local_folder_loads_in_less_than_50_ms(tmp_path: Path):
    from mousev1.core.network import Core

    # as large as 11-S, hashing and self-test data included
    folder = save_core(Core.random(seed=0), tmp_path / "core")
    times = []
    for _ in range(10):
        start = time.perf_counter()
        load_core(folder)
        times.append(time.perf_counter() - start)
    # the fastest: a shared machine delays the others
    assert min(times) < 0.05


# ---------------------------------------------------------------- the authors' file


def test_authors_file_is_converted_once_and_said_to_be_the_source(published, caplog):
    with caplog.at_level(logging.WARNING, "mousev1"):
        first = load_core(verify=True)
    assert "comes from its authors' own file" in caplog.text
    assert (first.name, first.source, first.revision) == ("11-S", "11-S", None)
    asked = len(published.asked)
    caplog.clear()
    second = load_core(verify=True)
    assert same_tensors(first, second)
    assert len(published.asked) == asked
    assert not caplog.text
    assert largest_deviation(second) < 1e-5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("static", status=404), "HTTP 404"),
        (Fault("static", status=500), "HTTP 500"),
        (Fault("static", hang=2.0), r"did not answer within 0\.2 seconds"),
        (Fault("static", cut=1000), "broke off after 1000 of 299792 bytes"),
        (Fault("static", flip=True), "does not match its checksum"),
    ],
)
def test_failure_of_the_authors_server_is_named_with_the_remedies(fault, message, published, monkeypatch):
    if fault.hang:
        monkeypatch.setattr(download, "ORIGIN_TIMEOUT_SECONDS", 0.2)
    published.faults.append(fault)
    with pytest.raises(CoreUnavailableError, match=message) as raised:
        load_core()
    text = str(raised.value)
    assert "the Hub, mousev1/11-s: mousev1/11-s does not exist or is private" in text
    assert "load_core('sim-11S'), which was trained on simulated recordings" in text
    assert "MOUSEV1_11S_URL=file:///" in text
    assert not list(cache_folder().rglob("*.safetensors"))
    published.faults.clear()
    monkeypatch.setattr(download, "ORIGIN_TIMEOUT_SECONDS", 30.0)
    assert load_core().content_hash() == RELEASED["11-S"].content_hash


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_damaged_conversion_is_made_again_once(damage: Callable[[Path], None], published: HubServer):
    load_core()
    weights = next(cache_folder().rglob("model.safetensors"))
    damage(weights)
    assert load_core(verify=True).content_hash() == RELEASED["11-S"].content_hash
    asked = len(published.asked)
    assert load_core(verify=True).content_hash() == RELEASED["11-S"].content_hash
    assert len(published.asked) == asked


def test_a_refused_request_leaves_no_connection_open(published, monkeypatch):
    monkeypatch.setenv("MOUSEV1_11S_URL", f"{published.url}/nothing")
    with pytest.raises(FileNotFoundError, match="HTTP 404") as raised:
        download.fetch_origin(RELEASED["11-S"].origin, io.BytesIO())
    assert raised.value.__cause__.closed


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        # what safetensors raises
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_cache_that_cannot_be_written_does_not_stop_the_load(error, published, monkeypatch, caplog):
    def full(*args, **options):
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with caplog.at_level(logging.WARNING, "mousev1"):
        core = load_core(verify=True)
    assert core.content_hash() == RELEASED["11-S"].content_hash
    assert "No space left on device" in caplog.text
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]


def test_authors_file_can_be_a_local_one_without_network(shared, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MOUSEV1_11S_URL", shared("weights/lurz_11s_core.pt").as_uri())
    assert load_core().content_hash() == RELEASED["11-S"].content_hash
    assert not hub.asked


def test_offline_variable_keeps_from_asking_the_authors_server(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CoreUnavailableError, match="was not asked, because HF_HUB_OFFLINE"):
        load_core()
    assert not hub.asked


def test_override_of_another_kind_than_a_url_is_refused(hub, monkeypatch):
    monkeypatch.setenv("MOUSEV1_11S_URL", "ftp://example.org/core")
    with pytest.raises(
        CoreUnavailableError, match="MOUSEV1_11S_URL: expected a URL with http, https or file"
    ):
        load_core()


def test_endless_answer_is_cut(hub, monkeypatch):
    hub.static["core"] = b"0" * 5000
    monkeypatch.setattr(download, "MAX_ORIGIN_BYTES", 1000)
    with pytest.raises(CoreUnavailableError, match="has more than the 1000 bytes allowed"):
        load_core()


def test_pickle_with_code_at_the_origin_is_never_opened(hub, monkeypatch, tmp_path):
    import pickle

    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    hub.static["core"] = pickle.dumps(Payload())
    # even if someone registered its checksum
    origin = Origin("unused", hashlib.sha256(hub.static["core"]).hexdigest(), "MOUSEV1_11S_URL")
    register(monkeypatch, replace(TINY, origin=origin))
    with pytest.raises(CoreUnavailableError, match="files that need code to load are refused"):
        load_core("tiny")
    assert not (tmp_path / "ran").exists()


def test_eight_processes_convert_the_authors_file_at_once(published, tmp_path):
    environment = {
        "HF_ENDPOINT": published.url,
        "HF_HOME": str(tmp_path / "home"),
        "MOUSEV1_CACHE": str(tmp_path / "eight"),
    }
    load_in_eight_processes("11-S", str(RELEASED["11-S"].content_hash), environment)
    (folder,) = (tmp_path / "eight" / "cores").iterdir()
    assert load_core_folder(folder).content_hash() == RELEASED["11-S"].content_hash


def test_cache_folder_follows_its_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("MOUSEV1_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mousev1"
    monkeypatch.setenv("MOUSEV1_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_cached_core_survives_the_removal_of_everything_else(published):
    load_core()
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    published.static.clear()
    assert load_core().content_hash() == RELEASED["11-S"].content_hash
