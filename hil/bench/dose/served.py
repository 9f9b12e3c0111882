"""The emulated instruments of the bench, a pseudo-terminal each, in one process: ``python -m hil.bench.dose.served``.

Instrument and line stay from trial to trial, so that whoever has opened the port keeps it; what is exchanged is the
sample at the terminals, a fresh site of a given seed. Orders come as JSON objects, one a line on stdin, answers go to
stdout, and so does every set onset and safe of a site, as it happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from edge.controller.realtime import set_fifo
from hil.bench.dose.judge import TracedSite, measures, reset
from hil.devices.enable_line import EnableLine
from hil.devices.keithley2400 import Keithley2400
from hil.devices.monostable import Monostable
from hil.errors import BenchFaultError
from hil.line.pty import PtyLine, Waited, run_lines, sharpen_timers
from hil.output_enable import MONOSTABLE_MS, EdgeSocket
from hil.processes.spec import oe_socket_of
from hil.protocols import Device
from hil.signals import stop_signals

BAUD: Final = 57600
SERIES_OHM: Final = 1500.0
"""At the tip, as for memristor cycling within 1 V (DESIGN section 1)."""
AT_LIMIT_A: Final = 0.99e-4
"""Counted as "at the limit": 1 % below the 100 uA that every arm is started with."""
PRIORITY: Final = 40
"""Above keeper and worker, who are measured: an instrument does not wait for the host's processor."""


class ChangingLoad:
    """What hangs at the terminals, exchangeable; implements :class:`hil.protocols.Load` and all that the 2400 asks."""

    def __init__(self, site: TracedSite) -> None:
        """Begin with ``site``."""
        self.site = site
        self._source: tuple[float, float, bool] | None = None

    def change(self, t_ns: int, site: TracedSite) -> TracedSite:
        """Put ``site`` to the terminals at ``t_ns``, as the source is now; return the one before."""
        before, self.site = self.site, site
        site.advance(t_ns)
        if self._source is not None:
            v_set, i_limit_a, connected = self._source
            site.set_source(t_ns, v_set, i_limit_a, connected=connected)
        return before

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """See Load."""
        self._source = (v_set, i_limit_a, connected)
        self.site.set_source(t_ns, v_set, i_limit_a, connected=connected)

    def advance(self, t_ns: int) -> None:
        """See Load."""
        self.site.advance(t_ns)

    def range_changed(self, t_ns: int) -> None:
        """See LiveLoad."""
        self.site.range_changed(t_ns)

    def output_switched(self, t_ns: int) -> None:
        """See LiveLoad."""
        self.site.output_switched(t_ns)

    @property
    def charge_c(self) -> float:
        """See Load."""
        return self.site.charge_c

    @property
    def terminal_current_a(self) -> float:
        """See Load."""
        return self.site.terminal_current_a

    @property
    def terminal_voltage_v(self) -> float:
        """See LiveLoad."""
        return self.site.terminal_voltage_v

    @property
    def clamped(self) -> bool:
        """See Load."""
        return self.site.clamped


class WatchedLine(PtyLine):
    """A line that notes, at the pseudo-terminal's master, when replies went out and what came in. Times in ns."""

    replied_ns = 0
    """When the last byte of the last reply was handed to the kernel: just before that system call."""

    def __init__(self, device: Device, link: Path) -> None:
        """Open it; see PtyLine."""
        super().__init__(device, link, BAUD)
        self.arrivals: list[tuple[int, int, bytes]] = []
        """When each piece was read, ``replied_ns`` then, the bytes."""

    def take_in(self) -> None:
        """See PtyLine."""
        data = os.read(self.fileno(), 4096)
        t_ns = time.monotonic_ns()
        self.arrivals.append((t_ns, self.replied_ns, data))
        self.duplex.write(t_ns, data)

    def flush(self) -> None:
        """See PtyLine."""
        if self._out.endswith(b"\r"):
            self.replied_ns = time.monotonic_ns()
        super().flush()

    def first(self, begins: bytes, after_ns: int) -> tuple[int, int] | None:
        """Return when a piece that begins like this was read after ``after_ns``, and the last reply before it."""
        found = ((t_ns, replied_ns) for t_ns, replied_ns, data in self.arrivals if data.startswith(begins))
        return next((each for each in found if each[0] >= after_ns), None)


