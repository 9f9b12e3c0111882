"""What can go wrong between ring and store, as scenes: played as they are nothing is lost, and with one check of the
code taken out something is. Each returns the balance of every store at its end.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgpack
import paho.mqtt.publish
from paho.mqtt.enums import MQTTProtocolVersion

from edge.watermark import Mark, Watermark, encode, topic
from hil.balance import Balance, Held
from tests.proof import plain_store
from tests.proof.chains import BROKER, FEEDER, LAB, RIG, STORE, STORED_S, UPLINK, Proof, idle
from tests.proof.disk import Disk
from tests.proof.stores import Plain, StoreKind

CLOUD: Final = "cloud"
LAB_PART: Final = f"{STORE} {LAB}"
CLOUD_PART: Final = f"{STORE} {CLOUD}"
KEEP: Final = ("--set", "keep_after_watermark_s=3600")

Balances = dict[str, Balance]


@dataclass(frozen=True, slots=True)
class Play:
    """How a scene is played: where, with which words for the uplink, what kind of store, and for how long."""

    directory: Path
    shim: Path
    uplink: Sequence[str] = ()
    kind: StoreKind | None = None
    strict: bool = True
    """A store that does not say in time that it has all is an error, not a balance."""
    patience_s: float = STORED_S
    size: int = 1
    """Times the amount of data."""

    def finish(self, proof: Proof) -> Balances:
        """End a scene."""
        return proof.finish(self.patience_s, strict=self.strict)


Scene = Callable[[Play], Balances]


# --------------------------------------------------------------------------------------------------------- the broker


def broker_away(play: Play) -> Balances:
    """No broker for thousands of frames, of which the ring holds a fraction: the outbox carries the rest."""
    frames = 1_000 * play.size
    with Proof(play.directory, ring_bytes=1 << 18, uplink=play.uplink, kind=play.kind) as proof:
        proof.chain.start(UPLINK)
        proof.give(5 * frames // 2, max_frame=4, timeout_s=120)
        assert len(proof.reader.look().frames) > frames * 0.9
        proof.chain.start(BROKER, LAB_PART)
        return play.finish(proof)


def broker_dies_again_and_again(play: Play) -> Balances:
    """Broker killed several times with a full window of publishes under way."""
    with Proof(play.directory, uplink=play.uplink, kind=play.kind) as proof:
        proof.chain.start(BROKER, LAB_PART, UPLINK)
        # No faster than an uplink on a busy host sends: what waits in the outbox would hide what was under way.
        proof.start_give(0, max_frame=6, rate=5000.0)
        for _ in range(3 * play.size):
            proof.marks.wait_moved(LAB, 100, STORED_S)
            proof.chain.kill(BROKER)
            proof.wait_given(500)
            proof.chain.start(BROKER)
        return play.finish(proof)


def uplink_dies_again_and_again(play: Play) -> Balances:
    """Uplink killed several times; what it sent in its last seconds it cannot know, and sends once more."""
    with Proof(play.directory, rate=1000.0, uplink=play.uplink, kind=play.kind) as proof:
        proof.chain.start()
        for _ in range(3 * play.size):
            proof.marks.wait_moved(LAB, 20, STORED_S)
            proof.chain.kill(UPLINK)
            proof.chain.start(UPLINK)
        return play.finish(proof)


def broker_forgets(play: Play) -> Balances:
    """The store is away: Mosquitto acknowledges everything, queues ten for it, and loses those by its death."""
    with Proof(play.directory, broker_lines="max_queued_messages 10", uplink=play.uplink, kind=play.kind) as proof:
        proof.chain.start(BROKER, LAB_PART, UPLINK)
        proof.give(50)
        proof.wait_stored()
        proof.chain.kill(LAB_PART)
        before = proof.marks.status["uplink"]["published"]
        proof.give(3000 * play.size, max_frame=20)
        frames = len(proof.reader.look().must_be_stored())
        wanted = before + frames * 0.9
        proof.marks.wait_status(
            "all acknowledged", lambda status: status["uplink"] and status["uplink"]["published"] >= wanted, STORED_S
        )
        proof.chain.kill(BROKER)
        proof.chain.start(BROKER, LAB_PART)
        return play.finish(proof)


def _allow(path: Path, *names: str) -> None:
    path.write_text("".join(f"topic readwrite {name}\n" for name in names), encoding="utf-8")
    path.chmod(0o644)


def _denied(play: Play, stores: Sequence[str]) -> Balances:
    play.directory.chmod(0o755)
    file = play.directory / "acl"
    _allow(file, *(f"tipguard/{RIG}/{name}" for name in ("events", "runs", "status", "watermark/#")))
    words = ["--no-stores"] if not stores else []
    proof = Proof(
        play.directory / "proof", broker_lines=f"acl_file {file}", uplink=[*play.uplink, *words], kind=play.kind
    )
    with proof:
        proof.chain.start(BROKER, LAB_PART, UPLINK)
        proof.give(1000 * play.size)
        others = {key for key in proof.reader.look().must_be_stored() if key[1] != "samples"}
        proof.marks.wait(LAB, others, STORED_S)
        if play.strict:
            proof.marks.wait_status("a fault", lambda status: "refused" in str(status["uplink"]), STORED_S)
        assert proof.marks.missing(LAB, proof.reader.look().must_be_stored())
        _allow(file, "#")
        pid = proof.broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        return play.finish(proof)


def broker_denies(play: Play) -> Balances:
    """Sample frames are denied by the broker's ACL, until somebody mends it; events go on meanwhile."""
    return _denied(play, (LAB,))


