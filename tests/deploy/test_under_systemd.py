"""The units as installed, under a real systemd: ready, watched, killed, restarted; the twin's record is the judge."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import template
from hil.errors import BenchFaultError
from hil.processes import wait_for
from hil.processes.spec import SERIAL_NUMBER
from tests.deploy.own_systemd import PYTHON_FROM, OwnSystemd, missing
from tests.deploy.unit_files import unit_text

LONG = os.environ.get("TIPGUARD_LONG") == "1"
LACKS = missing() if LONG else None
pytestmark = [
    pytest.mark.realtime,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not LONG, reason="a real systemd with real units: TIPGUARD_LONG=1"),
    pytest.mark.skipif(LACKS is not None, reason=f"needs a systemd of its own as process 1, and there is no {LACKS}"),
]

CONTROLLER, UPLINK = "tipguard-controller.service", "tipguard-uplink.service"
PLAIN = "[Unit]\nDefaultDependencies=no\n[Service]\n"
UNITS = {
    "instrument.service": f"{PLAIN}User=tipguard\nExecStart=/opt/tipguard/bin/tipguard hil smu --link /run/bench/smu "
    f"--load ohmic:1e6 --series-ohm 1000 --serial-number {SERIAL_NUMBER} --truth /run/bench/truth.jsonl\n",
    # What differs from a real rig: there is no journal, and less patience.
    f"{CONTROLLER}.d/bench.conf": "[Service]\nRestartSec=1\n"
    "StandardOutput=append:/run/bench/controller.log\nStandardError=append:/run/bench/controller.log\n",
    f"{UPLINK}.d/bench.conf": "[Service]\nWatchdogSec=3\n"
    "StandardOutput=append:/run/bench/uplink.log\nStandardError=append:/run/bench/uplink.log\n",
}
AS_SERVICE = ("setpriv", "--reuid=tipguard", "--regid=tipguard", "--init-groups")
TIPGUARD = "/opt/tipguard/bin/tipguard"
CONFIG = "/etc/tipguard/rig.toml"
SAFE_OFF_BOUND_S = 2.0
TRIES = 5


class Bench:
    """The installed services over an emulated instrument."""

    def __init__(self, systemd: OwnSystemd) -> None:
        self.systemd = systemd

    def check(self, *command: str) -> str:
        done = self.systemd.call(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.log('controller')}"
        return done.stdout

    def log(self, name: str) -> str:
        return self.systemd.call("cat", f"/run/bench/{name}.log").stdout

    def status(self) -> dict[str, Any]:
        done = self.systemd.call(*AS_SERVICE, TIPGUARD, "status", CONFIG, "--json")
        found = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return found if isinstance(found, dict) else {}

    def wait_unit(self, unit: str, **wanted: str) -> dict[str, str]:
        def look() -> dict[str, str] | None:
            shown = self.systemd.show(unit, *wanted, "MainPID", "NRestarts", "Result", "StatusText")
            return shown if all(shown.get(key) == value for key, value in wanted.items()) else None

        return wait_for(f"{unit} to be {wanted}", look, 40)

    def energise(self) -> None:
        """Begin a sweep of 40 s and wait until current flows."""
        script = "import json,sys;from edge.control_client import ControlClient as C;from pathlib import Path;"
        script += "p={'to_v':-1.0,'step_v':0.01,'dwell_s':0.2,'back_scan':False};"
        script += "c=C(Path('/run/tipguard/bench-1/control.sock'));a=c.call('run',plan='iv',parameters=p);"
        script += "sys.exit(not a['ok'] and str(a))"
        python = self.check("sh", "-c", f"sed -n 's/^exec \\([^ ]*\\) .*/\\1/p' {TIPGUARD}").strip()
        for _ in range(TRIES):
            self.check(*AS_SERVICE, "env", *PYTHON_FROM.split(), python, "-P", "-c", script)
            if wait_for("a current", self._live, 20) == "ENERGISED":
                return
            # A host as busy as this one may delay a reading past its deadline: STALE, and not what is tested here.
            self.rearm()
        pytest.fail(f"tripped {TRIES} times before anything was done")

    def _live(self) -> str | None:
        status = self.status()
        sample = status.get("sample")
        flows = sample is not None and abs(sample["current_a"]) > 1e-7
        state = str(status.get("state"))
        return state if state == "TRIPPED" or (state == "ENERGISED" and flows) else None

    def safe_after(self, t_ns: int, patience_s: float = 20) -> float:
        """Return s from ``t_ns`` until the tip was safe, by the twin's record."""

        def look() -> float | None:
            for line in self.systemd.call("cat", "/run/bench/truth.jsonl").stdout.splitlines():
                entry = json.loads(line)
                if entry["event"] == "safe" and entry["t_ns"] > t_ns:
                    return float(entry["t_ns"] - t_ns) / 1e9
            return None

        return wait_for("the tip to be safe", look, patience_s)

    def rearm(self) -> None:
        self.check(*AS_SERVICE, TIPGUARD, "rearm", CONFIG)
        self.wait_unit(CONTROLLER, StatusText="SAFE: output verified off")


