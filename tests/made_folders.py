"""Which temporary folders somebody makes: what lies in the shared ones may be another process's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


def made_folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that every folder made by ``tempfile.mkdtemp`` in this test is added to."""
    folders: list[Path] = []
    made = tempfile.mkdtemp

    def noted(*given: str | None, **named: str | None) -> str:
        folders.append(Path(made(*given, **named)))
        return str(folders[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    return folders
