"""What an uplink costs its host beside a rig: memory over many frames and beside a controller, wear of the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from paho.mqtt.subscribe import simple

from hil.bench.uplink_programs import pss_bytes, rss_bytes
from hil.bench.uplink_sides import CALM, EPOCH, FINISH_S, LIVE_EPOCH, RIG, STORE, Ground, Rig, store
from hil.errors import BenchFaultError
from hil.processes import BenchRig, RigSpec

DAY_S: Final = 86_400.0
RATE_HZ: Final = 100.0
"""Samples a second of a rig at a constant bias, its fastest."""
LOOK_S: Final = 0.5
WARM_FRACTION: Final = 0.1
"""Of the frames of a soak; memory until then is what the uplink needs, beyond is growth."""


class Soak(NamedTuple):
    """Memory of an uplink over many frames, bytes."""

    growth: int
    """From the tenth part on to the highest."""
    highest: int
    lost: int


def soak(ground: Ground, frames: int, progress: Callable[[float], None]) -> Soak:
    """Send ``frames`` frames that a feeder writes as fast as the ring takes them; look at the memory meanwhile."""
    rig = Rig(ground, "soak")
    rig.clear()
    sizes: list[int] = []
    words = ("--epoch", str(EPOCH), "--frames", str(frames), "--at-most", str(CALM))
    warm = max(int(frames * WARM_FRACTION), 1)
    with (
        ground.subscriber(warm) as early,
        ground.subscriber(frames) as whole,
        rig.uplink() as uplink,
        ground.feeder(rig.ring, rig.ring_bytes, *words),
    ):
        early.says(FINISH_S)
        sizes.append(rss_bytes(uplink.pid))
        for _ in range(int(max(FINISH_S, frames / 500) / LOOK_S)):
            progress(0.5)
            heard = whole.hears(LOOK_S)
            sizes.append(rss_bytes(uplink.pid))
            if heard:
                break
        said = whole.says()
    return Soak(max(sizes) - sizes[0], max(sizes), frames - said["unique"])


class Day(NamedTuple):
    """What the outbox costs a disk in a day of a rig that never stops."""

    syncs: float
    told_bytes: float
    """As the uplink counts them itself."""
    written_bytes: float
    """As the kernel does, the log's last copy at the end included."""


def day(ground: Ground, seconds: float) -> Day:
    """Let a rig measure at its normal rate for ``seconds``, before a store that lets frames be deleted."""
    rig = Rig(ground, "day", (STORE,), 1 << 32)
    rig.clear()
    frames = int(seconds)
    words = ("--epoch", str(LIVE_EPOCH), "--rate", str(RATE_HZ))
    with (
        store(ground),
        ground.subscriber(frames, LIVE_EPOCH) as subscriber,
        rig.uplink() as uplink,
        ground.feeder(rig.ring, rig.ring_bytes, *words),
    ):
        before = _figures(ground)
        said = subscriber.says(seconds * 2 + FINISH_S)
        after = _figures(ground)
        written = uplink.end()
    took_s = (said["last_ns"] - said["first_ns"]) / 1e9 / max(said["unique"] - said["at_first"], 1) * frames
    per_day = DAY_S / took_s
    syncs, told = (after[name] - before[name] for name in ("outbox_commits", "outbox_written_bytes"))
    return Day(syncs * per_day, told * per_day, written * per_day)


def _figures(ground: Ground) -> dict[str, Any]:
    """Return what the uplink says of itself in its next status document."""
    broker = ground.broker
    message = simple(f"tipguard/{RIG}/json/status", hostname=broker.host, port=broker.port)  # type: ignore[no-untyped-call]  # paho annotates none of its helpers
    status = json.loads(message.payload)
    if not isinstance(status.get("uplink"), dict):
        raise BenchFaultError("the uplink's status has no figures of its own")
    figures: dict[str, Any] = status["uplink"]
    return figures


class Resident(NamedTuple):
    """Memory of a whole rig's processes when a plan has run, bytes: with their shares of what is shared."""

    controller: int
    """Keeper and worker."""
    uplink: int
    uplink_rss: int
    """With all of the ring and of the libraries."""


def resident(ground: Ground, *, to_v: float) -> Resident:
    """Run keeper, worker and uplink, as shipped, over an emulated 2400; look when a sweep has ended."""
    directory = ground.disk / "rig"
    directory.mkdir()
    # 10 kohm: no sweep of the 2400's is refused for want of a resistor.
    spec = RigSpec(rig="resident", load="ohmic:1e6", series_ohm=10_000.0)
    with BenchRig.running(directory, spec, broker=ground.broker) as rig:
        rig.start_run("iv", to_v=to_v, step_v=0.01, dwell_s=0.02, back_scan=False)
        rig.wait_state("ENERGISED")
        rig.wait_state("SAFE", "TRIPPED", timeout_s=FINISH_S)
        uplink = rig.uplink.pid
        controller = pss_bytes(rig.controller.pid) + pss_bytes(rig.worker_pid())
        return Resident(controller, pss_bytes(uplink), rss_bytes(uplink))
