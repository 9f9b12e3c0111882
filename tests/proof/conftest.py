"""What the proofs share; Mosquitto is required, as the broker whose forgetting is proven against."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.broker import mosquitto_path
from tests.proof.disk import build_shim


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    if mosquitto_path() is None:
        pytest.skip("needs mosquitto")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))
