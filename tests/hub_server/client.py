"""The unmodified client, pointed at the test Hub with an empty cache, and with its waits cut short."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download, utils

from hub_server.repositories import git_sha1, sha256
from hub_server.server import TOKEN, HubServer


def point_client(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT, HF_HOME and HF_TOKEN would do to a new process."""
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # where clients before 1.0 look
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(utils.tqdm, "__init__", _quiet(utils.tqdm.__init__))


def shorten_timeouts(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a server shall not answer: on a busy machine a good one takes its time too."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", seconds)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", seconds, raising=False)


def _quiet(init):
    def quiet(self, *args, **options):
        init(self, *args, **{**options, "disable": True})

    return quiet


def assert_sound(cache: Path) -> None:
    """Every file in the client's cache is what its name says.

    Parts of a file are called so by the client, which resumes them (before 2.0) and never loads them.
    """
    for blob in cache.rglob("blobs/*"):
        if blob.suffix == ".incomplete":
            continue
        content = blob.read_bytes()
        assert blob.name in (git_sha1(content), sha256(content)), f"bad file in the cache: {blob}"
