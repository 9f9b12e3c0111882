"""The keeper: parent of the worker, opens the port, cuts when the worker dies or hangs. Standard library and pyserial.

While the worker lives the keeper never writes to the port. It looks at two things: the worker's pidfd and the
heartbeat page. Worker dead, or heartbeat older than 100 ms while energised: kill, reap, cut on its own descriptor,
verify, latch, start a new worker, which comes up TRIPPED. Everything it needs for that was imported, opened and
locked in memory before the first worker started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import serial

from edge import rundir
from edge.controller import realtime
from edge.controller.beside_port import BesidePort, FrontEndPort
from edge.controller.mirror import CLEAN, TRIPPED, Latch, Mirror
from edge.controller.page import Page
from edge.controller.whose import Whose
from edge.errors import ConfigError, TipguardError
from edge.guard.cut import Cut, cut_form
from edge.guard.front_trip import BAUD
from edge.instruments.port import OpenPort
from edge.notify import Notifier
from firmware_proto.keithley2400 import commands
from firmware_proto.scpi import LineSplitter, Overlong

POLL_MS: Final = 10
HANG_NS: Final = 100_000_000
"""Heartbeat age at which an energised worker counts as hung."""
IDLE_HANG_NS: Final = 10_000_000_000
"""The same with the output off, where only a person is kept waiting."""
OWN_DELAY_NS: Final = 60_000_000
GRACE_NS: Final = 25_000_000
START_NS: Final = 60_000_000_000
STOP_NS: Final = 4_000_000_000
REAP_MS: Final = 50
MAX_RESTARTS: Final = 5
RESTART_WINDOW_NS: Final = 60_000_000_000
EXIT_UNVERIFIED: Final = 4
REOPEN_S: Final = 0.05
LOOK_MS: Final = 100
"""At the latest so often an unverified cut comes round, however slow the line: the watchdog wants to be fed."""
UNVERIFIED: Final = "CUT_UNVERIFIED: the instrument does not confirm; switch the output off at its panel"
READY: Final = frozenset({"SAFE", "TRIPPED"})
"""What a worker must have called itself once: it does so only after a verification."""
STATUS: Final = {
    "SAFE": "SAFE: output verified off",
    "ARMED": "ARMED: output off, limits read back",
    "ENERGISED": "ENERGISED: a plan has the output on",
    "CUTTING": "CUTTING: not verified yet",
    "TRIPPED": "TRIPPED: output verified off; look at the rig, then `tipguard rearm`",
}


def _say(text: str) -> None:
    """Log one line: JSON under systemd, as the worker's, else plain."""
    if "JOURNAL_STREAM" in os.environ or "INVOCATION_ID" in os.environ:
        text = json.dumps({"event": text, "logger": "keeper", "level": "warning"})
    else:
        text = f"tipguard keeper: {text}"
    # A supervisor that went away, or a terminal under Ctrl-S, must not keep us from cutting.
    with contextlib.suppress(OSError, ValueError, TypeError):
        if select.select([], [sys.stderr], [], 0)[1]:
            print(text, file=sys.stderr, flush=True)


