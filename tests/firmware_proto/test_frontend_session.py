"""The host's session against a scripted device: what it takes, what it refuses and counts, what it will not send."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.frontend import messages as m
from firmware_proto.frontend import session as s
from firmware_proto.frontend.framing import TRIP_BYTES, Cause, Decoder, Frame, Side, encode
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.vocabulary import SCHEMA_HASH, VERSION
from firmware_proto.frontend.wire import session_of

NONCE = 0xCAFE_0001
BOOT = 0x0BAD_5EED


class Device:
    """The far end: decodes what the host sends, answers what it is told to."""

    def __init__(self, boot_nonce: int = BOOT) -> None:
        self.boot_nonce = boot_nonce
        self.session = 0
        self.seq = 0
        self.decoder = Decoder(Side.DEVICE, session=0)
        self.heard: list[Frame] = []

    def hears(self, data: bytes) -> list[Message]:
        new = []
        for one in self.decoder.events(data):
            assert isinstance(one, Frame), one
            assert one.gap == 0
            self.heard.append(one)
            new.append(one.message)
            if isinstance(one.message, m.Hello):
                self.session = session_of(self.boot_nonce, one.message.host_nonce)
                self.decoder.session = self.session
        return new

    def says(self, message: Message, *, session: int | None = None, skip: int = 0) -> bytes:
        self.seq = (self.seq + 1 + skip) & 0xFFFF
        return encode(message, self.seq, self.session if session is None else session)

    def welcome(self, hello: Message, **fields: Any) -> bytes:  # noqa: ANN401 - of the message
        assert isinstance(hello, m.Hello)
        values: dict[str, Any] = {
            "schema_hash": SCHEMA_HASH,
            "host_nonce": hello.host_nonce,
            "boot_nonce": self.boot_nonce,
            "session": session_of(self.boot_nonce, hello.host_nonce),
            "version": VERSION,
            "build_id": 7,
            "reset_cause": m.ResetCause.POWER,
            "board": "desk",
            "tick_hz": 1_000_000_000,
            "sample_hz": 10_000,
            "code_pa": 40_000,
            "full_scale_code": 32_767,
            "max_payload": 512,
            "credit_window": 16,
            "box_max": 4096,
            "lease_max_ms": 100,
            "switch_open_ns": 500,
            "safe_closed": 0,
            "state": m.State.SAFE,
            **fields,
        }
        return self.says(m.Welcome(**values), session=values["session"])


def status(**fields: Any) -> m.Status:  # noqa: ANN401 - of the message
    values = {field.name: 0 for field in dataclasses.fields(m.Status)}
    values.update(state=m.State.SAFE, trip_reason=m.Reason.NONE)
    return m.Status(**{**values, **fields})


def report(trip_id: int = 1) -> m.TripReport:
    return m.TripReport(
        trip_id=trip_id,
        reason=m.Reason.HARD,
        sample_index=10,
        ticks=1000,
        code=12_500,
        threshold=12_500,
        baseline=3,
        switch_pin=0,
        box_n=5,
        box_trip_at=4,
    )


def samples(index: int, count: int = 2) -> m.Samples:
    return m.Samples(index=index, ticks=index * 100_000, codes=b"\1\0" * count)


def config(seq: int = 1) -> m.Config:
    return m.Config(
        config_seq=seq,
        hard_code=100,
        level_code=0,
        level_n=1,
        jump_code=0,
        jump_ratio_q8=0,
        baseline_shift=0,
        rate_code=0,
        rate_n=1,
        pre_n=1,
        post_n=1,
        stream=m.Stream.FULL,
        decimation=1,
    )


def config_is(sent: m.Config, *, result: m.Refusal = m.Refusal.NONE, **fields: Any) -> m.ConfigIs:  # noqa: ANN401
    values = {field.name: getattr(sent, field.name) for field in dataclasses.fields(sent)}
    return m.ConfigIs(**{**values, "config_crc": s.config_crc(sent), "result": result, **fields})


def joined(device: Device | None = None, **fields: Any) -> tuple[s.HostSession, Device]:  # noqa: ANN401
    """Return a session that stands, and its device."""
    host, device = s.HostSession(NONCE), device or Device()
    (hello,) = device.hears(host.hello())
    (event,) = host.feed(device.welcome(hello, **fields), 5)
    assert isinstance(event, s.Welcome)
    return host, device


# ------------------------------------------------------------------------------------------------------- handshake


def test_hello_introduces_this_schema_and_welcome_makes_a_session() -> None:
    host, device = s.HostSession(NONCE), Device()
    (hello,) = device.hears(host.hello())
    assert hello == m.Hello(schema_hash=SCHEMA_HASH, host_nonce=NONCE, version=VERSION)
    (event,) = host.feed(device.welcome(hello), 77)
    assert isinstance(event, s.Welcome)
    assert (event.t_rx_ns, event.mismatch) == (77, "")
    assert host.welcome is event.message
    assert device.hears(host.ping(9)) == [m.Ping(token=9)]
    assert device.heard[-1].session == session_of(BOOT, NONCE)


def test_nothing_is_sent_without_a_session_but_hello_and_trip() -> None:
    host = s.HostSession(NONCE)
    for asked in (host.open, host.get_status, lambda: host.ping(1), lambda: host.lease(1), lambda: host.ack(1)):
        with pytest.raises(s.SessionError, match="no session"):
            asked()
    assert TRIP_BYTES in host.trip()


def test_each_introduction_has_another_nonce() -> None:
    host, device = s.HostSession(0xFFFF_FFFF), Device()
    nonces = [device.hears(host.hello())[0].host_nonce for _ in range(5)]  # type: ignore[attr-defined]
    assert nonces[0] == 0xFFFF_FFFF
    assert len(set(nonces)) == 5


def test_the_answer_to_an_earlier_introduction_is_none_to_this() -> None:
    host, device = s.HostSession(NONCE), Device()
    (first,) = device.hears(host.hello())
    late = device.welcome(first)
    (second,) = device.hears(host.hello())
    assert host.feed(late, 1) == [s.BadFrame(Cause.STALE_SESSION, m.Welcome.ID, 1)]
    assert host.welcome is None
    assert host.counters.stale_welcomes == 1
    assert isinstance(host.feed(device.welcome(second), 2)[0], s.Welcome)


@pytest.mark.parametrize("field", ["host_nonce", "session"])
def test_a_welcome_that_contradicts_itself_is_refused(field: str) -> None:
    host, device = s.HostSession(NONCE), Device()
    (hello,) = device.hears(host.hello())
    (event,) = host.feed(device.welcome(hello, **{field: 99}), 1)
    assert isinstance(event, s.BadFrame)
    assert host.welcome is None


def test_an_old_welcome_in_a_session_changes_nothing_and_costs_no_frame() -> None:
    host, device = s.HostSession(NONCE), Device()
    (hello,) = device.hears(host.hello())
    welcome = device.welcome(hello)
    host.feed(welcome, 1)
    first = [device.says(status()) for _ in range(5)]
    events = host.feed(b"".join(first) + welcome + device.says(status()) + device.says(status(), skip=2), 2)
    assert [type(one) for one in events] == [s.Status] * 5 + [s.BadFrame, s.Status, s.Gap, s.Status]
    assert host.counters.gaps == 2


def test_an_old_welcome_with_a_number_ahead_takes_no_frame_along_nor_lets_one_in_twice() -> None:
    # Its number is from 65536 frames ago, and stands a little ahead of today's.
    host, device = s.HostSession(NONCE), Device()
    device.seq = 40
    (hello,) = device.hears(host.hello())
    welcome = device.welcome(hello)
    host.feed(welcome, 1)
    for number in (30_000, 30):
        device.seq = number
        host.feed(device.says(status()), 2)
    frame = device.says(status())
    events = host.feed(frame + welcome + frame + device.says(report()), 3)
    assert [type(one) for one in events] == [s.Status, s.BadFrame, s.BadFrame, s.Tripped]
    assert events[2] == s.BadFrame(Cause.REPEATED, m.Status.ID, 3)


@pytest.mark.parametrize(
    ("fields", "words"), [({"schema_hash": 1}, "schema 00000001"), ({"version": VERSION + 1}, "version")]
)
def test_another_schema_is_never_armed_and_can_be_tripped(fields: dict[str, Any], words: str) -> None:
    host, _ = joined(**fields)
    assert words in host.mismatch
    wishes: list[Callable[[], bytes]] = [lambda: host.configure(config()), lambda: host.arm(1), lambda: host.lease(1)]
    for asked in wishes:
        with pytest.raises(s.SessionError, match=words):
            asked()
    assert host.trip().endswith(TRIP_BYTES)


# -------------------------------------------------------------------------------------------- sessions that are over


def test_frames_of_another_session_are_refused_and_counted() -> None:
    host, device = joined()
    old = device.session
    (hello,) = device.hears(host.hello())
    assert host.feed(device.says(report(), session=old), 1) == [s.BadFrame(Cause.STALE_SESSION, m.TripReport.ID, 1)]
    host.feed(device.welcome(hello), 2)
    assert host.feed(device.says(samples(3), session=old), 3) == [s.BadFrame(Cause.STALE_SESSION, m.Samples.ID, 3)]
    assert host.refused["stale_session"] == 2
    assert isinstance(host.feed(device.says(status()), 4)[-1], s.Status)


def test_what_a_device_says_before_it_was_asked_is_refused() -> None:
    host, device = s.HostSession(NONCE), Device()
    assert host.feed(device.says(status()), 1) == [s.BadFrame(Cause.STALE_SESSION, m.Status.ID, 1)]
    assert host.counters.sessionless == 1


def test_a_device_that_started_anew_is_told_once_and_known_by_its_nonce() -> None:
    host, _ = joined()
    anew = Device(boot_nonce=99)
    events = host.feed(anew.says(status()) + anew.says(status()), 1)
    assert [type(one) for one in events] == [s.BadFrame, s.Rebooted, s.BadFrame]
    (hello,) = anew.hears(host.hello())
    events = host.feed(anew.welcome(hello), 2)
    assert [type(one) for one in events] == [s.Rebooted, s.Welcome]
    assert host.counters.reboots == 1


def test_the_same_boot_in_a_new_session_is_no_reboot() -> None:
    host, device = joined()
    (hello,) = device.hears(host.hello())
    assert [type(one) for one in host.feed(device.welcome(hello), 2)] == [s.Welcome]
    assert host.counters.reboots == 0


# ------------------------------------------------------------------------------------------------- gaps and doubles


def test_gaps_are_counted_across_the_turn_of_the_number() -> None:
    host, device = joined()
    device.seq = 0xFFFD
    (hello,) = device.hears(host.hello())
    host.feed(device.welcome(hello), 1)
    events = host.feed(device.says(status(), skip=3), 2)
    assert events[0] == s.Gap(3, 2)
    assert host.counters.gaps == 3


def test_a_repeated_frame_is_refused() -> None:
    host, device = joined()
    frame = device.says(samples(0))
    events = host.feed(frame + frame, 1)
    assert [type(one) for one in events] == [s.Samples, s.BadFrame]
    assert host.refused["repeated"] == 1


def test_samples_that_were_here_before_are_refused_whatever_number_their_frame_bears() -> None:
    host, device = joined()
    assert isinstance(host.feed(device.says(samples(10, 4)), 1)[0], s.Samples)
    for index in (10, 12, 13):
        assert host.feed(device.says(samples(index)), 2) == [s.BadFrame(Cause.REPEATED, m.Samples.ID, 2)]
    assert host.counters.doubled == 3
    (event,) = host.feed(device.says(samples(14)), 3)
    assert isinstance(event, s.Samples)
    assert event.missing == 0


def test_missing_samples_are_counted_in_samples_over_both_kinds_of_block() -> None:
    host, device = joined()
    host.feed(device.says(samples(0, 4)), 1)
    (event,) = host.feed(device.says(m.MinMax(index=14, ticks=0, decimation=10, pairs=b"\0" * 12)), 2)
    assert isinstance(event, s.MinMax)
    assert event.missing == 10
    (last,) = host.feed(device.says(samples(45)), 3)
    assert isinstance(last, s.Samples)
    assert last.missing == 1
    assert host.counters.missing == 11


def test_what_was_lost_between_two_sessions_of_one_boot_is_missing() -> None:
    host, device = joined()
    host.configure(config())
    host.feed(device.says(config_is(config())) + device.says(samples(0, 4)), 1)
    (hello,) = device.hears(host.hello())
    host.feed(device.welcome(hello), 2)
    host.configure(config())
    events = host.feed(device.says(config_is(config())) + device.says(samples(100)), 3)
    assert isinstance(events[-1], s.Samples)
    assert events[-1].missing == 96


def test_what_was_not_asked_for_is_not_missing() -> None:
    host, device = joined()
    off = dataclasses.replace(config(), stream=m.Stream.OFF)
    host.feed(device.says(config_is(config())) + device.says(samples(0, 4)) + device.says(config_is(off)), 1)
    events = host.feed(device.says(config_is(config())) + device.says(samples(5000)), 2)
    assert isinstance(events[-1], s.Samples)
    assert events[-1].missing == 0


# -------------------------------------------------------------------------------------------------- trips and leases


def test_a_trip_is_news_once_and_each_report_is_told() -> None:
    host, device = joined()
    events = host.feed(device.says(report()) + device.says(report()) + device.says(report(2)), 1)
    assert [one.first for one in events if isinstance(one, s.Tripped)] == [True, False, True]
    assert host.counters.trips_again == 1
    assert device.hears(host.ack(2) + host.ack(2)) == [m.AckTrip(trip_id=2)] * 2


def test_a_trip_of_the_same_number_after_a_reboot_is_another_one() -> None:
    host, device = joined()
    host.feed(device.says(report()), 1)
    anew = Device(boot_nonce=3)
    (hello,) = anew.hears(host.hello())
    host.feed(anew.welcome(hello), 2)
    (event,) = host.feed(anew.says(report()), 3)
    assert isinstance(event, s.Tripped)
    assert event.first


def test_arm_quotes_what_was_read_back_and_nothing_else() -> None:
    host, device = joined()
    with pytest.raises(s.SessionError, match="no configuration was read back"):
        host.arm(5)
    sent = config()
    device.hears(host.configure(sent))
    host.feed(device.says(config_is(sent, config_crc=0x1234)), 1)
    assert device.hears(host.arm(5)) == [m.Arm(config_crc=0x1234, lease_seq=1, deadline_ticks=5)]


@pytest.mark.parametrize("again", ["refused", "sent anew"])
def test_a_configuration_that_was_not_taken_is_none(again: str) -> None:
    host, device = joined()
    device.hears(host.configure(config()))
    host.feed(device.says(config_is(config())), 1)
    device.hears(host.configure(config(2)))
    if again == "refused":
        host.feed(device.says(config_is(config(), result=m.Refusal.BAD_VALUE)), 2)
    with pytest.raises(s.SessionError):
        host.arm(5)


def test_the_number_of_a_lease_rises_also_over_an_earlier_hosts() -> None:
    host, device = joined()
    assert device.hears(host.lease(1) + host.lease(2)) == [m.Lease(1, 1), m.Lease(2, 2)]
    host.feed(device.says(status(lease_seq=40)), 1)
    assert device.hears(host.lease(3)) == [m.Lease(41, 3)]


def test_what_was_sent_and_lost_has_used_its_credit() -> None:
    host, device = joined()
    host.feed(device.says(samples(0)) + device.says(samples(4)), 1)
    assert host.bulk == 2
    host.feed(device.says(status(bulk_sent=9), skip=7), 2)
    assert host.bulk == 9
    assert device.hears(host.credit(25)) == [m.Credit(total=25)]


def test_a_refusal_quotes_the_number_of_the_frame() -> None:
    host, device = joined()
    device.hears(host.rearm(1))
    number = host.sent_seq
    (event,) = host.feed(device.says(m.Refused(m.Rearm.ID, device.heard[-1].seq, m.Refusal.UNKNOWN_TRIP)), 1)
    assert isinstance(event, s.RefusedByDevice)
    assert event.message.seq == number


def test_every_kind_of_event_and_of_wish_goes_through() -> None:
    host, device = joined()
    wishes = [host.open(), host.get_status(), host.read_box(1, 2, 3), host.done(1), host.rearm(1)]
    heard = [message.NAME for wish in wishes for message in device.hears(wish)]
    assert heard == ["OPEN", "GET_STATUS", "BOX_READ", "BOX_DONE", "REARM"]
    box = m.Box(trip_id=1, offset=2, codes=b"\0\0")
    pong = m.Pong(token=1, ticks_rx=2, ticks_tx=3)
    assert host.feed(device.says(box) + device.says(pong), 4) == [s.BoxPart(box, 4), s.Pong(pong, 4)]


# ------------------------------------------------------------------------------------------------------- properties

SPOKEN = (report(), samples(0), status(), config_is(config()), samples(7), report(2), status(state=m.State.TRIPPED))


@given(cuts=st.lists(st.integers(0, 800), max_size=12), noise=st.binary(max_size=40))
def test_any_chunking_gives_the_same_events(cuts: list[int], noise: bytes) -> None:
    def run(pieces: list[bytes]) -> list[s.Event]:
        host, device = joined()
        del device
        return [event for piece in pieces for event in host.feed(piece, 1)]

    _, device = joined()
    stream = b"".join(device.says(one) + (noise if number == 2 else b"") for number, one in enumerate(SPOKEN))
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    assert run([stream]) == run([stream[a:b] for a, b in itertools.pairwise(edges)])


@given(st.lists(st.binary(max_size=600), max_size=5))
def test_no_bytes_raise(pieces: list[bytes]) -> None:
    host, _ = joined()
    for piece in pieces:
        host.feed(piece, 1)
    assert host.welcome is not None


@given(st.lists(st.sampled_from(["lose", "pass", "double", "old", "flip"]), min_size=1, max_size=60))
def test_whatever_the_line_does_no_sample_is_double_and_every_gap_is_counted(fates: list[str]) -> None:
    host, device = joined()
    got: list[s.Samples] = []
    kept: list[bytes] = []
    for number, fate in enumerate(fates):
        frame = device.says(samples(number * 2))
        kept.append(frame)
        data = {"lose": b"", "double": frame * 2, "old": frame + kept[0], "flip": frame[:-3] + b"\x55\x55\0"}
        got += [one for one in host.feed(data.get(fate, frame), number) if isinstance(one, s.Samples)]
    indices = [one.message.index for one in got]
    assert indices == sorted(set(indices))
    if got:
        there = 2 * len(got)
        assert indices[-1] + 2 - indices[0] == there + sum(one.missing for one in got[1:])
