"""The wires from a controller to the monostable at the emulated 2400: a datagram socket.

The socket takes one-byte datagrams: ``B`` is the edge of a heartbeat, ``C`` clear pulled, ``R`` clear released; others
are ignored. ``--oe SOCKET`` of ``tipguard hil smu`` and ``tipguard hil rig`` serves it. In virtual time the wires are
:mod:`hil.memory_lines`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from hil.datagram import bind
from hil.devices.enable_line import Edge, EnableLine
from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.interlock import Rearm
from hil.devices.monostable import Monostable
from hil.errors import BenchOptionError
from hil.line.pty import Waited

MONOSTABLE_MS: Final = 40.0
REARM: Final = Rearm.KEY.value

_STAMP: Final = struct.Struct("@qq")
_SO_TIMESTAMPNS: Final = 35
"""Not in Python's socket module (asm-generic/socket.h): each datagram then carries when it was sent."""
_EDGES: Final = {edge.value: edge for edge in Edge}


class EnableOptions(Protocol):
    """What a command line says of the line."""

    @property
    def oe(self) -> Path | None:
        """Where the socket of the heartbeat appears; None: nothing is plugged into the line."""

    @property
    def monostable_ms(self) -> float:
        """Time of the monostable in ms."""

    @property
    def oe_rearm(self) -> str:
        """Key or remote: what lets the output on again once the line has switched it off."""


@dataclass(frozen=True, slots=True)
class EnableSpec:
    """The line as it can be built."""

    path: Path | None
    monostable_s: float
    rearm: Rearm

    def plug(self, device: Keithley2400) -> EnableLine | None:
        """Return ``device`` with a monostable at its line; None where there is no heartbeat."""
        return None if self.path is None else EnableLine(device, Monostable(self.monostable_s))


def enable_spec(options: EnableOptions) -> EnableSpec:
    """Return what ``options`` say of the line; raises BenchOptionError for what cannot be."""
    known = {one.value: one for one in Rearm}
    if options.oe_rearm not in known:
        raise BenchOptionError(f"--oe-rearm {options.oe_rearm}: want one of {', '.join(known)}")
    if options.oe is None and (options.monostable_ms != MONOSTABLE_MS):
        raise BenchOptionError("--monostable-ms: there is no monostable without --oe")
    Monostable(options.monostable_ms * 1e-3)
    return EnableSpec(options.oe, options.monostable_ms * 1e-3, known[options.oe_rearm])


class EdgeSocket:
    """The socket that a controller beats into; a context manager, waited for by ``run_lines``.

    An edge counts from when it was sent (the kernel stamps it), so that an emulator that is late does not open a line
    that was beaten in time.
    """

    def __init__(self, path: Path, enable: EnableLine) -> None:
        """Begin to listen at ``path``; raises BenchOptionError if it cannot be had."""
        self._path = path
        self._enable = enable
        self._socket = bind(path, "--oe")
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        enable.look = self.ready

    def __enter__(self) -> Self:
        """Return the open socket."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it and remove the path."""
        self._enable.look = lambda: None
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def fileno(self) -> int:
        """Return the descriptor that is readable when an edge has come."""
        return self._socket.fileno()

    def ready(self) -> None:
        """Take in every edge that has come."""
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(16, socket.CMSG_SPACE(_STAMP.size))
            except BlockingIOError:
                return
            kind = _EDGES.get(data)
            if kind is not None:
                self._enable.edge(_sent_ns(extra), kind)


def served_edges(spec: EnableSpec, enable: EnableLine | None, stack: contextlib.ExitStack) -> Sequence[Waited]:
    """Open the socket of ``spec`` for as long as ``stack`` lives; raises BenchOptionError if it cannot be had."""
    if spec.path is None or enable is None:
        return ()
    return (stack.enter_context(EdgeSocket(spec.path, enable)),)


def _sent_ns(extra: list[tuple[int, int, bytes]]) -> int:
    """Return the CLOCK_MONOTONIC of a datagram's stamp, which is the wall clock's; now if it has none."""
    now_ns = time.monotonic_ns()
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _STAMP.size:
            seconds, rest_ns = _STAMP.unpack_from(data)
            age_ns: int = time.time_ns() - (seconds * 1_000_000_000 + rest_ns)
            # A wall clock that was stepped in between says nothing.
            if 0 <= age_ns < 1_000_000_000:
                return now_ns - age_ns
    return now_ns
