"""The balance: what a ring was given against what a store holds. Nothing lost, nothing doubled, every hole declared.

The account comes from :mod:`hil.ledger` (a feeder writes down what it gives before it gives it) or from
:mod:`hil.ring_tap` (somebody reads the ring's memory beside the uplink); neither has passed the uplink. What the store
holds is decoded here with plain msgpack and numpy, so that an error which encoder and decoder of :mod:`edge.frames`
share does not cancel out.
"""

from __future__ import annotations

import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np

from edge.front_block import FULL, MINMAX, FrontBlock
from edge.samples import Sample
from hil.ledger import SAMPLE, Account, doc_crc, sample_crc

FRONTEND: Final = "frontend"
SAID: Final = 5
"""Of each kind of error so many are named; all are counted."""
_COLUMNS: Final = ("t_ns", "t_unc_ns", "t_rx_ns", "bias_v", "current_a", "flags", "phase")


class Held(NamedTuple):
    """One frame as a store holds it."""

    rig: str
    epoch: int
    stream: str
    seq: int
    payload: bytes


@dataclass(slots=True)
class Balance:
    """What did not match, each a line for a person; empty lists are what is wanted."""

    frames: int = 0
    samples: int = 0
    doubtful: int = 0
    """Records of which nobody knows whether they got into the ring: at most one per life of the giver."""
    thinned: int = 0
    """Sample frames replaced by a tombstone that names them."""
    declared: int = 0
    """Frames replaced by a tombstone that says how they were lost."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Held, and never given."""
    disordered: list[str] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    """Holes in the numbers that no tombstone names."""

    @property
    def spoiled(self) -> list[str]:
        """What is worse than a loss: held twice, changed, never given, or out of order."""
        return [*self.doubled, *self.changed, *self.foreign, *self.disordered]

    @property
    def even(self) -> bool:
        """Nothing is wrong."""
        return not (self.lost or self.undeclared or self.spoiled)

    def __str__(self) -> str:
        """Counts, and the first few of what is wrong."""
        head = (
            f"{self.frames} frames, {self.samples} samples held; {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.changed)} changed, {len(self.foreign)} foreign, {len(self.disordered)} out of order, "
            f"{len(self.undeclared)} undeclared holes; {self.doubtful} in doubt, {self.thinned} thinned, "
            f"{self.declared} declared lost"
        )
        lists = (self.lost, self.doubled, self.changed, self.foreign, self.disordered, self.undeclared)
        return "\n  ".join([head, *(line for lines in lists for line in lines[:SAID])])


@dataclass(slots=True)
class _Decoded:
    first: int
    samples: list[tuple[int, int]]
    """(index, CRC) each."""
    times_ns: list[int]
    doc: dict[str, Any] | None
    in_place: bool = False
    """A tombstone in the place of what its number belongs to."""
    block_crc: int | None = None
    """Of a front end's frame: of the record in the ring that it was made of."""


def balance(account: Account, held: Iterable[Held], *, rig: str) -> Balance:
    """Compare. ``held``: every frame of the store; those of other rigs are left alone."""
    result = Balance()
    found: dict[tuple[int, str, int], _Decoded] = {}
    for frame in held:
        if frame.rig != rig:
            continue
        key = frame.epoch, frame.stream, frame.seq
        if key in found:
            result.doubled.append(f"{_name(key)} is held twice")
            continue
        result.frames += 1
        fields = msgpack.unpackb(frame.payload)
        told = fields["rig"], int(fields["epoch"], 16), fields["stream"], fields["seq"]
        if told != frame[:4]:
            result.changed.append(f"{_name(key)} is filed under a name that is not its own: {told}")
        found[key] = _decode(fields)
    _documents(account, found, result)
    _samples(account, found, result)
    _order(found, result)
    _holes(found, result)
    return result


def _name(key: tuple[int, str, int]) -> str:
    epoch, stream, seq = key
    return f"{stream} {seq} of epoch {epoch:016x}"


def _block_crc(fields: dict[str, Any]) -> int:
    """Return the CRC of the record that a front end's frame must have been made of."""
    columns = FULL if "code" in fields["cols"] else MINMAX
    codes = np.column_stack([np.frombuffer(fields["cols"][name]["data"], "<i2") for name in columns])
    grid = fields["grid"]
    block = FrontBlock(
        first=fields["first"],
        run=int(fields["run"], 16) if fields["run"] else 0,
        t_ns=fields["t0_ns"],
        columns=columns,
        data=codes.tobytes(),
        **{**grid, "boot": int(grid["boot"], 16)},
    )
    return zlib.crc32(block.pack())


def _decode(fields: dict[str, Any]) -> _Decoded:
    if fields["kind"] == FRONTEND:
        return _Decoded(0, [], [], None, block_crc=_block_crc(fields))
    if fields["kind"] != "samples":
        # A worker declares holes of other streams only: a tombstone that names its own stream stands for itself.
        in_place = fields["kind"] == "tombstone" and fields["stream"] == fields["doc"].get("stream")
        return _Decoded(0, [], [], fields["doc"], in_place)
    cols = {name: np.frombuffer(col["data"], col["dtype"]).tolist() for name, col in fields["cols"].items()}
    run = int(fields["run"], 16) if fields["run"] else 0
    runs = cols.get("run", itertools.repeat(run, fields["n"]))
    first = fields["first"]
    rows = zip(*(cols[name] for name in _COLUMNS), strict=True)
    samples = [
        (first + at, sample_crc(first + at, run, Sample(*row)))
        for at, (row, run) in enumerate(zip(rows, runs, strict=True))
    ]
    return _Decoded(first, samples, cols["t_ns"], None)


