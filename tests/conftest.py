"""Where tests find the data that is never committed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start: see mousev1.cli.parser.main.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cores that tests keep go into a folder of their own, never into the cache of who runs them."""
    before = os.environ.get("MOUSEV1_CACHE")
    os.environ["MOUSEV1_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["MOUSEV1_CACHE"]
    else:
        os.environ["MOUSEV1_CACHE"] = before


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path of a file of verification data; skips where there is none at all, fails where one is missing."""

    def locate(name: str) -> Path:
        if not SHARED.is_dir():
            pytest.skip(
                "no ../shared beside the checkout: published weights and goldens are not redistributed"
            )
        path = SHARED / name
        if not path.exists():
            pytest.fail(f"../shared is there, but {name} is missing from it")
        return path

    return locate
