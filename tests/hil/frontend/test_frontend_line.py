"""What the firmware says and hears on its line, in lockstep: handshake, configuration, streams, counters, order."""

from __future__ import annotations

import binascii
from collections import Counter
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.framing import encode
from firmware_proto.frontend.vocabulary import SAFE_SWITCH
from firmware_proto.frontend.wire import session_of
from hil.frontend.lockstep import BOOT_NONCE, LockstepFrontend
from tests.hil.frontend.desk import CONFIG, NONCE, Desk, armed, needs_cc

pytestmark = needs_cc

MS = 1_000_000


def test_welcome_says_what_the_device_is() -> None:
    desk = Desk()
    welcome = desk.hello()
    assert welcome.session == session_of(BOOT_NONCE, NONCE) == desk.frames[-1].session
    assert (welcome.schema_hash, welcome.version, welcome.host_nonce) == (m.SCHEMA_HASH, m.VERSION, NONCE)
    assert (welcome.board, welcome.sample_hz, welcome.tick_hz) == ("lockstep", 100_000, 1_000_000_000)
    assert (welcome.lease_max_ms, welcome.safe_closed, welcome.state) == (100, SAFE_SWITCH, m.State.SAFE)
    assert welcome.reset_cause is m.ResetCause.POWER
    assert welcome.build_id != 0


def test_another_schema_is_welcomed_and_may_open_and_trip_but_not_more() -> None:
    desk = Desk()
    desk.hello(version=m.VERSION + 1)
    assert desk.configure().result is m.Refusal.SCHEMA
    desk.arm(crc=0)
    assert desk.why() is m.Refusal.SCHEMA
    desk.say(m.Open())
    assert desk.why() is m.Refusal.NONE
    desk.say(m.Trip())
    assert desk.fe.state is m.State.TRIPPED


def test_a_configuration_is_read_back_field_by_field_with_its_crc() -> None:
    desk = Desk()
    desk.hello()
    told = desk.configure(level_code=77, level_n=3, jump_code=500, rate_code=60_000, rate_n=32, stream=m.Stream.MINMAX)
    assert told.result is m.Refusal.NONE
    for field in fields(m.Config):
        assert getattr(told, field.name) == getattr(desk.config, field.name)
    assert told.config_crc == binascii.crc32(desk.config.pack()) == desk.status().config_crc


def test_a_refused_configuration_leaves_the_one_before_in_force() -> None:
    desk = Desk()
    desk.hello()
    before = desk.configure()
    told = desk.configure(hard_code=0)
    assert told.result is m.Refusal.BAD_VALUE
    assert (told.hard_code, told.config_crc) == (CONFIG.hard_code, before.config_crc)


def test_no_configuration_is_told_as_none() -> None:
    desk = Desk()
    desk.hello()
    assert desk.status().config_crc == 0
    desk.arm(crc=0)
    assert desk.why() is m.Refusal.CONFIG


def test_before_any_session_only_hello_and_trip_are_heard() -> None:
    desk = Desk()
    for message in (CONFIG, m.Arm(0, 1, 1), m.Lease(1, 1), m.Open(), m.Ping(1), m.GetStatus()):
        desk.say(message)
    desk.steps(10_001)
    status = desk.last(m.Status)
    assert (status.rx_stale, status.rx_frames) == (6, 0)
    assert {type(message) for message in desk.heard} == {m.Status}
    assert desk.frames[-1].session == 0


def test_a_session_of_another_boot_is_refused() -> None:
    desk = armed()
    old = desk.session
    desk.fe.reset(m.ResetCause.PIN)
    desk.say(CONFIG, session=old)
    welcome = desk.hello()
    assert welcome.session != old
    assert welcome.reset_cause is m.ResetCause.PIN
    desk.say(m.Lease(9, desk.fe.now_ticks + MS), session=old)
    assert desk.status().rx_stale == 2


def test_a_trip_survives_a_new_session_and_is_told_to_it() -> None:
    desk = armed()
    desk.fe.step(30_000)
    desk.steps(30)
    desk.say(m.AckTrip(1))
    desk.forget()
    assert desk.hello(nonce=5).state is m.State.TRIPPED
    assert desk.last(m.TripReport).reason is m.Reason.HARD
    desk.say(m.BoxRead(1, 0, 10))
    assert len(desk.last(m.Box).codes) == 20
    desk.put_back()
    assert desk.fe.state is m.State.SAFE


