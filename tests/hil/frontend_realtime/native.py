"""The host port as a process, and a host at its line in real time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.framing import Decoder, Frame, encode
from firmware_proto.frontend.message import Message
from hil.frontend import build
from hil.frontend.bench_memory import BenchMemory
from tests.hil.frontend.desk import CONFIG, NONCE

T = TypeVar("T", bound=Message)
PATIENCE_S = 20.0
PERIOD_NS = 10_000
LEASE_NS = 95_000_000
"""Below the longest: it is counted from before the frame was written."""


class Native:
    """``fd`` is the line, ``memory`` the analog side, ``process`` the firmware."""

    def __init__(self, fd: int, memory: BenchMemory, process: subprocess.Popen[bytes]) -> None:
        self.fd = fd
        self.memory = memory
        self.process = process
        self.decoder = Decoder()
        self.heard: list[Message] = []
        self.gaps = 0
        self.strict = True
        self.session = 0
        self.seq = 0
        self.lease_seq = 0

    def say(self, message: Message) -> None:
        number = 0 if isinstance(message, m.Hello | m.Trip) else self.session
        os.write(self.fd, encode(message, self.seq, number))
        self.seq = (self.seq + 1) & 0xFFFF

    def wait_for(self, kind: type[T], fits: Callable[[T], bool] = lambda _: True) -> T:
        """Return the next message of ``kind`` that fits."""
        end = time.monotonic() + PATIENCE_S
        while (left := end - time.monotonic()) > 0:
            for at, message in enumerate(self.heard):
                if isinstance(message, kind) and fits(message):
                    del self.heard[: at + 1]
                    return message
            if select.select([self.fd], [], [], left)[0]:
                self._read()
        raise AssertionError(f"no {kind.NAME} within {PATIENCE_S:g} s")

    def _read(self) -> None:
        for event in self.decoder.feed(os.read(self.fd, 65_536)):
            if isinstance(event, Frame):
                self.gaps += event.gap
                self.heard.append(event.message)
            else:
                assert not self.strict, event

    def connect(self, **changes: object) -> m.ConfigIs:
        self.say(m.Hello(m.SCHEMA_HASH, NONCE, m.VERSION))
        self.session = self.wait_for(m.Welcome).session
        self.say(replace(CONFIG, **changes))  # type: ignore[arg-type]  # each test names real fields
        told = self.wait_for(m.ConfigIs)
        assert told.result is m.Refusal.NONE
        return told

    def arm(self, told: m.ConfigIs) -> int:
        """Close the switch and return the lease's end; the clock is the same on both sides."""
        self.lease_seq += 1
        deadline = time.monotonic_ns() + LEASE_NS
        self.say(m.Arm(told.config_crc, self.lease_seq, deadline))
        return deadline

    def put_back(self, trip_id: int) -> None:
        for message in (m.AckTrip(trip_id), m.BoxDone(trip_id), m.Rearm(trip_id)):
            self.say(message)
        self.wait_for(m.Status, lambda status: status.state is m.State.SAFE)


@contextlib.contextmanager
def native(folder: Path, *options: str, link: Path | None = None) -> Iterator[Native]:
    """Start the host port at a socket, or at a pseudo-terminal that appears at ``link``."""
    ours, its = socket.socketpair()
    line = ["--link", str(link)] if link else ["--fd", str(its.fileno())]
    with BenchMemory.created(folder / "bench") as memory, ours:
        with its:
            process = subprocess.Popen(
                [str(build.native()), *line, "--bench", str(folder / "bench"), *options],
                pass_fds=(its.fileno(),),
                stdout=subprocess.PIPE,
            )
        assert process.stdout is not None
        try:
            with process.stdout:
                ready = json.loads(process.stdout.readline())
            assert ready["ready"] is True
            yield Native(ours.fileno(), memory, process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def wait_until(fits: Callable[[], bool], what: str) -> None:
    """Look again each millisecond; the emulated pin wakes nobody."""
    end = time.monotonic() + PATIENCE_S
    while not fits():
        assert time.monotonic() < end, f"waited {PATIENCE_S:g} s for {what}"
        select.select([], [], [], 0.001)


def first_sample_at(memory: BenchMemory, ticks: int) -> int:
    """Return the index of the first sample that is due at ``ticks`` or later."""
    while True:
        index, due = memory.sample_index, memory.ticks
        if memory.sample_index == index:
            return index - 1 + -(-(ticks - due) // PERIOD_NS)
