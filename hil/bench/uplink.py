"""``tipguard bench uplink``: what outbox, watermark and checks cost beside a plain script, and cost the host."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any, Final

from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report
from hil.bench.uplink_plot import draw
from hil.bench.uplink_rig import day, resident, soak
from hil.bench.uplink_sides import (
    Arrived,
    Ground,
    Rounds,
    build_backlog,
    drain_round,
    fill_ring,
    script_round,
    uplink_round,
    write_backlog,
    write_payloads,
)
from hil.errors import BenchFaultError

MB: Final = 1e6
BYTES_PER_DAY: Final = 5e9
"""A card of 32 GB that bears 500 rewrites then lasts 8 years."""
FSYNCS_PER_DAY: Final = 3 * 86_400.0
"""One for a second's frame, one for what is deleted, one to spare."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured."""

    rounds: int = 9
    """A round of two seconds may be a third slower than the next one, whoever sends."""
    frames: int = 16_000
    """In a round."""
    drains: int = 5
    """Rounds with a backlog."""
    backlog: int = 100_000
    soak: int = 1_000_000
    day_s: float = 120.0
    sweep_v: float = 5.0
    events_hz: float = 20.0


QUICK: Final = Amount(
    rounds=1, frames=1500, drains=1, backlog=3000, soak=15_000, day_s=5.0, sweep_v=0.2, events_hz=50.0
)


def uplink(options: BenchOptions, amount: Amount | None = None) -> dict[str, Any]:
    """Measure. Raises BenchOptionError without a broker, BenchFaultError when something does not do its part."""
    amount = amount or (QUICK if options.quick else Amount())
    with Ground.prepared() as ground:
        kind = ground.broker.kind
        options.progress(0.0, "memory of a rig")
        memory = resident(ground, to_v=-amount.sweep_v)
        rounds = _rounds(ground, amount, options)
        figures = _ratios(rounds)
        options.progress(0.6, f"memory over {amount.soak} frames")
        kept = soak(ground, amount.soak, lambda share: options.progress(0.6 + 0.3 * share, "memory"))
        options.progress(0.9, "a day's wear")
        wear = day(ground, amount.day_s)
    figures += [
        Figure("rss_growth_bytes", kept.growth, "B", 64 * MB),
        Figure("uplink_pss_bytes", memory.uplink, "B", 80 * MB),
        Figure("controller_pss_bytes", memory.controller, "B", 80 * MB),
        Figure("uplink_rss_bytes", memory.uplink_rss, "B"),
        Figure("uplink_rss_at_full_speed_bytes", kept.highest, "B"),
        Figure("fsyncs_per_day", wear.syncs, "1/d", FSYNCS_PER_DAY),
        Figure("bytes_per_day", wear.written_bytes, "B/d", BYTES_PER_DAY),
        Figure("bytes_per_day_as_told", wear.told_bytes, "B/d"),
        Figure("lost", sum(one.lost for one in rounds.ours) + kept.lost, "", 0),
        Figure("lost_by_script", sum(one.lost for one in rounds.theirs), ""),
        Figure("doubled", sum(one.doubled for one in rounds.ours), ""),
        Figure("out_of_order", sum(one.out_of_order for one in rounds.ours), "", 0),
    ]
    if options.plots is not None:
        draw(rounds, options.plots / "uplink.png")
    return bench_report("uplink", figures, method=_METHOD.format(broker=kind, **asdict(amount)))


def _rounds(ground: Ground, amount: Amount, options: BenchOptions) -> Rounds:
    rounds = Rounds([], [], [], [], [])
    payloads = ground.disk / "payloads"
    write_payloads(payloads, amount.frames)
    ring = fill_ring(ground, amount.frames)
    for number in range(amount.rounds):
        options.progress(0.25 * number / amount.rounds, f"frames, round {number + 1} of {amount.rounds}")
        rounds.script.append(script_round(ground, amount.frames, payloads=payloads))
        rounds.frames.append(uplink_round(ground, amount.frames, ring))
        rounds.stored.append(uplink_round(ground, amount.frames, ring, stored=True))
    ring.unlink()
    payloads.unlink()
    outbox = ground.disk / "backlog.sqlite"
    write_backlog(outbox, amount.backlog)
    backlog = build_backlog(ground, amount.backlog, lambda: options.progress(0.25, "taking in a backlog"))
    for number in range(amount.drains):
        options.progress(0.3 + 0.3 * number / amount.drains, f"backlog, round {number + 1} of {amount.drains}")
        rounds.script_drain.append(script_round(ground, amount.backlog, outbox=outbox))
        rounds.drain.append(drain_round(ground, amount.backlog, backlog, amount.events_hz))
    outbox.unlink()
    return rounds