def broker_denies_without_stores(play: Play) -> Balances:
    """The same on a rig that has no store configured: only the broker's answers tell."""
    return _denied(play, ())


# --------------------------------------------------------------------------------------------------------- the stores


def slow_store(play: Play) -> Balances:
    """Every commit of the store takes 0.4 s."""
    with Proof(play.directory, rate=1000.0, kind=Plain("--slow-s", "0.4"), uplink=play.uplink) as proof:
        proof.chain.start()
        proof.wait_given(2000 * play.size)
        return play.finish(proof)


def forgetful_store(play: Play) -> Balances:
    """Acknowledges every seventh frame and does not keep it; its watermark is honest."""
    with Proof(play.directory, kind=Plain("--forget-every", "7"), uplink=play.uplink) as proof:
        proof.chain.start()
        proof.wait_given(1500 * play.size)
        return play.finish(proof)


def one_of_two_stores_dead(play: Play) -> Balances:
    """One of two stores is dead for long, and uplink and broker die before it comes back."""
    with Proof(play.directory, stores=(LAB, CLOUD), uplink=play.uplink, kind=play.kind) as proof:
        proof.chain.start(BROKER, UPLINK, LAB_PART)
        for _ in range(2 * play.size):
            proof.give(800)
            proof.wait_stored()
        # What the dead store lacks is on the rig's disk, not in somebody's memory.
        proof.chain.kill(UPLINK, BROKER)
        proof.chain.start(BROKER, UPLINK, CLOUD_PART)
        return play.finish(proof)


def _say(proof: Proof, document: Watermark) -> None:
    """Publish a watermark as anybody could whom the broker lets."""
    paho.mqtt.publish.single(
        topic(RIG, document.store),
        encode(document, "2026-01-01T00:00:00Z"),
        qos=1,
        retain=True,
        hostname="127.0.0.1",
        port=proof.broker.port,
        protocol=MQTTProtocolVersion.MQTTv5,
    )


def _claim(proof: Proof, store: str, beyond: int) -> Watermark:
    """Return a watermark that covers all that was given and ``beyond`` frames more of each stream."""
    tops: dict[tuple[int, str], int] = {}
    for epoch, stream, seq in proof.reader.look().must_be_stored():
        tops[epoch, stream] = max(tops.get((epoch, stream), -1), seq)
    marks = tuple(Mark(epoch, stream, top + 1 + beyond, top + beyond) for (epoch, stream), top in tops.items())
    return Watermark(store, "0" * 16, RIG, marks)


def forged_watermark(play: Play) -> Balances:
    """Somebody says in the store's name that it has more than was ever sent, and that another store has everything."""
    with Proof(play.directory, uplink=play.uplink, kind=play.kind) as proof:
        proof.chain.start(BROKER, UPLINK)
        proof.give(1000 * play.size)
        frames = len(proof.reader.look().must_be_stored())
        proof.marks.wait_status(
            "all sent", lambda status: status["uplink"] and status["uplink"]["published"] >= frames, STORED_S
        )
        for beyond in (1, 1_000_000):
            _say(proof, _claim(proof, LAB, beyond))
        _say(proof, _claim(proof, "stranger", 0))
        if play.strict:
            refused = 3
            proof.marks.wait_status(
                "refusals", lambda status: status["uplink"]["outbox"]["marks_refused"] >= refused, STORED_S
            )
        else:
            # Time for the mistake to be made.
            idle(2.0)
        # The store's own word follows: what was forged must not stand in its place.
        proof.chain.start(LAB_PART)
        return play.finish(proof)


def restored_store(play: Play) -> Balances:
    """The store is put back to an old copy of itself, as after a disk's death; the rig still has what it lost."""
    return _put_back(play, renewed=True)


