"""Every recording under tests/fixtures/flight comes to the same samples, verdicts and cuts as when it was made.

A difference means that the controller now does something else with the same bytes. Where that is meant, recordings of
emulated rigs are made anew (tests/fixtures/flight/make.py), and those of a bench recorded again.
"""

from __future__ import annotations

import gzip
import socket
from pathlib import Path

import pytest

from edge.flight import read_flight, stretches
from hil.replay import replay
from hil.replay.fixture import LEAST

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "flight"
FIXTURES = sorted(FOLDER.glob("*.flight.gz"))


def test_there_are_some() -> None:
    names = {path.name.partition(".")[0] for path in FIXTURES}
    assert {"emulated-planned-cut", "emulated-broken-reading"} <= names


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name.partition(".")[0])
def test_it_comes_to_the_same(path: Path) -> None:
    contents = read_flight(path)
    assert contents.torn is None
    [stretch], notes = stretches(contents.records)
    assert notes == []
    replayed = replay(stretch, essential=True)
    assert replayed.difference is None, replayed.difference.line()
    # There was something to compare.
    assert replayed.samples
    assert replayed.cuts
    assert replayed.writes > 20


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name.partition(".")[0])
def test_it_is_small_and_names_nobody(path: Path) -> None:
    assert path.stat().st_size < 100_000
    data = gzip.decompress(path.read_bytes())
    for private in (b"1304207", b"/dev/", b"/tmp/", b"/home/"):
        assert private not in data
    host = socket.gethostname().encode()
    # A shorter name stands in many things that mean another.
    assert len(host) < LEAST or host not in data