def _documents(account: Account, found: dict[tuple[int, str, int], _Decoded], result: Balance) -> None:
    for key, crc in account.documents.items():
        frame = found.get(key)
        if key in account.doubtful:
            result.doubtful += 1
        if frame is None:
            if key not in account.doubtful:
                result.lost.append(f"{_name(key)} is not held")
        elif frame.in_place:
            _declared_lost(key, frame.doc or {}, result)
        elif frame.block_crc is not None:
            if frame.block_crc != crc:
                result.changed.append(f"{_name(key)} is not what was given")
        elif frame.doc is None or doc_crc(frame.doc) != crc:
            result.changed.append(f"{_name(key)} is not what was given")
    for key in found:
        known = (key[0], key[2]) in account.frames if key[1] == SAMPLE else key in account.documents
        if not known:
            result.foreign.append(f"{_name(key)} was never given")


def _samples(account: Account, found: dict[tuple[int, str, int], _Decoded], result: Balance) -> None:
    for (epoch, seq), given in account.frames.items():
        key = epoch, SAMPLE, seq
        result.doubtful += given.doubtful_last
        frame = found.get(key)
        certain = given.samples[: len(given.samples) - given.doubtful_last]
        if frame is None:
            if certain:
                result.lost.append(f"{_name(key)} with {len(certain)} samples is not held")
            continue
        if frame.doc is not None:
            if frame.doc.get("cause") == "thinned":
                _thinned(key, frame.doc, given.samples, result)
            else:
                _declared_lost(key, frame.doc, result)
            continue
        result.samples += len(frame.samples)
        if frame.samples in (given.samples, certain):
            continue
        wanted, has = {index for index, _ in certain}, {index for index, _ in frame.samples}
        if missing := wanted - has:
            result.lost.append(f"{_name(key)} lacks {len(missing)} of {len(certain)} samples, {min(missing)} first")
        else:
            result.changed.append(f"{_name(key)}: its samples are not those given")


def _thinned(key: tuple[int, str, int], doc: dict[str, Any], given: list[tuple[int, int]], result: Balance) -> None:
    """A frame's place taken by a tombstone is a declared loss, if that names what is gone."""
    result.thinned += 1
    said = doc.get("stream"), doc.get("cause"), doc.get("first"), doc.get("n")
    # The frame of which nobody knows whether its last sample was there may count one less.
    if said not in {(SAMPLE, "thinned", given[0][0], n) for n in (len(given), len(given) - 1)}:
        result.undeclared.append(f"{_name(key)}: its tombstone names {said}, {len(given)} samples are gone")


def _declared_lost(key: tuple[int, str, int], doc: dict[str, Any], result: Balance) -> None:
    result.declared += 1
    if (doc.get("stream"), doc.get("from"), doc.get("to")) != (key[1], key[2], key[2]) or not doc.get("cause"):
        result.undeclared.append(f"{_name(key)}: the tombstone in its place does not name it: {doc}")


def _order(found: dict[tuple[int, str, int], _Decoded], result: Balance) -> None:
    """Numbers and times of samples grow with the number of their frame."""
    last: dict[int, tuple[int, int]] = {}
    for (epoch, _, seq), frame in sorted((key, frame) for key, frame in found.items() if key[1] == SAMPLE):
        for (index, _), t_ns in zip(frame.samples, frame.times_ns, strict=True):
            before = last.get(epoch)
            if before is not None and (index <= before[0] or t_ns < before[1]):
                result.disordered.append(f"sample {index} in {_name((epoch, SAMPLE, seq))} comes after {before[0]}")
                break
            last[epoch] = index, t_ns


def _holes(found: dict[tuple[int, str, int], _Decoded], result: Balance) -> None:
    """Every number is held or named by a tombstone; looked at without the account, as any reader could."""
    declared: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    seqs: dict[tuple[int, str], set[int]] = defaultdict(set)
    for (epoch, stream, seq), frame in found.items():
        seqs[epoch, stream].add(seq)
        if stream == "tombstones" and frame.doc is not None and not frame.in_place:
            declared[epoch, frame.doc["stream"]].append((frame.doc["from"], frame.doc["to"]))
    for (epoch, stream), there in seqs.items():
        # Of what is measured tombstones name samples and rows, not frames.
        ranges = [] if stream in (SAMPLE, FRONTEND) else declared[epoch, stream]
        for first, last in _gaps(there, range(max(there) + 1), ranges):
            result.undeclared.append(f"{stream} {first}..{last} of epoch {epoch:016x} are missing and undeclared")
        if stream == SAMPLE:
            frames = [found[epoch, stream, seq] for seq in sorted(there)]
            for first, last in _sample_gaps(frames, declared[epoch, SAMPLE]):
                result.undeclared.append(f"sample numbers {first}..{last} of epoch {epoch:016x}: missing, undeclared")


def _sample_gaps(frames: list[_Decoded], declared: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the sample numbers that are missing and that no tombstone stands for; ``frames`` in their order."""
    gaps: list[tuple[int, int]] = []
    following = 0
    unknown = False
    for frame in frames:
        # A tombstone that says how much it stands for stands for no more; a damaged frame's cannot say.
        told = frame.doc or {"first": frame.first, "n": len(frame.samples)}
        if told.get("n") is None:
            unknown = True
            continue
        if not unknown:
            gaps += _gaps(set(), range(following, told["first"]), declared)
        unknown = False
        following = max(following, told["first"] + told["n"])
    return gaps


def _gaps(there: set[int], wanted: range, declared: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges of ``wanted`` that are neither there nor declared."""
    missing = [n for n in wanted if n not in there and not any(first <= n <= last for first, last in declared)]
    gaps = []
    for _, group in itertools.groupby(enumerate(missing), lambda pair: pair[1] - pair[0]):
        run = [n for _, n in group]
        gaps.append((run[0], run[-1]))
    return gaps
