"""What is known of rigs from their MQTT documents: messages and times in, plain values out. No I/O, no clock.

Whatever comes is somebody else's text. It passes :func:`decode` first, which leaves only what JSON of ours can be:
finite numbers, strings without control characters, no endless lists, no bottomless nesting. What is not a document of
ours is counted and forgotten.
"""

from __future__ import annotations

import collections
import json
import math
import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge.cli.run_progress import SweepProgress

EVENTS_SHOWN: Final = ("cut", "diagnosis", "restart", "rearm", "alarm")
"""Kinds of event documents that a person watching is told; of a diagnosis only what changed the verdict."""
STALE_S: Final = 3.0
"""Live comes twice a second: silence for longer is news by itself."""
HISTORY: Final = 120
"""Live samples kept for the charts: one minute."""
MAX_RIGS: Final = 32
MAX_PAYLOAD: Final = 1 << 20
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 200
MAX_TEXT: Final = 1000
MAX_DONE: Final = 20_000
"""Points or cycles of one run that are counted."""
SHOWN_DONE: Final = 60
"""Points or cycles of one run that are kept in words."""
GAP_S: Final = 3.0
"""Between two samples: the chart shows a gap."""

_RIG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_TOPIC: Final = re.compile(r"tipguard/([^/]+)/(live|status|json/runs|json/events)")
_LARGEST: Final = 1e15
_SMALLEST: Final = 1e-20
_LARGEST_WHOLE: Final = 1 << 63
_S: Final = 1e-9


def clean(text: str) -> str:
    """Return text that changes nothing on a terminal but the place it stands in, at most MAX_TEXT characters.

    Control characters, escape sequences' first bytes, marks that turn the writing direction or pile up on a letter
    go; any white space is a space.
    """
    head = unicodedata.normalize("NFC", text[:MAX_TEXT])
    spaced = "".join(" " if char.isspace() else char for char in head)
    return "".join(c for c in spaced if c.isprintable() and not unicodedata.category(c).startswith("M"))