class Post:
    """One arm's place: instrument, load, line; with ``enable`` a monostable on the instrument's output enable line."""

    def __init__(self, name: str, folder: Path, *, enable: bool) -> None:
        """Open the line at ``folder/name``."""
        self.name = name
        self.load = ChangingLoad(self._site(0))
        self.unit = Keithley2400(self.load, seed=len(name), baud=BAUD)
        self.enable_line = EnableLine(self.unit, Monostable(MONOSTABLE_MS * 1e-3)) if enable else None
        self.line = WatchedLine(self.enable_line or self.unit, folder / name)
        self.at_onset: dict[str, Any] = {}

    @staticmethod
    def _site(seed: int) -> TracedSite:
        return TracedSite("gb", seed=seed, series_ohm=SERIES_OHM, limit_a=AT_LIMIT_A)

    def now(self) -> int:
        """Let everything happen that is due; return the time, from which nothing has happened yet."""
        t_ns = time.monotonic_ns()
        self.line.duplex.run_until(t_ns)
        self.line.flush()
        return t_ns

    def put(self, seed: int, *, traced: bool) -> dict[str, Any]:
        """Put a fresh site to the terminals; refused while the output is on."""
        t_ns = self.now()
        if self.unit.output_on:
            raise BenchFaultError(f"{self.name}: the output is on between two trials")
        site = self._site(seed)
        site.trace = [] if traced else None
        site.on_event = self._told
        self.at_onset = {}
        self.line.arrivals.clear()
        self.load.change(t_ns, site)
        return {"t_ns": t_ns}

    def _told(self, t_ns: int, event: str) -> None:
        if event == "set_onset":
            settings = self.unit.settings
            sense = settings.curr_sense
            self.at_onset = {
                "nplc": settings.nplc,
                "autozero": settings.autozero,
                "range_a": sense.range,
                "autorange": sense.auto_range,
                "protection_a": sense.protection,
                "elements": sorted(settings.elements),
            }
        if event == "set_onset" or (event == "safe" and self.at_onset):
            _say({"event": event, "line": self.name, "t_ns": t_ns})

    def judge(self, cut: str) -> dict[str, Any]:
        """Take the site away and return what the trial did to it; ``busy`` while the output is on.

        ``cut``: the first bytes that the arm sends to end it all.
        """
        t_ns = self.now()
        if self.unit.output_on:
            return {"busy": True}
        site = self.load.change(t_ns, self._site(0))
        site.on_event = None
        found = measures(site, t_ns)
        if found["onset_ns"] is None:
            return {"found": found}
        onset_ns = found["onset_ns"]
        seen = self.line.first(cut.encode(), onset_ns)
        if seen is not None:
            cut_ns, reply_ns = seen
            found |= {
                "cut_s": (cut_ns - onset_ns) * 1e-9,
                "reading_s": (reply_ns - onset_ns) * 1e-9,
                "reaction_s": (cut_ns - reply_ns) * 1e-9,
            }
        if site.trace:
            found["trace"] = [((p.t_ns - onset_ns) * 1e-9, p.i_a, p.v_tip) for p in site.trace]
            site.trace = None
        return {"found": found | reset(site, t_ns), "at_onset": self.at_onset}


class Orders:
    """Orders from stdin. ``{"id", "do": "put"|"judge", "line", ...}``; the answer has the same ``id``."""

    def __init__(self, posts: dict[str, Post]) -> None:
        """Take the posts."""
        self._posts = posts
        self._rest = b""

    def fileno(self) -> int:
        """See Waited."""
        return 0

    def ready(self) -> None:
        """See Waited."""
        data = os.read(0, 65536)
        if not data:
            raise SystemExit(0)  # whoever gave the orders is gone
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            post = self._posts[order["line"]]
            if order["do"] == "put":
                answer = post.put(order["seed"], traced=order["traced"])
            else:
                answer = post.judge(order["cut"])
            _say({"id": order["id"], **answer})


def _say(document: dict[str, Any]) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


def main(arguments: list[str]) -> None:
    """Serve the lines named in ``arguments`` behind their folder; one of them, ``NAME+oe``, takes a heartbeat."""
    folder = Path(arguments[0])
    with stop_signals() as stop_fd, contextlib.ExitStack() as stack:
        posts = {}
        for word in arguments[1:]:
            name, _, oe = word.partition("+")
            posts[name] = Post(name, folder, enable=bool(oe))
            stack.enter_context(posts[name].line)
        also: list[Waited] = [Orders(posts)]
        for post in posts.values():
            if post.enable_line is not None:
                socket = oe_socket_of(post.line.link_path)
                also.append(stack.enter_context(EdgeSocket(socket, post.enable_line)))
        late = set_fifo(PRIORITY)
        sharpen_timers()
        power_on_ns = time.monotonic_ns()
        for post in posts.values():
            post.line.duplex.device.advance(power_on_ns)
        _say({"ready": True, "no_fifo": late})
        run_lines([post.line for post in posts.values()], stop_fd, also)


if __name__ == "__main__":
    main(sys.argv[1:])
