"""Bytes and times on the wire, as docs/firmware.md has them, from the messages themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from firmware_proto.frontend.framing import TRIP_BYTES
from firmware_proto.frontend.messages import Lease, MinMax, Samples, Status, TripReport
from firmware_proto.frontend.vocabulary import MAX_PAYLOAD
from firmware_proto.frontend.wire import MAX_CODED, OVERHEAD
from hil.frontend import build

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "firmware.md"
BAUDS: Final = (115_200, 921_600, 3_000_000)
BITS: Final = 10
"""Per byte: start, eight, stop."""


def block_codes() -> int:
    """Return how many codes a board streams in one frame."""
    found = re.search(r"define TG_BULK_CODES (\d+)u", (build.CORE / "tg_bulk.h").read_text("utf-8"))
    assert found is not None
    return int(found[1])


def on_the_wire(payload: int, *, urgent: bool = False) -> int:
    """Return the most bytes that a frame of so long a payload has, delimiters included."""
    raw = OVERHEAD + payload
    return raw + -(-raw // 254) + 1 + int(urgent)


def frames() -> dict[str, int]:
    codes = block_codes()
    return {
        "TRIP, host to device": len(TRIP_BYTES),
        "LEASE": on_the_wire(Lease.LAYOUT.size),
        "TRIP_REPORT": on_the_wire(TripReport.LAYOUT.size, urgent=True),
        "STATUS": on_the_wire(Status.LAYOUT.size),
        f"SAMPLES of {codes} codes": on_the_wire(Samples.LAYOUT.size + 2 * codes),
        f"MINMAX of {codes // 2} pairs": on_the_wire(MinMax.LAYOUT.size + 2 * codes),
        "the longest there is": on_the_wire(MAX_PAYLOAD),
    }


def row(name: str, n: int) -> str:
    times = [n * BITS / baud * 1e3 for baud in BAUDS]
    return f"| {name} | {n} | " + " | ".join(f"{ms:.2f} ms" for ms in times) + " |"


def test_trip_and_longest_frame_are_what_the_codec_says() -> None:
    assert on_the_wire(0, urgent=True) == len(TRIP_BYTES) == 16
    assert on_the_wire(MAX_PAYLOAD) == MAX_CODED + 1


@pytest.mark.parametrize("name", list(frames()))
def test_the_page_has_the_bytes_and_times(name: str) -> None:
    assert row(name, frames()[name]) in PAGE.read_text("utf-8").splitlines()


def test_the_page_says_what_a_report_may_wait_behind() -> None:
    longest = max(n for name, n in frames().items() if name.startswith(("SAMPLES", "MINMAX", "STATUS")))
    queue = re.search(r"define UART_TX_ROOM (\d+)u", (build.PORTS / "mps2_an385" / "uart.c").read_text("utf-8"))
    assert queue is not None
    text = " ".join(PAGE.read_text("utf-8").split())
    assert f"{longest} bytes at most while armed, and {queue[1]} in the queue" in text


def test_the_page_names_every_function_of_a_port() -> None:
    declared = set(re.findall(r"\btg_port_\w+(?=\()", (build.CORE / "tg_port.h").read_text("utf-8")))
    named = set(re.findall(r"`(tg_port_\w+)`", PAGE.read_text("utf-8")))
    assert len(declared) == 8
    assert declared == named


def test_the_page_names_every_file_of_the_board() -> None:
    folder = build.PORTS / "mps2_an385"
    text = PAGE.read_text("utf-8")
    assert [
        path.name for path in folder.iterdir() if path.suffix in {".c", ".ld"} and f"`{path.name}`" not in text
    ] == []
