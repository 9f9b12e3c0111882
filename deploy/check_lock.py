"""Check ``requirements.lock``: form, completeness, and with ``--wheels`` that every processor we support is served.

Run it from the project's root: ``.venv/bin/python -m deploy.check_lock [--wheels]``, or ``make lock-check``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from deploy.lock import LOCK, NOT_LOCKED, ROOT, canonical

PYTHONS: Final = ("3.11", "3.12", "3.13")
MACHINES: Final = ("aarch64", "x86_64")
GLIBC: Final = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
"""Wheels up to glibc 2.28 run on every Debian, Ubuntu and Raspberry Pi OS that has Python 3.11."""

_PIN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*==[0-9][0-9A-Za-z.+!]*")
_PLACE = re.compile(r"://|@|--hash|--[a-z]|\bfile:|/")

Requires = Callable[[str], Iterable[str]]


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """Return name -> version of a lock, and what is wrong with its form."""
    pins: dict[str, str] = {}
    problems = []
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            if "://" in line:
                problems.append(f"line {number}: an address in a comment")
            continue
        if _PLACE.search(line):
            problems.append(f"line {number}: {line!r}: an address, a path, a hash or an option; only name==version")
        elif not _PIN.fullmatch(line):
            problems.append(f"line {number}: {line!r}: expected name==version, the name in lower case with hyphens")
        else:
            name, _, version = line.partition("==")
            if name in pins:
                problems.append(f"line {number}: {name} stands twice")
            pins[name] = version
            names.append(name)
    if names != sorted(names):
        problems.append("not sorted by name")
    problems += [f"{name} does not belong in the lock" for name in sorted(NOT_LOCKED & pins.keys())]
    return pins, problems


def wanted(project: Path) -> list[str]:
    """Return every requirement of ``pyproject.toml``: runtime, all extras, build."""
    data = tomllib.loads(project.read_text(encoding="utf-8"))
    extras = data["project"].get("optional-dependencies", {})
    return [
        *data["project"]["dependencies"],
        *(requirement for group in extras.values() for requirement in group),
        *data["build-system"]["requires"],
    ]


def environment(python: str, machine: str) -> dict[str, str]:
    """Return the marker environment of a CPython on Linux."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def walk(
    pins: dict[str, str], roots: Iterable[str], requires: Requires, where: dict[str, str]
) -> tuple[list[str], set[str]]:
    """Follow the requirements in one environment; return what the lock lacks, and which of its names were asked for.

    ``requires`` gives the requirements of a locked package.
    """
    problems = []
    seen: set[tuple[str, frozenset[str]]] = set()
    stack = [("pyproject.toml", Requirement(text)) for text in roots]
    while stack:
        asker, requirement = stack.pop()
        name, extras = canonical(requirement.name), frozenset(requirement.extras)
        if name not in pins:
            problems.append(f"{asker} needs {requirement}, which is not locked")
            continue
        if not requirement.specifier.contains(pins[name], prereleases=True):
            problems.append(f"{asker} needs {requirement}, locked is {pins[name]}")
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in requires(name):
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({**where, "extra": e}) for e in ("", *extras)):
                stack.append((name, needed))
    return problems, {name for name, _ in seen}


def coverage(pins: dict[str, str], roots: list[str], requires: Requires) -> list[str]:
    """Return what is missing for any supported Python and processor, and what none of them asks for."""
    problems = []
    idle = set(pins)
    for python in PYTHONS:
        for machine in MACHINES:
            found, asked = walk(pins, roots, requires, environment(python, machine))
            problems += [f"Python {python}, {machine}: {text}" for text in found]
            idle -= asked
    return problems + [f"nothing asks for {name}; `make clean setup`, then lock again" for name in sorted(idle)]


def installed_requires(name: str) -> list[str]:
    """Return what an installed package asks for."""
    return importlib.metadata.distribution(name).requires or []


def differing(pins: dict[str, str]) -> list[str]:
    """Return which locked packages are not installed here in the locked version: their requirements are not known."""
    problems = []
    for name, version in pins.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = "not installed"
        if here != version:
            problems.append(f"{name}: locked {version}, here {here}; run `make setup`")
    return problems


def missing_wheels(python: str, machine: str) -> str | None:
    """Resolve the lock for another machine without installing anything; return the installer's words if it fails."""
    platforms = [word for glibc in GLIBC for word in ("--platform", f"{glibc}_{machine}")]
    with tempfile.TemporaryDirectory() as nowhere:
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--quiet", "--dry-run", "--ignore-installed"),
            *("--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python),
            *(*platforms, "--target", nowhere, "--requirement", str(LOCK)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"Python {python}, {machine}: {done.stderr.strip() or 'no wheel'}"


def main(argv: list[str] | None = None) -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description="Check requirements.lock.")
    parser.add_argument("--wheels", action="store_true", help="also ask the package index for every wheel (dry run)")
    args = parser.parse_args(argv)
    pins, problems = parse(LOCK.read_text(encoding="utf-8"))
    problems += differing(pins)
    if not problems:
        problems += coverage(pins, wanted(ROOT / "pyproject.toml"), installed_requires)
    if args.wheels and not problems:
        kinds = [(python, machine) for python in PYTHONS for machine in MACHINES]
        # Each is an installer of its own that works for a quarter of a minute: one on every core.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda kind: missing_wheels(*kind), kinds))
        problems += [missing for missing in found if missing is not None]
        for (python, machine), missing in zip(kinds, found, strict=True):
            if missing is None:
                print(f"Python {python}, {machine}: {len(pins)} wheels")
    for problem in problems:
        print(f"{LOCK.name}: {problem}", file=sys.stderr)
    if not problems:
        print(f"{LOCK.name}: {len(pins)} packages, complete for Python {', '.join(PYTHONS)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
