"""The watermark document: what is written is what is read, and anything else is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.watermark import MAX_BYTES, MAX_HOLES, MAX_MARKS, STREAMS, Mark, Watermark, WatermarkError, decode, encode

NOW = "2026-01-01T00:00:00.000+00:00"
GENERATION = "0123456789abcdef"


@st.composite
def marks(draw: st.DrawFn) -> Mark:
    edges = sorted(draw(st.sets(st.integers(0, 400), max_size=2 * 20)))
    # Every second edge ends a hole; kept apart, and below the top.
    holes = [(2 * a + 1, 2 * b) for a, b in zip(edges[::2], edges[1::2], strict=False) if b > a]
    holes = [hole for at, hole in enumerate(holes) if at == 0 or hole[0] > holes[at - 1][1] + 1]
    contiguous = holes[0][0] if holes else draw(st.integers(0, 900))
    top = holes[-1][1] + draw(st.integers(1, 50)) if holes else contiguous - 1
    return Mark(draw(st.integers(0, 2**64 - 1)), draw(st.sampled_from(sorted(STREAMS))), contiguous, top, tuple(holes))


@given(st.lists(marks(), max_size=8, unique_by=lambda mark: (mark.epoch, mark.stream)))
def test_what_is_encoded_is_decoded(made: list[Mark]) -> None:
    watermark = Watermark("lab", GENERATION, "rig-1", tuple(made))
    assert decode(encode(watermark, NOW)) == watermark


@given(marks())
def test_covered_is_what_covers_says(mark: Mark) -> None:
    covered = {seq for first, last in mark.covered() for seq in range(first, last + 1)}
    assert covered == {seq for seq in range(1200) if mark.covers(seq)}
    missing = {seq for first, last in mark.holes for seq in range(first, last + 1)}
    assert covered == set(range(max(mark.top + 1, mark.contiguous))) - missing


def document(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field, any value
    mark = {"epoch": "00000000000000ff", "stream": "samples", "contiguous": 3, "top": 9, "holes": [[3, 4], [7, 7]]}
    mark |= {key.removeprefix("mark_"): value for key, value in changes.items() if key.startswith("mark_")}
    made: dict[str, Any] = {"v": 1, "store": "lab", "generation": GENERATION, "rig": "rig-1", "t_utc": NOW}
    return {**made, "marks": [mark], **{key: value for key, value in changes.items() if not key.startswith("mark_")}}


def test_a_document_as_the_page_has_it() -> None:
    said = decode(json.dumps(document()).encode())
    assert said == Watermark("lab", GENERATION, "rig-1", (Mark(255, "samples", 3, 9, ((3, 4), (7, 7))),))
    # Fields that a later version adds are not ours to judge.
    assert decode(json.dumps(document(more=1, mark_more=2)).encode()) == said


WRONG: dict[str, dict[str, Any]] = {
    "version": {"v": 2},
    "version is a bool": {"v": True},
    "store": {"store": "Lab!"},
    "generation": {"generation": "xyz"},
    "rig": {"rig": ""},
    "time": {"t_utc": 5},
    "marks no list": {"marks": {}},
    "marks of nothing": {"marks": [None]},
    "too many marks": {"marks": [document()["marks"][0]] * (MAX_MARKS + 1)},
    "a stream twice": {"marks": [document()["marks"][0]] * 2},
    "stream": {"mark_stream": "noise"},
    "epoch": {"mark_epoch": "ff"},
    "contiguous negative": {"mark_contiguous": -1},
    "contiguous a float": {"mark_contiguous": 3.0},
    "top below": {"mark_top": 1},
    "top huge": {"mark_top": 2**64},
    "holes no list": {"mark_holes": 5},
    "hole no pair": {"mark_holes": [[3]]},
    "hole backwards": {"mark_holes": [[5, 4]]},
    "hole below": {"mark_holes": [[2, 4]]},
    "hole at the top": {"mark_holes": [[8, 9]]},
    "holes out of order": {"mark_holes": [[7, 7], [3, 4]]},
    "holes that touch": {"mark_holes": [[3, 4], [5, 6]]},
    "too many holes": {"mark_top": 1000, "mark_holes": [[2 * at + 3, 2 * at + 3] for at in range(MAX_HOLES + 1)]},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WatermarkError, match="watermark"):
        decode(json.dumps(document(**changes)).encode())


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"\xff", b"[" * 100_000, b" " * (MAX_BYTES + 1)])
def test_what_is_no_document_is_refused(payload: bytes) -> None:
    with pytest.raises(WatermarkError):
        decode(payload)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_else(payload: bytes) -> None:
    with pytest.raises(WatermarkError):
        decode(payload)


def test_what_nobody_would_take_is_not_encoded() -> None:
    with pytest.raises(WatermarkError, match="top"):
        encode(Watermark("lab", GENERATION, "rig-1", (Mark(1, "samples", 5, 1),)), NOW)
