"""What ``tipguard check`` says of a stage and of what tells contact."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config, StageConfig, load, template
from edge.controller.checkup_stage import check_stage, check_stage_held, check_stage_port, look
from edge.controller.findings import Finding
from edge.errors import InstrumentError, ReplyTimeoutError, WrongInstrumentError
from edge.instruments.stage import StageAxis, StageIdentity, StageStatus

STANDING = StageStatus(0, moving=False, on_target=True, servo_on=True, error=0)
SETTINGS = StageConfig(serial_number="42", x="A", y="B", z="C")


class AStage:
    """Answers; that anything else is asked of it fails."""

    def __init__(self, status: StageStatus = STANDING, axes: str = "ABC") -> None:
        self._status = status
        self.axes = {name: StageAxis(name, 0.0, 100e-6, 1e-3) for name in axes}

    async def start(self) -> StageIdentity:
        return StageIdentity("E-727.3CD", "42", " 1.2 \n3")

    async def position(self) -> dict[str, float]:
        return {"A": 1e-6, "B": 2.5e-6, "C": 49.5e-6}

    async def status(self) -> StageStatus:
        return self._status


class AContact:
    def __init__(self, signal_v: float = 0.02, *, touching: bool = False, error: InstrumentError | None = None) -> None:
        self._signal_v, self._touching, self._error = signal_v, touching, error

    async def signal_v(self) -> float:
        if self._error is not None:
            raise self._error
        return self._signal_v

    async def in_contact(self) -> bool:
        return self._touching


def found(stage: Any = None, contact: Any = None, settings: StageConfig = SETTINGS) -> dict[str, Finding]:  # noqa: ANN401
    asked: tuple[Any, Any] = (stage or AStage(), contact or AContact())
    findings = asyncio.run(look(*asked, settings, 0.1))
    return {finding.what: finding for finding in findings}


def test_a_stage_that_is_ready() -> None:
    said = found()
    assert {finding.grade for finding in said.values()} == {"ok"}
    assert said["stage"].text == "E-727.3CD, serial 42, firmware 1.2 3"
    assert said["axes"].text.startswith("x (A) at 1.000 of 0 to 100 um, y (B) at 2.500 of 0 to 100 um, z (C) at 49.500")
    assert said["servo"].text == "on, on target"
    assert said["contact"].text == "deflection 0.020 V, contact.threshold_v = 0.1 V: no contact"
    assert found(contact=AContact(0.25, touching=True))["contact"].text.endswith("0.1 V: contact")


def test_another_stage_than_the_configuration_says() -> None:
    with pytest.raises(WrongInstrumentError, match=r"'42' \(E-727.3CD\) answers, stage.serial_number is '43'"):
        found(settings=SETTINGS.model_copy(update={"serial_number": "43"}))
    assert found(settings=SETTINGS.model_copy(update={"serial_number": None}))["stage"].grade == "ok"


def test_axes_with_other_names() -> None:
    said = found(AStage(axes="AB"))
    assert said["axes"] == Finding("axes", "fail", "it has A, B, and no C; correct stage.x, stage.y, stage.z")
    assert "contact" not in said


@pytest.mark.parametrize(
    ("changes", "grade", "says"),
    [
        ({"servo_on": False}, "fail", "a servo is off: nothing moves, and the output stays off"),
        ({"moving": True}, "warn", "moves or is not on target"),
        ({"on_target": False}, "warn", "moves or is not on target"),
    ],
)
def test_a_stage_that_does_not_stand(changes: dict[str, Any], grade: str, says: str) -> None:
    servo = found(AStage(dataclasses.replace(STANDING, **changes)))["servo"]
    assert servo.grade == grade
    assert says in servo.text


def test_a_signal_that_cannot_be_read() -> None:
    said = found(contact=AContact(error=InstrumentError("this controller has no TAV?")))["contact"]
    assert (said.grade, said.text) == ("fail", "this controller has no TAV?")
    said = found(contact=AContact(error=ReplyTimeoutError("no reply?")))["contact"]
    assert (said.grade, said.text) == ("fail", "no reply? Or there is no such input, see contact.channel")


# -------------------------------------------------------------------------------------------------------- the ports


@pytest.fixture
def mute() -> Iterator[str]:
    """A pseudo-terminal at which nobody answers."""
    controller, device = pty.openpty()
    yield os.ttyname(device)
    os.close(controller)
    os.close(device)


def a_config(directory: Path, *, smu: str = "/dev/absent", stage: str | None, serial: str | None = "42") -> Config:
    file = directory / "rig.toml"
    text = template(
        path=smu, serial_number="1", series_ohm=1e4, stage_path=stage, stage_serial_number=serial if stage else None
    )
    file.write_text(text, encoding="utf-8")
    return load(file)


def test_a_rig_without_a_stage_has_nothing_to_say(tmp_path: Path) -> None:
    config = a_config(tmp_path, stage=None)
    assert check_stage_port(config) == check_stage(config) == check_stage_held(config, {"stage": None}) == []


def test_a_port_that_is_not_there(tmp_path: Path) -> None:
    (finding,) = check_stage_port(a_config(tmp_path, stage="/dev/absent-stage"))
    assert (finding.what, finding.grade) == ("stage port", "fail")
    assert finding.text.startswith("/dev/absent-stage: No such file")


def test_real_hardware_wants_a_lasting_name_and_a_serial_number(tmp_path: Path) -> None:
    # A device that is no pseudo-terminal.
    said = check_stage_port(a_config(tmp_path, stage="/dev/null", serial=None))
    assert [(finding.what, finding.grade) for finding in said] == [("stage port", "fail"), ("stage", "fail")]
    assert "/dev/serial/by-id" in said[0].text
    assert said[1].text.startswith("stage.serial_number is missing")
    assert len(check_stage_port(a_config(tmp_path, stage="/dev/null"))) == 1


def test_one_port_is_not_for_two(tmp_path: Path, mute: str) -> None:
    link = tmp_path / "smu"
    link.symlink_to(mute)
    (finding,) = check_stage_port(a_config(tmp_path, smu=str(link), stage=mute))
    assert (finding.grade, finding.text) == ("fail", f"{mute}: is the port of ports.smu too; each has its own")


@pytest.mark.processes
def test_a_stage_that_does_not_answer(tmp_path: Path, mute: str) -> None:
    config = a_config(tmp_path, stage=mute)
    assert [finding.grade for finding in check_stage_port(config)] == ["ok"]
    (finding,) = check_stage(config)
    assert (finding.what, finding.grade) == ("stage", "fail")
    assert "no reply to 'ERR?'" in finding.text


def test_a_port_that_is_no_port_names_its_own_key(tmp_path: Path) -> None:
    (finding,) = check_stage(a_config(tmp_path, stage="/dev/null"))
    assert finding.grade == "fail"
    assert "ports.smu" not in finding.text


# ------------------------------------------------------------------------------------------- held by the controller


def test_what_the_running_controller_knows(tmp_path: Path) -> None:
    config = a_config(tmp_path, stage="/dev/absent")
    ready = {"model": "E-727.3CD", "ready": True, "servo_on": True}
    (finding,) = check_stage_held(config, {"stage": ready})
    assert (finding.grade, finding.text[:29]) == ("ok", "E-727.3CD, held by the runnin")
    assert [f.grade for f in check_stage_held(config, {"stage": {**ready, "servo_on": False}})] == ["ok", "fail"]
    for stage in (None, {**ready, "ready": False}):
        (finding,) = check_stage_held(config, {"stage": stage, "alarm": "STAGE: gone"})
        assert (finding.grade, finding.text) == ("fail", "held by the running controller, not ready: STAGE: gone")
