"""The authors' library as an oracle; without it these tests skip."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from training.measurements.peer import import_peer


@pytest.fixture(scope="session")
def peer() -> SimpleNamespace:
    try:
        return import_peer()
    except ImportError as error:
        pytest.skip(str(error))