class Keeper:
    """One rig's keeper."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Take the rig's lock, open the port, leave the cut where ``safe-off`` finds it."""
        self._args = args
        self._directory = rundir.rig_dir(args.rig, create=True)
        self._lock = rundir.RigLock(self._directory)
        self._port = OpenPort(args.port, args.baud)
        self._emulated = self._port.emulated
        self._anew = False
        """The port was opened anew, and whoever is behind it has heard nothing yet."""
        # The keeper only holds the stage's port, so that a worker that follows finds it locked and configured.
        self._stage = BesidePort(args.stage_port, args.stage_baud, "stage", "ports.stage.path", _say)
        self._front = FrontEndPort(args.frontend_port, args.frontend_baud, "front end", "ports.frontend.path", _say)
        form = cut_form(args.kind)
        self._lines = form.lines
        self._wants_zero = form.wants_zero
        self._abort = commands.ABORT[args.abort]
        rundir.write_json(
            self._directory / rundir.SAFE_FILE,
            {
                "path": args.port,
                "baud": args.baud,
                "abort": self._abort.hex(),
                "lines": [line.hex() for line in self._lines],
                "wants_zero": self._wants_zero,
                "serial_number": args.serial_number,
                **self._front.in_safe_file,
            },
        )
        self._page = Page(self._directory / rundir.PAGE_FILE, create=True)
        self._mirror = Mirror(self._directory)
        self._whose = Whose(args.serial_number, args.baud)
        self._worker: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._stop: str | None = None
        self._stop_ns = 0
        self._started_ns = 0
        self._starts: list[int] = []
        ports = [port for port in (self._port, self._stage.port, self._front.port) if port is not None]
        self._notes: list[str] = [port.warning for port in ports if port.warning]
        self._notifier = Notifier.from_environment()

    def run(self) -> int:
        """Keep a worker running until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._on_signal)
        # Ctrl-Z, or a terminal that stops its background jobs, must never stop the one that cuts. The worker
        # inherits this.
        for number in (signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(number, signal.SIG_IGN)
        # A signal must end the poll at once, not after the handler returned to a restarted system call.
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        if self._args.with_parent:
            # `serve` killed: nobody is left who would cut if we died, and its terminal is gone. An orderly end.
            realtime.die_with_parent(signal.SIGTERM)
            if os.getppid() != self._args.with_parent:
                self._stop = "serve died"
        if self._args.realtime:
            for problem in (realtime.lock_memory(), realtime.set_fifo(realtime.KEEPER_PRIORITY)):
                if problem:
                    self._notes.append(f"keeper: {problem}")
                    _say(problem)
        self._start_worker()
        code: int | None = None
        while code is None:
            code = self._watch(wake_read)
        return code

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop = signal.Signals(number).name

    def _start_worker(self) -> None:
        self._starts.append(time.monotonic_ns())
        self._started_ns = self._starts[-1]
        self._page.worker_pid = 0
        fd = self._port.fileno()
        command = [sys.executable, "-P", "-m", "edge.controller.worker"]
        command += ["--config", str(self._args.config), "--fd", str(fd), "--keeper", str(os.getpid())]
        if self._port.emulated:
            command.append("--emulated")
        if self._whose.stranger is not None:
            command += ["--stranger", self._whose.stranger]
        for note in self._notes:
            command += ["--note", note]
        fds = [fd]
        for port, name in ((self._stage, "stage"), (self._front, "frontend")):
            told, beside = port.arguments(name)
            command += told
            fds += beside
        # A process group of its own: the terminal's signals reach the keeper only, which stops the worker in order.
        self._worker = subprocess.Popen(command, pass_fds=fds, process_group=0)
        self._pidfd = os.pidfd_open(self._worker.pid)

    def _watch(self, wake_fd: int) -> int | None:
        """Wait for a death, a hang or a signal; act on it; return an exit code to end with, or None."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        poller.register(wake_fd, select.POLLIN)
        page = self._page
        last_ns = time.monotonic_ns()
        while True:
            events = poller.poll(POLL_MS)
            now_ns = time.monotonic_ns()
            for fd, _ in events:
                if fd == self._pidfd:
                    return self._died("died")
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_fd, 64)
            if self._stop is not None and self._stop_ns == 0:
                self._stop_ns = now_ns
                self._worker_signal(signal.SIGTERM)
                self._notifier.stopping(f"stopping: {self._stop}")
            if self._stop_ns and now_ns - self._stop_ns > STOP_NS:
                return self._died(f"did not stop within {STOP_NS / 1e9:g} s")
            if self._hung(now_ns):
                if now_ns - last_ns > OWN_DELAY_NS and now_ns - page.heartbeat_ns < HANG_NS + GRACE_NS + OWN_DELAY_NS:
                    # The host kept us waiting too: a worker that was only starved gets one chance to stamp.
                    poller.poll(GRACE_NS // 1_000_000)
                    if not self._hung(time.monotonic_ns()):
                        last_ns = time.monotonic_ns()
                        continue
                return self._died("hung")
            last_ns = now_ns
            page.keeper_stamp(now_ns, os.getpid())
            self._tell(now_ns)

    def _tell(self, now_ns: int) -> None:
        """Tell systemd, where it listens: alive, the worker not being hung; ready once the output is verified off."""
        notifier = self._notifier
        notifier.alive(now_ns)
        if not notifier.listening or self._stop is not None:
            return
        if self._whose.stranger is not None:
            notifier.status("TRIPPED (LINK_LOST): another instrument answers; this rig's own is NOT verified off")
            return
        # A dead worker's last word is not its successor's.
        state = self._page.state if self._page.worker_pid else ""
        if state in READY:
            notifier.ready(STATUS[state])
        notifier.status(STATUS.get(state, "starting: nothing verified yet"))

    def _hung(self, now_ns: int) -> bool:
        page = self._page
        if page.worker_pid == 0:
            return now_ns - self._started_ns > START_NS
        age_ns = now_ns - page.heartbeat_ns
        return age_ns > (HANG_NS if page.energised else IDLE_HANG_NS)

    def _worker_signal(self, number: int) -> None:
        if self._worker is not None and self._worker.poll() is None:
            self._worker.send_signal(number)

    def _died(self, how: str) -> int | None:
        """The worker is dead or must be: make sure, cut, latch; then end or start another."""
        worker = self._worker
        assert worker is not None  # noqa: S101 - _watch runs only between start and death
        if how != "died":
            worker.kill()
            # Bounded: a process stuck in the kernel must not hold up the cut.
            select.select([self._pidfd], [], [], REAP_MS / 1000)
        code = worker.poll()
        os.close(self._pidfd)
        live = self._page.energised
        if how == "died" and not live and self._whose.stranger is None and self._orderly(code):
            # Told to stop, or refused to start with its own message; its last word was "verified off" or "never on".
            return 0 if self._page.worker_pid == 0 and self._stop is not None else code
        if self._whose.stranger is None or self._gone():
            # Nothing that can fail stands before the cut, and nothing but the cut's own proof ends it.
            record = self._cut()
            self._latch(record, _cause(how, code), live=live)
            if self._whose.stranger is None and not record["verified"]:
                return EXIT_UNVERIFIED
        if self._stop is not None:
            return 1 if self._whose.stranger is None else EXIT_UNVERIFIED
        now_ns = time.monotonic_ns()
        self._starts = [t for t in self._starts if now_ns - t < RESTART_WINDOW_NS]
        if len(self._starts) > MAX_RESTARTS:
            off = self._whose.stranger is None
            known = "output verified off" if off else "the rig's own instrument NOT verified off"
            _say(f"worker ended {len(self._starts)} times in a minute; giving up, {known}")
            return 1 if off else EXIT_UNVERIFIED
        self._page.count_restart()
        self._start_worker()
        return None

    def _orderly(self, code: int | None) -> bool:
        if self._stop is not None and self._page.worker_pid == 0:
            # Stopped before it had written a byte.
            return True
        return code is not None and 0 <= code <= 2

    def _latch(self, record: dict[str, Any], cause: str, *, live: bool) -> None:
        """Leave what happened for the next worker: latched if the output was, or may have been, on."""
        record["cause"] = cause
        self._page.count_keeper_cut()
        if record["verified"]:
            self._page.energised = False
        before = self._mirror.read()
        stranger = self._whose.stranger
        if live or stranger is not None or before is None or before.state != CLEAN:
            verdict = before.verdict if before is not None and before.state == TRIPPED else None
            if stranger is not None:
                verdict = "LINK_LOST"
            try:
                self._mirror.write(Latch(TRIPPED, verdict or "RESTART", self._page.epoch, record))
            except OSError as error:
                _say(f"state.json cannot be written ({error.strerror}); look at the run directory")
        took_s = (record["last_ns"] - record["decided_ns"]) / 1e9
        took = f"{took_s * 1e3:.0f} ms" if took_s < 1 else f"{took_s:.1f} s"
        if stranger is not None:
            _say(
                f"{self._args.port}: serial number {stranger!r} answers, this rig's is {self._args.serial_number!r}: "
                "one cut was sent to it, and nothing more is. The rig's own instrument was NOT verified off: switch it "
                "off at its panel, then plug it in here"
            )
        elif not record["verified"]:
            _say(f"worker {cause}; the cut is NOT VERIFIED after {took}: switch the output off at the instrument")
        elif live:
            _say(f"worker {cause} with the output on; cut, verified off in {took}")
        else:
            _say(f"worker {cause}; output verified off in {took}")

    def _cut(self) -> dict[str, Any]:
        """Cut on our own descriptor until verified, or until a signal after the alarm."""
        decided_ns = time.monotonic_ns()
        cut = Cut(
            self._lines,
            wants_zero=self._wants_zero,
            abort=self._abort,
            query_outstanding=self._page.query_outstanding,
            baud=self._args.baud,
            first_tag=secrets.randbelow(255),
        )
        # It opens within a sample, the instrument takes milliseconds; and it is never waited for.
        self._front.trip()
        whose = self._whose
        if whose.stranger is not None:
            # It was unplugged, too: whoever comes next is asked.
            whose.reopened()
        self._write(cut.next_round(decided_ns))
        self._notifier.status("the worker is gone or hung; cutting")
        splitter = LineSplitter()
        alarmed = False
        while whose.stranger is None and not (cut.verified and not whose.asking):
            now_ns = time.monotonic_ns()
            self._notifier.alive(now_ns)
            if self._anew:
                # Whoever is there now: first the cut, then who it is.
                self._anew = False
                splitter.reset()
                whose.reopened()
                self._write(cut.next_round(now_ns) + whose.question)
            if now_ns >= cut.due_ns + whose.reply_ns:
                self._front.trip()
                if cut.alarm and self._stop is not None:
                    break
                if cut.alarm and not alarmed:
                    alarmed = True
                    _say(UNVERIFIED)
                    self._notifier.status(UNVERIFIED)
                self._write(cut.next_round(now_ns) + whose.question)
            for line in splitter.feed(self._read(max(1, (cut.due_ns + whose.reply_ns - now_ns) // 1_000_000))):
                if not isinstance(line, Overlong):
                    cut.feed(line, time.monotonic_ns())
                    whose.feed(line, confirmed=cut.verified)
        return {
            "decided_ns": decided_ns,
            # What a stranger confirms is no proof for this rig.
            "verified": cut.verified and whose.stranger is None,
            "stranger": whose.stranger,
            "last_ns": cut.verified_ns or time.monotonic_ns(),
            "rounds": cut.rounds,
        }

    def _write(self, data: bytes) -> None:
        # What the line does not take (unplugged, or 4 KiB of unsent rounds) is covered by the next round.
        with contextlib.suppress(BlockingIOError):
            try:
                os.write(self._port.fileno(), data)
            except BlockingIOError:
                raise
            except (OSError, serial.SerialException):
                self._reopen()

    def _read(self, at_most_ms: int) -> bytes:
        """Wait for bytes and return them; on a dead line, open the port anew instead, at a bounded pace."""
        try:
            fd = self._port.fileno()
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            events = poller.poll(min(at_most_ms, LOOK_MS))
            if not events:
                return b""
            if not events[0][1] & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                return os.read(fd, 4096)
        except BlockingIOError:
            return b""
        except (OSError, serial.SerialException):
            pass
        self._reopen()
        return b""

    def _reopen(self) -> None:
        """The adapter was unplugged: try its name again. A by-id name is the same adapter, or there is none.

        What hangs on the adapter may be another instrument all the same: see :class:`Whose`.
        """
        with contextlib.suppress(OSError, serial.SerialException):
            self._port.close()
        try:
            port = OpenPort(self._args.port, self._args.baud)
            if port.emulated is not self._emulated:
                port.close()
                raise ConfigError(f"port {self._args.port}: a pseudo-terminal in place of an adapter, or the reverse")
        except (TipguardError, OSError):
            # Still away, or not what it was; the pace of trying, and never a spin.
            select.select([], [], [], REOPEN_S)
        else:
            self._port = port
            self._anew = True

    def _gone(self) -> bool:
        """Tell whether nobody is behind our descriptor any more."""
        poller = select.poll()
        poller.register(self._port.fileno(), 0)
        return bool(poller.poll(0))


def _cause(how: str, code: int | None) -> str:
    if how != "died" or code is None:
        return how
    if code >= 0:
        return f"died (exit {code})"
    name = signal.strsignal(-code)
    return f"died (signal {-code}{f', {name}' if name else ''})"


def main(argv: list[str] | None = None) -> int:
    """Run the keeper; arguments come from ``tipguard controller``, which has read the configuration."""
    parser = argparse.ArgumentParser(prog="tipguard controller")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rig", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--baud", type=int, required=True)
    parser.add_argument("--stage-port", default="")
    parser.add_argument("--stage-baud", type=int, default=115200)
    parser.add_argument("--frontend-port", default="")
    parser.add_argument("--frontend-baud", type=int, default=BAUD)
    parser.add_argument("--serial-number", default="")
    parser.add_argument("--kind", required=True)
    parser.add_argument("--abort", choices=sorted(commands.ABORT), required=True)
    parser.add_argument("--with-parent", type=int, default=0, help="process id of the parent to end with")
    parser.add_argument("--realtime", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args(argv)
    try:
        return Keeper(args).run()
    except ConfigError as error:
        _say(str(error))
        return 2
    except TipguardError as error:
        _say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