def test_every_cause_has_its_counter() -> None:
    desk = Desk()
    desk.hello()
    whole = encode(m.Ping(1), 5, desk.session)
    desk.fe.receive(bytes([whole[0], whole[1] ^ 0x10, *whole[2:]]))
    desk.fe.receive(b"\x05\x11\x00" + b"\x02\x11\x00")
    desk.fe.receive(encode(m.Pong(1, 2, 3), 6, desk.session))
    desk.seq = 9
    desk.say(m.Ping(2))
    status = desk.status()
    assert (status.rx_bad_crc, status.rx_bad_cobs, status.rx_bad_length) == (1, 1, 1)
    assert (status.rx_unknown, status.rx_gaps, status.rx_frames) == (1, 8, 3)


def test_a_status_comes_ten_times_a_second_and_counts_what_was_sent() -> None:
    desk = Desk()
    desk.fe.advance_to(1000 * MS, lambda _: 0.0)
    found = desk.all_of(m.Status)
    assert len(found) == 10
    assert [status.tx_frames for status in found] == list(range(10))
    assert found[-1].sample_index == 90_001
    assert {frame.gap for frame in desk.frames} == {0}


def test_a_pong_has_the_devices_time_twice() -> None:
    desk = Desk()
    desk.hello()
    desk.fe.advance_to(12_345_678, lambda _: 0.0)
    desk.say(m.Ping(99))
    assert desk.last(m.Pong) == m.Pong(99, 12_345_678, 12_345_678)


def test_after_a_silence_a_delimiter_comes_first() -> None:
    desk = Desk()
    desk.hello()
    desk.fe.take()
    desk.fe.advance_to(9 * MS, lambda _: 0.0)
    desk.say(m.Ping(1))
    assert desk.fe.take()[0] != 0
    desk.fe.advance_to(20 * MS, lambda _: 0.0)
    desk.say(m.Ping(2))
    assert desk.fe.take()[0] == 0


def streaming(stream: m.Stream, **changes: int) -> Desk:
    desk = Desk(series=False)
    desk.hello()
    desk.configure(stream=stream, **changes)
    desk.say(m.Credit(10_000))
    return desk


def test_full_sends_every_sample_once_with_number_and_time() -> None:
    desk = streaming(m.Stream.FULL)
    begin, due = desk.fe.sample_index, desk.fe.due_ticks
    codes = np.arange(24_600, dtype=np.int16)
    desk.fe.run(codes)
    blocks = desk.all_of(m.Samples)
    found = np.frombuffer(b"".join(block.codes for block in blocks), "<i2")
    assert (found == codes[: found.size]).all()
    assert found.size > 24_000
    at = begin
    for block in blocks:
        assert (block.index, block.ticks) == (at, due + (at - begin) * desk.fe.period_ns)
        at += len(block.codes) // 2
    assert desk.status().bulk_sent == len(blocks)


def test_a_silent_converter_is_a_hole_in_the_stream() -> None:
    desk = streaming(m.Stream.FULL)
    desk.fe.run(np.arange(100, dtype=np.int16))
    desk.fe.step(7, adc_fault=True)
    desk.fe.run(np.arange(200, dtype=np.int16))
    codes = np.frombuffer(desk.all_of(m.Samples)[0].codes, "<i2")
    assert (codes[99], codes[100], codes[101]) == (99, -32_768, 0)


def test_minmax_sends_the_extremes_of_each_decimation() -> None:
    desk = streaming(m.Stream.MINMAX, decimation=100)
    begin = desk.fe.sample_index
    codes = np.random.default_rng(3).integers(-3000, 3000, 10_000).astype(np.int16)
    desk.fe.run(codes)
    blocks = desk.all_of(m.MinMax)
    pairs = np.frombuffer(b"".join(block.pairs for block in blocks), "<i2").reshape(-1, 2)
    groups = codes.reshape(-1, 100)[: len(pairs)]
    assert len(pairs) == 100
    assert (pairs[:, 0] == groups.min(axis=1)).all()
    assert (pairs[:, 1] == groups.max(axis=1)).all()
    assert [block.index for block in blocks] == [begin + 2500 * number for number in range(4)]
    assert {block.decimation for block in blocks} == {100}


def test_credit_is_cumulative_and_an_old_one_takes_nothing_back() -> None:
    desk = streaming(m.Stream.FULL)
    desk.say(m.Credit(3), m.Credit(1))
    desk.fe.run(np.zeros(5000, np.int16))
    assert len(desk.all_of(m.Samples)) == 20


