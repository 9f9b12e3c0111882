"""``tipguard safe-off``: output off, whatever state everything else is in. Standard library only, termios, under 2 s.

Reads what the keeper left in the run directory (``safe.json``), or else only ``[rig]`` and ``[ports]`` of the
configuration, so that a typo elsewhere never disables it. Opens the port whoever holds it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import select
import sys
import termios
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from edge import rundir
from edge.guard.cut import Cut, cut_form
from firmware_proto.keithley2400 import commands
from firmware_proto.scpi import LineSplitter, Overlong

BOUND_S: Final = 1.8
"""Time spent on one port; start-up of the interpreter comes on top, 2 s in all."""
_ABORT: Final = b"\x03"


class Target:
    """One port and the bytes that make it safe."""

    def __init__(
        self, path: str, baud: int, abort: bytes, lines: tuple[bytes, ...], *, wants_zero: bool, source: str
    ) -> None:
        """``source`` says where this was read, for the report."""
        self.path = path
        self.baud = baud
        self.abort = abort
        self.lines = lines
        self.wants_zero = wants_zero
        self.source = source


def from_safe_json(path: Path) -> Target | None:
    """Read what the keeper left; None if it is absent or not usable."""
    data = rundir.read_json(path)
    if data is None:
        return None
    try:
        lines = tuple(bytes.fromhex(line) for line in data["lines"])
        if not lines or not all(line.endswith(b"\n") for line in lines):
            return None
        return Target(
            str(data["path"]),
            int(data["baud"]),
            bytes.fromhex(data["abort"]),
            lines,
            wants_zero=bool(data["wants_zero"]),
            source=str(path),
        )
    except (KeyError, TypeError, ValueError):
        return None


def from_config(path: Path) -> tuple[str | None, Target | None]:
    """Read ``rig.id``, ``rig.kind`` and ``[ports]`` leniently; (None, None) if the file says nothing usable."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, None
    rig = data.get("rig")
    rig = rig if isinstance(rig, dict) else {}
    name = rig.get("id") if isinstance(rig.get("id"), str) else None
    ports = data.get("ports")
    smu = ports.get("smu") if isinstance(ports, dict) else None
    if not isinstance(smu, dict) or not isinstance(smu.get("path"), str):
        return name, None
    baud = smu.get("baud", 57600)
    section = data.get("smu")
    abort = section.get("abort") if isinstance(section, dict) else None
    form = cut_form(str(rig.get("kind")))
    return name, Target(
        smu["path"],
        baud if isinstance(baud, int) and baud > 0 else 57600,
        commands.ABORT.get(str(abort), _ABORT),
        form.lines,
        wants_zero=form.wants_zero,
        source=str(path),
    )


def open_raw(path: str, baud: int) -> int:
    """Open a port raw, 8N1, without flushing anything and without taking it from anybody."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    # A port that refuses the settings still gets the bytes.
    with contextlib.suppress(termios.error):
        settings = termios.tcgetattr(fd)
        speed = getattr(termios, f"B{baud}", termios.B57600)
        cflag = termios.CS8 | termios.CREAD | termios.CLOCAL
        settings[0:6] = [0, 0, cflag, 0, speed, speed]
        settings[6][termios.VMIN] = 0
        settings[6][termios.VTIME] = 0
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    return fd


def make_safe(target: Target, bound_s: float = BOUND_S) -> dict[str, Any]:
    """Cut ``target`` until verified, at most ``bound_s``; return a report of plain types."""
    began = time.monotonic_ns()
    report: dict[str, Any] = {"port": target.path, "from": target.source, "verified_off": False, "rounds": 0}
    try:
        fd = open_raw(target.path, target.baud)
    except OSError as error:
        report["error"] = f"{target.path}: {error.strerror}"
        return report
    cut = Cut(
        target.lines,
        wants_zero=target.wants_zero,
        abort=target.abort,
        query_outstanding=True,
        baud=target.baud,
        first_tag=secrets.randbelow(255),
    )
    splitter = LineSplitter()
    end_ns = began + int(bound_s * 1e9)
    due_ns = began
    try:
        while not cut.verified and (now_ns := time.monotonic_ns()) < end_ns:
            if now_ns >= due_ns:
                with contextlib.suppress(BlockingIOError):
                    os.write(fd, cut.next_round(now_ns))
                # Never the slow pace: there are 2 s, and they are for trying.
                due_ns = min(cut.due_ns, now_ns + 150_000_000)
            select.select([fd], [], [], max(0.0, min(due_ns, end_ns) / 1e9 - now_ns / 1e9))
            with contextlib.suppress(BlockingIOError):
                for line in splitter.feed(os.read(fd, 4096)):
                    if not isinstance(line, Overlong):
                        cut.feed(line, time.monotonic_ns())
    except OSError as error:
        report["error"] = f"{target.path}: {error.strerror}"
    finally:
        os.close(fd)
    report.update(verified_off=cut.verified, rounds=cut.rounds, took_s=(time.monotonic_ns() - began) / 1e9)
    return report


def find_targets(config: Path | None, rig: str | None) -> list[Target]:
    """Return what to make safe: the named rig's, or every rig's that left a ``safe.json``."""
    fallback: Target | None = None
    if config is not None:
        name, fallback = from_config(config)
        rig = rig or name
    if rig is not None:
        left = from_safe_json(rundir.rig_dir(rig) / rundir.SAFE_FILE)
        found = [target for target in (left or fallback,) if target is not None]
        if found:
            return found
    if fallback is not None:
        return [fallback]
    # Better one rig too many than one too few.
    everywhere = sorted(rundir.base_dir().glob(f"*/{rundir.SAFE_FILE}"))
    return [target for path in everywhere if (target := from_safe_json(path)) is not None]


def main(argv: list[str] | None = None) -> int:
    """Run the verb; exit 0 only if every port was verified off."""
    parser = argparse.ArgumentParser(
        prog="tipguard safe-off", description="Switch the output off and verify it, whatever else is broken."
    )
    parser.add_argument("config", nargs="?", type=Path, help="the rig's configuration (default: every rig known here)")
    parser.add_argument("--rig", help="a rig's id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    targets = find_targets(args.config, args.rig)
    reports = [make_safe(target) for target in targets]
    off = bool(reports) and all(report["verified_off"] for report in reports)
    if args.json:
        print(json.dumps({"verified_off": off, "ports": reports}))
    else:
        for report in reports:
            if report["verified_off"]:
                print(f"{report['port']}: output verified off in {report['took_s']:.2f} s")
            else:
                why = report.get("error", f"no confirmation after {report['rounds']} cuts")
                print(f"{report['port']}: NOT verified off ({why}); switch the output off at the instrument")
        if not reports:
            print(
                "no rig found: no safe.json in the run directory and no usable [ports] in the configuration; switch "
                "the output off at the instrument, or name a configuration: tipguard safe-off rig.toml"
            )
    return 0 if off else 1


if __name__ == "__main__":
    sys.exit(main())
