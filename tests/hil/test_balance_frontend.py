"""The account of a rig with a front end: its blocks are held once and as they were given, or it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import structlog

from edge.frames import UtcMapping, decode_frame
from edge.front_block import FULL, MINMAX, FrontBlock
from edge.ring import Kind, RingWriter
from edge.ring_runs import RunReader
from edge.uplink.assemble import Assembler
from hil.balance import Held, balance
from hil.ledger import Account
from hil.ring_tap import RingTap

ROWS = 10


def a_block(seq: int, columns: tuple[str, ...]) -> FrontBlock:
    codes = np.arange(ROWS * len(columns), dtype="<i2") + seq
    return FrontBlock(
        *(seq * ROWS, 9, seq * ROWS, seq * 1000, 5, 1 if columns == FULL else 10),
        *(100.5, 4e-8, 0xB007, columns, codes.tobytes()),
    )


@pytest.fixture
def given(tmp_path: Path) -> tuple[Account, list[Held]]:
    """What a tap has seen of a ring, and the frames that came of it."""
    path = tmp_path / "ring"
    writer = RingWriter(path, 1 << 16)
    reader = RunReader(path)
    with RingTap(path) as tap:
        for seq in range(6):
            assert writer.write(Kind.FRONT, 5, seq, a_block(seq, FULL if seq % 2 else MINMAX).pack())
    assembler = Assembler("rig-1", log=structlog.get_logger("test"), utc=lambda: UtcMapping(7, True, 1))
    held = []
    while (record := reader.read()) is not None:
        for built in assembler.feed(record):
            frame = decode_frame(built.payload)
            held.append(Held("rig-1", 5, frame.stream, frame.seq, built.payload))
    return tap.account(), held


def test_all_of_it_is_held_as_it_was_given(given: tuple[Account, list[Held]]) -> None:
    account, held = given
    found = balance(account, held, rig="rig-1")
    assert (found.frames, found.lost, found.changed, found.foreign, found.undeclared) == (6, [], [], [], [])


def test_what_is_missing_or_another_is_named(given: tuple[Account, list[Held]]) -> None:
    account, held = given
    found = balance(account, held[:-1], rig="rig-1")
    assert found.lost == ["frontend 5 of epoch 0000000000000005 is not held"]
    del held[2]
    assert "frontend 2..2" in balance(account, held, rig="rig-1").undeclared[0]
    changed = held[0]._replace(payload=held[0].payload.replace(b"\x01\x00\x03\x00", b"\x01\x00\x04\x00"))
    if changed.payload == held[0].payload:
        changed = held[0]._replace(payload=held[0].payload.replace(b"\x02\x00", b"\x05\x00", 1))
    assert balance(account, [changed, *held[1:]], rig="rig-1").changed
