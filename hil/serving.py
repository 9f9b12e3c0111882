"""Serving emulated instruments on pseudo-terminals until SIGTERM; what every ``tipguard hil`` verb does alike."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

from hil.faults.served import ServedFaults
from hil.line.pacing import Chunk
from hil.line.pty import PtyLine, Waited, run_lines, sharpen_timers
from hil.protocols import Device
from hil.signals import stop_signals
from hil.twin.truth import TruthRecord

NICER_BY: Final = 15


class Plugged(NamedTuple):
    """A device, where the link to its pseudo-terminal appears, and its line's rate in bit/s (0: no time).

    ``chunk`` and ``lossless`` as for :class:`hil.line.pty.PtyLine`.
    """

    device: Device
    link: Path
    baud: int
    chunk: Chunk = "fifo"
    lossless: bool = False


@runtime_checkable
class KnowsItsLine(Protocol):
    """A device that asks its line whether there is room."""

    def on_line(self, line: PtyLine) -> None:
        """Know the line it is on."""


@contextlib.contextmanager
def going_first() -> Iterator[None]:
    """Go before ordinary programs meanwhile, where that is allowed.

    An instrument has a processor of its own: what this host does besides must not make it slower than any real one.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, before - NICER_BY)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def serve_devices(
    plugged: Mapping[str, Plugged],
    *,
    truth: TruthRecord,
    ready: Mapping[str, object],
    close: Callable[[int], None],
    faults: ServedFaults | None = None,
    also: Sequence[Waited] = (),
) -> None:
    """Serve every device on a line of its own, all on one clock, and return after SIGTERM or SIGINT.

    The devices may share a sample: what they do is done in the order of its time. Prints one JSON line when clients
    can connect: each key of ``plugged`` with its link, then the process id, then ``ready``. ``close`` is called at the
    end with CLOCK_MONOTONIC in ns. ``faults`` stand in the lines and begin at power-on; ``also``: further descriptors
    to wait for. Raises BenchOptionError where a link cannot be had; then none stays. Main thread only.
    """
    faults = ServedFaults(None, None) if faults is None else faults
    with stop_signals() as stop_fd, contextlib.ExitStack() as stack:
        lines = {name: stack.enter_context(_line(one)) for name, one in plugged.items()}
        stack.enter_context(faults).plug(lines)
        stack.enter_context(going_first())
        # Only who holds the links may replace the record: it could be that of a bench that runs.
        truth.begin()
        sharpen_timers()
        power_on_ns = time.monotonic_ns()
        for one in plugged.values():
            one.device.advance(power_on_ns)
        faults.arm(power_on_ns)
        links = {name: str(one.link.absolute()) for name, one in plugged.items()}
        print(json.dumps({"ready": True, **links, "pid": os.getpid(), **ready}), flush=True)
        try:
            run_lines(list(lines.values()), stop_fd, (*faults.also, *also))
        finally:
            close(time.monotonic_ns())


def _line(one: Plugged) -> PtyLine:
    line = PtyLine(one.device, one.link, one.baud, chunk=one.chunk, lossless=one.lossless)
    if isinstance(one.device, KnowsItsLine):
        one.device.on_line(line)
    return line


def serve_device(
    device: Device,
    link: Path,
    baud: int,
    *,
    truth: TruthRecord,
    ready: Mapping[str, object],
    close: Callable[[int], None],
    faults: ServedFaults | None = None,
    also: Sequence[Waited] = (),
) -> None:
    """As :func:`serve_devices`, one ``device`` at ``link``, which the JSON line calls ``link``."""
    plugged = {"link": Plugged(device, link, baud)}
    serve_devices(plugged, truth=truth, ready=ready, close=close, faults=faults, also=also)
