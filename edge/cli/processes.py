"""``tipguard controller``, ``uplink``, ``serve``: start the processes of a rig."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from edge import rundir
from edge.cli.common import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    ConfigArgument,
    broker_files,
    client_for,
    err,
    guarded,
    mqtt_password,
)
from edge.cli.layout import say
from edge.cli.words import REARM, state_in_words
from edge.config import Config, load
from edge.controller.page import Page
from edge.controller.realtime import die_with_parent
from edge.errors import BusyError, RingError, TipguardError
from edge.flight import flight_dir
from edge.logs import configure_logs
from edge.tls import refuse_foreign

UPLINK_PAUSE_S: Final = 1.0
UPLINK_PAUSE_MAX_S: Final = 60.0


def keeper_command(config: Config, path: str) -> list[str]:
    """Return the command line of a rig's keeper."""
    stage = config.ports.stage
    of_stage = [] if stage is None else ["--stage-port", stage.path, "--stage-baud", str(stage.baud)]
    front = config.ports.frontend
    of_front = [] if front is None else ["--frontend-port", front.path, "--frontend-baud", str(front.baud)]
    return [
        sys.executable,
        # Never a secrets.py or select.py of the folder somebody stands in.
        "-P",
        "-m",
        "edge.controller.keeper",
        "--config",
        path,
        "--rig",
        config.rig.id,
        "--port",
        config.ports.smu.path,
        "--baud",
        str(config.ports.smu.baud),
        "--kind",
        config.rig.kind,
        "--abort",
        config.smu.abort,
        "--serial-number",
        config.smu.serial_number,
        "--realtime" if config.runtime.realtime == "auto" else "--no-realtime",
        *of_stage,
        *of_front,
    ]


def controller(config: ConfigArgument = DEFAULT_CONFIG) -> None:
    """Run keeper and worker of one rig until SIGTERM.

    Never switches an output on by itself.
    """

    def work() -> int:
        command = keeper_command(load(config), str(config.resolve()))
        # The keeper reads no configuration and imports no validator: it replaces this process.
        os.execv(command[0], command)

    guarded(work)


def uplink(
    config: ConfigArgument = DEFAULT_CONFIG,
    with_parent: Annotated[int, typer.Option(hidden=True, help="process id of the serve to end with")] = 0,
) -> None:
    """Drain the ring and publish to the broker until SIGTERM."""

    def work() -> int:
        from edge.notify import Notifier
        from edge.uplink import run_uplink

        loaded = load(config)
        if with_parent:
            # Two uplinks of one rig throw each other off the broker: it must not outlive a `serve` that was killed.
            die_with_parent(signal.SIGTERM)
            if os.getppid() != with_parent:
                return EXIT_FAILED
        configure_logs()
        settings = uplink_settings(loaded, config.parent)

        async def serve_uplink() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            await run_uplink(
                settings,
                worker_status=lambda: _worker_status(loaded),
                stop=stop,
                notifier=Notifier.from_environment(),
            )

        asyncio.run(serve_uplink())
        return 0

    guarded(work)


def _worker_status(config: Config) -> dict[str, Any] | None:
    try:
        with client_for(config) as client:
            answer = client.call("status")
    except TipguardError:
        return None
    data = answer.get("data")
    return data if isinstance(data, dict) else None


def uplink_settings(config: Config, beside: Path | None = None) -> Any:  # noqa: ANN401 - UplinkSettings, imported lazily
    """Build the uplink's settings from a rig's configuration; raise ConfigError for unusable secrets.

    ``beside``: folder of the rig's file.
    """
    from edge.uplink import UplinkSettings

    tls = broker_files(config, beside)
    if tls is not None:
        # Now, while somebody looks: later it would be one more broker that cannot be reached.
        tls.context()
        refuse_foreign(tls, config.rig.id)
    return UplinkSettings(
        rig=config.rig.id,
        ring_path=rundir.rig_dir(config.rig.id) / rundir.RING_FILE,
        host=config.uplink.host,
        port=config.uplink.port,
        username=config.uplink.username,
        password=mqtt_password(config, beside),
        tls_ca_file=None if tls is None else tls.ca_file,
        tls_cert_file=None if tls is None else tls.cert_file,
        tls_key_file=None if tls is None else tls.key_file,
        plain=config.uplink.plain,
        flight_directory=flight_dir(config.rig.id, config.recorder.directory) if config.recorder.enabled else None,
        flight_keep_bytes=config.recorder.keep_bytes,
        flight_segment_bytes=config.recorder.segment_bytes,
        outbox_directory=rundir.state_dir("outbox", config.rig.id, config.outbox.directory),
        stores=config.outbox.stores,
        budget_bytes=config.outbox.budget_bytes,
        policy=config.outbox.policy,
        keep_after_watermark_s=config.outbox.keep_after_watermark_s,
        redrive_s=config.outbox.redrive_s,
        metrics_port=config.uplink.metrics_port,
        remote_users=frozenset(config.remote.users),
    )


