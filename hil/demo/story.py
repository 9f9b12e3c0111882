"""What a person at a terminal sees: short, in plain words; nothing here measures anything."""

from __future__ import annotations

import contextlib
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
        """Print one paragraph."""
        if not self._quiet:
            # Words, not letters, go to the next line.
            self._console.print(text, style=style, markup=False, soft_wrap=False)

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
                state = str(live.get("state") or "")
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
        names = "  ".join(str(path) for path in paths)
        if not self._quiet:
            self._console.print(f"{names}   ({took_s:.1f} s)", style="cyan", markup=False)


def in_words(findings: IvFindings) -> list[str]:
    """Return the event as sentences."""
    found = findings.set
    if findings.status != "completed":
        return [f"The run ended early: {findings.reason or findings.status}."]
    if found is None:
        return [f"The sweep to {si(findings.plan.get('to_v'), 'V', 2)} ended without a set."]
    way = found.latency
    rate = si(abs(findings.ramp_v_s), "V/s", 2)
    floor = findings.noise_floor_a
    hidden = found.before_a is not None and abs(found.before_a) < floor
    before = f"below the noise floor ({si(floor, 'A', 2)})" if hidden else si(found.before_a, "A", 2)
    formed = (
        f"At {si_pm(found.trigger_bias_v, found.trigger_half_v, 'V')}, {rate}, a lithium filament formed under the "
        f"tip: from one reading to the next the current went from {before} to {si(found.set_current_a, 'A')}."
    )
    cut = (
        f"tipguard cut the bias ({found.verdict} at {_ordinal(found.samples_to_verdict)} reading): decided "
        f"{si(way.decide_s, 's', 2)} after the reading was complete, on the wire {si(way.write_s, 's', 2)} later, "
        f"output verified off after {si(way.total_s, 's', 2)}."
    )
    words = [formed, cut]
    if findings.site_ohm is not None:
        words.append(
            f"What formed conducts: {si(findings.site_ohm, 'Ω')}, read at ±20 mV, "
            f"{si(findings.series_ohm, 'Ω', 2)} in series taken off."
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
