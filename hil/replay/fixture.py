"""One run of a recording as a small file that anybody may see, and that a test picks up by itself.

What names a place, a person or a unit is replaced by something of the same length, everywhere alike: serial numbers in
replies and configuration, ports, rig, users, this host. What was measured and what was written stay as they are.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.errors import FlightError
from edge.flight import FlightRecord, Stretch, read_flight, stretches, write_flight
from edge.ring import Kind
from edge.tape import IN, PORTS, Entry, pack, unpack
from hil.replay.player import Replayed, replay

SUFFIX: Final = ".flight.gz"
RIG: Final = "fixture"
USER: Final = "somebody"
LEAST: Final = 4
"""Characters; what is shorter names nobody, and stands in too many other things."""
_STRANGE_TO_WORDS: Final = r"[\w./-]"


def make_fixture(run: Stretch, path: Path) -> tuple[Path, Replayed]:
    """Write one run, stripped, to ``path`` (completed to ``.flight.gz``) and prove that it replays.

    Raises :class:`FlightError` and leaves no file where the replay of the stripped run is not the same.
    """
    path = path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)
    if path.exists():
        raise FlightError(f"{path}: is there already; name another, or remove it")
    write_flight(path, RIG, [stripped(run)], compressed=True)
    [again], _ = stretches(read_flight(path).records)
    replayed = replay(again, essential=True)
    if replayed.difference is not None:
        path.unlink()
        raise FlightError(f"the fixture would not replay: {replayed.difference.line()}")
    return path, replayed


def stripped(run: Stretch) -> Stretch:
    """Return a stretch without what is private."""
    names = _private(run)
    words = _Replacing(names)
    serials = {old.encode(): new.encode() for old, new in _serials(run).items()}
    start = words.of(run.start)
    start["config"] = _config(start["config"], names)
    start["rig"] = RIG
    start["ports"] = {
        port: None if said is None else {**said, "name": f"{port}-port"} for port, said in start["ports"].items()
    }
    payloads = [record.payload for record in run.records if record.kind == Kind.TAPE]
    preamble = list(run.start.get("preamble", ()))
    tape = _strip_tape([*preamble, *payloads], words, serials)
    if "preamble" in start:
        start["preamble"] = tape[: len(preamble)]
    left = iter(tape[len(preamble) :])
    records = [_strip_record(record, words, left) for record in run.records]
    return Stretch(start, records)


def _strip_record(record: FlightRecord, words: _Replacing, tape: Iterator[bytes]) -> FlightRecord:
    if record.kind == Kind.TAPE:
        return record._replace(payload=next(tape))
    if record.kind in (Kind.EVENT, Kind.RUN, Kind.TOMBSTONE, Kind.EPOCH, Kind.STATUS):
        document = words.of(msgpack.unpackb(record.payload, strict_map_key=False))
        if isinstance(document, dict) and "utc_ns" in document:
            document["utc_ns"] = 0
        return record._replace(payload=msgpack.packb(document))
    return record


def _config(config: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a configuration without its place: ports, network, directories."""
    kept = {name: section for name, section in config.items() if name not in ("uplink", "recorder", "outbox")}
    if "remote" in config:
        users = {names.get(user, user): verbs for user, verbs in config["remote"]["users"].items()}
        kept["remote"] = {**config["remote"], "users": users}
    kept["rig"] = {**config["rig"], "id": RIG}
    kept["ports"] = {
        port: None if said is None else {**said, "path": f"{port}-port"} for port, said in config["ports"].items()
    }
    return kept


def _serials(run: Stretch) -> dict[str, str]:
    """Return every serial number that is known, and what stands for it."""
    config = run.start["config"]
    found = [config["smu"]["serial_number"], config["stage"].get("serial_number")]
    for document in run.documents(Kind.RUN):
        found += [(document.get(unit) or {}).get("serial") for unit in PORTS]
    known = dict.fromkeys(str(serial) for serial in found if serial and len(str(serial)) >= LEAST)
    return {serial: _stand_in(serial, number) for number, serial in enumerate(known, start=1)}


def _stand_in(serial: str, number: int) -> str:
    blank = re.sub(r"[A-Za-z]", "X", re.sub(r"[0-9]", "0", serial))
    return blank[:-1] + str(number % 10) if blank[-1] in "0X" else blank


def _private(run: Stretch) -> dict[str, str]:
    """Return what is private and what stands for it."""
    names = _serials(run)
    for port in PORTS:
        said = run.start["ports"].get(port)
        if said is not None:
            names[said["name"]] = f"{port}-port"
        configured = (run.start["config"]["ports"] or {}).get(port)
        if configured is not None:
            names[configured["path"]] = f"{port}-port"
    # One name each: who may do what is part of what is replayed.
    for number, user in enumerate(run.start["config"].get("remote", {}).get("users", {}), start=1):
        names.setdefault(user, f"remote-{number}")
    for entry in run.entries():
        if not isinstance(entry, int) and isinstance(entry[-1], dict) and isinstance(entry[-1].get("by"), str):
            names.setdefault(entry[-1]["by"], USER)
    names.setdefault(run.start["rig"], RIG)
    host = socket.gethostname()
    if len(host) >= LEAST:
        names.setdefault(host, "host")
    return {old: new for old, new in names.items() if old}


class _Replacing:
    """Replaces names wherever they stand as whole words in text, however deep."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        longest_first = sorted(names, key=len, reverse=True)
        pattern = "|".join(re.escape(name) for name in longest_first)
        self._pattern = re.compile(rf"(?<!{_STRANGE_TO_WORDS})(?:{pattern})(?!{_STRANGE_TO_WORDS})")

    def of(self, value: Any) -> Any:  # noqa: ANN401 - documents hold anything
        """Return ``value`` with every name replaced."""
        match value:
            case str():
                return self._pattern.sub(lambda match: self._names[match[0]], value)
            case dict():
                return {key: self.of(inner) for key, inner in value.items()}
            case list():
                return [self.of(inner) for inner in value]
            case tuple():
                return tuple(self.of(inner) for inner in value)
        return value


def _strip_tape(payloads: list[bytes], words: _Replacing, serials: Mapping[bytes, bytes]) -> list[bytes]:
    """Return stretches of tape with names replaced; a serial number in a reply may be in two pieces of it."""
    pieces = [unpack(payload) for payload in payloads]
    for port in range(len(PORTS)):
        _strip_replies(pieces, port, serials)
    return [pack([_strip_entry(entry, words) for entry in piece]) for piece in pieces]


def _strip_entry(entry: Entry, words: _Replacing) -> Entry:
    if isinstance(entry, int) or entry[0] == IN:
        return entry
    stripped_entry: Entry = words.of(entry)
    return stripped_entry


def _strip_replies(pieces: list[list[Entry]], port: int, serials: Mapping[bytes, bytes]) -> None:
    places = [
        (piece, at)
        for piece in pieces
        for at, entry in enumerate(piece)
        if not isinstance(entry, int) and entry[0] == IN and entry[2] == port
    ]
    whole = b"".join(piece[at][3] for piece, at in places)  # type: ignore[index] # tuples: just looked
    for old, new in serials.items():
        whole = re.sub(rb"(?<![\w.+-])" + re.escape(old) + rb"(?![\w.])", new, whole)
    done = 0
    for piece, at in places:
        entry: Any = piece[at]
        piece[at] = (*entry[:3], whole[done : done + len(entry[3])], *entry[4:])
        done += len(entry[3])
