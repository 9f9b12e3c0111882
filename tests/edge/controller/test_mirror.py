"""The latch's mirror: what cannot be understood counts as dirty, and never as clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import rundir
from edge.controller.mirror import CLEAN, DIRTY, TRIPPED, Latch, Mirror


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / rundir.STATE_FILE


LATCHES = [
    Latch(CLEAN, epoch=5),
    Latch(DIRTY, epoch=2**64 - 1),
    Latch(TRIPPED, "SURGE_JUMP", 7),
    Latch(TRIPPED, "RESTART", 7, {"cause": "died (SIGKILL)", "verified": True, "rounds": 1}),
]


def test_an_absent_mirror_is_none(tmp_path: Path) -> None:
    assert Mirror(tmp_path).read() is None
    assert Mirror(tmp_path / "absent").read() is None


@pytest.mark.parametrize("latch", LATCHES)
def test_what_is_written_is_read_also_by_another_process(tmp_path: Path, latch: Latch) -> None:
    Mirror(tmp_path).write(latch)
    assert Mirror(tmp_path).read() == latch


def test_the_last_word_counts(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    for latch in LATCHES:
        mirror.write(latch)
    assert mirror.read() == LATCHES[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == [rundir.STATE_FILE]


def test_words_in_the_file_are_frozen() -> None:
    assert (CLEAN, DIRTY, TRIPPED) == ("clean", "dirty", "tripped")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b'{"state": "clean"',
        b"[]",
        b"null",
        b'"clean"',
        b"{}",
        b'{"state": null}',
        b'{"state": "CLEAN"}',
        b'{"state": "clean "}',
        b'{"state": ["clean"]}',
        b'{"state": {"clean": 1}}',
        b'{"state": true}',
        b'{"status": "clean"}',
        bytes(4096),
    ],
)
def test_a_damaged_mirror_is_dirty(tmp_path: Path, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert Mirror(tmp_path).read() == Latch(DIRTY)


def test_a_mirror_that_is_no_file_is_dirty(tmp_path: Path, file: Path) -> None:
    file.mkdir()
    assert Mirror(tmp_path).read() == Latch(DIRTY)


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_garbage_is_clean(tmp_path: Path, content: bytes) -> None:
    (tmp_path / rundir.STATE_FILE).write_bytes(content)
    assert Mirror(tmp_path).read() == Latch(DIRTY)


@pytest.mark.parametrize("stop", range(len(json.dumps({"state": "clean", "verdict": None, "epoch": 5}))))
def test_a_mirror_cut_short_anywhere_is_dirty(tmp_path: Path, file: Path, stop: int) -> None:
    file.write_text(json.dumps({"state": "clean", "verdict": None, "epoch": 5})[:stop], encoding="utf-8")
    assert Mirror(tmp_path).read() == Latch(DIRTY)


def test_odd_details_do_not_spoil_the_state(tmp_path: Path, file: Path) -> None:
    file.write_text(json.dumps({"state": "tripped", "verdict": 5, "epoch": "x", "keeper_cut": [], "more": 1}))
    assert Mirror(tmp_path).read() == Latch(TRIPPED)
