"""Thinning: where samples may be given up for room, a tombstone of the same identity takes the place of a frame."""

from __future__ import annotations

from edge import frames
from edge.errors import FrameError
from edge.uplink.held import Held
from edge.uplink.outbox_file import KINDS, MAX_SEQ, OutboxFile, Row, Usage

CAUSE = "thinned"


def thin(
    file: OutboxFile, rig: str, held: Held, seqs: tuple[int, int], utc: frames.UtcMapping
) -> tuple[Usage, int, int]:
    """Replace the sample frames in this range, as many as one page of the file holds.

    Returns the usage, how many were replaced, and up to where there are none left. Called from the outbox's thread;
    of ``held`` only what never changes is read.
    """
    first, last = seqs
    rows = file.read(held.sid, first, last, last - first + 1)
    thinned = [_tombstone(row, rig, held, utc) for row in rows if KINDS[row.kind] in frames.MEASURED]
    usage = file.replace(thinned)
    return usage, len(thinned), (rows[-1].id & MAX_SEQ) + 1 if rows else last + 1


def _tombstone(row: Row, rig: str, held: Held, utc: frames.UtcMapping) -> Row:
    seq = row.id & MAX_SEQ
    doc: dict[str, object] = {"stream": held.stream, "from": seq, "to": seq, "cause": CAUSE}
    run = ""
    try:
        frame = frames.decode_frame(row.payload)
    except FrameError:
        # How many samples it had went with it; that it is gone is said all the same.
        doc |= {"first": None, "n": None}
    else:
        doc |= {"first": frame.first, "n": frame.n, "t_ns": frame.t0_ns}
        utc = frames.UtcMapping(frame.mono_to_utc_ns, frame.utc_valid, frame.utc_unc_ns)
        run = frame.run
    payload = frames.tombstone_in_place(rig, held.epoch, held.stream, seq, doc, utc, run)
    return Row.of(row.id, KINDS.index("tombstone"), payload)