def serve(config: ConfigArgument = DEFAULT_CONFIG) -> None:
    """Run controller and uplink together, until Ctrl-C.

    For a person at a desk. Ctrl-C cuts, verifies and ends both.
    """

    def work() -> int:
        loaded = load(config)
        if rundir.controller_runs(rundir.rig_dir(loaded.rig.id)):
            raise BusyError(
                f"rig {loaded.rig.id}: a controller already runs; end that one first (Ctrl-C in its terminal)"
            )
        return Desk(loaded, str(config.resolve()), typed=str(config)).run()

    guarded(work)


class Desk:
    """Controller and uplink as children of one process, which is their supervisor.

    An uplink that ends is started again, for the ring's sake; a controller is not: a person is there, and looks first.
    This process has the last word on the output when the keeper had none left.
    """

    def __init__(self, config: Config, path: str, *, typed: str) -> None:
        """Prepare; starts nothing. ``typed``: the path as the person gave it."""
        self._typed = typed
        self._config = config
        self._path = path
        self._stopping = False
        self._uplink: subprocess.Popen[bytes] | None = None
        self._start_s = 0.0
        self._pause_s = UPLINK_PAUSE_S
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Start both, say when the rig is ready, wait; return the controller's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # A wait that only times out, and is then asked again, would keep a Ctrl-C from the keeper for 200 ms.
        signal.set_wakeup_fd(self._wake_write)
        command = [*keeper_command(self._config, self._path), "--with-parent", str(os.getpid())]
        # Children in their own process groups: Ctrl-C reaches them once, through us, in order.
        controller = subprocess.Popen(command, process_group=0)
        pidfd = os.pidfd_open(controller.pid)
        ring = rundir.rig_dir(self._config.rig.id) / rundir.RING_FILE
        announced = False
        while controller.poll() is None:
            if self._stopping:
                controller.send_signal(signal.SIGTERM)
                break
            if not announced and (status := _worker_status(self._config)) and status["state"] != "UNKNOWN":
                announced = True
                say(err, self._ready(status))
            # Not before the worker has made what it reads.
            if ring.exists():
                self._look_after_uplink(time.monotonic())
            self._wait(pidfd, 0.2 if announced else 0.05)
        os.close(pidfd)
        return self._end(controller)

    def _look_after_uplink(self, now_s: float) -> None:
        uplink = self._uplink
        if uplink is not None and uplink.poll() is not None:
            say(
                err,
                f"uplink ended (exit {uplink.returncode}); the rig goes on, frames wait in the ring; another is "
                f"started in {self._pause_s:g} s",
            )
            self._uplink = uplink = None
            self._start_s = now_s + self._pause_s
            # One that fails at once must not fill the terminal.
            self._pause_s = min(2 * self._pause_s, UPLINK_PAUSE_MAX_S)
        if uplink is None and now_s >= self._start_s:
            command = [sys.executable, "-P", "-m", "edge.cli.main", "uplink", self._path]
            command += ["--with-parent", str(os.getpid())]
            self._uplink = subprocess.Popen(command, process_group=0)

    def _ready(self, status: dict[str, Any]) -> str:
        do = REARM if status["state"] == "TRIPPED" else f"in another terminal: tipguard run iv {self._typed}"
        return f"rig {self._config.rig.id}: ready, state {state_in_words(status)}; {do}"

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _wait(self, pidfd: int, timeout_s: float) -> None:
        """Return at the controller's end, at a signal, or after ``timeout_s``."""
        select.select([pidfd, self._wake_read], [], [], timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 64)

    def _no_last_word(self, code: int) -> bool:
        """Tell whether the keeper went without having verified the output off."""
        directory = rundir.rig_dir(self._config.rig.id)
        if code not in (0, 1, 2):
            return True
        if rundir.controller_runs(directory):
            # Ours never got the rig: another controller has it, and its output is not ours to cut.
            return False
        # An exception nobody foresaw ends a process with 1, too.
        try:
            page = Page(directory / rundir.PAGE_FILE)
        except RingError:
            return False
        energised = page.energised
        page.close()
        return energised

    def _end(self, controller: subprocess.Popen[bytes]) -> int:
        try:
            code = controller.wait(8.0)
        except subprocess.TimeoutExpired:
            controller.kill()
            controller.wait()
            code = -signal.SIGKILL
        if self._no_last_word(code):
            # Keeper gone without its last word: the supervisor's own cut, as ExecStopPost does under systemd.
            done = subprocess.run(
                [sys.executable, "-P", "-m", "edge.controller.safe_off", self._path], check=False, timeout=10
            )
            code = EXIT_FAILED if done.returncode == 0 else 4
        uplink = self._uplink
        if uplink is not None and uplink.poll() is None:
            # Let it take what the stop left in the ring.
            uplink.send_signal(signal.SIGTERM)
            try:
                uplink.wait(5.0)
            except subprocess.TimeoutExpired:
                uplink.kill()
                uplink.wait()
        return code


def wait_ready(config: Config, timeout_s: float) -> dict[str, Any]:
    """Wait until the controller has left UNKNOWN; raise BusyError after ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        status = _worker_status(config)
        if status is not None and status["state"] != "UNKNOWN":
            return status
        time.sleep(0.05)
    raise BusyError(f"rig {config.rig.id}: the controller was not ready after {timeout_s:g} s; see its messages above")
