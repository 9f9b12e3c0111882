"""``tipguard hil frontend`` as a process: the real firmware, its faults, its record; natively and under QEMU."""

from __future__ import annotations

import functools
import os
import select
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware_proto.frontend.messages import Reason, State, Stream
from firmware_proto.frontend.session import Rebooted
from hil.cli import app
from hil.datagram import ask
from hil.frontend.served import FrontendOptions, serve_frontend
from hil.processes import wait_for
from hil.smu import SmuOptions, serve_smu
from tests.firmware_tools import needs_firmware
from tests.hil.frontend_served.served import LEASE_NS, TRIES, Host, Served, served
from tests.hil.frontend_served.stand import CONFIG

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = pytest.mark.realtime
QEMU = pytest.param(
    ("--qemu",),
    marks=[needs_firmware, pytest.mark.skipif(not LONG, reason="the board under QEMU: TIPGUARD_LONG=1")],
    id="qemu",
)
PORTS = [pytest.param(("--hz", "10000", "--late-ms", "500"), id="host"), QEMU]
SLOW = ("--hz", "10000", "--late-ms", "500")
STREAMING = replace(CONFIG, stream=Stream.FULL)
LOSSES = 100 if LONG else 5


def demand(server: Served, name: str) -> None:
    assert ask(server.control, {"inject": [name]})["ok"] is True


class LateHost(Host):
    """A host that waits for its core: with its first ARM past the deadline, after its second past the lease."""

    arms = 0

    def deadline(self) -> int:
        self.arms += 1
        return super().deadline() - (2 * LEASE_NS if self.arms == 1 else 0)

    def until(self, what: str, look: Callable[[], object], timeout_s: float = 20.0) -> None:
        if self.arms == 2:
            select.select([], [], [], 3 * LEASE_NS / 1e9)
        super().until(what, look, timeout_s)


def test_a_host_that_is_late_arms_again_and_sees_that_it_was_armed(tmp_path: Path) -> None:
    with served(tmp_path, *SLOW, "--load", "ohmic:1e5", "--bias-v", "1") as server:
        host = LateHost(server.link)
        host.open()
        host.armed()
        assert host.arms == 2
        host.until("the end of the lease", host.trips)
        assert host.trips()[0].reason == Reason.LEASE
        host.close()
        assert server.stop() == (0, "")


@pytest.mark.parametrize("words", PORTS)
def test_a_trip_opens_the_twins_path_and_the_record_has_the_pin(tmp_path: Path, words: tuple[str, ...]) -> None:
    for number in range(TRIES):
        (tmp_path / str(number)).mkdir()
        if tripped_by_us(tmp_path / str(number), words):
            return
        print("\nLEASE: the host was late; another try")
    pytest.fail(f"the host was late {TRIES} times before it tripped the device")


def tripped_by_us(directory: Path, words: tuple[str, ...]) -> bool:
    """Trip an armed device and look at the record; False if its lease ran out before."""
    with served(directory, *words, "--load", "ohmic:1e5", "--bias-v", "1") as server:
        assert server.ready["frontend"] == str(server.link)
        assert server.ready["board"] in {"host", "mps2_an385"}
        host = Host(server.link, STREAMING)
        host.open()
        host.armed()
        host.until("samples", lambda: host.samples > 500 or host.trips())
        # The bench looks at an open pin each 2 ms.
        host.until("the record", lambda: server.truth("switch_closed"))
        (closed,) = server.truth("switch_closed")
        host.write(host.session.trip())
        host.renewing = False
        host.until("the trip", host.trips)
        if host.trips()[-1].reason == Reason.LEASE:
            host.close()
            return False
        assert host.trips()[-1].reason == Reason.HOST
        host.until("the record", lambda: server.truth("switch_open"))
        (opened,) = server.truth("switch_open")
        assert closed["t_ns"] < opened["t_ns"] <= opened["seen_ns"] <= time.monotonic_ns()
        assert (closed["i_a"], opened["i_a"]) == (pytest.approx(1e-5), 0.0)
        assert host.doubled == 0
        host.close()
        assert server.stop() == (0, "")
    (summary,) = server.truth("summary")
    assert summary["n_switch_open"] == summary["n_switch_closed"] == 1
    assert not server.link.is_symlink()
    return True


