"""What one I-V run found, computed from what the subscriber received and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from edge.analysis.noise import noise_floor
from hil.demo.subscriber import Subscriber, array

SEEK: Final = 1
CUT: Final = 6
"""Phases as in ``docs/data.md``."""

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Latency:
    """A cut's way, in s: reading complete to decided, to written, to the proof that the output is off."""

    decide_s: float
    write_s: float
    verify_s: float

    @property
    def total_s(self) -> float:
        """Reading complete to verified."""
        return self.decide_s + self.write_s + self.verify_s


@dataclass(frozen=True, slots=True)
class Set:
    """One setting event as published, and what its waveform says.

    ``trigger_bias_v`` +- ``trigger_half_v``, ``set_current_a``, ``charge_c``, ``energy_j``: as in the event document,
    None where it has none. ``before_a``: the last reading before the filament, A; None if the waveform begins with it.
    ``onset_ns``: from that reading to the first after it, the uncertainty of their times included; None as before.
    ``reading_ns`` and the others: CLOCK_MONOTONIC, ns.
    """

    verdict: str
    planned: bool
    trigger_bias_v: float | None
    trigger_half_v: float | None
    before_a: float | None
    set_current_a: float | None
    charge_c: float
    energy_j: float
    samples_to_verdict: int
    onset_ns: tuple[int, int] | None
    reading_ns: int
    decided_ns: int
    written_ns: int
    verified_ns: int

    @property
    def latency(self) -> Latency:
        """The cut's way."""
        return Latency(
            (self.decided_ns - self.reading_ns) * 1e-9,
            (self.written_ns - self.decided_ns) * 1e-9,
            (self.verified_ns - self.written_ns) * 1e-9,
        )


@dataclass(frozen=True, slots=True)
class IvFindings:
    """One run: ``search`` and ``cut`` are the samples' columns by phase.

    ``noise_floor_a``: three standard deviations of a reading before the filament, A.
    """

    uid: str
    rig: dict[str, Any]
    status: str
    reason: str | None
    search: Columns
    cut: Columns
    sets: tuple[Set, ...]
    noise_floor_a: float

    @property
    def set(self) -> Set | None:
        """The first set, or None."""
        return self.sets[0] if self.sets else None

    @property
    def series_ohm(self) -> float:
        """The declared series resistor, ohm."""
        return float(self.rig.get("series_resistor_ohm", 0.0))


def find_iv(subscriber: Subscriber, uid: str) -> IvFindings:
    """Compute the findings of run ``uid``. Raises KeyError when its start or stop document was not received."""
    mine = [doc for doc in subscriber.documents("run") if doc.get("uid") == uid]
    documents = {doc["kind"]: doc for doc in mine}
    start, stop = documents["start"], documents["stop"]
    samples = subscriber.samples(uid)
    by_phase = {
        phase: {name: column[samples["phase"] == phase] for name, column in samples.items()} for phase in (SEEK, CUT)
    }
    search = by_phase[SEEK]
    sets = tuple(
        _set(doc)
        for doc in subscriber.documents("event")
        if doc.get("kind") == "cut" and doc.get("run") == int(uid, 16) and doc.get("setting")
    )
    return IvFindings(
        uid=uid,
        rig=start["rig"],
        status=stop["status"],
        reason=stop["reason"],
        search=search,
        cut=by_phase[CUT],
        sets=sets,
        noise_floor_a=noise_floor(_before(search, sets)),
    )


def _set(doc: dict[str, Any]) -> Set:
    setting = doc["setting"]
    current = array(setting["cols"]["current_a"])
    times, unsure = array(setting["cols"]["t_ns"]), array(setting["cols"]["t_unc_ns"])
    onset = setting["onset_index"]
    return Set(
        verdict=doc["verdict"],
        planned=doc["planned"],
        trigger_bias_v=setting["trigger_bias_v"],
        trigger_half_v=setting["trigger_half_v"],
        before_a=float(current[onset - 1]) if onset > 0 else None,
        set_current_a=setting["set_current_a"],
        charge_c=setting["charge_c"],
        energy_j=setting["energy_j"],
        samples_to_verdict=setting["samples_to_verdict"],
        onset_ns=_around(times, unsure, onset),
        reading_ns=doc["reading_ns"],
        decided_ns=doc["decided_ns"],
        written_ns=doc["written_ns"],
        verified_ns=doc["verified_ns"],
    )


def _around(t_ns: npt.NDArray[Any], t_unc_ns: npt.NDArray[Any], onset: int) -> tuple[int, int] | None:
    if onset == 0:
        return None
    return int(t_ns[onset - 1]) - int(t_unc_ns[onset - 1]), int(t_ns[onset]) + int(t_unc_ns[onset])


def _before(search: Columns, sets: tuple[Set, ...]) -> npt.NDArray[Any]:
    """Return the currents read before the first filament."""
    current = search["current_a"]
    if not sets or sets[0].onset_ns is None:
        return current
    return current[search["t_ns"] < sets[0].onset_ns[0]]
