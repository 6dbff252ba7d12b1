"""The unmodified client, pointed at the test Hub with an empty cache, and with its waits cut short."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download, utils

from hub_server.repositories import git_sha1, sha256
from hub_server.server import TOKEN, HubServer

TIMEOUT_SECONDS = 0.3


def point_client(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT, HF_HOME, HF_TOKEN and the timeout variables would do to a new process."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", TIMEOUT_SECONDS)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", TIMEOUT_SECONDS)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", TIMEOUT_SECONDS, raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(utils.tqdm, "__init__", _quiet(utils.tqdm.__init__))


def _quiet(init):
    def quiet(self, *args, **options):
        init(self, *args, **{**options, "disable": True})

    return quiet


def assert_sound(cache: Path) -> None:
    """No partial file in the client's cache, and every file in it is what its name says."""
    assert not list(cache.rglob("*.incomplete"))
    for blob in cache.rglob("blobs/*"):
        content = blob.read_bytes()
        assert blob.name in (git_sha1(content), sha256(content)), f"bad file in the cache: {blob}"
