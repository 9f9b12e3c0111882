"""Sample-exact: one waveform, one sample, one reason, in the model, in the core on this host, on a Cortex-M3.

50 waveforms in the quick suite, 1000 in the long rounds. On the Cortex-M3 in virtual time the same runs show that the
pin opens within the period of the sample that crosses, and not later than one sample after the end of a lease.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from functools import cache

import numpy as np
import pytest

from firmware_proto.frontend.detector_model import Detector, Limits
from firmware_proto.frontend.framing import Decoder, Frame, encode
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.messages import Arm, Config, ConfigIs, Hello, TripReport, Welcome
from firmware_proto.frontend.vocabulary import SCHEMA_HASH, VERSION, Reason, State, Stream
from hil.frontend.build import Edit
from hil.frontend.lockstep import LockstepFrontend
from tests.firmware_tools import needs_firmware
from tests.hil.frontend_qemu.played import ICOUNT, PERIOD_TICKS, TICK_HZ, Entry, Played, PlayerError, play, player_image
from tests.hil.frontend_qemu.waveforms import FULL_SCALE, Waveform, waveforms

LONG = os.environ.get("TIPGUARD_LONG") == "1"
WAVEFORMS = 1000 if LONG else 50
LEASES = 1000 if LONG else 60
SEED = 20261127
DETECTED = {Reason.HARD, Reason.LEVEL, Reason.JUMP, Reason.RATE, Reason.SATURATED, Reason.NONE}
LEASE_S = 0.099

Outcome = tuple[int | None, Reason]


@cache
def drawn() -> tuple[Waveform, ...]:
    return tuple(waveforms(WAVEFORMS, SEED))


@cache
def played() -> tuple[Played, ...]:
    return tuple(play([Entry(wave.config, wave.codes) for wave in drawn()], player_image()))


def model(wave: Waveform) -> Outcome:
    detector = Detector(Limits.of(wave.config, FULL_SCALE))
    for at, code in enumerate(wave.codes.tolist()):
        if (reason := detector.step(code)) is not Reason.NONE:
            return at, reason
    return None, Reason.NONE


class Host:
    """As much of a host as one arming takes."""

    def __init__(self, front: LockstepFrontend) -> None:
        self.front = front
        self.session = 0
        self._seq = 0
        self._decoder = Decoder()

    def say(self, message: Message) -> list[Message]:
        self.front.receive(encode(message, self._seq, self.session))
        self._seq += 1
        return self.heard()

    def heard(self) -> list[Message]:
        return [event.message for event in self._decoder.feed(self.front.take()) if isinstance(event, Frame)]


def on_this_host(wave: Waveform) -> Outcome:
    front = LockstepFrontend()
    host = Host(front)
    welcome = next(m for m in host.say(Hello(SCHEMA_HASH, 1, VERSION)) if isinstance(m, Welcome))
    host.session = welcome.session
    taken = next(m for m in host.say(wave.config) if isinstance(m, ConfigIs))
    host.say(Arm(taken.config_crc, 1, front.now_ticks + round(LEASE_S * welcome.tick_hz)))
    assert front.closed
    first = front.sample_index
    front.run(wave.codes)
    if front.state is State.ARMED:
        return None, Reason.NONE
    report = next(m for m in host.heard() if isinstance(m, TripReport))
    return report.sample_index - first, Reason(report.reason)


def test_the_waveforms_bring_every_reason_and_some_none() -> None:
    outcomes = [model(wave) for wave in drawn()]
    found = Counter(reason for _, reason in outcomes)
    print(f"{len(outcomes)} waveforms: {', '.join(f'{n} {reason.name}' for reason, n in found.most_common())}")
    assert set(found) == DETECTED
    assert len({at for at, _ in outcomes}) > WAVEFORMS / 5


def test_model_and_core_trip_in_the_same_sample_for_the_same_reason() -> None:
    differ = [(wave.name, want, got) for wave in drawn() if (want := model(wave)) != (got := on_this_host(wave))]
    assert differ == []


@needs_firmware
def test_model_and_cortex_m3_trip_in_the_same_sample_for_the_same_reason() -> None:
    differ = [
        (wave.name, want, got)
        for wave, got in zip(drawn(), played(), strict=True)
        if (want := model(wave)) != (got.at, got.reason)
    ]
    assert differ == []


def instructions(ticks: int) -> int:
    """Return what icount has counted in so many ticks of the device."""
    return ticks * 1_000_000_000 // TICK_HZ >> ICOUNT


@needs_firmware
def test_the_pin_opens_in_the_sample_that_crosses() -> None:
    tripped = [got for got in played() if got.at is not None]
    late = [got.opened_ticks - got.due_ticks for got in tripped]
    print(
        f"{len(tripped)} trips, 0 late: pin open {instructions(min(late))} to {instructions(max(late))} instructions on"
    )
    assert [got for got in tripped if got.opened_at != got.at] == []
    assert min(late) >= 0
    assert max(late) < PERIOD_TICKS
    # No sample of the whole run was taken a period late.
    assert played()[-1].late_samples == played()[-1].overruns == 0


def leases() -> list[Entry]:
    """Leases that nobody renews, ending at every place between two samples."""
    rng = random.Random(SEED)
    phases = [0, 1, 2, PERIOD_TICKS - 2, PERIOD_TICKS - 1]
    phases += [rng.randrange(PERIOD_TICKS) for _ in range(LEASES - len(phases))]
    quiet = np.full(4, 3, np.int16)
    config = Config(1, 30_000, 0, 1, 0, 0, 0, 0, 1, 8, 8, Stream.OFF, 1)
    return [Entry(config, quiet, rng.randrange(5, 80) * PERIOD_TICKS, phase) for phase in phases]


@needs_firmware
def test_a_lease_that_ends_opens_the_switch_at_most_one_sample_later() -> None:
    got = play(leases(), player_image())
    assert {one.reason for one in got} == {Reason.LEASE}
    # The sample that opened it: the first that was taken after the deadline.
    after = [one.due_ticks - one.deadline_ticks for one in got]
    assert max(after) < PERIOD_TICKS
    assert all(one.opened_ticks >= one.deadline_ticks for one in got)
    assert all(one.opened_at == one.at and one.opened_ticks - one.due_ticks < PERIOD_TICKS for one in got)
    print(f"{len(got)} leases: the sample that opened was due {min(after)} to {max(after)} ticks after the deadline")


@needs_firmware
def test_without_the_check_of_the_lease_the_switch_stays_closed() -> None:
    edit = Edit("tg_core.c", "if (judged && now >= core->lease_deadline)", "if (judged && 0)")
    with pytest.raises(PlayerError, match="no progress"):
        # The player waits 0.3 s of virtual time for the trip, in vain.
        play(leases()[:1], player_image([edit]))


@needs_firmware
def test_a_detector_that_is_one_sample_late_is_found() -> None:
    edit = Edit("tg_detector.c", "d->level_run >= config->level_n", "d->level_run > config->level_n")
    image = player_image([edit])
    waves = [wave for wave in drawn() if model(wave)[1] is Reason.LEVEL]
    got = play([Entry(wave.config, wave.codes) for wave in waves], image)
    assert all(model(wave) != (one.at, one.reason) for wave, one in zip(waves, got, strict=True))


def outcomes(got: list[Played]) -> list[Outcome]:
    return [(one.at, one.reason) for one in got]


@needs_firmware
def test_lost_interrupts_lose_no_sample() -> None:
    """Time comes from the free-running counter: an interrupt that comes late takes two samples, each as its own."""
    waves = drawn()[:50]
    got = play([Entry(wave.config, wave.codes) for wave in waves], player_image(spin=False))
    assert outcomes(got) == [model(wave) for wave in waves]
    tripped = [one for one in got if one.at is not None]
    assert len({one.due_ticks % PERIOD_TICKS for one in tripped}) == 1
    # Many were late, none by more than the one interrupt that was lost.
    assert got[-1].late_samples > 1000
    assert max(one.opened_ticks - one.due_ticks for one in tripped) < 2 * PERIOD_TICKS


@needs_firmware
@pytest.mark.skipif(not LONG, reason="an image more: TIPGUARD_LONG=1")
def test_a_firmware_that_counts_interrupts_falls_behind() -> None:
    edit = Edit("frontend.c", "tg_core_sample(&core, SAMPLES_PER_INTERRUPT)", "tg_core_sample(&core, 1u)")
    waves = drawn()[:50]
    got = play([Entry(wave.config, wave.codes) for wave in waves], player_image([edit], spin=False))
    assert Reason.OVERRUN in {one.reason for one in got}
