"""The balance sees each kind of wrong, and only that: every check of it is shown a store that has that one fault."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge import frames
from edge.frames import UtcMapping
from edge.ring import RingReader, RingWriter
from edge.samples import Sample
from edge.uplink.assemble import Assembler
from hil.balance import Balance, Held, balance
from hil.errors import BenchFaultError
from hil.feeder import Feeder
from hil.ledger import ENTRY_BYTES, Account, Ledger, LedgerReader, doc_crc, read_ledger, sample_crc
from hil.ring_tap import RingTap

EPOCH = 0xFEED
UTC = UtcMapping(10**18, valid=True, unc_ns=1000)


def sample(index: int) -> Sample:
    return Sample(1000 + index, 3, 1001 + index, -index / 1e3, math.nan if index == 2 else 1e-9, 0, 1)


def a_frame(seq: int, first: int, n: int, *, run: int = 0, epoch: int = EPOCH) -> Held:
    rows = [sample(first + at) for at in range(n)]
    return Held("rig-1", epoch, "samples", seq, frames.sample_frame("rig-1", epoch, seq, first, rows, [run] * n, UTC))


def a_doc(kind: str, seq: int, doc: dict[str, Any]) -> Held:
    return Held("rig-1", EPOCH, frames.STREAM_OF_KIND[kind], seq, frames.doc_frame(kind, "rig-1", EPOCH, seq, doc, UTC))


EVENT = {"kind": "set", "t_ns": 5}
HOLE = {"stream": "samples", "from": 6, "to": 8, "cause": "ring full"}


def given() -> Account:
    """Three frames of three samples, numbers 6 to 8 declared missing, and two events."""
    account = Account()
    for seq, first in enumerate((0, 3, 9)):
        for index in range(first, first + 3):
            account.sample(EPOCH, seq, index, sample_crc(index, 0, sample(index)), 0)
    for seq in range(2):
        account.document(EPOCH, "events", seq, doc_crc(EVENT), 0)
    account.document(EPOCH, "tombstones", 0, doc_crc(HOLE), 0)
    return account


def stored() -> list[Held]:
    return [
        a_frame(0, 0, 3),
        a_frame(1, 3, 3),
        a_frame(2, 9, 3),
        a_doc("event", 0, EVENT),
        a_doc("event", 1, EVENT),
        a_doc("tombstone", 0, HOLE),
    ]


def judge(held: list[Held], account: Account | None = None) -> Balance:
    return balance(account or given(), held, rig="rig-1")


def wrong(result: Balance) -> set[str]:
    kinds = ("lost", "doubled", "changed", "foreign", "disordered", "undeclared")
    return {kind for kind in kinds if getattr(result, kind)}


def test_all_there_is_even_in_any_order() -> None:
    result = judge(stored()[::-1])
    assert result.even, str(result)
    assert (result.frames, result.samples, result.doubtful, result.thinned) == (6, 9, 0, 0)


def test_other_rigs_are_left_alone() -> None:
    assert judge([*stored(), Held("rig-2", 1, "events", 0, b"")]).even


@pytest.mark.parametrize("at", range(6))
def test_each_frame_is_missed(at: int) -> None:
    held = stored()
    lost = held.pop(at)
    result = judge(held)
    assert "lost" in wrong(result)
    assert f"{lost.stream} {lost.seq} " in result.lost[0]


def test_a_frame_held_twice_is_doubled() -> None:
    assert wrong(judge([*stored(), stored()[1]])) == {"doubled"}


@pytest.mark.parametrize(
    ("at", "instead", "kinds"),
    [
        (1, a_frame(1, 3, 2), {"lost", "undeclared"}),
        (2, a_frame(2, 9, 4), {"changed"}),
        (1, a_frame(1, 3, 3, run=7), {"changed"}),
        (3, a_doc("event", 0, {"kind": "trip", "t_ns": 5}), {"changed"}),
    ],
    ids=["a sample short", "a sample too many", "another run", "another document"],
)
def test_other_content_is_seen(at: int, instead: Held, kinds: set[str]) -> None:
    held = stored()
    held[at] = instead
    assert wrong(judge(held)) == kinds


def test_a_frame_filed_under_another_number_is_changed() -> None:
    held = stored()
    held[3] = held[3]._replace(seq=1)
    held[4] = held[4]._replace(seq=0)
    assert wrong(judge(held)) == {"changed"}


@pytest.mark.parametrize("more", [a_frame(3, 12, 1), a_doc("event", 2, EVENT), a_doc("run", 0, EVENT)])
def test_what_was_never_given_is_foreign(more: Held) -> None:
    assert wrong(judge([*stored(), more])) == {"foreign"}


def test_times_that_go_back_are_out_of_order() -> None:
    rows = [sample(0), sample(1)._replace(t_ns=5)]
    payload = frames.sample_frame("rig-1", EPOCH, 0, 0, rows, [0, 0], UTC)
    account = Account()
    for index, row in enumerate(rows):
        account.sample(EPOCH, 0, index, sample_crc(index, 0, row), 0)
    assert wrong(judge([Held("rig-1", EPOCH, "samples", 0, payload)], account)) == {"disordered"}


def test_a_hole_that_no_tombstone_names_is_undeclared() -> None:
    account = given()
    del account.documents[EPOCH, "tombstones", 0]
    assert wrong(judge(stored()[:-1], account)) == {"undeclared"}


def test_a_missing_event_that_a_tombstone_names_is_lost_but_declared() -> None:
    account = given()
    told = {"stream": "events", "from": 0, "to": 0, "cause": "ring full"}
    account.document(EPOCH, "tombstones", 1, doc_crc(told), 0)
    result = judge([*stored()[:3], *stored()[4:], a_doc("tombstone", 1, told)], account)
    assert wrong(result) == {"lost"}


def test_the_last_record_of_a_life_may_be_missing_but_not_more() -> None:
    account = given()
    account.sample(EPOCH, 2, 12, sample_crc(12, 0, sample(12)), 0, doubtful=True)
    account.document(EPOCH, "events", 2, doc_crc(EVENT), 0, doubtful=True)
    assert judge(stored(), account).even
    there = [one for one in stored() if (one.stream, one.seq) != ("samples", 2)]
    assert judge([*there, a_frame(2, 9, 4), a_doc("event", 2, EVENT)], account).even
    assert wrong(judge([*there, a_frame(2, 9, 2)], account)) == {"lost"}
    assert judge(stored(), account).doubtful == 2


def thinned(n: int, seq: int = 1, first: int = 3) -> Held:
    doc = {"stream": "samples", "from": seq, "to": seq, "cause": "thinned", "first": first, "n": n}
    fields = msgpack.unpackb(a_doc("tombstone", seq, doc).payload)
    return Held("rig-1", EPOCH, "samples", seq, msgpack.packb({**fields, "stream": "samples"}))


# The third is behind a declared hole.
@pytest.mark.parametrize(("seq", "first"), [(0, 0), (1, 3), (2, 9)])
def test_a_frame_replaced_by_its_tombstone_is_declared(seq: int, first: int) -> None:
    held = stored()
    held[seq] = thinned(3, seq, first)
    result = judge(held)
    assert result.even, str(result)
    assert result.thinned == 1


def test_a_tombstone_that_names_less_than_is_gone_is_not_enough() -> None:
    held = stored()
    held[1] = thinned(1)
    assert "undeclared" in wrong(judge(held))


def damaged(kind: str, seq: int, **told: Any) -> Held:  # noqa: ANN401 - fields of a document
    stream = frames.STREAM_OF_KIND[kind]
    doc = {"stream": stream, "from": seq, "to": seq, "cause": "the outbox was damaged", **told}
    fields = msgpack.unpackb(a_doc("tombstone", seq, doc).payload)
    return Held("rig-1", EPOCH, stream, seq, msgpack.packb({**fields, "stream": stream}))


@pytest.mark.parametrize(("at", "kind"), [(0, "samples"), (1, "samples"), (3, "event")])
def test_a_frame_that_was_lost_on_the_way_and_says_so_is_declared(at: int, kind: str) -> None:
    held = stored()
    held[at] = damaged(kind, held[at].seq)
    result = judge(held)
    assert result.even, str(result)
    assert result.declared == 1


def test_a_declaration_that_was_lost_is_declared_itself_and_no_longer_declares() -> None:
    result = judge([*stored()[:-1], damaged("tombstone", 0)])
    assert wrong(result) == {"undeclared"}
    assert result.declared == 1


@pytest.mark.parametrize(("at", "kind"), [(1, "samples"), (3, "event")])
def test_a_tombstone_that_names_another_frame_is_not_enough(at: int, kind: str) -> None:
    held = stored()
    held[at] = damaged(kind, held[at].seq, **{"from": 77})
    assert "undeclared" in wrong(judge(held))


def test_it_says_what_is_wrong_in_a_few_lines() -> None:
    text = str(judge([]))
    assert text.startswith("0 frames, 0 samples held; 6 lost")
    assert "samples 0 of epoch 000000000000feed with 3 samples is not held" in text
    assert len(text.splitlines()) == 1 + 5


# --------------------------------------------------------------------------------------------------------- the ledger


def test_a_ledger_is_what_was_given_and_at_most_one_record_in_doubt(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.intend("samples", 1, 0, 0, 11, 100)
        ledger.done()
        ledger.intend("samples", 1, 0, 1, 12, 101)
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.intend("events", 2, 0, 0, 13, 102)
        ledger.done()
    account = read_ledger(tmp_path / "ledger")
    assert account.frames[1, 0].samples == [(0, 11), (1, 12)]
    assert account.frames[1, 0].doubtful_last
    assert account.documents == {(2, "events", 0): 13}
    assert account.must_be_stored() == {(1, "samples", 0), (2, "events", 0)}


def test_a_ledger_is_read_while_it_grows(tmp_path: Path) -> None:
    reader = LedgerReader(tmp_path / "ledger")
    assert reader.look().sample_count == 0
    with Ledger(tmp_path / "ledger") as ledger:
        for index in range(3):
            ledger.intend("samples", 1, 0, index, index, 0)
            assert reader.look().sample_count == index
            ledger.done()
    assert reader.close().frames[1, 0].samples == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    "edit",
    [lambda data: data[ENTRY_BYTES:], lambda data: b"x" + data[1:], lambda data: data[:ENTRY_BYTES] * 2],
    ids=["a done alone", "garbage", "two intents in one life"],
)
def test_a_ledger_that_nobody_can_have_written_is_refused(tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.intend("events", 1, 0, 0, 1, 0)
        ledger.done()
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(BenchFaultError, match="ledger"):
        read_ledger(path)


# ------------------------------------------------------------------------------------ feeder, tap and a ring together


def feed(tmp_path: Path, count: int, *, seed: int = 4) -> Feeder:
    """Give a life's worth of everything to a ring with room for it."""
    writer = RingWriter(tmp_path / "ring", 1 << 20)
    with Ledger(tmp_path / "ledger") as ledger:
        feeder = Feeder(writer, ledger, rig="rig-1", seed=seed, prev_epoch=0, pause=lambda: pytest.fail("full"))
        feeder.burst(count)
        feeder.close_frame()
    writer.close()
    return feeder