def proc_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory: Path = tmp_path_factory.mktemp("systemd")
    with OwnSystemd(directory, UNITS) as systemd:
        found = Bench(systemd)
        said = found.check("bash", "/run/src/deploy/install.sh", "--no-packages")
        assert "written    /etc/systemd/system/tipguard-controller.service" in said
        text = template(path="/run/bench/smu", serial_number=SERIAL_NUMBER, series_ohm=1000.0)
        (directory / "rig.toml").write_text(text, encoding="utf-8")
        systemd.call("sh", "-c", f"cat >{CONFIG} <<'END'\n{text}\nEND")
        found.check("systemctl", "start", "instrument.service")
        wait_for("the emulated 2400", lambda: systemd.call("test", "-e", "/run/bench/smu").returncode == 0, 20)
        yield found


@pytest.fixture
def controller(bench: Bench) -> Bench:
    """The controller runs, and is SAFE."""
    bench.systemd.call("systemctl", "reset-failed", CONTROLLER)
    bench.check("systemctl", "start", CONTROLLER)
    if bench.wait_unit(CONTROLLER, ActiveState="active")["StatusText"].startswith("TRIPPED"):
        bench.rearm()
    return bench


def test_start_returns_when_the_output_is_verified_off(bench: Bench) -> None:
    bench.check("systemctl", "start", CONTROLLER)
    shown = bench.systemd.show(CONTROLLER, "ActiveState", "StatusText", "NRestarts")
    assert shown == {"ActiveState": "active", "StatusText": "SAFE: output verified off", "NRestarts": "0"}


def test_the_walls_stand(controller: Bench) -> None:
    inside = controller.systemd.show(CONTROLLER, "MainPID")["MainPID"]
    pid = controller.systemd.pid_outside(inside)
    status = proc_status(pid)
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert int(status["Uid"].split()[0]) != 0
    # Its own network, with nothing but a loopback that is down.
    links = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in links] == ["lo"]


