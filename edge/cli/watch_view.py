"""Draws what :mod:`edge.cli.watch_model` holds: a panel for each rig, fitted to the terminal, and a plain snapshot.

Only ``Text`` objects are built: nothing that came from the network is ever read as markup.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.analysis.si import si
from edge.cli.layout import Row, grid, wrap
from edge.cli.watch_model import Bench, Rig, number
from edge.cli.watch_words import BAD, WARN, Entry, clock_text, done_entry, entries, silence

LABEL: Final = 10
"""Columns of the labels, with the space behind them."""
CHART: Final = 60
"""Samples that a chart shows at most."""
VALUE: Final = 10
SCALE: Final = 20
LEAST_CHART: Final = 10
LEAST_PANEL: Final = 6
"""Lines below which a panel says too little: then not all rigs are shown."""
SMALL_PANEL: Final = 5
"""Lines of a panel with little to show."""
TWO_COLUMNS: Final = 150
"""Width from which two panels stand side by side."""
MAX_LINES: Final = 3
"""Lines that one thing may take."""
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_STEPS: Final = 8
_SPACE_RANK: Final = 90
_DONE_RANK: Final = 30
_TALL_AT: Final = 18
_MIDDLE_AT: Final = 14


_BORDER: Final = {"SAFE": "dim", "ARMED": "cyan", "ENERGISED": "yellow", "CUTTING": "yellow"}


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Lines that are shown together or not at all; the highest rank goes first."""

    rank: int
    lines: list[Text]


