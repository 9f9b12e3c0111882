"""Whether a replay came to the same: samples byte by byte, events and run documents field by field.

A recording outlives the version that made it. So a comparison of what matters (``essential``) leaves out what a newer
version says beside it: fields that only one of the two has, words, estimates, and the microseconds of our own speed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgpack

from edge.ring import Kind, unpack_sample

WALL_CLOCK: Final = frozenset({"utc_ns"})
"""Of a document: read from the wall clock, which no tape holds."""
BESIDE: Final = WALL_CLOCK | {
    *("t_ns", "decided_ns", "written_ns", "verified_ns", "onset_ns", "landed_ns", "began_ns"),
    *("parameters", "text", "reason", "smu_notes", "rig", "limits", "latency", "says", "actuators"),
}
"""Of a document, where only what matters is compared."""
CHATTER: Final = frozenset({"progress"})
SHOWN: Final = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that was not the same. ``where``: a port, or which sample or document."""

    kind: str
    t_ns: int
    where: str
    recorded: str
    replayed: str

    def line(self) -> str:
        """Return it in one line."""
        return (
            f"{self.kind} at {self.t_ns / 1e9:.6f} s, {self.where}: recorded {self.recorded[:SHOWN]}, replayed "
            f"{self.replayed[:SHOWN]}"
        )


class Stored(Protocol):
    """A record of the ring, from wherever."""

    @property
    def kind(self) -> int:
        """See edge.ring.Kind."""

    @property
    def payload(self) -> bytes:
        """What it holds."""


def first_difference(
    recorded: Sequence[Stored], replayed: Sequence[Stored], last_ns: int, *, essential: bool = False
) -> Difference | None:
    """Return the first difference among samples, then events, then run documents; None if there is none.

    ``essential``: compare of documents only what matters. ``last_ns``: the tape's last moment. What a replay does at
    that moment and later may have been recorded behind it.
    """
    pairs: tuple[tuple[Kind, str], ...] = ((Kind.SAMPLE, "sample"), (Kind.EVENT, "event"), (Kind.RUN, "run document"))
    for kind, name in pairs:
        ours = _payloads(kind, replayed, essential=essential)
        theirs = _payloads(kind, recorded, essential=essential)
        one_of = _sample if kind is Kind.SAMPLE else _document
        for number, (was, now) in enumerate(zip(theirs, ours, strict=False)):
            if was != now and (found := _unlike(one_of(was), one_of(now), essential=essential)):
                key, before, after = found
                where = f"{name} {number}{f', {key}' if key else ''}"
                return Difference(name, _time_of(kind, was), where, repr(before), repr(after))
        more = ours[len(theirs) :]
        if len(ours) < len(theirs) or any(_time_of(kind, payload) < last_ns for payload in more):
            first = theirs[len(ours)] if len(ours) < len(theirs) else more[0]
            return Difference(name, _time_of(kind, first), f"number of {name}s", _last(kind, theirs), _last(kind, ours))
    return None


def _payloads(kind: Kind, records: Sequence[Stored], *, essential: bool) -> list[bytes]:
    found = [record.payload for record in records if record.kind == kind]
    if not essential or kind is Kind.SAMPLE:
        return found
    return [payload for payload in found if _document(payload).get("kind") not in CHATTER]


def _sample(payload: bytes) -> dict[str, Any]:
    index, run, sample = unpack_sample(payload)
    return {"index": index, "run": run, **sample._asdict()}


def _time_of(kind: Kind, payload: bytes) -> int:
    if kind is Kind.SAMPLE:
        return unpack_sample(payload)[2].t_rx_ns
    document = _document(payload)
    # A cut's event is written when it was verified, or given up.
    times = [document.get(key) for key in ("t_ns", "verified_ns", "written_ns")]
    return next((t for t in times if isinstance(t, int)), 0)


def _last(kind: Kind, payloads: Sequence[bytes]) -> str:
    if not payloads:
        return "0"
    return f"{len(payloads)}, the last {_sample(payloads[-1]) if kind is Kind.SAMPLE else _document(payloads[-1])}"


def _document(payload: bytes) -> dict[str, Any]:
    document = msgpack.unpackb(payload, strict_map_key=False)
    return {key: value for key, value in document.items() if key not in WALL_CLOCK}


def _unlike(
    was: Any,  # noqa: ANN401 - documents hold anything
    now: Any,  # noqa: ANN401
    path: str = "",
    *,
    essential: bool,
) -> tuple[str, Any, Any] | None:
    """Return where two values differ first, and what is there; a NaN is equal to itself."""
    if msgpack.packb(was) == msgpack.packb(now):
        return None
    if not (isinstance(was, dict) and isinstance(now, dict)):
        return path, was, now
    for key in dict.fromkeys((*was, *now)):
        if essential and (key in BESIDE or key not in was or key not in now):
            continue
        below = f"{path}.{key}" if path else str(key)
        if (found := _unlike(was.get(key), now.get(key), below, essential=essential)) is not None:
            return found
    return None