def test_what_is_lost_is_counted_by_cause_and_seen_in_the_index() -> None:
    desk = Desk(series=False)
    desk.hello()
    desk.configure(stream=m.Stream.FULL)
    desk.fe.run(np.zeros(20_000, np.int16))
    desk.say(m.Credit(10_000))
    no_credit = desk.status().drop_no_credit
    desk.fe.line_room = 0
    desk.fe.run(np.zeros(40_000, np.int16))
    desk.fe.line_room = 1 << 20
    desk.fe.run(np.zeros(5000, np.int16))
    status = desk.status()
    blocks = desk.all_of(m.Samples)
    assert status.drop_no_credit == no_credit > 0
    assert status.drop_tx_full > 0
    missing = 0
    for one, two in pairwise(blocks):
        missing += two.index - one.index - len(one.codes) // 2
    assert missing == no_credit + status.drop_tx_full


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_line_that_takes_nothing_holds_up_no_trip(room: int) -> None:
    desk = armed(stream=m.Stream.FULL, hard_code=900)
    desk.say(m.Credit(10_000))
    desk.fe.line_room = room
    desk.fe.run(np.zeros(3000, np.int16))
    index = desk.fe.sample_index
    desk.fe.step(900)
    assert not desk.fe.closed
    assert desk.fe.open_index == index


def test_used_up_credit_holds_up_no_trip() -> None:
    desk = armed(stream=m.Stream.FULL, hard_code=900)
    desk.say(m.Credit(1))
    desk.lease()
    desk.fe.run(np.zeros(9000, np.int16))
    desk.lease()
    desk.fe.run(np.zeros(9000, np.int16))
    before = desk.status().drop_no_credit
    assert before > 0
    desk.forget()
    desk.fe.step(900)
    assert not desk.fe.closed
    assert isinstance(desk.listen()[0], m.TripReport)


def test_answers_wait_for_room_and_come_once() -> None:
    desk = Desk()
    desk.hello()
    desk.forget()
    desk.fe.line_room = 0
    desk.say(m.Ping(1), m.GetStatus(), m.Lease(1, 1), CONFIG)
    desk.fe.line_room = 1 << 20
    desk.steps(1)
    assert Counter(type(message) for message in desk.listen()) == Counter([m.Pong, m.Status, m.Refused, m.ConfigIs])


def test_late_samples_and_overruns_are_counted_and_numbers_go_on() -> None:
    desk = Desk()
    desk.hello()
    desk.fe.stall(20 * MS)
    desk.steps(1)
    status = desk.status()
    assert status.sample_index == 2000, "the ones that nobody took have passed"
    assert (status.overruns, status.late_samples) == (1, 2000)


def test_a_stall_within_bounds_is_caught_up() -> None:
    desk = armed(stream=m.Stream.FULL, series=False)
    desk.say(m.Credit(100))
    index = desk.fe.sample_index
    desk.fe.stall(desk.fe.now_ticks + 4 * MS)
    desk.steps(1)
    assert desk.fe.closed
    assert desk.fe.sample_index >= index + 400
    assert desk.status().overruns == 0


def test_an_overrun_leaves_its_gap_in_box_and_stream() -> None:
    desk = armed(stream=m.Stream.FULL, series=False, pre_n=3, post_n=5)
    desk.say(m.Credit(1000))
    desk.fe.run(np.array([1, 2, 3], np.int16))
    desk.fe.stall(desk.fe.due_ticks + 6 * MS)
    desk.fe.step(9)
    assert not desk.fe.closed
    desk.fe.run(np.zeros(600, np.int16))
    desk.say(m.BoxRead(1, 0, 9))
    box = np.frombuffer(desk.last(m.Box).codes, "<i2")
    assert box.tolist() == [1, 2, 3, 9, *[-32_768] * 5]
    one, two = desk.all_of(m.Samples)[:2]
    assert two.index - one.index - len(one.codes) // 2 == 600


def test_currents_come_in_at_the_time_of_each_sample() -> None:
    desk = armed(hard_code=25_000)
    begin = desk.fe.due_ticks
    asked: list[int] = []

    def current(t_ns: int) -> float:
        asked.append(t_ns)
        return 1e-3 if len(asked) == 6 else 0.0

    assert not desk.fe.advance_to(begin + MS, current)
    assert asked == [begin + number * desk.fe.period_ns for number in range(6)]
    assert desk.last(m.TripReport).code == 25_000
    assert desk.fe.now_ticks == begin + MS


def test_currents_beyond_full_scale_are_held_there() -> None:
    fe = LockstepFrontend(code_pa=40_000)
    assert (fe.code_of(1.0), fe.code_of(-1.0), fe.code_of(40e-9 * 1.4)) == (32_767, -32_767, 1)
