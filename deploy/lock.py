"""Write ``requirements.lock`` from what is installed in this virtual environment: names and versions, nothing else.

Standard library only. Run it in a fresh environment that holds what ``pyproject.toml`` asks for and no more::

    python3 -m venv --clear .venv
    .venv/bin/pip install 'setuptools>=77'
    .venv/bin/pip install --no-build-isolation -e '.[certs,demo,dev,gpio,store,strangers]'
    .venv/bin/python deploy/lock.py
    make lock-check

No environment markers are written: ``check_lock.py`` proves for every supported Python that the same list serves.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.lock"
NOT_LOCKED: Final = frozenset({"tipguard", "pip"})
"""The project itself, and the installer, which every environment brings along."""

HEADER: Final = """\
# Every package of runtime, demo and development: names and versions only, no hosts, no hashes.
# Written by deploy/lock.py, checked by `make lock-check`: Python 3.11 to 3.13, x86-64 and aarch64.
"""


def canonical(name: str) -> str:
    """Return a distribution's name in its one normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Return name -> version of every distribution here."""
    return {canonical(found.name): found.version for found in importlib.metadata.distributions()}


def lock_text(versions: dict[str, str]) -> str:
    """Return the lock's text for ``versions``."""
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items()) if name not in NOT_LOCKED]
    return HEADER + "".join(lines)


def main() -> int:
    """Write the lock; refuse outside a virtual environment, where half the system would end up in it."""
    if sys.prefix == sys.base_prefix:
        print("not in a virtual environment; run it as .venv/bin/python deploy/lock.py", file=sys.stderr)
        return 2
    versions = installed()
    LOCK.write_text(lock_text(versions), encoding="utf-8")
    print(f"wrote {LOCK.name}: {len(versions.keys() - NOT_LOCKED)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
