"""The authors' library as an oracle; without it these tests skip."""

from __future__ import annotations

import pytest

from training.measurements.peer import PeerLibrary, import_peer


@pytest.fixture(scope="session")
def peer() -> PeerLibrary:
    try:
        return import_peer()
    except ImportError as error:
        pytest.skip(str(error))
