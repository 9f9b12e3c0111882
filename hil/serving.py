"""Serving one emulated instrument on a pseudo-terminal until SIGTERM; what every ``tipguard hil`` verb does alike."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hil.line.pty import PtyLine, sharpen_timers
from hil.protocols import Device
from hil.signals import stop_signals
from hil.twin.truth import TruthRecord


def serve_device(
    device: Device,
    link: Path,
    baud: int,
    *,
    truth: TruthRecord,
    ready: Mapping[str, object],
    close: Callable[[int], None],
) -> None:
    """Serve ``device`` at ``link``, ``baud`` bit/s, and return after SIGTERM or SIGINT.

    Prints one JSON line, ``ready`` behind link and process id, when a client can connect. ``close`` is called at the
    end with CLOCK_MONOTONIC in ns. Raises BenchOptionError where the link cannot be had. Main thread only.
    """
    with stop_signals() as stop_fd, PtyLine(device, link, baud) as line:
        # Only who holds the link may replace the record: it could be that of a bench that runs.
        truth.begin()
        sharpen_timers()
        device.advance(time.monotonic_ns())  # power on
        print(json.dumps({"ready": True, "link": str(link.absolute()), "pid": os.getpid(), **ready}), flush=True)
        try:
            line.run(stop_fd)
        finally:
            close(time.monotonic_ns())
