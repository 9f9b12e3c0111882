"""``tipguard safe-off``: output off, whatever state everything else is in. Standard library only, termios, under 2 s.

Reads what the keeper left in the run directory (``safe.json``), or else only ``[rig]``, ``[smu]`` and ``[ports]`` of
the configuration, so that a typo elsewhere never disables it. Opens the port whoever holds it. Says what it verified,
and by whose word: the instrument's own tagged reply, or, where a controller lives and takes the replies, that
controller's.
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
from edge.controller.page import Page
from edge.controller.whose import Whose
from edge.errors import RingError
from edge.guard.cut import Cut, cut_form
from edge.guard.front_trip import BAUD, TRIP
from firmware_proto.keithley2400 import commands
from firmware_proto.scpi import LineSplitter, Overlong

BOUND_S: Final = 1.8
"""Time spent on all ports together, at most."""
WHOLE_S: Final = 1.8
"""From the start of this process, the interpreter's own start included: 2 s in all."""
LEAST_S: Final = 0.5
"""On a host that took most of the time to start us: for that long it is tried all the same."""
PACE_NS: Final = 150_000_000
"""Never the slow pace of a cut after its alarm: there are 2 s, and they are for trying."""
WHO_NS: Final = 250_000_000
"""How long a verified cut waits for the word of who it was that verified it."""
FRESH_NS: Final = 500_000_000
"""A controller's last stamp may be so old for its word to count; it stamps every 20 ms."""
SETTLE_NS: Final = 60_000_000
"""A controller's word counts from so long after our first bytes on: it has seen what they did by then."""
_OFF: Final = frozenset({"SAFE", "ARMED", "TRIPPED"})
_ABORT: Final = b"\x03"


class Target:
    """One port and the bytes that make it safe."""

    def __init__(
        self,
        path: str,
        baud: int,
        abort: bytes,
        lines: tuple[bytes, ...],
        *,
        wants_zero: bool,
        source: str,
        serial_number: str = "",
        directory: Path | None = None,
        front: tuple[str, int] | None = None,
    ) -> None:
        """``source`` says where this was read, for the report. ``directory``: the rig's run directory, if known.

        ``serial_number`` "": nobody is asked who they are. ``front``: path and baud of a front end, which is tripped
        first.
        """
        self.path = path
        self.baud = baud
        self.abort = abort
        self.lines = lines
        self.wants_zero = wants_zero
        self.source = source
        self.serial_number = serial_number
        self.directory = directory
        self.front = front


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
            serial_number=str(data.get("serial_number", "")),
            directory=path.parent,
            front=_front_of(data),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _front_of(ports: dict[str, Any]) -> tuple[str, int] | None:
    """Return path and baud of a front end, leniently: without it the instrument is cut all the same."""
    front = ports.get("frontend")
    if not isinstance(front, dict) or not isinstance(front.get("path"), str):
        return None
    baud = front.get("baud", BAUD)
    return front["path"], baud if isinstance(baud, int) and baud > 0 else BAUD