@pytest.mark.parametrize("words", PORTS)
def test_what_flows_through_the_twin_is_what_the_converter_reads(tmp_path: Path, words: tuple[str, ...]) -> None:
    """1 V at 10 kohm is 100 uA, 2500 codes, above the threshold: the first samples with the switch closed trip."""
    with served(tmp_path, *words, "--load", "ohmic:1e4", "--bias-v", "-1") as server:
        host = Host(server.link)
        host.open()
        host.write(host.session.hello())
        host.until("a WELCOME", lambda: host.session.welcome)
        host.write(host.session.configure(host.config))
        host.until("a CONFIG_IS", lambda: host.session.config)
        host.write(host.session.get_status())
        host.until("a STATUS", lambda: host.status)
        host.write(host.session.arm(host.deadline()))
        host.until("the trip", host.trips)
        (trip,) = host.trips()
        assert (trip.reason, trip.code) == (Reason.HARD, -2_500)
        host.until("the record", lambda: server.truth("switch_open"))
        host.close()
        assert server.stop()[0] == 0


@pytest.mark.parametrize("words", PORTS)
def test_freeze_and_reset_of_what_really_runs(tmp_path: Path, words: tuple[str, ...]) -> None:
    """SIGSTOP and SIGKILL natively, QMP's stop and system_reset under QEMU."""
    plan = """
    [[fault]]
    name = "hang"
    kind = "frontend_freeze"
    watchdog = false
    duration_s = 0.3
    on_demand = true
    [[fault]]
    name = "power"
    kind = "frontend_reset"
    duration_s = 0.05
    on_demand = true
    """
    with served(tmp_path, *words, "--load", "ohmic:1e6", "--bias-v", "1", plan=plan) as server:
        host = Host(server.link)
        host.open()
        host.armed()
        demand(server, "hang")
        assert server.line()["detail"] == "frozen, the switch closed"
        host.renewing = False
        # It stands still: nobody opens, and nobody says anything.
        assert not server.truth("switch_open")
        host.until("its lease to end after it goes on", host.trips)
        assert host.trips()[-1].reason in {Reason.LEASE, Reason.OVERRUN}
        host.until("the record", lambda: len(server.truth("switch_open")) == 1)
        host.armed()
        boot = host.session.welcome
        assert boot is not None
        demand(server, "power")
        told = server.line()
        assert told["detail"] == "power lost, the switch was closed"
        host.renewing = False
        host.until("the new boot", lambda: [event for event in host.events if isinstance(event, Rebooted)])
        opened = server.truth("switch_open")[-1]
        assert 0 <= opened["t_ns"] - told["t_ns"] < 20_000_000
        host.armed()
        assert host.session.welcome is not None
        assert host.session.welcome.boot_nonce != boot.boot_nonce
        host.close()
        assert server.stop() == (0, "")


def test_a_stuck_switch_and_a_silent_converter_natively(tmp_path: Path) -> None:
    plan = """
    [[fault]]
    name = "welded"
    kind = "switch_stuck"
    duration_s = 0.5
    on_demand = true
    [[fault]]
    name = "mute converter"
    kind = "adc_silent"
    on_demand = true
    """
    with served(tmp_path, *SLOW, "--load", "ohmic:1e6", "--bias-v", "1", plan=plan) as server:
        host = Host(server.link)
        host.open()
        host.armed()
        demand(server, "welded")
        host.write(host.session.trip())
        host.renewing = False
        host.until("the reason", lambda: host.status is not None and host.status.trip_reason == Reason.SWITCH_STUCK)
        assert server.line()["applied"] == "welded"
        host.until("the weld to break", lambda: server.truth("switch_open"))
        opened = server.truth("switch_open")[0]
        assert opened["t_ns"] - server.truth("switch_closed")[0]["t_ns"] > 400_000_000
        host.armed()
        demand(server, "mute converter")
        host.renewing = False
        host.until("the trip", lambda: len(host.trips()) > 1)
        assert host.trips()[-1].reason == Reason.ADC_FAULT
        host.close()
        assert server.stop()[0] == 0