def _ratio(ours: list[Arrived], theirs: list[Arrived]) -> float:
    """Return the median over rounds of our rate to theirs of the same round."""
    return statistics.median(one.rate_hz / other.rate_hz for one, other in zip(ours, theirs, strict=True))


def _rate(rounds: list[Arrived]) -> float:
    return statistics.median(one.rate_hz for one in rounds)


def _ratios(rounds: Rounds) -> list[Figure]:
    events = sorted(age_s for one in rounds.drain for age_s in one.event_s)
    behind = sorted(age_s for one in rounds.drain for age_s in one.event_behind_s)
    return [
        Figure("frames_ratio", _ratio(rounds.frames, rounds.script), "", 0.9, ">="),
        Figure("stored_ratio", _ratio(rounds.stored, rounds.script), "", 0.7, ">="),
        Figure("drain_ratio", _ratio(rounds.drain, rounds.script_drain), "", 0.8, ">="),
        Figure("event_p99_s", percentile(events, 0.99), "s", 0.1),
        Figure("event_p50_s", percentile(events, 0.5), "s"),
        Figure("events", len(events), ""),
        Figure("event_behind_frames_p99_s", percentile(behind, 0.99), "s"),
        Figure("event_behind_frames_p50_s", percentile(behind, 0.5), "s"),
        Figure("frames_per_s", _rate(rounds.frames), "1/s"),
        Figure("stored_frames_per_s", _rate(rounds.stored), "1/s"),
        Figure("drain_frames_per_s", _rate(rounds.drain), "1/s"),
        Figure("script_frames_per_s", _rate(rounds.script), "1/s"),
        Figure("script_drain_frames_per_s", _rate(rounds.script_drain), "1/s"),
    ]


def percentile(values: list[float], share: float) -> float:
    """Return the smallest of the sorted ``values`` that ``share`` of them do not exceed. Raises BenchFaultError."""
    if not values:
        raise BenchFaultError("no event arrived while the backlog was drained: too small a backlog to measure with")
    return values[min(max(math.ceil(share * len(values)) - 1, 0), len(values) - 1)]


_METHOD: Final = (
    "Both sides publish to the same {broker} on this host at QoS 1 with 20 under way, and the same subscriber counts "
    "each frame once; a rate is from the first frame to the last, a ratio the median over {rounds} rounds "
    "({drains} with a backlog), sides in turn. frames: {frames} frames of 4 KiB (95 samples), the uplink's from sample "
    "records that stand ready in a ring "
    "(it checks each one's CRC and builds the frames), the script's ready-made, both through an SQLite outbox (WAL, "
    "FULL) on the same disk and deleted from it (ours at a budget of 16 MiB). stored: as far as the watermark of a "
    "directory store on this host covers them. drain: outboxes of {backlog} frames; beside ours a rig measures at "
    "100 S/s, and {events_hz:g} setting events of 2 KB a second go in front: event_*: from an event's own time to its "
    "arrival at a subscriber of events; event_behind_frames_*: at the one that takes every frame on the same "
    "connection, where they stand behind what it has not read yet. rss_growth: from a tenth to the whole of {soak} "
    "frames; pss: of shared pages a process's share; rss: with all of the ring's 16 MiB; controller: keeper and worker "
    "together, after a sweep of {sweep_v:g} V. per_day: from {day_s:g} s at 100 S/s with a store, as the kernel counts "
    "for the uplink's life, and as it counts itself; "
    "fsyncs by its own count. Not in it: the flight record, TLS, a network, a card whose flush takes 10 ms, samples "
    "taken while the uplink works."
)
