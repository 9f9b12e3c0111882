"""What a person at a terminal sees: short, in plain words; nothing here measures anything."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from edge.analysis.si import si, si_pm
from hil.demo.findings import IvFindings
from hil.demo.truth import LABEL, SetTruth

DEVICE: Final = "emulated Keithley 2400"
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_STATE_STYLE: Final = {"ENERGISED": "yellow", "CUTTING": "red", "TRIPPED": "bold red"}
Tell = Callable[[dict[str, Any], str], None]
"""Takes the latest live document and what is going on in a word or two; moves the bar."""


class Story:
    """Prints to a console; with ``quiet`` nothing at all."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        """Print nothing yet."""
        self._console = console
        self._quiet = quiet

    def say(self, text: str, style: str = "") -> None:
        """Print one paragraph; lines end between words, never inside a quantity."""
        if not self._quiet:
            lines = textwrap.fill(text, max(self._console.width, 40), break_long_words=False, break_on_hyphens=False)
            self._console.print(lines, style=style, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something takes its time."""
        if self._quiet or not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield

    @contextlib.contextmanager
    def sweeping(self, to_v: float) -> Iterator[Tell]:
        """Show a bar that follows the bias towards ``to_v`` (V)."""
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[now]}"),
            console=self._console,
            disable=self._quiet or not self._console.is_terminal,
            transient=True,
        )
        with bar:
            task = bar.add_task("searching", total=abs(to_v), now=f"0 to {si(to_v, 'V', 2)}")

            def tell(live: dict[str, Any], doing: str) -> None:
                bias, current = live.get("bias_v"), live.get("current_a")
                if bias is None:
                    return
                # At the start the uplink may not have asked the controller again yet.
                state = str(live.get("state") or "").replace("UNKNOWN", "")
                style = _STATE_STYLE.get(state, "green")
                now = f"{si(bias, 'V'):>10} {si(current, 'A'):>9}  [{style}]{state}[/]"
                done = abs(bias) if live.get("phase") == "SEEK" else None
                bar.update(task, description=doing, completed=done, now=now)

            yield tell

    # ------------------------------------------------------------------------------------------------- the event

    def event(self, findings: IvFindings, truth: SetTruth | None) -> None:
        """Say what happened, then the table."""
        for line in in_words(findings):
            self.say(line)
        if findings.set is not None and not self._quiet:
            self._console.print()
            self._console.print(comparison(findings, truth))
            self._console.print()

    def delivery(self, frames: dict[str, int], samples: dict[str, int], broker: str) -> None:
        """Say what arrived."""
        lost = frames["missing"] + samples["missing"]
        self.say(
            f"Received over MQTT ({broker}): {frames['received']} of {frames['published']} frames, "
            f"{samples['received']} of {samples['recorded']} samples; {lost or 'nothing'} missing.",
            style="bold red" if lost else "",
        )

    def files(self, paths: list[Path], took_s: float) -> None:
        """Say where the pictures are."""
        # Not wrapped: a path is to be copied.
        names = "  ".join(str(path) for path in paths)
        if not self._quiet:
            self._console.print(f"{names}   ({took_s:.1f} s)", style="cyan", markup=False, soft_wrap=True)


def _whole(value: float | None, unit: str, digits: int = 3) -> str:
    """Return a quantity that no line break divides."""
    return si(value, unit, digits).replace(" ", NO_BREAK)


def _whole_pm(value: float | None, half: float | None, unit: str) -> str:
    return si_pm(value, half, unit).replace(" ", NO_BREAK)


def in_words(findings: IvFindings) -> list[str]:
    """Return the event as sentences."""
    found = findings.set
    if findings.status != "completed":
        return [f"The run ended early: {findings.reason or findings.status}."]
    if found is None:
        return [f"The sweep to {_whole(findings.plan.get('to_v'), 'V', 2)} ended without a set."]
    way = found.latency
    rate = _whole(abs(findings.ramp_v_s), "V/s", 2)
    floor = findings.noise_floor_a
    hidden = found.before_a is not None and abs(found.before_a) < floor
    before = f"below the noise floor ({_whole(floor, 'A', 2)})" if hidden else _whole(found.before_a, "A", 2)
    formed = (
        f"At {_whole_pm(found.trigger_bias_v, found.trigger_half_v, 'V')}, {rate}, a lithium filament formed under the "
        f"tip: from one reading to the next the current went from {before} to {_whole(found.set_current_a, 'A')}."
    )
    cut = (
        f"tipguard cut the bias ({found.verdict} at {_ordinal(found.samples_to_verdict)} reading): decided "
        f"{_whole(way.decide_s, 's', 2)} after the reading was complete, on the wire "
        f"{_whole(way.write_s, 's', 2)} later, output verified off after {_whole(way.total_s, 's', 2)}."
    )
    words = [formed, cut]
    if findings.site_ohm is not None:
        words.append(
            f"What formed conducts: {_whole(findings.site_ohm, 'Ω')}, read at ±20 mV, "
            f"{_whole(findings.series_ohm, 'Ω', 2)} in series taken off."
        )
    return words


def _ordinal(number: int) -> str:
    return {1: "the first", 2: "the second", 3: "the third"}.get(number, f"the {number}th")


def comparison(findings: IvFindings, truth: SetTruth | None) -> Table:
    """Return the event's numbers beside the emulator's."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    table.add_column("received over MQTT", justify="right")
    if truth is not None:
        table.add_column(LABEL, justify="right", style="dim")
    found = findings.set
    if found is None:
        return table
    rows = [
        (
            "trigger bias",
            si_pm(found.trigger_bias_v, found.trigger_half_v, "V"),
            si(truth.v_tip, "V", 4) if truth else "",
        ),
        ("set current", si(found.set_current_a, "A"), si(truth.set_current_a, "A") if truth else ""),
        ("filament", si(findings.site_ohm, "Ω"), si(truth.r_on_ohm, "Ω") if truth else ""),
        ("charge, onset to 0 V", f"> {si(found.charge_c, 'C', 2)}", si(truth.charge_c, "C", 2) if truth else ""),
        (
            "reading to cut",
            f"{si(found.latency.total_s, 's', 2)} (verified off)",
            f"{si((truth.safe_ns - found.reading_ns) * 1e-9, 's', 2)} (tip at 0 V)" if truth else "",
        ),
    ]
    for row in rows:
        table.add_row(*(row if truth is not None else row[:2]))
    return table