def store_gone_back_unsaid(play: Play) -> Balances:
    """The same, and it still calls itself what it was: only its marks are lower."""
    return _put_back(play, renewed=False)


def _put_back(play: Play, *, renewed: bool) -> Balances:
    with Proof(play.directory, uplink=(*KEEP, *play.uplink), kind=play.kind) as proof:
        here, backup = play.directory / LAB, play.directory / "backup"
        proof.chain.start()
        proof.wait_given(500)
        proof.wait_stored()
        proof.chain.kill(LAB_PART)
        shutil.copytree(here, backup)
        proof.chain.start(LAB_PART)
        proof.wait_given(1000 * play.size)
        proof.wait_stored()
        proof.chain.kill(LAB_PART)
        shutil.rmtree(here)
        shutil.copytree(backup, here)
        if renewed:
            # A directory store of ours notices by itself.
            (here / "generation").unlink(missing_ok=True)
        # What the killed store said last is still with the broker.
        proof.marks.forget()
        proof.chain.kill(BROKER)
        proof.chain.start(BROKER, LAB_PART)
        return play.finish(proof)


def store_gone_for_good(play: Play) -> Balances:
    """All that the store had is gone and there is no backup; the rig has kept it."""
    with Proof(play.directory, uplink=(*KEEP, *play.uplink), kind=play.kind) as proof:
        proof.chain.start()
        proof.wait_given(1500 * play.size)
        proof.wait_stored()
        proof.chain.stop(FEEDER)
        proof.chain.kill(LAB_PART, UPLINK)
        shutil.rmtree(play.directory / LAB)
        proof.marks.forget()
        proof.chain.start(LAB_PART, UPLINK)
        return play.finish(proof)


# ------------------------------------------------------------------------------------------------------------- disks


def full_disk(play: Play) -> Balances:
    """The rig's disk is full until the ring is, too; the uplink is killed meanwhile; then there is room again."""
    disk = Disk(play.directory / "outbox", play.shim)
    with Proof(play.directory, ring_bytes=1 << 18, uplink=play.uplink, uplink_prefix=disk.words) as proof:
        proof.chain.start()
        proof.wait_given(500)
        proof.wait_stored()
        disk.fill()
        proof.marks.wait_status("a fault", lambda status: status["uplink"]["outbox"]["fault"] is not None, STORED_S)
        if play.strict:
            proof.marks.wait_status("a full ring", lambda status: status["uplink"]["ring_used"] > 0.9, STORED_S)
        proof.chain.kill(UPLINK)
        proof.chain.start(UPLINK)
        disk.free()
        return play.finish(proof)


def slow_disk(play: Play) -> Balances:
    """Every commit of the outbox takes 0.3 s longer, as on a worn-out card, and the uplink is killed meanwhile."""
    disk = Disk(play.directory / "outbox", play.shim)
    with Proof(play.directory, uplink=play.uplink, uplink_prefix=disk.words, kind=play.kind) as proof:
        disk.slow_down()
        proof.chain.start()
        for _ in range(2 * play.size):
            proof.wait_given(1000)
            proof.marks.wait_status("a ring that is read", lambda status: status["uplink"] is not None, STORED_S)
            proof.wait_given(1000)
            proof.chain.kill(UPLINK)
            proof.chain.start(UPLINK)
        return play.finish(proof)


def budget_reached(play: Play) -> Balances:
    """The broker is away until the outbox has reached its budget: the ring fills, and whoever measures waits."""
    words = ("--set", "budget_bytes=1000000", *play.uplink)
    with Proof(play.directory, ring_bytes=1 << 18, uplink=words, kind=play.kind) as proof:
        proof.chain.start(UPLINK)
        proof.start_give(40_000)
        # Nobody says so but the ring: it takes no more. The feeder's ledger then stands still.
        proof.wait_standstill()
        proof.chain.start(BROKER, LAB_PART)
        proof.wait_fed(60.0)
        return play.finish(proof)


def budget_reached_and_thinned(play: Play) -> Balances:
    """The same where samples may be given up: the oldest become tombstones, events never do."""
    words = ("--set", "budget_bytes=1000000", "--set", "policy=thin", *play.uplink)
    with Proof(play.directory, ring_bytes=1 << 18, uplink=words, kind=play.kind) as proof:
        proof.chain.start(UPLINK)
        proof.give(20_000, timeout_s=60.0)
        proof.chain.start(BROKER, LAB_PART)
        results = play.finish(proof)
        assert results[LAB].thinned > 0
        return results


