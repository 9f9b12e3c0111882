"""The services' unit files: what the keeper and the uplink need, and what neither may do. Linted offline."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.controller.keeper import STOP_NS
from edge.controller.realtime import KEEPER_PRIORITY, WORKER_PRIORITY
from edge.controller.safe_off import BOUND_S
from edge.uplink import UplinkSettings
from tests.deploy.unit_files import DEPLOY, SERVICES, comments, install, settings, unit_text

EXPOSURE_MAX = 1.6
"""What the scale of systemd-analyze calls OK ends at 4; the issue asks for this."""
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze (package systemd)")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(ANALYZE), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def exposure(path: Path) -> float:
    done = analyze("security", "--offline=true", "--no-pager", str(path))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_the_exposure_is_small_and_every_exception_explained(name: str) -> None:
    path = DEPLOY / "systemd" / f"{name}.service"
    assert exposure(path) <= EXPOSURE_MAX
    done = analyze("security", "--offline=true", "--json=short", str(path))
    said = comments(unit_text(name))
    for item in json.loads(done.stdout):
        if item["set"] or not item["exposure"]:
            continue
        # "SystemCallFilter=~@resources" wants "@resources", "PrivateNetwork=" wants "PrivateNetwork".
        subject = item["name"].split("~")[-1] if "~" in item["name"] else item["name"].split("=")[0]
        word = re.sub(r"^AF_\((\w+)\|.*\)$", r"AF_\1", subject)
        assert word in said, f"{name}: {item['name']} ({item['description']}) is not explained in the unit"


@needs_analyze
def test_the_measure_tells_a_unit_without_its_walls(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\nUser=tipguard\n", encoding="utf-8")
    assert exposure(bare) > 5
    # One wall less is seen already.
    opened = tmp_path / "tipguard-controller.service"
    opened.write_text(unit_text("tipguard-controller").replace("PrivateNetwork=yes\n", ""), encoding="utf-8")
    assert exposure(opened) > exposure(DEPLOY / "systemd" / opened.name)


@needs_analyze
def test_systemd_reads_the_units_and_those_of_further_rigs(tmp_path: Path) -> None:
    assert install(tmp_path, "--no-packages").returncode == 0
    folder = tmp_path / "etc" / "systemd" / "system"
    paths = [str(folder / f"{name}{at}.service") for name in SERVICES for at in ("", "@")]
    for unit in paths:
        path = Path(unit)
        # There is no program at its place; systemd looks for it before anything else.
        path.write_text(path.read_text(encoding="utf-8").replace("/opt/tipguard/bin/tipguard", "/bin/true"), "utf-8")
    done = analyze("verify", "--man=no", "--recursive-errors=no", *paths)
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_systemd_s_reading_finds_a_misspelt_key(tmp_path: Path) -> None:
    path = tmp_path / "tipguard-uplink.service"
    path.write_text("[Service]\nExecStart=/bin/true\nWatchdogSecs=1\n", encoding="utf-8")
    assert "WatchdogSecs" in analyze("verify", "--man=no", str(path)).stderr


def test_the_controller_is_watched_and_its_end_is_a_cut() -> None:
    unit = settings(unit_text("tipguard-controller"))
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["WatchdogSec"] == ["1"]
    assert unit["WatchdogSignal"] == ["SIGKILL"]
    # With the keeper its hung worker is killed: safe-off must be the only reader of the port.
    assert unit["KillMode"] == ["control-group"]
    assert unit["ExecStopPost"] == ["/opt/tipguard/bin/tipguard safe-off /etc/tipguard/rig.toml"]
    # Not "-": that safe-off could not verify must be seen.
    assert not unit["ExecStopPost"][0].startswith("-")
    assert float(unit["TimeoutStopSec"][0]) > STOP_NS / 1e9 + BOUND_S
    assert unit["RuntimeDirectoryPreserve"] == ["yes"]


def test_the_controller_restarts_but_not_for_ever() -> None:
    unit = settings(unit_text("tipguard-controller"))
    assert unit["Restart"] == ["on-failure"]
    assert int(unit["StartLimitBurst"][0]) * float(unit["RestartSec"][0]) < float(unit["StartLimitIntervalSec"][0])
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_the_controller_may_be_quick_and_locked_in_memory() -> None:
    unit = settings(unit_text("tipguard-controller"))
    assert int(unit["LimitRTPRIO"][0]) >= max(KEEPER_PRIORITY, WORKER_PRIORITY)
    assert unit["LimitMEMLOCK"] == ["infinity"]
    assert unit.get("RestrictRealtime", ["no"]) == ["no"]
    assert int(unit["OOMScoreAdjust"][0]) < 0


def test_the_controller_has_no_network_and_its_ports_only() -> None:
    unit = settings(unit_text("tipguard-controller"))
    assert unit["PrivateNetwork"] == ["yes"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert unit["IPAddressDeny"] == ["any"]
    assert unit["DevicePolicy"] == ["closed"]
    kinds = {value.split()[0] for value in unit["DeviceAllow"]}
    assert kinds == {f"char-{kind}" for kind in ("ttyUSB", "ttyACM", "ttyAMA", "ttyS", "gpiochip")}
    # A kind is known only once its driver is there.
    for module in ("usbserial", "cdc_acm"):
        assert f"modprobe@{module}.service" in unit["Wants"][0]
        assert f"modprobe@{module}.service" in " ".join(unit["After"])


def test_the_uplink_s_watchdog_is_longer_than_a_mute_broker_takes() -> None:
    unit = settings(unit_text("tipguard-uplink"))
    assert unit["Type"] == ["notify"]
    patience_s = UplinkSettings(rig="r", ring_path=Path("ring")).ack_timeout_s
    assert float(unit["WatchdogSec"][0]) > 2 * patience_s
    assert "DeviceAllow" not in unit
    assert unit["PrivateDevices"] == ["yes"]
    assert unit["Restart"] == ["always"]


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_share_a_user_and_what_outlives_them(name: str) -> None:
    unit = settings(unit_text(name))
    assert unit["User"] == unit["RuntimeDirectory"] == unit["StateDirectory"] == ["tipguard"]
    assert unit["RuntimeDirectoryMode"] == ["0700"]
    assert unit["CapabilityBoundingSet"] == [""]


@pytest.mark.parametrize("name", SERVICES)
def test_a_further_rig_s_unit_is_the_same_but_for_the_name(tmp_path: Path, name: str) -> None:
    assert install(tmp_path, "--no-packages").returncode == 0
    folder = tmp_path / "etc" / "systemd" / "system"
    first = (folder / f"{name}.service").read_text(encoding="utf-8")
    further = (folder / f"{name}@.service").read_text(encoding="utf-8")
    assert first == unit_text(name)
    assert "rig.toml" not in " ".join(settings(further)["ExecStart"])
    differing = [key for key, values in settings(further).items() if values != settings(first)[key]]
    expected = {"Description", "ExecStart"}
    expected |= {"ExecStopPost"} if "controller" in name else {"After", "LoadCredential"}
    assert set(differing) == expected


def test_the_uplink_s_secrets_are_each_rig_s_own_and_none_need_be_there(tmp_path: Path) -> None:
    assert install(tmp_path, "--no-packages").returncode == 0
    further = settings((tmp_path / "etc/systemd/system/tipguard-uplink@.service").read_text(encoding="utf-8"))
    for named, rig in ((settings(unit_text("tipguard-uplink")), "rig"), (further, "%i")):
        sources = dict(value.split(":") for value in named["LoadCredential"])
        assert sources == {
            "ca.pem": "tipguard.ca.pem",
            "uplink.pem": f"tipguard.{rig}.pem",
            "uplink.key": f"tipguard.{rig}.key",
            "mqtt-password": f"tipguard.{rig}.mqtt-password",
        }
        # A path would be a file that must be there, or the service does not start.
        assert not any("/" in source for source in sources.values())
