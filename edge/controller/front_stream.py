"""What the front end measures, on its way into the ring: blocks of even spacing, as much of it as ``recording`` keeps.

The device sends small frames; they are put together until a block is full, a quarter of a second old, or interrupted.
So a killed worker loses a quarter of a second of this stream at most, and none of the SMU's samples. Recording ``full``
ends after ``frontend.full_max_s`` of a run: what comes then is thinned here to what ``event`` keeps.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.config_frontend import EVENT_HZ, FrontendConfig
from edge.controller.recorder import Recorder
from edge.front_block import CODE_BYTES, FULL, MAX_ROWS, MINMAX, FrontBlock
from edge.instruments.frontend_values import MinMaxBlock, SampleBlock

FLUSH_NS: Final = 250_000_000
"""At the latest so long after its first row a block is written."""
SLACK: Final = 0.5
"""Of a row: how far the next one may be from where the time of the block says, beyond what is known of its time."""
FRAME_BYTES: Final = 400
"""Of a frame beside its codes, about."""

Codes = NDArray[np.int16]


def bytes_per_s(section: FrontendConfig, sample_hz: float, recording: str) -> float:
    """Return how many bytes a second a recording of [frontend].recording makes, about."""
    full = recording == "full"
    rows_hz = sample_hz if full else min(section.pairs_hz(recording), sample_hz)
    width = CODE_BYTES * (1 if full else 2)
    return rows_hz * width + FRAME_BYTES * max(rows_hz / MAX_ROWS, 1e9 / FLUSH_NS)


def cost_in_words(section: FrontendConfig, sample_hz: float) -> str:
    """Say what the recording costs: GB per hour, and what a run can come to."""
    rate = bytes_per_s(section, sample_hz, section.recording)
    said = f"recording {section.recording}: {rate * 3.6e-6:.3g} GB/h at {sample_hz / 1e3:g} kS/s"
    if section.recording == "full" and section.full_max_s is not None:
        said += f", for {section.full_max_s:g} s of a run ({rate * section.full_max_s / 1e6:.3g} MB), then as event"
    return said


def merged(blocks: list[SampleBlock]) -> list[SampleBlock]:
    """Return the same samples in as few blocks as they have gaps; times and uncertainties hold for all of each."""
    found: list[SampleBlock] = []
    at = 0
    while at < len(blocks):
        first, end, unc_ns = blocks[at], at + 1, blocks[at].t_unc_ns
        index, codes = first.index + len(first.codes), [first.codes]
        while end < len(blocks) and not blocks[end].missing and blocks[end].index == index:
            block = blocks[end]
            off_ns = abs(block.t_ns - first.t_ns - round((index - first.index) * first.step_ns))
            if block.current_per_code_a != first.current_per_code_a or off_ns > SLACK * first.step_ns + first.t_unc_ns:
                break
            unc_ns = max(unc_ns, block.t_unc_ns + off_ns)
            codes.append(block.codes)
            index += len(block.codes)
            end += 1
        whole = dataclasses.replace(first, t_unc_ns=unc_ns, codes=np.concatenate(codes)) if len(codes) > 1 else first
        found.append(whole)
        at = end
    return found


class FrontStream:
    """Puts blocks together for one recorder. All calls from the loop; nothing here is in the SMU's hot path."""

    def __init__(self, section: FrontendConfig, recorder: Recorder) -> None:
        """Begin empty."""
        self._recorder = recorder
        self._full_ns = None if section.full_max_s is None else int(section.full_max_s * 1e9)
        self._run = 0
        self._run_began_ns = 0
        self._run_ended = False
        self._head: FrontBlock | None = None
        self._unc_ns = 0
        self._parts: list[bytes] = []
        self._rows = 0
        self._left: list[Codes] = []
        """Samples that do not fill a row yet, while every sample comes and is thinned here."""
        self._left_n = 0
        self._left_block: SampleBlock | None = None
        self._left_at = 0
        self._resuming = False
        self.boot = 0
        """Number of the device's start, as blocks are to say it."""

    @property
    def thinning(self) -> bool:
        """Every sample comes, and no longer is every one kept."""
        return self._run_ended

    # -- what comes

    def begin(self) -> None:
        """What comes from now on is kept; nothing before it is missing."""
        self._resuming = True

    def samples(self, block: SampleBlock, now_ns: int) -> None:
        """Take consecutive samples."""
        self._note_run(now_ns)
        missing, self._resuming = 0 if self._resuming else block.missing, False
        if not self._run_ended:
            self._missed(missing)
            rows = block.codes.astype("<i2", copy=False)
            place = (block.index, block.t_ns, block.t_unc_ns, block.step_ns, block.current_per_code_a)
            self._put(FULL, 1, place, rows.tobytes(), len(rows))
            return
        self._thin(block, missing)

    def minmax(self, block: MinMaxBlock, now_ns: int) -> None:
        """Take pairs of smallest and largest."""
        self._note_run(now_ns)
        missing, self._resuming = 0 if self._resuming else block.missing, False
        self._missed(-(-missing // block.decimation))
        pairs = block.pairs.astype("<i2", copy=False)
        place = (block.index, block.t_ns, block.t_unc_ns, block.step_ns, block.current_per_code_a)
        self._put(MINMAX, block.decimation, place, pairs.tobytes(), len(pairs))

    def _note_run(self, now_ns: int) -> None:
        run = self._recorder.run
        if run != self._run:
            self.flush()
            self._run, self._run_began_ns, self._run_ended = run, now_ns, False
        elif self._full_ns is not None and not self._run_ended and now_ns - self._run_began_ns > self._full_ns:
            self.flush()
            self._run_ended = True

    def _missed(self, rows: int) -> None:
        if rows:
            self.flush()
            self._recorder.front_missing(rows, "front end: not sent, or lost on its line")

    # -- thinning, once "full" is over

    def _thin(self, block: SampleBlock, missing: int) -> None:
        step = max(1, round(1e9 / (EVENT_HZ * block.step_ns)))
        if missing:
            # What is left over of a row goes with what is missing.
            self._missed(-(-(missing + self._left_n) // step))
            self._left, self._left_n = [], 0
        if not self._left:
            self._left_block, self._left_at = block, 0
        self._left.append(block.codes)
        self._left_n += len(block.codes)
        rows = self._left_n // step
        first = self._left_block
        if not rows or first is None:
            return
        codes = np.concatenate(self._left)
        table = codes[: rows * step].reshape(rows, step)
        pairs = np.column_stack((table.min(axis=1), table.max(axis=1))).astype("<i2")
        began = first.index + self._left_at
        t_ns = first.t_ns + round(self._left_at * first.step_ns)
        place = (began, t_ns, first.t_unc_ns, step * first.step_ns, first.current_per_code_a)
        self._put(MINMAX, step, place, pairs.tobytes(), rows)
        rest = codes[rows * step :]
        self._left, self._left_n = ([rest] if len(rest) else []), len(rest)
        self._left_block, self._left_at = block, len(block.codes) - len(rest)

    # -- blocks

    def _put(
        self,
        columns: tuple[str, ...],
        step: int,
        place: tuple[int, int, int, float, float],
        data: bytes,
        rows: int,
    ) -> None:
        index, t_ns, t_unc_ns, period_ns, code_a = place
        row_bytes = len(data) // rows
        while rows:
            head = self._head
            if head is None or not self._follows(head, columns, index, t_ns, step, code_a):
                self.flush()
                head = self._head = FrontBlock(
                    0, 0, index, t_ns, t_unc_ns, step, period_ns, code_a, self.boot, columns, b""
                )
                self._unc_ns = 0
            # The estimate of the device's clock moves from frame to frame; what the block says must hold for each row.
            self._unc_ns = max(self._unc_ns, t_unc_ns + self._off_ns(head, t_ns))
            taken = min(rows, MAX_ROWS - self._rows)
            self._parts.append(data[: taken * row_bytes])
            self._rows += taken
            rows -= taken
            data = data[taken * row_bytes :]
            index += taken * step
            t_ns += round(taken * period_ns)
            if self._rows >= MAX_ROWS or t_ns - head.t_ns >= FLUSH_NS:
                self.flush()

    def _follows(
        self, head: FrontBlock, columns: tuple[str, ...], index: int, t_ns: int, step: int, code_a: float
    ) -> bool:
        """Tell whether the next row goes on where the open block ends: by number, by form, and by time."""
        return (
            head.columns == columns
            and head.step == step
            and head.code_a == code_a
            and head.boot == self.boot
            and index == head.index + self._rows * head.step
            and self._off_ns(head, t_ns) <= SLACK * head.period_ns + head.t_unc_ns
        )

    def _off_ns(self, head: FrontBlock, t_ns: int) -> int:
        """Return how far the next row is from where the open block says."""
        return abs(t_ns - head.t_ns - round(self._rows * head.period_ns))

    def tick(self, now_ns: int) -> None:
        """Write a block that is old enough, though nothing has come; every 20 ms."""
        head = self._head
        if head is not None and now_ns - head.t_ns > 2 * FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Write the open block, if there is one."""
        head, self._head = self._head, None
        parts, self._parts = self._parts, []
        self._rows = 0
        if head is None:
            return
        self._recorder.front(
            FrontBlock(
                *(0, 0, head.index, head.t_ns, self._unc_ns, head.step, head.period_ns, head.code_a, head.boot),
                columns=head.columns,
                data=b"".join(parts),
            )
        )

    def end(self) -> None:
        """Write what there is, and say what is missing: nothing more comes."""
        self.flush()
        self._left, self._left_n = [], 0
        self._recorder.declare_front_hole()