def from_config(path: Path) -> tuple[str | None, Target | None]:
    """Read what is needed, leniently; (None, None) if the file says nothing usable."""
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
    section = section if isinstance(section, dict) else {}
    abort, serial_number = section.get("abort"), section.get("serial_number")
    form = cut_form(str(rig.get("kind")))
    return name, Target(
        smu["path"],
        baud if isinstance(baud, int) and baud > 0 else 57600,
        commands.ABORT.get(str(abort), _ABORT),
        form.lines,
        wants_zero=form.wants_zero,
        source=str(path),
        serial_number=serial_number if isinstance(serial_number, str) else "",
        directory=rundir.rig_dir(name) if name is not None else None,
        front=_front_of(ports) if isinstance(ports, dict) else None,
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
    # Output that somebody stopped (tcflow) stays stopped through new settings.
    with contextlib.suppress(termios.error):
        termios.tcflow(fd, termios.TCOON)
    return fd


def trip_front(path: str, baud: int) -> bool:
    """Tell a front end to open, whatever holds its port; return whether the port took it. Waits for nothing."""
    try:
        fd = open_raw(path, baud)
    except OSError:
        return False
    try:
        return os.write(fd, TRIP) == len(TRIP)
    except OSError:
        return False
    finally:
        os.close(fd)


class Attempt:
    """One port under way: cut until it is verified, by whoever's word."""

    def __init__(self, target: Target) -> None:
        """Open the port and send the first round; what goes wrong is kept in ``error``."""
        self.target = target
        self.error: str | None = None
        self.by: str | None = None
        """Whose word verified it: reply or controller."""
        self.fd = -1
        self._began_ns = self._ended_ns = time.monotonic_ns()
        self._cut = Cut(
            target.lines,
            wants_zero=target.wants_zero,
            abort=target.abort,
            query_outstanding=True,
            baud=target.baud,
            first_tag=secrets.randbelow(255),
        )
        self._whose = Whose(target.serial_number, target.baud)
        self._whose.reopened()
        self._splitter = LineSplitter()
        self.due_ns = self._began_ns
        self.tripped = None if target.front is None else trip_front(*target.front)
        """The front end's port took its trip; None: there is none."""
        try:
            self.fd = open_raw(target.path, target.baud)
        except OSError as error:
            self._fail(error)
        else:
            self.step(self._began_ns)

    @property
    def done(self) -> bool:
        """Nothing more can be done here."""
        return self.fd < 0

    def step(self, now_ns: int) -> None:
        """Read what is there, write what is due, listen to a controller."""
        if self.done:
            return
        try:
            with contextlib.suppress(BlockingIOError):
                for line in self._splitter.feed(os.read(self.fd, 4096)):
                    if not isinstance(line, Overlong):
                        self._cut.feed(line, time.monotonic_ns())
                        self._whose.feed(line, confirmed=self._cut.verified)
            if self._judged(now_ns):
                self.close()
            elif now_ns >= self.due_ns:
                with contextlib.suppress(BlockingIOError):
                    os.write(self.fd, self._cut.next_round(now_ns) + self._whose.question)
                self.due_ns = min(self._cut.due_ns, now_ns + PACE_NS) + self._whose.reply_ns
        except OSError as error:
            self._fail(error)

    def _judged(self, now_ns: int) -> bool:
        if self._whose.stranger is not None:
            # Not this rig's: it had one cut, and gets nothing more.
            return True
        if self._cut.verified:
            self.by = "reply"
            # Who said so comes right behind, where it comes at all.
            verified_ns = self._cut.verified_ns or now_ns
            self.due_ns = verified_ns + WHO_NS
            return not self._whose.asking or now_ns >= self.due_ns
        if now_ns - self._began_ns >= SETTLE_NS and controller_says_off(self.target.directory, now_ns):
            self.by = "controller"
        return self.by is not None

    def close(self) -> None:
        """Let go of the port."""
        self._ended_ns = time.monotonic_ns()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _fail(self, error: OSError) -> None:
        self.error = f"{self.target.path}: {error.strerror}"
        self.close()

    def report(self) -> dict[str, Any]:
        """Return what became of it, as plain types."""
        stranger = self._whose.stranger
        report: dict[str, Any] = {
            "port": self.target.path,
            "from": self.target.source,
            "verified_off": self.by is not None and stranger is None,
            "verified_by": self.by if stranger is None else None,
            "serial_number": self.target.serial_number if self._whose.known else stranger,
            "rounds": self._cut.rounds,
            "took_s": (self._ended_ns - self._began_ns) / 1e9,
        }
        if self.tripped is not None:
            # Heard by nobody here: it is no proof, and none is built on it.
            report["front_end_told"] = self.tripped
        if stranger is not None:
            report["error"] = (
                f"serial number {stranger} answers there, not {self.target.serial_number}; it was sent one cut, and "
                "nothing more"
            )
        elif self.error is not None:
            report["error"] = self.error
        elif self.by is None and (others := holders(self.target.path)):
            report["held_by"] = others
        return report


def controller_says_off(directory: Path | None, now_ns: int) -> bool:
    """Tell whether a controller that lives, and stamped just now, has the output verified off."""
    if directory is None or not rundir.controller_runs(directory):
        return False
    try:
        page = Page(directory / rundir.PAGE_FILE)
    except RingError:
        return False
    try:
        fresh = page.worker_pid != 0 and now_ns - page.heartbeat_ns < FRESH_NS
        return fresh and not page.energised and page.state in _OFF
    finally:
        page.close()


def holders(path: str) -> list[str]:
    """Return who else has a port open, as far as this user may see: process id and name."""
    found: list[str] = []
    try:
        device = os.stat(path).st_rdev  # noqa: PTH116 - as the loop below, which cannot afford Path objects
    except OSError:
        return found
    for pid in (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):  # noqa: PTH208
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{pid}/fd/{fd}").st_rdev == device:  # noqa: PTH116
                        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
                        found.append(f"{pid} ({name})")
                        break
    return found


def make_all_safe(targets: list[Target], bound_s: float = BOUND_S) -> list[dict[str, Any]]:
    """Cut every target at once until verified, at most ``bound_s`` for all; return a report each."""
    end_ns = time.monotonic_ns() + int(bound_s * 1e9)
    # Every port has had its cut before any reply is waited for.
    attempts = [Attempt(target) for target in targets]
    while (going := [one for one in attempts if not one.done]) and (now_ns := time.monotonic_ns()) < end_ns:
        due_ns = min(end_ns, now_ns + SETTLE_NS // 3, *(one.due_ns for one in going))
        select.select([one.fd for one in going], [], [], max(0.0, (due_ns - now_ns) / 1e9))
        for one in going:
            one.step(time.monotonic_ns())
    for one in attempts:
        if not one.done:
            one.close()
    return [one.report() for one in attempts]


def make_safe(target: Target, bound_s: float = BOUND_S) -> dict[str, Any]:
    """Cut one target; see :func:`make_all_safe`."""
    return make_all_safe([target], bound_s)[0]


def age_s() -> float:
    """Return how long this process has lived, in s, from before its interpreter began to start."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - as light as can be
            ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    except (OSError, ValueError, IndexError):
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return age if 0 <= age < 60 else 0.0


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
    reports = make_all_safe(targets, max(LEAST_S, WHOLE_S - age_s()))
    off = bool(reports) and all(report["verified_off"] for report in reports)
    if args.json:
        print(json.dumps({"verified_off": off, "ports": reports}))
    else:
        for report in reports:
            print(in_words(report))
        if not reports:
            print(
                "no rig found: no safe.json in the run directory and no usable [ports] in the configuration; switch "
                "the output off at the instrument, or name a configuration: tipguard safe-off rig.toml"
            )
    return 0 if off else 1


def in_words(report: dict[str, Any]) -> str:
    """Say what was verified, by whose word, and what was not."""
    port = report["port"]
    if report["verified_by"] == "controller":
        return (
            f"{port}: cut sent; output verified off by the running controller, which takes the instrument's replies, "
            f"in {report['took_s']:.2f} s"
        )
    if report["verified_off"]:
        who = f"serial number {report['serial_number']}" if report["serial_number"] else "who answered is not known"
        return f"{port}: output verified off in {report['took_s']:.2f} s, by the instrument's own reply ({who})"
    why = report.get("error", f"no confirmation after {report['rounds']} cuts")
    if held_by := report.get("held_by"):
        why += f"; the replies may have gone to who else has the port open: {', '.join(held_by)}"
    if report.get("front_end_told"):
        why += "; the front end was told to open, which is no proof that it did"
    return f"{port}: NOT verified off ({why}); switch the output off at the instrument"


if __name__ == "__main__":
    sys.exit(main())