def test_the_line_is_lost_again_and_again(tmp_path: Path) -> None:
    """As in virtual time, on the real host port: some of the 1000."""
    plan = '[[fault]]\nname = "cut"\nkind = "unplug"\nport = "frontend"\nduration_s = 0.05\non_demand = true\n'
    with served(tmp_path, *SLOW, "--load", "ohmic:1e6", "--bias-v", "1", plan=plan) as server:
        host = Host(server.link, STREAMING)
        host.open()
        for n in range(LOSSES):
            host.armed()
            wanted = host.samples + 200
            host.until("samples", functools.partial(_has, host, wanted))
            host.renewing = False
            host.close()
            demand(server, "cut")
            # Told when it is out; the link is there again when it is in.
            assert server.line()["applied"] == "cut"
            wait_for("the new link", server.link.is_symlink, 10.0)
            host.open()
            assert host.doubled == 0, n
        assert host.missing > 0
        assert host.session.counters.sessions == LOSSES
        assert host.session.counters.reboots == 0
        host.close()
        assert server.stop()[0] == 0


def _has(host: Host, samples: int) -> bool:
    return host.samples >= samples


def test_a_line_with_a_rate_carries_what_it_can(tmp_path: Path) -> None:
    with served(tmp_path, "--hz", "50000", "--late-ms", "500", "--baud", "115200", "--load", "ohmic:1e6") as server:
        host = Host(server.link, STREAMING)
        host.open()
        host.armed()
        host.until("samples", lambda: host.samples > 3_000)
        host.until("the next status", lambda: host.status is not None and host.status.drop_tx_full > 1_000)
        assert host.status is not None
        assert host.status.state == State.ARMED
        host.close()
        assert server.stop()[0] == 0


def test_what_cannot_be_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "frontend"
    for options, says in (
        (FrontendOptions(link=link, baud=9600), "--baud 9600"),
        (FrontendOptions(link=link, hz=10), "--hz 10"),
        (FrontendOptions(link=link, hz=100_000, qemu=True), "under QEMU the board samples at 10000 Hz"),
        (FrontendOptions(link=link, noise_a=-1.0), "--noise-a -1.0"),
        (FrontendOptions(link=link, late_ms=0), "--late-ms 0"),
        (FrontendOptions(link=link, load="ohmic:1", site="gb"), "only one sample"),
        (FrontendOptions(link=link, bias_v=300.0), "--bias-v 300.0"),
        (FrontendOptions(link=link, limit_a=2.0), "--limit-a 2.0"),
        (FrontendOptions(link=link, seed=-1), "--seed -1"),
    ):
        assert serve_frontend(options) == 2
        err = capsys.readouterr().err
        assert says in err
        assert err.startswith("tipguard hil frontend: ")
        assert err.count("\n") == 1
    assert serve_smu(SmuOptions(link, frontend_hz=1000)) == 2
    assert "there is no front end without --frontend" in capsys.readouterr().err
    assert not link.is_symlink()


def test_the_command_line_is_printed_with_its_seed() -> None:
    printed = CliRunner().invoke(app, ["frontend", "--link", "here/front", "--hz", "10000", "--print-cmd"])
    assert printed.exit_code == 0
    assert "hil frontend --link here/front" in printed.output
    assert "--seed " in printed.output
    smu = CliRunner().invoke(app, ["smu", "--link", "here/smu", "--frontend", "here/front", "--print-cmd"])
    assert "--frontend here/front --frontend-baud 0" in smu.output
