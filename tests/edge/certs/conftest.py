"""An authority with a few certificates, made once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.certs.authority import Authority
from edge.certs.identities import Role, identity
from tests.edge.certs.moment import NOW


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an authority, and nobody's certificate yet."""
    Authority.create(tmp_path / "certs", lab="Bench", days=3650, now=NOW)
    return tmp_path / "certs"


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority.open(folder)


@pytest.fixture
def rig_files(folder: Path, authority: Authority) -> Path:
    """The folder, with rig-1's certificate from now on for 90 days by this computer's clock."""
    authority.issue(identity(Role.RIG, "rig-1"), days=90, now=datetime.now(UTC))
    return folder