def _destroy_the_outbox(proof: Proof) -> None:
    files = list(proof.outbox.glob("outbox.sqlite*"))
    assert files
    for path in files:
        path.unlink()


def destroyed_outbox(play: Play) -> Balances:
    """The outbox is gone, with all that the ring was released into it while the store was away; measuring goes on."""
    words, lines = (*KEEP, *play.uplink), "max_queued_messages 10"
    with Proof(play.directory, broker_lines=lines, uplink=words, kind=play.kind) as proof:
        proof.chain.start()
        proof.wait_given(1000)
        proof.wait_stored()
        proof.chain.kill(LAB_PART)
        proof.wait_given(2000 * play.size)
        proof.chain.kill(UPLINK, BROKER)
        _destroy_the_outbox(proof)
        proof.chain.start(BROKER, LAB_PART, UPLINK)
        # Of every stream something comes that lies above the hole: what was the last of its stream nobody misses.
        proof.wait_given(6000)
        results = play.finish(proof)
        assert results[LAB].declared > 0 or not play.strict
        return results


def destroyed_outbox_of_two_stores(play: Play) -> Balances:
    """The same with one of two stores away: what the other has is no loss, and is brought from there."""
    stores, words, lines = (LAB, CLOUD), (*KEEP, *play.uplink), "max_queued_messages 10"
    with Proof(play.directory, stores=stores, broker_lines=lines, uplink=words, kind=play.kind) as proof:
        proof.chain.start()
        proof.wait_given(1000)
        proof.wait_stored()
        proof.wait_stored(CLOUD)
        proof.chain.kill(CLOUD_PART)
        proof.wait_given(2000 * play.size)
        proof.wait_stored()
        proof.chain.kill(UPLINK, BROKER)
        _destroy_the_outbox(proof)
        proof.chain.start(BROKER, CLOUD_PART, UPLINK)
        proof.wait_given(6000)
        # Time for a mistake: all of it could be declared by now.
        elsewhere = proof.marks.wait_status(
            "frames that are elsewhere",
            lambda status: status["uplink"] and status["uplink"]["outbox"]["elsewhere"][CLOUD] > 0,
            STORED_S,
        )["uplink"]["outbox"]
        assert elsewhere["declared_lost"] < elsewhere["elsewhere"][CLOUD]
        proof.chain.kill(LAB_PART, CLOUD_PART)
        _bring(proof.held(LAB), play.directory / CLOUD)
        proof.chain.start(LAB_PART, CLOUD_PART)
        return play.finish(proof)


def _bring(frames: Iterable[Held], to: Path) -> None:
    """Put into a plain store what it lacks, as ``tipguard store import`` does with stores of ours."""
    there = {one[:4] for one in plain_store.held_in(to)}
    with (to / plain_store.FILE).open("ab") as file:
        for one in frames:
            if one[:4] not in there:
                file.write(msgpack.packb((one.rig, f"{one.epoch:016x}", one.stream, one.seq, one.payload)))


def full_disk_of_the_store(play: Play) -> Balances:
    """The store cannot commit for a while, and is killed in that state."""
    disk = Disk(play.directory / LAB, play.shim)
    with Proof(play.directory, uplink=play.uplink, store_prefix=disk.words, kind=play.kind) as proof:
        proof.chain.start()
        proof.wait_given(500)
        proof.wait_stored()
        disk.fill()
        proof.wait_given(1500 * play.size)
        assert proof.marks.missing(LAB, proof.reader.look().must_be_stored())
        proof.chain.kill(LAB_PART)
        disk.free()
        proof.chain.start(LAB_PART)
        return play.finish(proof)


def power_cut_of_the_store(play: Play) -> Balances:
    """Of the store's disk only what was synced is left; the rig keeps nothing that the store said it has."""
    disk = Disk(play.directory / LAB, play.shim)
    with Proof(play.directory, store_prefix=disk.words, kind=play.kind, uplink=play.uplink) as proof:
        proof.chain.start()
        for _ in range(2 * play.size):
            proof.wait_given(300)
            proof.wait_stored()
            proof.chain.kill(LAB_PART)
            disk.power_cut()
            proof.chain.start(LAB_PART)
        return play.finish(proof)


def store_dies_between_word_and_deed(play: Play) -> Balances:
    """The store is killed again and again while it commits."""
    with Proof(play.directory, kind=play.kind, uplink=play.uplink) as proof:
        proof.chain.start()
        for _ in range(4 * play.size):
            proof.wait_given(200)
            if play.strict:
                proof.wait_stored()
            proof.chain.kill(LAB_PART)
            proof.chain.start(LAB_PART)
        return play.finish(proof)
