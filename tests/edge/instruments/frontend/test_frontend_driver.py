"""The front end's driver on the real firmware core, in virtual time: connect, configure, arm and open."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import Config
from edge.errors import ConfigError, LimitReadbackError
from edge.instruments import frontend as driver
from edge.instruments.drivers import FRONTEND_GROUP, make_frontend
from edge.instruments.frontend import Frontend
from edge.instruments.frontend_limits import device_config
from edge.instruments.frontend_values import (
    FrontendError,
    FrontendMismatchError,
    FrontendRefusedError,
)
from edge.instruments.lease import Permissions
from firmware_proto.frontend import messages
from firmware_proto.frontend import session as session_module
from firmware_proto.frontend.messages import Reason, State, Stream
from firmware_proto.frontend.vocabulary import SCHEMA_HASH
from hil.frontend import build
from hil.frontend.build import Edit
from hil.virtual import VirtualClock, run_virtual
from tests.edge.instruments.frontend.frontend_desk import Desk, Line, needs_cc, on_desk, rig, section

pytestmark = needs_cc

DOUBLE_HARD = Edit(
    "tg_core.c",
    "    core->config = *config;\n",
    "    core->config = *config;\n    core->config.hard_code = (uint16_t)(2u * config->hard_code);\n",
)
"""A device that puts another limit in force than it was sent, and says so when it is read back."""


# ------------------------------------------------------------------------------------------------- the way to armed


def test_a_connected_front_end_is_known_and_its_time_too(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        assert not desk.connected()
        await desk.frontend.connect()
        frontend = desk.frontend
        assert frontend.connected
        assert frontend.welcome is not None
        assert (frontend.welcome.sample_hz, frontend.welcome.code_pa) == (10_000, 40_000)
        assert frontend.state == State.SAFE
        assert not frontend.closed
        assert frontend.time is not None
        stated_ns, unc_ns = frontend.time.to_host(desk.core.now_ticks)
        assert abs(stated_ns - desk.clock.now_ns()) <= unc_ns < 300_000
        told = frontend.describe()
        assert (told["board"], told["state"], told["connected"]) == ("lockstep", "SAFE", True)

    on_desk(rig(tmp_path), body)


def test_what_is_configured_is_in_force_and_what_is_armed_is_closed(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        in_force = desk.frontend.in_force
        assert in_force is not None
        assert (in_force.hard_code, in_force.level_code, in_force.pre_n, in_force.post_n) == (12_500, 5000, 100, 50)
        assert in_force.stream == Stream.MINMAX
        assert desk.frontend.recording == "event"
        assert desk.closed()
        assert desk.frontend.closed
        await desk.frontend.open()
        assert not desk.closed()
        assert desk.frontend.state == State.SAFE
        assert not desk.trips

    on_desk(rig(tmp_path, section(level_a=2e-4)), body)


def test_another_recording_is_another_stream(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        for recording, stream in (("full", Stream.FULL), ("off", Stream.OFF), ("decimated", Stream.MINMAX)):
            await desk.frontend.configure(recording)
            assert desk.frontend.in_force is not None
            assert desk.frontend.in_force.stream == stream
            assert desk.frontend.recording == recording

    on_desk(rig(tmp_path), body)


def test_where_a_filament_is_already_there_the_hard_limit_is_left_alone(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        await desk.frontend.configure(surge=False)
        config = desk.frontend.in_force
        assert config is not None
        assert (config.hard_code, config.level_code, config.jump_code, config.rate_code) == (12_500, 0, 0, 0)
        await desk.frontend.configure()
        config = desk.frontend.in_force
        assert config is not None
        assert (config.hard_code, config.level_code, config.jump_code, config.rate_code) == (12_500, 5000, 2500, 2500)

    on_desk(rig(tmp_path, section(level_a=2e-4, jump_a=1e-4, rate_a=1e-4)), body)


def test_more_than_one_read_at_a_time_is_read_to_its_end(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        heard = len(desk.statuses)
        for _ in range(200):
            desk.line._deliver(desk.frontend.session.get_status())
        await desk.sleep(0.01)
        # 200 frames of 110 bytes are there at once, with one call of the reader.
        assert len(desk.statuses) - heard >= 200

    on_desk(rig(tmp_path), body)


def test_arming_comes_after_what_it_needs(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        with pytest.raises(FrontendError, match="connect comes first"):
            await desk.frontend.configure()
        await desk.frontend.connect()
        with pytest.raises(FrontendError, match="configure comes first"):
            await desk.frontend.arm()

    on_desk(rig(tmp_path), body)


def test_a_limit_that_differs_when_read_back_arms_nothing(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        with pytest.raises(LimitReadbackError, match="hard_code is 25000, sent 12500"):
            await desk.frontend.configure()
        desk.control()
        with pytest.raises(FrontendError, match="configure comes first"):
            await desk.frontend.arm()
        assert not desk.closed()

    on_desk(rig(tmp_path), body, library=build.lockstep(edits=(DOUBLE_HARD,)))


def test_a_configuration_whose_crc_differs_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "config_crc", lambda _config: 7)

    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        with pytest.raises(LimitReadbackError, match=r"config_crc is .*, sent 00000007"):
            await desk.frontend.configure()
        assert desk.frontend.in_force is None

    on_desk(rig(tmp_path), body)


def test_without_that_comparison_twice_the_current_would_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "differences", lambda _sent, _got: [])
    monkeypatch.setattr(session_module, "config_crc", lambda _config: 0)

    async def body(desk: Desk) -> None:
        monkeypatch.setattr(
            session_module,
            "config_crc",
            lambda _config: desk.frontend.session.config.config_crc,  # type: ignore[union-attr]
        )
        await desk.armed()
        desk.line.current_a = lambda _t_ns: 9e-4
        await desk.sleep(0.2)
        # Asked for 0.5 mA; 0.9 mA goes through the tip for as long as it likes.
        assert desk.closed()

    on_desk(rig(tmp_path), body, library=build.lockstep(edits=(DOUBLE_HARD,)))


def test_a_value_that_the_device_refuses_is_an_error_with_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sane = device_config

    def wrong(*args: object) -> messages.Config:
        config = sane(*args)  # type: ignore[arg-type]
        return messages.Config(**{name: getattr(config, name) for name in config.__match_args__} | {"hard_code": 0})

    monkeypatch.setattr(driver, "device_config", wrong)

    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        with pytest.raises(FrontendRefusedError, match="BAD_VALUE"):
            await desk.frontend.configure()
        assert desk.frontend.in_force is None

    on_desk(rig(tmp_path), body)


def test_a_switch_that_does_not_close_is_not_armed(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        with pytest.raises(FrontendError, match="ARMED, and its switch still reads open"):
            await desk.armed()

    dead = Edit("tg_send.c", ".switch_sense = tg_port_switch_sense(core->port),", ".switch_sense = 0,")
    on_desk(rig(tmp_path), body, library=build.lockstep(edits=(dead,)))


def test_a_switch_that_does_not_open_is_not_open(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.core.stick(stuck=True)
        with pytest.raises(FrontendError, match="conducts although it is told to be open"):
            await desk.frontend.open()
        assert [trip.reason for trip in desk.trips] == [Reason.SWITCH_STUCK]
        assert desk.frontend.stuck

    on_desk(rig(tmp_path), body)


def test_a_refusal_of_another_frame_is_no_answer(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        desk.frontend._line.write(desk.frontend.session.rearm(99))
        await desk.frontend.configure()
        assert desk.frontend.in_force is not None

    on_desk(rig(tmp_path), body)


# ----------------------------------------------------------------------------------------------------- another schema


def test_a_front_end_of_another_schema_is_refused_and_can_be_tripped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "SCHEMA_HASH", SCHEMA_HASH ^ 1)

    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        assert "built from schema" in desk.frontend.mismatch
        for refused in (desk.frontend.configure, desk.frontend.arm):
            with pytest.raises(FrontendMismatchError, match="load the firmware that belongs to this program"):
                await refused()
        desk.control()
        # What such a device says besides is not understood, which is no silence.
        desk.line.to_host = lambda _data: b""
        await desk.sleep(1.0)
        assert not desk.closed()
        assert not desk.lost
        desk.frontend.trip()
        await desk.sleep(0.01)
        assert desk.state() == State.TRIPPED
        assert desk.frontend.describe()["mismatch"] == desk.frontend.mismatch

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit("tg_send.c", ".safe_closed = TG_SAFE_SWITCH,", ".safe_closed = 1,"), "closed at reset"),
        (Edit("tg_send.c", ".tick_hz = board->tick_hz,", ".tick_hz = 0,"), "what cannot be"),
    ],
)
def test_a_device_that_no_rig_can_rely_on_is_never_armed(tmp_path: Path, edit: Edit, words: str) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        assert words in desk.frontend.mismatch
        for refused in (desk.frontend.configure, desk.frontend.arm):
            with pytest.raises(FrontendMismatchError, match=words):
                await refused()
        desk.control()
        desk.frontend.trip()
        await desk.sleep(0.3)
        assert desk.state() == State.TRIPPED
        assert [trip.reason for trip in desk.trips] == [Reason.HOST]

    on_desk(rig(tmp_path), body, library=build.lockstep(edits=(edit,)))


# ----------------------------------------------------------------------------------------------------- small change


def test_it_is_found_by_its_entry_point(tmp_path: Path) -> None:
    config = rig(tmp_path)

    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock, config)
        permissions = Permissions(clock, 0.1)
        made = make_frontend(Line(clock, desk.core), clock, config, nonce=1, permissions=permissions)
        assert isinstance(made, Frontend)
        for wrong in (section(driver="acme"), None):
            with pytest.raises(ConfigError, match=r"expected one of: .*tipguard") as caught:
                make_frontend(desk.line, clock, _with(config, wrong), nonce=1, permissions=permissions)
            assert caught.value.key == "frontend.driver"
        with pytest.raises(ConfigError, match="names no front end"):
            Frontend(desk.line, clock, _with(config, None), nonce=1, redeem=permissions.redeem)

    assert FRONTEND_GROUP == "tipguard.frontend"
    run_virtual(main)


def _with(config: Config, frontend: object) -> Config:
    return config.model_copy(update={"frontend": frontend})


def test_closed_it_leaves_no_timer_and_no_reader(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        desk.frontend.trip()
        desk.frontend.close()
        await desk.sleep(0.01)
        sent = len(desk.line.sent)
        await desk.sleep(2.0)
        assert len(desk.line.sent) == sent
        assert not desk.lost
        assert not desk.connected()

    on_desk(rig(tmp_path), body)