def screen(bench: Bench, now_s: float, *, clock: str, width: int, height: int) -> RenderableType:
    """Return the whole view, ``width`` by ``height`` characters. ``clock``: the time of day, as shown."""
    rigs = bench.shown()
    head = headline(bench, now_s, clock=clock, shown=len(rigs), width=width)
    room = height - len(head)
    if not rigs:
        return Group(*head, _nobody(bench, width))
    columns = 2 if width >= TWO_COLUMNS and len(rigs) > 1 else 1
    fitting = max(room // LEAST_PANEL, 1) * columns
    hidden: list[Text] = []
    if len(rigs) > fitting:
        fitting = max((room - 1) // LEAST_PANEL, 1) * columns
        names = ", ".join(rig.name for rig in rigs[fitting:])
        hidden = [_cropped(Text(f"no room for: {names}. `tipguard watch NAME` shows one", WARN), width)]
        rigs, room = rigs[:fitting], room - 1
    rows = [rigs[at : at + columns] for at in range(0, len(rigs), columns)]
    panels: list[RenderableType] = []
    for row, lines in zip(rows, heights([any(shows_much(rig) for rig in row) for row in rows], room), strict=True):
        cells = [panel(rig, now_s, width=width // columns, height=lines) for rig in row]
        panels.append(cells[0] if columns == 1 else _side_by_side(cells, width // columns))
    return Group(*head, *panels, *hidden)


def shows_much(rig: Rig) -> bool:
    """Tell whether a rig has more to show than that it is not there."""
    return rig.known and rig.online is not False


def heights(much: Sequence[bool], room: int) -> list[int]:
    """Return the lines of each row of panels, ``room`` together; what shows little takes little."""
    if not any(much):
        return _shared(len(much), room)
    small = min(SMALL_PANEL, room // len(much))
    of_big = iter(_shared(sum(much), room - small * (len(much) - sum(much))))
    return [next(of_big) if big else small for big in much]


def _shared(parts: int, room: int) -> list[int]:
    # What does not divide goes to the first.
    return [room // parts + (1 if part < room % parts else 0) for part in range(parts)]


def _side_by_side(cells: list[Panel], wide: int) -> Table:
    table = Table.grid(padding=0)
    for _ in cells:
        table.add_column(width=wide)
    table.add_row(*cells)
    return table


def headline(bench: Bench, now_s: float, *, clock: str, shown: int, width: int) -> list[Text]:
    """Return the first line, and where the broker is gone a second one."""
    left = Text().append("tipguard watch", "bold")
    left.append(f"  broker {bench.broker}  {shown} rig{'' if shown == 1 else 's'}", "dim")
    if bench.unreadable:
        left.append(f"  {bench.unreadable} unreadable", "yellow")
    right = Text().append(f"{clock}  Ctrl-C ends", "dim")
    gap = width - left.cell_len - right.cell_len
    line = Text.assemble(left, " " * gap, right) if gap > 0 else left
    lines = [_cropped(line, width)]
    if bench.lost is not None:
        since_s, why = bench.lost
        said = f"broker lost for {now_s - since_s:.0f} s ({why}); trying again; all below is old"
        lines.append(_cropped(Text(said, BAD), width))
    return lines


def _nobody(bench: Bench, width: int) -> Text:
    said = f"no rig has spoken on {bench.broker} yet. Is `tipguard serve` running, and to this broker?"
    return Text("\n".join(wrap(said, width)), WARN)


def panel(rig: Rig, now_s: float, *, width: int, height: int) -> Panel:
    """Return one rig's panel, of exactly this size; what does not fit is left out, the least important first."""
    inner, room = max(width - 4, LABEL + LEAST_CHART), max(height - 2, 1)
    lines = fitted(blocks(rig, now_s, inner, room), room)
    quiet = silence(rig, now_s)
    if rig.online is False:
        news, style = Text("offline", BAD), "red"
    elif quiet:
        news, style = Text(quiet, f"{BAD} reverse"), "red"
    else:
        news, style = Text("● live", "green"), _BORDER.get(rig.state, "red")
    title = Text().append(rig.name, "bold")
    if rig.worker.get("emulated") is True:
        title.append(" (emulated)", "dim")
    return Panel(
        Group(*lines),
        box=box.ROUNDED,
        title=Text.assemble(title, "  ", news),
        title_align="left",
        border_style=style,
        width=width,
        height=height,
        padding=(0, 1),
    )


def fitted(parts: Sequence[Block], room: int) -> list[Text]:
    """Return the lines of those blocks that ``room`` lines hold: the least rank first, and what still fits beside."""
    kept: set[int] = set()
    left = room
    for at in sorted(range(len(parts)), key=lambda at: (parts[at].rank, at)):
        if len(parts[at].lines) <= left or not kept:
            kept.add(at)
            left -= len(parts[at].lines)
    return [line for at, part in enumerate(parts) if at in kept for line in part.lines][:room]


def blocks(rig: Rig, now_s: float, width: int, room: int) -> list[Block]:
    """Return what a panel of ``width`` columns and ``room`` lines may show, in order."""
    dull = rig.stale(now_s) or rig.online is False
    result: list[Block] = []
    drawn = False
    for entry in entries(rig, now_s):
        if not drawn and entry.label not in _ABOVE_CHARTS:
            drawn = True
            result += [_space(), *charts(rig, width, room, dull=dull), _space()]
        result.append(Block(entry.rank, entry_lines(entry, width, dull=dull)))
        if entry.label == "run" and rig.run is not None and rig.run.running:
            result.append(Block(6, [bar(rig, now_s, width, dull=dull)]))
    if not drawn:
        result += [_space(), *charts(rig, width, room, dull=dull)]
    result += done_blocks(rig, width, dull=dull)
    return result


_ABOVE_CHARTS: Final = frozenset({"state", "why", "do", "ALARM", "uplink", "reading", "note"})


def _space() -> Block:
    return Block(_SPACE_RANK, [Text("")])


def done_blocks(rig: Rig, width: int, *, dull: bool) -> list[Block]:
    """Return the finished points or cycles, the last one first."""
    if rig.run is None or not rig.run.done:
        return []
    result = [_space()]
    for place, doc in enumerate(reversed(rig.run.done)):
        entry = done_entry(doc)
        label = ("done" if place == 0 else "").ljust(6) + entry.label.rjust(LABEL - 7)
        line = entry_lines(dataclasses.replace(entry, label=label), width, dull=dull)[0]
        result.append(Block(_DONE_RANK + place, [line]))
    return result


def entry_lines(entry: Entry, width: int, *, dull: bool = False) -> list[Text]:
    """Return an entry in at most MAX_LINES lines of ``width``, wrapped under itself."""
    style = "dim" if dull and not entry.style else entry.style
    # A state's head is a badge: it has a space on either side.
    head = f" {entry.head} " if entry.label == "state" and entry.head else entry.head
    space = " " if head else ""
    said = wrap(f"{_stand_in(head)}{space}{entry.text}", width - LABEL)
    if len(said) > MAX_LINES:
        said = [*said[: MAX_LINES - 1], said[MAX_LINES - 1] + " ..."]
    lines = []
    for place, piece in enumerate(said):
        # A style given to Text itself would be that of all that follows.
        line = Text().append(entry.label.ljust(LABEL) if place == 0 else " " * LABEL, _label_style(entry))
        at = len(head) if place == 0 else 0
        line.append(head[:at], entry.head_style).append(piece[at:], style)
        lines.append(_cropped(line, width))
    return lines


def _stand_in(head: str) -> str:
    # Wrapped as one word of the same length, so that it stays in the first line as it is.
    return "x" * len(head)


def _label_style(entry: Entry) -> str:
    return BAD if entry.label == "ALARM" else "dim"


def charts(rig: Rig, width: int, room: int, *, dull: bool) -> list[Block]:
    """Return bias and current, as numbers and as charts of the last samples."""
    if number(rig.live, "bias_v") is None and not rig.history:
        return []
    rows = 3 if room >= _TALL_AT else 2 if room >= _MIDDLE_AT else 1
    if room >= _TALL_AT and not (rig.run and rig.run.done):
        # No list below that needs the room.
        rows += 2
    columns = max(min(width - LABEL - VALUE - SCALE, CHART), LEAST_CHART)
    dots = list(rig.history)[-columns:]
    biases = [dot.bias_v for dot in dots]
    sizes = [None if bias is None else abs(bias) for bias in biases]
    decades = [log_size(dot.current_a) for dot in dots]
    live = rig.state in ("ENERGISED", "CUTTING") and not dull
    value_style = "dim" if dull else "bold" if live else ""
    known_v = [bias for bias in biases if bias is not None]
    known = [decade for decade in decades if decade is not None]
    top_v = max((abs(bias) for bias in known_v), default=0.0)
    low, high = decade_span(known)
    colours = ["dim" if dull else _side(bias) for bias in biases]
    of_bias = sparkline(sizes, 0.0, top_v, (rows + 1) // 2, columns)
    of_current = sparkline(decades, low, high, rows, columns)
    span_v = f"{si(min(known_v), 'V', 2)} .. {si(max(known_v), 'V', 2)}" if known_v else ""
    span_a = f"{si(10.0**low, 'A', 1)} .. {si(10.0**high, 'A', 1)}" if known else ""
    bias_v = number(rig.live, "bias_v")
    # Without a bias there is no sample: the controller started again, and what is drawn is of before.
    bias = si(bias_v, "V") if bias_v is not None else ""
    current = si(number(rig.live, "current_a"), "A") if bias_v is not None else ""
    plain = ["dim" if dull else "yellow"] * len(dots)
    return [
        Block(1, _chart("bias", bias, value_style, of_bias, colours, span_v, width)),
        Block(1, _chart("current", current, value_style, of_current, plain, span_a, width)),
    ]


def _side(bias_v: float | None) -> str:
    """Plating is negative: the two signs have a colour each."""
    return "cyan" if bias_v is not None and bias_v < 0 else "magenta"


def _chart(
    label: str, value: str, value_style: str, rows: list[str], colours: list[str], span: str, width: int
) -> list[Text]:
    lines = []
    for place, row in enumerate(rows):
        last = place == len(rows) - 1
        line = Text().append((label if last else "").ljust(LABEL), "dim")
        line.append((value if last else "").ljust(VALUE), value_style)
        # The newest sample stands at the right.
        colour_at = len(row) - len(colours)
        for at, char in enumerate(row):
            line.append(char, colours[at - colour_at] if at >= colour_at else "")
        if last:
            line.append(f"  {span}", "dim")
        lines.append(_cropped(line, width))
    return lines


def log_size(current_a: float | None) -> float | None:
    """Return log10 of a current's size; None where there is none to take it of."""
    return math.log10(abs(current_a)) if current_a else None


def decade_span(decades: Sequence[float]) -> tuple[float, float]:
    """Return whole decades around the values, at least two."""
    if not decades:
        return 0.0, 1.0
    low, high = math.floor(min(decades)), math.ceil(max(decades))
    return float(min(low, high - 2)), float(high)


def sparkline(values: Sequence[float | None], low: float, high: float, rows: int, columns: int) -> list[str]:
    """Return ``rows`` strings of ``columns`` characters, values from ``low`` to ``high``, the newest at the right."""
    steps = rows * _STEPS
    span = high - low
    heights = []
    for value in values:
        part = (value - low) / span if value is not None and span > 0 else 0.0
        heights.append(0 if value is None else 1 + round(min(max(part, 0.0), 1.0) * (steps - 1)))
    padded = [0] * (columns - len(heights)) + heights
    return [
        "".join(_BLOCKS[min(max(height - base * _STEPS, 0), _STEPS)] for height in padded)
        for base in reversed(range(rows))
    ]


def bar(rig: Rig, now_s: float, width: int, *, dull: bool) -> Text:
    """Return a run's progress bar, its part done and how long it takes already."""
    run = rig.run
    done = run.part_done if run else 0.0
    elapsed_s = rig.elapsed_s(now_s)
    tail = f" {done:4.0%}" + (f"  {clock_text(elapsed_s)}" if elapsed_s is not None else "")
    if run and run.uid:
        tail += f"  {run.uid[:16]}"
    columns = max(min(width - LABEL - len(tail), CHART), LEAST_CHART)
    full = round(done * columns)
    line = Text(" " * LABEL)
    line.append("━" * full, "dim" if dull else "green").append("─" * (columns - full), "dim").append(tail, "dim")
    return _cropped(line, width)


def _cropped(line: Text, width: int) -> Text:
    # Never wider than its place, whatever wide characters somebody chose.
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def snapshot_text(bench: Bench, now_s: float, width: int) -> Text:
    """Return what is known as plain rows, for pipes and scripts: no charts, no boxes."""
    result = Text()
    for place, rig in enumerate(bench.shown()):
        rows = [Row(("rig", rig.name + (" (emulated)" if rig.worker.get("emulated") is True else "")))]
        for entry in entries(rig, now_s):
            said = f"{entry.head} {entry.text}" if entry.head and entry.label == "run" else entry.text
            if entry.label == "state" and entry.head:
                said = f"{entry.head}: {entry.text}" if entry.text else entry.head
            rows.append(Row((entry.label, said), ("", entry.style)))
            if entry.label == "state":
                rows += _values(rig)
        if rig.run is not None:
            rows += [_done_row(doc) for doc in list(rig.run.done)[-MAX_LINES:]]
        result.append("\n\n" if place else "").append_text(grid(rows, width))
    return result


def _values(rig: Rig) -> list[Row]:
    if number(rig.live, "bias_v") is None:
        return []
    return [
        Row(("sample", f"{si(number(rig.live, 'bias_v'), 'V')}, {si(number(rig.live, 'current_a'), 'A')}")),
    ]


def _done_row(doc: dict[str, Any]) -> Row:
    entry = done_entry(doc)
    said = f"{entry.head}: {entry.text}" if entry.head else entry.text
    return Row(("done", f"no. {entry.label}, {said}" if entry.label else said))