def may_raise_limits() -> bool:
    """Tell whether the first process may allow a service more than it has itself (CAP_SYS_RESOURCE)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return bool(mask >> 24 & 1)


@pytest.mark.skipif(not may_raise_limits(), reason="root may not raise limits on this host (no CAP_SYS_RESOURCE)")
def test_the_keeper_is_quick_and_locked_in_memory(controller: Bench) -> None:
    pid = controller.systemd.pid_outside(controller.systemd.show(CONTROLLER, "MainPID")["MainPID"])
    assert os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
    assert int(proc_status(pid)["VmLck"].split()[0]) > 0
    notes = controller.status().get("notes", [])
    assert not [note for note in notes if "real-time" in note or "memory is not locked" in note], notes


def test_a_stopped_keeper_is_killed_and_a_person_has_to_look(controller: Bench) -> None:
    controller.energise()
    inside = controller.systemd.show(CONTROLLER, "MainPID")["MainPID"]
    struck_ns = time.monotonic_ns()
    os.kill(controller.systemd.pid_outside(inside), signal.SIGSTOP)
    # The worker sees it first; the watchdog and safe-off come after.
    assert controller.safe_after(struck_ns) < 1.0
    shown = controller.wait_unit(CONTROLLER, ActiveState="active", NRestarts="1")
    assert shown["MainPID"] != inside
    assert shown["StatusText"].startswith("TRIPPED")
    assert "output verified off" in controller.log("controller")


def test_keeper_and_worker_killed_at_once_leave_safe_off(controller: Bench) -> None:
    controller.energise()
    before = int(controller.systemd.show(CONTROLLER, "NRestarts")["NRestarts"])
    struck_ns = time.monotonic_ns()
    controller.check("systemctl", "kill", "--signal=SIGKILL", CONTROLLER)
    safe_s = controller.safe_after(struck_ns)
    print(f"\nboth killed: safe by safe-off {safe_s * 1e3:.0f} ms after the signal was asked for")
    assert safe_s < SAFE_OFF_BOUND_S
    shown = controller.wait_unit(CONTROLLER, ActiveState="active", NRestarts=str(before + 1))
    assert shown["StatusText"].startswith("TRIPPED")


def freeze(bench: Bench) -> int:
    """Stop keeper and worker where they stand, with current flowing; return when."""
    bench.energise()
    keeper = bench.systemd.pid_outside(bench.systemd.show(CONTROLLER, "MainPID")["MainPID"])
    (worker,) = Path(f"/proc/{keeper}/task/{keeper}/children").read_text(encoding="ascii").split()
    struck_ns = time.monotonic_ns()
    for pid in (keeper, int(worker)):
        os.kill(pid, signal.SIGSTOP)
    return struck_ns


def test_keeper_and_worker_stopped_at_once_leave_the_watchdog_and_safe_off(controller: Bench) -> None:
    struck_ns = freeze(controller)
    safe_s = controller.safe_after(struck_ns)
    print(f"\nboth stopped: safe by watchdog and safe-off after {safe_s * 1e3:.0f} ms")
    assert safe_s < 1.0 + SAFE_OFF_BOUND_S
    controller.wait_unit(CONTROLLER, ActiveState="active")


def drop_in(bench: Bench, name: str, text: str) -> None:
    folder = f"/etc/systemd/system/{CONTROLLER}.d"
    bench.check("sh", "-c", f"printf '[Service]\\n{text}\\n' >{folder}/{name}.conf; systemctl daemon-reload")


def drop_out(bench: Bench, name: str) -> None:
    bench.check("sh", "-c", f"rm /etc/systemd/system/{CONTROLLER}.d/{name}.conf; systemctl daemon-reload")


def test_without_the_watchdog_nobody_would_have_cut(bench: Bench) -> None:
    """What the watchdog is for: the same again without it, and the tip stays live until a person stops the service."""
    bench.systemd.call("systemctl", "stop", CONTROLLER)
    drop_in(bench, "unwatched", "WatchdogSec=0")
    try:
        bench.check("systemctl", "start", CONTROLLER)
        if bench.wait_unit(CONTROLLER, ActiveState="active")["StatusText"].startswith("TRIPPED"):
            bench.rearm()
        struck_ns = freeze(bench)
        with pytest.raises(BenchFaultError, match="the tip to be safe"):
            bench.safe_after(struck_ns, patience_s=1.0 + SAFE_OFF_BOUND_S)
        bench.check("systemctl", "kill", "--signal=SIGKILL", CONTROLLER)
        assert bench.safe_after(struck_ns) > 1.0 + SAFE_OFF_BOUND_S
    finally:
        drop_out(bench, "unwatched")


def test_a_device_that_is_not_listed_cannot_be_opened(bench: Bench) -> None:
    """Pseudo-terminals are always allowed by systemd; so a device of a kind that nobody serves, opened by root."""
    bench.check("mknod", "/run/bench/other", "c", "10", "251")
    listed = "\n".join(line for line in unit_text("tipguard-controller").splitlines() if line.startswith("Device"))
    said = []
    for policy in (listed, "DevicePolicy=auto"):
        text = f"{PLAIN}Type=oneshot\n{policy}\nStandardError=file:/run/bench/probe.log\n"
        text += "ExecStart=/bin/sh -c 'exec 3</run/bench/other'\n"
        bench.check("sh", "-c", f"cat >/etc/systemd/system/probe.service <<'END'\n{text}\nEND\nsystemctl daemon-reload")
        assert bench.systemd.call("systemctl", "start", "probe.service").returncode != 0
        said.append(bench.log("probe"))
    assert "Operation not permitted" in said[0]
    assert "No such device" in said[1]


def test_a_stop_in_the_middle_of_a_sweep_cuts_in_order(controller: Bench) -> None:
    controller.energise()
    struck_ns = time.monotonic_ns()
    controller.check("systemctl", "stop", CONTROLLER)
    assert controller.safe_after(struck_ns) < 1.0
    shown = controller.systemd.show(CONTROLLER, "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}
    # The latch outlives the service: the run directory is kept.
    assert controller.systemd.call("test", "-e", "/run/tipguard/bench-1/state.json").returncode == 0


def test_a_wrong_configuration_fails_once_and_is_not_tried_again(bench: Bench) -> None:
    bench.systemd.call("systemctl", "stop", CONTROLLER)
    bench.check("sh", "-c", f"cp {CONFIG} /run/bench/keep; echo 'nonsense = 1' >>{CONFIG}")
    try:
        assert bench.systemd.call("systemctl", "start", CONTROLLER).returncode != 0
        shown = bench.wait_unit(CONTROLLER, ActiveState="failed")
        assert (shown["Result"], shown["NRestarts"]) == ("exit-code", "0")
    finally:
        bench.check("sh", "-c", f"cp /run/bench/keep {CONFIG}")


def test_a_hung_uplink_is_replaced_and_the_rig_does_not_notice(controller: Bench) -> None:
    controller.check("systemctl", "start", UPLINK)
    shown = controller.wait_unit(UPLINK, ActiveState="active")
    assert "waiting for the broker" in shown["StatusText"]
    controller.energise()
    before = controller.systemd.show(CONTROLLER, "MainPID", "NRestarts"), controller.status()["pid"]
    os.kill(controller.systemd.pid_outside(shown["MainPID"]), signal.SIGSTOP)
    controller.wait_unit(UPLINK, ActiveState="active", NRestarts="1")
    status = controller.status()
    assert (controller.systemd.show(CONTROLLER, "MainPID", "NRestarts"), status["pid"]) == before
    # Still at it, or delayed by a busy host; nothing that comes from an uplink.
    assert status["state"] == "ENERGISED" or status["verdict"] == "STALE", status
    controller.check("systemctl", "stop", UPLINK)
    assert controller.systemd.show(UPLINK, "Result")["Result"] == "success"
