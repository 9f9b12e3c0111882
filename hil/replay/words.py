"""A tape to read: who wrote what and when, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from edge.flight import Stretch
from edge.tape import DRAW, GAP, HOST, IN, LOST_IN, LOST_OUT, OUT, PORTS, RING, VERB, Entry, time_of, unpack
from hil.replay.player import Replayed


def text_of(data: bytes) -> str:
    """Return bytes as text, what cannot be printed escaped."""
    return data.decode("latin-1").encode("unicode_escape").decode("ascii")


def lines(
    stretch: Stretch, *, port: str | None = None, from_s: float = 0.0, to_s: float = float("inf")
) -> Iterator[str]:
    """Yield a line for all that passed a port or was asked of the worker; times in s from the stretch's beginning on.

    ``port``: "smu" or "stage", None for both and for what concerns no port. A checkpoint's start-up dialogue comes
    first, at times before 0.
    """
    preamble = [entry for payload in stretch.start.get("preamble", ()) for entry in unpack(payload)]
    for entry in _joined((*preamble, *stretch.entries())):
        t_ns = time_of(entry)
        # A number drawn, or how full the ring was, concerns nobody at the bench.
        if isinstance(entry, int) or entry[0] in (DRAW, RING):
            continue
        since_s = 0.0 if t_ns is None else (t_ns - stretch.t_ns) / 1e9
        named, said = _said(entry)
        if from_s <= since_s <= to_s and (port is None or named == port):
            yield f"{since_s:12.6f} {named:<5} {said}"


def _joined(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Put replies together that came in pieces: up to a line's end, or to the next thing at that port."""
    open_replies: dict[int, tuple[Any, ...]] = {}
    for entry in entries:
        if isinstance(entry, int) or entry[0] not in (IN, OUT, LOST_IN, LOST_OUT):
            yield entry
            continue
        code, t_ns, port, data = entry[:4]
        before = open_replies.pop(port, None)
        if code == IN:
            whole = (IN, t_ns, port, data if before is None else before[3] + data)
            if whole[3].endswith((b"\n", b"\r")):
                yield whole
            else:
                open_replies[port] = whole
            continue
        if before is not None:
            yield before
        yield entry
    yield from open_replies.values()


def _said(entry: Entry) -> tuple[str, str]:
    match entry:
        case (code, _, int() as port, bytes() as data, *taken) if code in (IN, OUT):
            short = f"   ({taken[0]} of {len(data)} bytes taken)" if taken else ""
            return PORTS[port], f"{'<' if code == IN else '>'} {text_of(data)}{short}"
        case (code, _, int() as port, _, text) if code in (LOST_IN, LOST_OUT):
            return PORTS[port], f"! link lost: {text}"
        case (code, _, name, arguments) if code == VERB:
            return "", f"* {name} {_arguments(arguments)}"
        case (code, _, count, _) if code == GAP:
            return "", f"! {count} entries are missing"
        case (code, text) if code == HOST:
            return "", f"! {text}"
    return "", repr(entry)


def _arguments(arguments: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in arguments.items())


def report(replayed: Replayed) -> dict[str, Any]:
    """Return a replay's outcome as plain values."""
    runs = [document for document in replayed.documents_of_runs() if document.get("kind") == "stop"]
    difference = replayed.difference
    return {
        "epoch": f"{replayed.stretch.epoch:016x}",
        "from": replayed.stretch.start["from"],
        "recorded_by": replayed.stretch.start["version"],
        "samples": len(replayed.samples),
        "writes": replayed.writes,
        "cuts": [
            {key: cut.get(key) for key in ("verdict", "planned", "verified", "phase", "decided_ns")}
            for cut in replayed.cuts
        ],
        "runs": [{key: run.get(key) for key in ("uid", "status", "reason")} for run in runs],
        "state": replayed.state,
        "same": replayed.same,
        "difference": None
        if difference is None
        else {
            "kind": difference.kind,
            "t_s": round((difference.t_ns - replayed.stretch.t_ns) / 1e9, 6),
            "where": difference.where,
            "recorded": difference.recorded[:1000],
            "replayed": difference.replayed[:1000],
        },
    }


def in_words(outcome: dict[str, Any]) -> str:
    """Return a replay's outcome in a few lines for a person."""
    begin = "the start of the controller" if outcome["from"] == "start" else "a checkpoint"
    cuts = ", ".join(f"{cut['verdict']} ({'planned' if cut['planned'] else 'protective'})" for cut in outcome["cuts"])
    runs = "; ".join(f"run {run['uid']} {run['status']}{_because(run)}" for run in outcome["runs"]) or "no run ended"
    text = (
        f"from {begin}, epoch {outcome['epoch']}: {outcome['writes']} messages, {outcome['samples']} samples, "
        f"{runs}; cuts: {cuts or 'none'}; at the end {outcome['state']}"
    )
    difference = outcome["difference"]
    if difference is None:
        return f"{text}\nsame as recorded"
    return (
        f"{text}\nDIFFERENT: {difference['kind']} after {difference['t_s']:.6f} s, {difference['where']}\n"
        f"  recorded: {difference['recorded']}\n  replayed: {difference['replayed']}"
    )


def _because(run: dict[str, Any]) -> str:
    return f" ({run['reason']})" if run["reason"] else ""
