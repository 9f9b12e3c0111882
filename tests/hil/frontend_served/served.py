"""``tipguard hil frontend`` as a process, and a host at its pseudo-terminal."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from firmware_proto.frontend import messages
from firmware_proto.frontend.messages import State
from firmware_proto.frontend.session import (
    Event,
    HostSession,
    Rebooted,
    RefusedByDevice,
    Samples,
    Status,
    Tripped,
    Welcome,
)
from firmware_proto.frontend.vocabulary import Refusal
from tests.hil.frontend_served.stand import CONFIG

ROOT = Path(__file__).resolve().parents[3]
RENEW_S = 0.02
LEASE_NS = 95_000_000
TRIES = 5


class Served:
    """The process, its lines on stdout, its record."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.link = directory / "frontend"
        self.control = directory / "control"
        self.truth_path = directory / "truth"
        self.ready = self.line()

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            pytest.fail(f"no more lines; stderr: {self.process.communicate(timeout=20)[1]}")
        found: dict[str, Any] = json.loads(text)
        return found

    def truth(self, name: str) -> list[dict[str, Any]]:
        lines = self.truth_path.read_text(encoding="utf-8").splitlines()
        return [entry for entry in map(json.loads, lines) if entry["event"] == name]

    def stop(self) -> tuple[int, str]:
        self.process.terminate()
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@contextmanager
def served(
    directory: Path, *words: str, plan: str = "", verb: str = "frontend", link: str = "--link"
) -> Iterator[Served]:
    """Serve with the truth in ``directory``; ``plan``: faults, controlled over a socket."""
    if plan:
        (directory / "plan.toml").write_text(plan, encoding="utf-8")
        words = (*words, "--faults", str(directory / "plan.toml"), "--control", str(directory / "control"))
    command = [sys.executable, "-P", "-m", "hil", verb, link, str(directory / "frontend")]
    command += ["--truth", str(directory / "truth"), "--seed", "3", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Served(process, directory)
        finally:
            process.kill()


class Host:
    """One host over however many pseudo-terminals the link is; renews the lease while ``renewing``."""

    def __init__(self, link: Path, config: messages.Config = CONFIG) -> None:
        self.link = link
        self.session = HostSession(0xBEEF)
        self.config = config
        self.events: list[Event] = []
        self.status: messages.Status | None = None
        self.renewing = False
        self.tick_hz = 0
        self.samples = 0
        self.missing = 0
        self.doubled = 0
        self._next: int | None = None
        self._renew_s = 0.0
        self._fd = -1

    def open(self) -> None:
        self.close()
        self._fd = os.open(self.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def deadline(self) -> int:
        """Return a deadline in the device's ticks, from the last status; the host's port has our own clock."""
        assert self.status is not None
        if self.tick_hz == 1_000_000_000:
            return time.monotonic_ns() + LEASE_NS
        return self.status.ticks + self.tick_hz * LEASE_NS // 1_000_000_000

    def until(self, what: str, look: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Live until ``look`` likes it."""
        end_s = time.monotonic() + timeout_s
        while not look():
            assert time.monotonic() < end_s, f"waited {timeout_s:g} s for {what}; {self.status}; {self.events[-5:]}"
            self.turn()

    def turn(self) -> None:
        if self.renewing and time.monotonic() > self._renew_s:
            self._renew_s = time.monotonic() + RENEW_S
            self.write(self.session.lease(self.deadline()))
            if self.tick_hz != 1_000_000_000:
                self.write(self.session.get_status())
        if select.select([self._fd], [], [], 0.005)[0]:
            data = os.read(self._fd, 65_536)
            for event in self.session.feed(data, time.monotonic_ns()):
                self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Status):
            self.status = event.message
        elif isinstance(event, Welcome):
            self.tick_hz = event.message.tick_hz
            self.status = None
        elif isinstance(event, Rebooted):
            self._next = None
        if not isinstance(event, Samples):
            self.events.append(event)
            return
        message = event.message
        if self._next is not None:
            self.doubled += message.index < self._next
            assert event.missing == message.index - self._next
        self._next = message.index + message.count
        self.samples += message.count
        self.missing += event.missing
        self.write(self.session.credit(self.session.bulk + 64))

    def armed(self) -> None:
        """Begin a session, leave a trip behind, configure, arm."""
        self.renewing = False
        self.write(self.session.hello())
        again_s = time.monotonic() + 0.3

        def welcomed() -> bool:
            nonlocal again_s
            if self.session.welcome is None and time.monotonic() > again_s:
                again_s = time.monotonic() + 0.3
                self.write(self.session.hello())
            return self.session.welcome is not None

        self.until("a WELCOME", welcomed)
        self.write(self.session.get_status())
        self.until("a STATUS", lambda: self.status)
        assert self.status is not None
        if self.status.state == State.TRIPPED:
            trip_id = self.status.trip_id
            for data in (self.session.ack(trip_id), self.session.done(trip_id), self.session.rearm(trip_id)):
                self.write(data)
        self.write(self.session.configure(self.config))
        self.until("a CONFIG_IS", lambda: self.session.config)
        for _ in range(TRIES):
            self.status = None
            self.write(self.session.get_status())
            self.until("a STATUS", lambda: self.status)
            since = len(self.events)
            self.write(self.session.arm(self.deadline()) + self.session.credit(64))
            self.until("ARMED, or a refusal", partial(self._answered, since))
            if self._was_armed(since):
                self.renewing = True
                return
            # On a busy host an ARM may come after its own deadline.
            assert self._refusals(since) == [Refusal.DEADLINE_PAST], self.events[since:]
        pytest.fail(f"the host was late with {TRIES} ARMs")

    def _answered(self, since: int) -> bool:
        return self._was_armed(since) or bool(self._refusals(since))

    def _was_armed(self, since: int) -> bool:
        """Not by the last status: the lease that came with the ARM may have run out before we read again."""
        return any(isinstance(event, Status) and event.message.state == State.ARMED for event in self.events[since:])

    def _refusals(self, since: int) -> list[Refusal]:
        refused = [event.message for event in self.events[since:] if isinstance(event, RefusedByDevice)]
        return [message.why for message in refused if message.id == messages.Arm.ID]

    def trips(self) -> list[messages.TripReport]:
        return [event.message for event in self.events if isinstance(event, Tripped) and event.first]
