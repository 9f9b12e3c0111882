"""Unit files as they are and as the installer makes them for further rigs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
SERVICES: Final = ("tipguard-controller", "tipguard-uplink")


def unit_text(name: str) -> str:
    return (DEPLOY / "systemd" / f"{name}.service").read_text(encoding="utf-8")


def settings(text: str) -> dict[str, list[str]]:
    """Return a unit's assignments by key, in order; an empty value empties the list, as systemd has it."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(("#", ";", "[")) or not line.strip():
            continue
        key, equals, value = line.partition("=")
        assert equals, f"not an assignment: {line!r}"
        assert not line.endswith("\\"), f"continued lines are not used here: {line!r}"
        found.setdefault(key, []).append(value)
    return found


def comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def install(root: Path, *options: str, program: str = "install.sh") -> subprocess.CompletedProcess[str]:
    """Run the installer, or with ``program`` the uninstaller, over a tree."""
    environment = {key: value for key, value in os.environ.items() if key != "DESTDIR"}
    command = ["bash", str(DEPLOY / program), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=50)
