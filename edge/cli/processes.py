"""``tipguard controller``, ``uplink``, ``serve``: start the processes of a rig."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import Any

from edge import rundir
from edge.cli.common import DEFAULT_CONFIG, EXIT_FAILED, ConfigArgument, client_for, err, guarded, mqtt_password
from edge.cli.layout import say
from edge.cli.words import REARM, state_in_words
from edge.config import Config, load
from edge.errors import BusyError, TipguardError
from edge.flight import flight_dir
from edge.logs import configure_logs


def keeper_command(config: Config, path: str) -> list[str]:
    """Return the command line of a rig's keeper."""
    stage = config.ports.stage
    of_stage = [] if stage is None else ["--stage-port", stage.path, "--stage-baud", str(stage.baud)]
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
        "--realtime" if config.runtime.realtime == "auto" else "--no-realtime",
        *of_stage,
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


def uplink(config: ConfigArgument = DEFAULT_CONFIG) -> None:
    """Drain the ring and publish to the broker until SIGTERM."""

    def work() -> int:
        from edge.uplink import run_uplink

        loaded = load(config)
        configure_logs()
        settings = uplink_settings(loaded)

        async def serve_uplink() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            await run_uplink(settings, worker_status=lambda: _worker_status(loaded), stop=stop)

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


def uplink_settings(config: Config) -> Any:  # noqa: ANN401 - UplinkSettings, imported lazily
    """Build the uplink's settings from a rig's configuration; raise ConfigError for an unreadable password."""
    from edge.uplink import UplinkSettings

    return UplinkSettings(
        rig=config.rig.id,
        ring_path=rundir.rig_dir(config.rig.id) / rundir.RING_FILE,
        host=config.uplink.host,
        port=config.uplink.port,
        username=config.uplink.username,
        password=mqtt_password(config),
        flight_directory=flight_dir(config.rig.id, config.recorder.directory) if config.recorder.enabled else None,
        flight_keep_bytes=config.recorder.keep_bytes,
        flight_segment_bytes=config.recorder.segment_bytes,
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
    """Controller and uplink as children of one process."""

    def __init__(self, config: Config, path: str, *, typed: str) -> None:
        """Prepare; starts nothing. ``typed``: the path as the person gave it."""
        self._typed = typed
        self._config = config
        self._path = path
        self._stopping = False
        self._uplink: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Start both, say when the rig is ready, wait; return the controller's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # Children in their own process groups: Ctrl-C reaches them once, through us, in order.
        controller = subprocess.Popen(keeper_command(self._config, self._path), process_group=0)
        ring = rundir.rig_dir(self._config.rig.id) / rundir.RING_FILE
        announced = False
        uplink_said = False
        while controller.poll() is None:
            if self._stopping:
                controller.send_signal(signal.SIGTERM)
                break
            if not announced and (status := _worker_status(self._config)) and status["state"] != "UNKNOWN":
                announced = True
                say(err, self._ready(status))
            # Not before the worker has made what it reads.
            if self._uplink is None and ring.exists():
                self._uplink = subprocess.Popen(
                    [sys.executable, "-P", "-m", "edge.cli.main", "uplink", self._path], process_group=0
                )
            if self._uplink is not None and self._uplink.poll() is not None and not uplink_said:
                uplink_said = True
                say(err, f"uplink ended (exit {self._uplink.returncode}); the rig goes on, frames wait in the ring")
            self._wait(controller, 0.2 if announced else 0.05)
        return self._end(controller)

    def _ready(self, status: dict[str, Any]) -> str:
        do = REARM if status["state"] == "TRIPPED" else f"in another terminal: tipguard run iv {self._typed}"
        return f"rig {self._config.rig.id}: ready, state {state_in_words(status)}; {do}"

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    @staticmethod
    def _wait(controller: subprocess.Popen[bytes], timeout_s: float) -> None:
        try:
            controller.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return

    def _end(self, controller: subprocess.Popen[bytes]) -> int:
        try:
            code = controller.wait(8.0)
        except subprocess.TimeoutExpired:
            controller.kill()
            controller.wait()
            code = -signal.SIGKILL
        if code not in (0, 1, 2):
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