def drained(path: Path) -> list[Held]:
    """Return what the uplink's own assembler makes of a ring."""
    reader, assembler = RingReader(path), Assembler("rig-1", log=None, utc=lambda: UTC)
    held: list[Held] = []
    while (record := reader.read()) is not None:
        held += [
            Held("rig-1", built.epoch, frames.STREAM_OF_KIND[built.kind], built.seq, built.payload)
            for built in assembler.feed(record)
        ]
    reader.close()
    return held


def test_what_a_feeder_gives_the_assembler_makes_whole(tmp_path: Path) -> None:
    feeder = feed(tmp_path, 3000)
    result = balance(read_ledger(tmp_path / "ledger"), drained(tmp_path / "ring"), rig="rig-1")
    assert result.even, str(result)
    assert result.samples == 3000
    assert feeder.samples > 3000, "no hole was declared: the seed gives too little"
    assert {key[1] for key in read_ledger(tmp_path / "ledger").documents} == {"events", "runs", "epochs", "tombstones"}


def test_the_tap_has_the_ledger_s_account_without_releasing(tmp_path: Path) -> None:
    with RingTap(tmp_path / "ring") as tap:
        feed(tmp_path, 2000)
        tap.close()
        seen, written = tap.account(), read_ledger(tmp_path / "ledger")
    assert seen.frames == written.frames
    assert seen.documents == written.documents
    reader = RingReader(tmp_path / "ring")
    assert reader.tail == reader.capacity_bytes, "released"
    reader.close()


def test_a_tap_that_was_overtaken_says_so_instead_of_giving_a_short_account(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path / "ring", 1 << 16)
    reader = RingReader(tmp_path / "ring")
    for index in range(3000):
        assert writer.write_sample(EPOCH, 0, index, 0, sample(index))
        reader.read()
        reader.release()
    with RingTap(tmp_path / "ring") as tap:
        tap.close()
        with pytest.raises(BenchFaultError, match="overtaken"):
            tap.account()
    reader.close()
    writer.close()


def test_packing_a_document_again_gives_the_same_bytes() -> None:
    # The account's CRC of a document rests on it: msgpack has more than one form for a number, and a packer has one.
    doc = {"a": 1, "b": [1.5, None, True, b"x" * 300], "c": {"d": -(2**40)}}
    packed = msgpack.packb(doc)
    assert msgpack.packb(next(msgpack.Unpacker(io.BytesIO(packed)))) == packed