def tidy(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - documents hold anything
    """Return ``value`` with clean strings and keys, null for numbers that nobody means, and bounded size and depth."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < _LARGEST_WHOLE else None
        case float():
            return value if math.isfinite(value) else None
        case str():
            return clean(value)
        case list() if depth < MAX_DEPTH:
            return [tidy(inner, depth + 1) for inner in value[:MAX_ITEMS]]
        case dict() if depth < MAX_DEPTH:
            return {clean(str(k)): tidy(v, depth + 1) for k, v in list(value.items())[:MAX_ITEMS]}
    return None


def decode(payload: bytes) -> dict[str, Any] | None:
    """Return a payload's document, tidied; None if it is none."""
    if len(payload) > MAX_PAYLOAD:
        return None
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return tidy(value) if isinstance(value, dict) else None


def mapping(doc: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the map under ``key``; empty if there is none."""
    value = doc.get(key)
    return value if isinstance(value, dict) else {}


def text(doc: dict[str, Any], key: str) -> str:
    """Return the text under ``key``; empty if there is none."""
    value = doc.get(key)
    return value if isinstance(value, str) else ""


def texts(doc: dict[str, Any], key: str) -> list[str]:
    """Return the texts of the list under ``key``."""
    value = doc.get(key)
    return [inner for inner in value if isinstance(inner, str)] if isinstance(value, list) else []


def number(doc: dict[str, Any], key: str) -> float | None:
    """Return the number under ``key``; None if there is none that can be a quantity."""
    value = doc.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        return None
    return float(value) if abs(value) > _SMALLEST else 0.0


def whole(doc: dict[str, Any], key: str) -> int | None:
    """Return the whole number under ``key``: a time in ns, a count."""
    value = doc.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Dot:
    """One live sample of the chart; None: not to be trusted, or a gap."""

    bias_v: float | None
    current_a: float | None


@dataclass(slots=True)
class Run:
    """A run as its documents tell it: start, progress, what it finished, stop."""

    uid: str
    plan: str = ""
    by: str = ""
    status: str = "running"
    reason: str = ""
    progress: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)
    at: str = ""
    """What it is doing."""
    results: dict[str, Any] = field(default_factory=dict)
    told_ns: int | None = None
    """When the rig said so last, by its own clock."""
    began_ns: int | None = None
    ended_ns: int | None = None
    zero: dict[str, Any] = field(default_factory=dict)
    done: collections.deque[dict[str, Any]] = field(default_factory=lambda: collections.deque(maxlen=SHOWN_DONE))
    """The last points or cycles, oldest first."""
    first_done: int | None = None
    """The first point or cycle that was seen from here."""
    classes: dict[str, collections.Counter[str]] = field(default_factory=dict)
    """Points by kind and class."""
    drives_v: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    """Trigger biases, by kind for points and under "" for cycles; True: it held so far."""
    cycles: int = 0
    sets: int = 0
    resets: int = 0
    ratios: list[float] = field(default_factory=list)
    bounds: int = 0
    _counted: set[int] = field(default_factory=set)
    _sweep: SweepProgress = field(default_factory=SweepProgress)
    _swept: float = 0.0

    @property
    def running(self) -> bool:
        """It goes on, as far as is known."""
        return self.status == "running"

    @property
    def part_done(self) -> float:
        """How much of it is done, 0 to 1; within a sweep by where its bias is."""
        return max(self.progress, self._swept)

    def median_v(self, kind: str = "") -> float | None:
        """Return the median trigger bias of a kind, in V, where those that held do not leave it open."""
        drives = self.drives_v.get(kind)
        if not drives:
            return None
        low = statistics.median(abs(v) for v, _ in drives)
        # What held would have triggered later, nobody knows how much.
        last = statistics.median(math.inf if held else abs(v) for v, held in drives)
        # Up to where one held is told without a sign.
        sign = next((v for v, held in drives if not held), None)
        return math.copysign(low, sign) if sign is not None and last <= low * (1 + 1e-9) else None

    def sees(self, state: str, phase: str, bias_v: float | None) -> None:
        """Take where the bias is now: an ``iv`` itself tells no more than its cycle."""
        to_v, cycles = number(self.parameters, "to_v"), whole(self.parameters, "cycles")
        if self.plan != "iv" or not self.running or not to_v:
            return
        status = {
            "run": {"progress": self.progress, "parameters": {"to_v": to_v, "cycles": max(cycles or 1, 1)}},
            "sample": None if bias_v is None else {"bias_v": bias_v},
            "state": state,
            "phase": phase,
        }
        self._swept = self._sweep.update(status)

    def known_at(self, t_ns: int | None) -> bool:
        """Tell whether something of this run is of after ``t_ns``, by the rig's clock."""
        return t_ns is not None and any(
            own_ns is not None and own_ns > t_ns for own_ns in (self.began_ns, self.told_ns, self.ended_ns)
        )

    def take(self, doc: dict[str, Any]) -> None:
        """Take one of its documents."""
        t_ns = whole(doc, "t_ns")
        match doc.get("kind"):
            case "start":
                self.plan, self.by, self.began_ns = text(doc, "plan"), text(doc, "by"), t_ns
                self.parameters = mapping(doc, "parameters")
            case "progress":
                self._tell(t_ns, text(doc, "text"), number(doc, "progress"))
            case "stop":
                self.end(text(doc, "status"), text(doc, "reason"), mapping(doc, "results"), t_ns)
            case "zero":
                self.zero = doc
            case "point":
                self._finished(doc, "visit", self._add_point)
            case "cycle":
                self._finished(doc, "cycle", self._add_cycle)

    def status_says(self, run: dict[str, Any], t_ns: int | None) -> None:
        """Take what a status document says of it: older than some of its own documents, maybe."""
        self.plan = self.plan or text(run, "plan")
        self.by = self.by or text(run, "by")
        self.parameters = self.parameters or mapping(run, "parameters")
        if self.running and text(run, "status") not in ("", "running"):
            self.end(text(run, "status"), text(run, "reason"), mapping(run, "results"), None)
        else:
            self._tell(t_ns, text(run, "text"), number(run, "progress"))

    def end(self, status: str, reason: str, results: dict[str, Any], t_ns: int | None) -> None:
        """Note how it ended."""
        self.status = status if status not in ("", "running") else "ended"
        self.reason, self.results = reason, results
        self.ended_ns = t_ns
        self.progress = 1.0 if self.status == "completed" else self.progress

    def _tell(self, t_ns: int | None, at: str, progress: float | None) -> None:
        if t_ns is None or (self.told_ns is not None and t_ns < self.told_ns):
            return
        self.told_ns = t_ns
        self.at = at or self.at
        if progress is not None:
            self.progress = min(max(progress, 0.0), 1.0)

    def _finished(self, doc: dict[str, Any], key: str, add: Any) -> None:  # noqa: ANN401 - one of the two below
        place = whole(doc, key)
        # Frames may come twice.
        if place is None or not 0 <= place < MAX_DONE or place in self._counted:
            return
        self._counted.add(place)
        self.first_done = place if self.first_done is None else min(self.first_done, place)
        self.done.append(doc)
        add(doc)

    def _add_point(self, doc: dict[str, Any]) -> None:
        kind = text(doc, "site_kind") if text(doc, "site_kind") in ("gb", "gi", "hl") else ""
        self.classes.setdefault(kind, collections.Counter())[text(doc, "class")[:20]] += 1
        held = text(doc, "class") == "censored"
        if (drive_v := number(doc, "beyond_v" if held else "trigger_bias_v")) is not None:
            self.drives_v.setdefault(kind, []).append((drive_v, held))

    def _add_cycle(self, doc: dict[str, Any]) -> None:
        self.cycles += 1
        self.sets += doc.get("set") is True
        self.resets += doc.get("reset_ok") is True
        if (drive_v := number(doc, "trigger_bias_v")) is not None:
            self.drives_v.setdefault("", []).append((drive_v, False))
        if (ratio := number(doc, "on_off")) is not None:
            self.ratios.append(ratio)
            self.bounds += doc.get("on_off_is_bound") is True


@dataclass(slots=True)
class Rig:
    """One rig: its last documents, when they came, and what they add up to. Times ``_s`` are the caller's clock."""

    name: str
    heard_s: float | None = None
    """When it last spoke itself; what the broker kept does not count."""
    kept_utc: str = ""
    """When the status that the broker had kept was made; empty once the rig has spoken itself."""
    status: dict[str, Any] = field(default_factory=dict)
    live: dict[str, Any] = field(default_factory=dict)
    live_s: float = 0.0
    state: str = ""
    """The controller's; empty: it does not answer, or nothing is known."""
    history: collections.deque[Dot] = field(default_factory=lambda: collections.deque(maxlen=HISTORY))
    run: Run | None = None
    event: dict[str, Any] = field(default_factory=dict)
    """The last cut, restart, re-arm or alarm."""
    holes: int = 0
    hole: dict[str, Any] = field(default_factory=dict)
    """Declared holes in the data since this view began, and the last of them."""
    _clock: tuple[int, float] | None = None

    @property
    def worker(self) -> dict[str, Any]:
        """What the controller says of itself; empty when it does not."""
        return mapping(self.status, "worker")

    @property
    def uplink(self) -> dict[str, Any]:
        """What the uplink says of itself; empty when offline."""
        return mapping(self.status, "uplink")

    @property
    def known(self) -> bool:
        """Anything has come."""
        return bool(self.status or self.live)

    @property
    def online(self) -> bool | None:
        """Whether the rig is on the broker; None: not known."""
        if self.status:
            return self.status.get("online") is True
        return True if self.live else None

    def silent_s(self, now_s: float) -> float | None:
        """Return for how long nothing has come; None if nothing ever has."""
        return None if self.heard_s is None else max(now_s - self.heard_s, 0.0)

    def stale(self, now_s: float) -> bool:
        """Tell whether what is known may no longer be so."""
        silent_s = self.silent_s(now_s)
        return silent_s is None or silent_s > STALE_S

    def clock_ns(self, now_s: float) -> int | None:
        """Return the rig's own clock as well as it is known here; None: not at all."""
        return None if self._clock is None else self._clock[0] + round((now_s - self._clock[1]) * 1e9)

    def sample_age_s(self, now_s: float) -> float | None:
        """Return how old the last sample is."""
        age_s = number(self.live, "age_s")
        return None if age_s is None else max(age_s + now_s - self.live_s, 0.0)

    def elapsed_s(self, now_s: float) -> float | None:
        """Return how long the run takes or took; None where its start was not seen."""
        run = self.run
        if run is None or run.began_ns is None:
            return None
        end_ns = run.ended_ns if not run.running else self.clock_ns(now_s)
        return None if end_ns is None else max((end_ns - run.began_ns) * _S, 0.0)

    def take(self, topic: str, doc: dict[str, Any], now_s: float, *, retained: bool) -> None:
        """Take a document from one of its topics."""
        if not retained:
            self.heard_s, self.kept_utc = now_s, ""
        if topic == "live":
            self._take_live(doc, now_s)
        elif topic == "status":
            self._take_status(doc, now_s, retained=retained)
        elif topic == "json/runs":
            self._take_run(mapping(doc, "doc"), now_s)
        else:
            self._take_event(text(doc, "kind"), mapping(doc, "doc"))

    def _take_live(self, doc: dict[str, Any], now_s: float) -> None:
        before, self.live, self.live_s = self.live, doc, now_s
        self.state = text(doc, "state")
        t_ns, age_s = whole(doc, "t_ns"), number(doc, "age_s")
        if self.run is not None:
            self.run.sees(self.state, text(doc, "phase"), number(doc, "bias_v"))
        if t_ns is None:
            return
        if age_s is not None:
            self._clock = t_ns + round(age_s * 1e9), now_s
        before_ns = whole(before, "t_ns")
        if t_ns == before_ns:
            return
        if before_ns is not None and not 0 < (t_ns - before_ns) * _S < GAP_S:
            self.history.append(Dot(None, None))
        self.history.append(Dot(number(doc, "bias_v"), number(doc, "current_a")))

    def _take_status(self, doc: dict[str, Any], now_s: float, *, retained: bool) -> None:
        self.status = doc
        if retained:
            self.kept_utc = text(doc, "t_utc")
        worker = self.worker
        self.state = text(worker, "state")
        t_ns = whole(worker, "t_ns")
        if t_ns is not None and not retained:
            self._clock = t_ns, now_s
        run = mapping(worker, "run")
        # The controller is asked twice a second: its answer may be of before a run whose documents are here already.
        if (uid := text(run, "uid")) and not (self.run and self.run.uid != uid and self.run.known_at(t_ns)):
            self._run(uid).status_says(run, t_ns)
        event = mapping(worker, "last_event")
        if event and happened_ns(event) >= happened_ns(self.event):
            self.event = {**self.event, **event} if happened_ns(event) == happened_ns(self.event) else event

    def _take_run(self, doc: dict[str, Any], now_s: float) -> None:
        uid = text(doc, "uid")
        if not uid:
            return
        if self._clock is None and (t_ns := whole(doc, "t_ns")) is not None:
            self._clock = t_ns, now_s
        self._run(uid).take(doc)

    def _run(self, uid: str) -> Run:
        if self.run is None or self.run.uid != uid:
            self.run = Run(uid)
        return self.run

    def _take_event(self, frame_kind: str, doc: dict[str, Any]) -> None:
        if frame_kind == "tombstone":
            self.holes += 1
            self.hole = doc
        elif frame_kind == "event" and text(doc, "kind") in EVENTS_SHOWN:
            # A setting's figures stand one level deeper than in a status.
            self.event = {**mapping(doc, "setting"), **doc}


def happened_ns(event: dict[str, Any]) -> int:
    """Return when an event happened, by the rig's clock; -1 if it does not say."""
    for key in ("decided_ns", "t_ns"):
        if (t_ns := whole(event, key)) is not None:
            return t_ns
    return -1


class Bench:
    """All rigs of one broker, and how the connection to it stands."""

    def __init__(self, broker: str, wanted: Sequence[str] = ()) -> None:
        """Know nothing yet. ``wanted``: names of the rigs to show; none: every rig that speaks."""
        self.broker = broker
        self.wanted = tuple(dict.fromkeys(wanted))
        self.rigs: dict[str, Rig] = {name: Rig(name) for name in self.wanted}
        self.unreadable = 0
        """Messages that are no documents of ours."""
        self.lost: tuple[float, str] | None = None
        """Since when the broker is gone, and why."""

    def take(self, topic: str, payload: bytes | bytearray, now_s: float, *, retained: bool = False) -> None:
        """Take one message, whatever it is."""
        found = _TOPIC.fullmatch(topic)
        if found is None or not _RIG.fullmatch(found[1]):
            self.unreadable += 1
            return
        name = found[1]
        if self.wanted and name not in self.rigs:
            return
        doc = decode(bytes(payload))
        if doc is None or (name not in self.rigs and len(self.rigs) >= MAX_RIGS):
            self.unreadable += 1
            return
        self.rigs.setdefault(name, Rig(name)).take(found[2], doc, now_s, retained=retained)

    def shown(self) -> list[Rig]:
        """Return the rigs in the order in which they are shown: as wanted, else by name, those offline last."""
        if self.wanted:
            return list(self.rigs.values())
        return sorted(self.rigs.values(), key=lambda rig: (rig.online is False, rig.name))

    def told(self) -> bool:
        """Tell whether every rig has said what a snapshot needs: its status, and where it is online its live values."""
        return bool(self.rigs) and all(rig.status and (rig.online is False or rig.live) for rig in self.rigs.values())
