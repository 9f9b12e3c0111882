"""Whatever a host says in whatever order: the switch is closed only while ARMED, under a lease short and not over.

Run on a firmware that traps at undefined behaviour: an overflow or a bad shift ends the test run at once.
"""

from __future__ import annotations

import os
import random
from binascii import crc32
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.framing import encode
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.vocabulary import LEASE_MAX_MS, WATCHDOG_MS
from hil.frontend import build
from hil.frontend.build import Edit
from hil.frontend.lockstep import MAX_LATE_NS
from tests.hil.frontend.desk import CONFIG, Desk, needs_cc

pytestmark = needs_cc

LONG = os.environ.get("TIPGUARD_LONG") == "1"
WALKS = 400 if LONG else 40
STEPS = 250
UNDEFINED = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
LEASE_NS = 1_000_000 * LEASE_MAX_MS
WATCHDOG_NS = 1_000_000 * WATCHDOG_MS


class Walk:
    """A host without sense, and the record of what it may have brought about."""

    def __init__(self, seed: int, desk: Desk) -> None:
        self.rng = random.Random(seed)
        self.desk = desk
        self.longest = 0
        """The latest end that any lease could have."""

    def any_of(self, *near: int, bits: int = 32) -> int:
        """One of these, or now and then a random number."""
        return self.rng.getrandbits(bits) if self.rng.random() < 0.05 else self.rng.choice(near)

    def message(self) -> Message:
        rng, desk = self.rng, self.desk
        reports = [heard.trip_id for heard in desk.heard if isinstance(heard, m.TripReport)]
        last = reports[-1] if reports else 0
        trip = self.any_of(last, last, last, last - 1 if last else 0)
        now = desk.fe.now_ticks
        deadline = self.any_of(
            now, now + 1, now + LEASE_NS, now + LEASE_NS, now + LEASE_NS + 1, now + 3 * LEASE_NS, bits=64
        )
        lease = self.any_of(desk.lease_seq + 1, desk.lease_seq + 1, desk.lease_seq, desk.lease_seq + 2)
        crc = desk.last(m.ConfigIs).config_crc if any(isinstance(x, m.ConfigIs) for x in desk.heard) else 0
        config = replace(
            CONFIG,
            hard_code=self.any_of(0, 1, 500, 32_767, bits=16),
            level_code=self.any_of(0, 300, bits=15),
            jump_code=self.any_of(0, 300, bits=15),
            baseline_shift=self.any_of(0, 4, 12, 13, bits=8),
            rate_code=self.any_of(0, 65_535, bits=16),
            rate_n=self.any_of(0, 1, 32, 33, bits=8),
            pre_n=self.any_of(0, 16_383, bits=16),
            post_n=self.any_of(0, 5, bits=16),
            stream=m.Stream(rng.choice([0, 1, 2])),
            decimation=self.any_of(0, 1, 65_535, bits=16),
        )
        messages: list[Message] = [
            m.Hello(rng.choice([m.SCHEMA_HASH] * 9 + [1]), rng.getrandbits(32), m.VERSION),
            rng.choice([CONFIG, CONFIG, config]),
            m.Arm(self.any_of(crc), lease, deadline),
            m.Lease(lease, deadline),
            m.Open(),
            m.Trip(),
            m.AckTrip(trip),
            m.Rearm(trip),
            m.BoxRead(trip, self.any_of(0, 1, bits=16), self.any_of(1, 300, bits=16)),
            m.BoxDone(trip),
            m.Credit(self.any_of(0, 5, 1000)),
            m.Ping(1),
            m.GetStatus(),
        ]
        return rng.choices(messages, weights=[0.3, 4, 8, 4, 0.5, 0.3, 5, 5, 2, 5, 1, 1, 1])[0]

    def by_the_book(self) -> None:
        """Even a fool is right at times: all the way from anywhere to ARMED."""
        fe, desk = self.desk.fe, self.desk
        last = max((heard.trip_id for heard in desk.heard if isinstance(heard, m.TripReport)), default=0)
        fe.stick(stuck=False)
        fe.step(0)
        desk.say(m.Hello(m.SCHEMA_HASH, self.rng.getrandbits(32), m.VERSION))
        desk.session = fe.session
        desk.say(m.AckTrip(last), m.BoxDone(last), m.Rearm(last), CONFIG)
        self.longest = fe.now_ticks + LEASE_NS
        desk.lease_seq = 1
        desk.say(m.Arm(crc32(CONFIG.pack()), 1, self.longest))

    def step(self) -> None:
        rng, fe, desk = self.rng, self.desk.fe, self.desk
        do = rng.randrange(13)
        if do == 12:
            self.by_the_book()
        elif do < 7:
            before = fe.now_ticks
            message = self.message()
            desk.say(message)
            if isinstance(message, m.Arm | m.Lease) and message.deadline_ticks - before <= LEASE_NS:
                self.longest = max(self.longest, message.deadline_ticks)
                desk.lease_seq = max(desk.lease_seq, min(message.lease_seq, 1 << 20))
            if isinstance(message, m.Hello):
                desk.session = fe.session
                desk.lease_seq = 0
        elif do < 10:
            fe.run(np.full(rng.choice([1, 3, 100, 2500, 12_000]), rng.choice([*[0] * 20, 250, 700, -32_768]), np.int16))
        elif do == 10:
            deeds: list[Callable[[], object]] = [
                lambda: fe.stall(fe.now_ticks + rng.randrange(2 * MAX_LATE_NS)),
                lambda: fe.step(0, adc_fault=True),
                lambda: fe.receive(encode(m.Lease(9, 9), 9, 9)[: rng.randrange(30)]),
                lambda: fe.stick(stuck=rng.random() < 0.2),
                lambda: setattr(fe, "line_room", rng.choice([0, 50, *[1 << 20] * 6])),
            ]
            rng.choice(deeds)()
        elif rng.random() < 0.02:
            fe.reset()
            self.longest = 0
        desk.listen()

    def judge(self) -> None:
        fe = self.desk.fe
        if fe.closed:
            assert fe.state is m.State.ARMED
            assert fe.now_ticks < self.longest + fe.period_ns + 2 * MAX_LATE_NS
        else:
            assert fe.state is not m.State.ARMED


def wander(library: Path, seeds: range) -> Counter[m.State]:
    """Walk once for each seed, judged at each step; return how many steps ended in which state."""
    states: Counter[m.State] = Counter()
    for seed in seeds:
        walk = Walk(seed, Desk(library=library))
        for _ in range(STEPS):
            walk.step()
            walk.judge()
            states[walk.desk.fe.state] += 1
    return states


@pytest.mark.parametrize("part", range(4))
def test_nothing_that_is_said_closes_the_switch_but_a_lease(part: int) -> None:
    states = wander(build.lockstep(flags=UNDEFINED), range(part, WALKS, 4))
    assert set(states) == set(m.State)
    assert states[m.State.ARMED] > WALKS


def test_a_firmware_that_grants_any_lease_is_found_out() -> None:
    edit = Edit(
        "tg_core.c", "if (deadline - now > TG_LEASE_MAX_TICKS(core->board))", "if (deadline - now > UINT64_MAX)"
    )
    library = build.lockstep(edits=[edit], flags=("-O0", "-Wno-type-limits"))
    with pytest.raises(AssertionError):
        wander(library, range(WALKS))
