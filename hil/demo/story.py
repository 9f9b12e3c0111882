"""What a person at a terminal sees: short, in plain words; nothing here measures anything."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from edge.analysis.si import si
from hil.demo.map_findings import latency_s
from hil.demo.rigs import ShownRig

DEVICE: Final = "emulated Keithley 2400"
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_STATE_STYLE: Final = {"ENERGISED": "yellow", "CUTTING": "red", "TRIPPED": "bold red", "ARMED": "cyan"}
_EVERY: Final = 5
"""Of so many cycles one is told in a line of its own."""
Tell = Callable[[], None]


class Story:
    """Prints to a console; with ``quiet`` nothing at all."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        """Print nothing yet."""
        self._console = console
        self._quiet = quiet
        self._told: dict[str, int] = {}

    def say(self, text: str, style: str = "", indent: str = "") -> None:
        """Print one paragraph; lines end between words, never inside a quantity."""
        if not self._quiet:
            lines = textwrap.fill(
                text,
                max(self._console.width, 40),
                break_long_words=False,
                break_on_hyphens=False,
                subsequent_indent=indent,
            )
            self._console.print(lines, style=style, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something takes its time."""
        if self._quiet or not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield

    def started(self, broker: str, ready: dict[str, Any]) -> None:
        """Say what runs now, and what the tip presses with."""
        self.say(
            f"Two rigs run, each with an {DEVICE} and a stage on pseudo-terminals, its controller (two processes) and "
            f"its uplink; {broker} carries their frames to a plain subscriber, which is where everything below "
            "comes from."
        )
        area, pressure = ready.get("contact_area_nm2"), ready.get("mean_pressure_gpa")
        if area is not None and pressure is not None:
            self.say(f"Contact at {ready.get('contact_load_nn'):.0f} nN: {area:.1f} nm², mean pressure {pressure} GPa.")
        if ready.get("warning"):
            self.say(f"Note: {ready['warning']}.", "yellow")

    @contextlib.contextmanager
    def running(self, rigs: Sequence[ShownRig]) -> Iterator[Tell]:
        """Show a bar for each run, and a line for what it found."""
        room = max(self._console.width - 52, 16)
        bar = Progress(
            TextColumn("{task.fields[title]}", table_column=Column(no_wrap=True, min_width=9)),
            BarColumn(14),
            TextColumn("{task.completed:>2.0f}/{task.total:.0f}", table_column=Column(no_wrap=True)),
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=room),
            ),
            TextColumn("{task.fields[now]}", table_column=Column(no_wrap=True, min_width=18, justify="right")),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            console=self._console,
            disable=self._quiet or not self._console.is_terminal,
            transient=True,
        )
        with bar:
            tasks = [bar.add_task("starting", total=_total(rig), title=rig.part.title, now="") for rig in rigs]

            def tell() -> None:
                for rig, task in zip(rigs, tasks, strict=True):
                    self._tell(bar, task, rig)

            yield tell

    def _tell(self, bar: Progress, task: TaskID, rig: ShownRig) -> None:
        documents = rig.documents()
        found = [doc for doc in documents if doc["kind"] in ("point", "cycle")]
        for doc in found[self._told.get(rig.uid, 0) :]:
            line = line_of(doc)
            if line is not None:
                self.say(line, indent=" " * 10)
        self._told[rig.uid] = len(found)
        texts = [doc["text"] for doc in documents if doc["kind"] == "progress"]
        live = rig.subscriber.live
        state = str(live.get("state") or "")
        now = ""
        if state in ("ENERGISED", "CUTTING") and live.get("bias_v") is not None:
            style = _STATE_STYLE.get(state, "green")
            now = f"[{style}]{si(live['bias_v'], 'V'):>8} {si(live.get('current_a'), 'A'):>8}[/]"
        said = texts[-1].rsplit(": ", 1)[-1] if texts else "starting"
        bar.update(task, completed=len(found), description="done" if rig.ended else said, now=now)

    def staying(self, port: int, rigs: Sequence[str]) -> None:
        """Say how to look at what goes on running."""
        self.say(f"The rigs {' and '.join(rigs)} run on. In another terminal, in this folder:")
        if not self._quiet:
            self._console.print(f"  .venv/bin/tipguard watch --port {port}", style="bold", markup=False, soft_wrap=True)
        self.say("Ctrl-C here cuts, verifies and ends everything.")

    # ------------------------------------------------------------------------------------------------- at the end

    def delivery(self, frames: dict[str, int], samples: dict[str, int], broker: str) -> None:
        """Say what arrived."""
        lost = frames["missing"] + samples["missing"]
        self.say(
            f"Received over MQTT ({broker}): {frames['received']} of {frames['published']} frames, "
            f"{samples['received']} of {samples['recorded']} samples; {lost or 'nothing'} missing.",
            style="bold red" if lost else "",
        )

    def files(self, report: Path, others: Sequence[Path], took_s: float) -> None:
        """Say where to look first."""
        # Not wrapped: a path is to be copied.
        if not self._quiet:
            self._console.print(f"open {report}", style="bold cyan", markup=False, soft_wrap=True)
            names = "  ".join(path.name for path in others)
            self._console.print(f"beside it: {names}   ({took_s:.0f} s)", style="cyan", markup=False, soft_wrap=True)


def _total(rig: ShownRig) -> int:
    parameters = rig.part.parameters
    return len(parameters["points"]) if "points" in parameters else int(parameters["cycles"])


def whole(value: float | None, unit: str, digits: int = 3) -> str:
    """Return a quantity that no line break divides."""
    return si(value, unit, digits).replace(" ", NO_BREAK).replace("-", "−")


def ratio_text(ratio: float) -> str:
    """Return a ratio with two digits, with spaces between thousands: 49 742 as ``50 000``."""
    return f"{float(f'{ratio:.1e}'):,.0f}".replace(",", NO_BREAK)


def line_of(doc: dict[str, Any]) -> str | None:
    """Return what a finished point or cycle comes to in one line; None for cycles that are not told one by one."""
    if doc["kind"] == "cycle":
        number = doc["cycle"] + 1
        if number % _EVERY and doc["set"] and doc["reset_ok"]:
            return None
        ratio = (
            f"on/off {'at least ' if doc['on_off_is_bound'] else ''}{ratio_text(doc['on_off'])}"
            if doc["on_off"]
            else ""
        )
        reset = "reset" if doc["reset_ok"] else "NOT reset"
        set_at = f"set at {whole(doc['trigger_bias_v'], 'V')}" if doc["set"] else "NOT set"
        return f"memristor cycle {number}: {set_at}, {reset} at {whole(doc['reset_bias_v'], 'V')}; {ratio}"
    what = f"map       {doc['site_kind'].upper()} {doc['label']}:"
    match doc["class"]:
        case "triggered":
            cut_s = latency_s(doc)
            cut = f"cut and verified off {whole(cut_s, 's', 2)} after the reading" if cut_s else "seen after the sweep"
            ohm = (doc["after"] or {}).get("resistance_ohm")
            formed = f"; what formed reads {whole(ohm, 'Ω')}" if ohm else ""
            return f"{what} gave way at {whole(doc['trigger_bias_v'], 'V')}, {cut}{formed}"
        case "censored":
            return f"{what} nothing up to {whole(doc['to_v'], 'V', 2)}; contact confirmed before and after"
        case "lrs_at_start":
            return f"{what} conducted before the sweep"
    return f"{what} invalid: {doc['reason']}"
