"""The demo, in order: check what is needed, play, draw, tell, write ``summary.json`` and ``report.html``."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from hil.broker import Broker
from hil.demo.pages import make_report, result_lines
from hil.demo.pictures import draw
from hil.demo.plan import FULL, Size, map_part
from hil.demo.play import Demo, DemoInterruptedError, Seen
from hil.demo.report import write_report
from hil.demo.story import DEVICE, Story
from hil.demo.summary import as_it_should_be, summarise
from hil.errors import BenchOptionError
from hil.processes import Ending, Interruption

SUMMARY_FILE: Final = "summary.json"
REPORT_FILE: Final = "report.html"
POINTS_FILE: Final = "points.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """``out`` is created; ``seed`` draws the samples; ``broker`` "auto" takes Mosquitto where it is installed.

    ``stay``: the rigs go on afterwards until a signal comes. ``size``: how much is shown.
    """

    out: Path
    seed: int
    broker: Literal["auto", "mosquitto", "iotcore"] = "auto"
    as_json: bool = False
    stay: bool = False
    size: Size = FULL


def run_demo(options: DemoOptions, console: Console) -> tuple[int, dict[str, Any]]:
    """Run the demo; return the exit code and what ``summary.json`` holds.

    0: every run was completed, nothing was missed, invented or lost. Raises HilError saying what to do, and
    DemoInterruptedError after a signal; nothing runs any more then.
    """
    began = time.monotonic()
    _check(options)
    story = Story(console, quiet=options.as_json)
    interruption = Interruption()
    broker = Broker(prefer=None if options.broker == "auto" else options.broker)
    what = f"{DEVICE}s and stages, 57600 baud, seed {options.seed}"
    story.say(f"tipguard demo: {what}; takes {options.size.takes}", "bold")
    with interruption.watching(), Demo(options.seed, options.size, broker, interruption, story) as demo:
        seen = demo.play()
        with story.working("drawing"):
            pictures = draw(seen, options.seed, options.out)
        if interruption.came:
            raise DemoInterruptedError(Ending(True, "everything had ended"))
        took_s = time.monotonic() - began
        summary = _write(options, seen, pictures, broker.kind, took_s)
        for line in result_lines(seen):
            story.say(line, indent="  ")
        story.delivery(seen.frames, seen.samples, broker.kind)
        others = [*pictures.values(), options.out / SUMMARY_FILE, options.out / POINTS_FILE]
        story.files(options.out / REPORT_FILE, others, took_s)
        if options.stay:
            demo.stay()
    return (0 if summary["ok"] else 1), summary


def _write(options: DemoOptions, seen: Seen, pictures: dict[str, Path], broker: str, took_s: float) -> dict[str, Any]:
    write_points(options.out / POINTS_FILE, options)
    summary = summarise(seen, seed=options.seed, broker=broker, took_s=took_s)
    summary |= {"ok": as_it_should_be(summary), "files": [path.name for path in pictures.values()] + [REPORT_FILE]}
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    (options.out / SUMMARY_FILE).write_text(text, encoding="utf-8")
    write_report(options.out / REPORT_FILE, make_report(seen, summary, pictures))
    return summary


def write_points(path: Path, options: DemoOptions) -> None:
    """Write the map's points as ``tipguard run trigger-map --points`` reads them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("x_um", "y_um", "kind", "label"))
        for x_m, y_m, kind, label in map_part(options.seed, options.size).parameters["points"]:
            writer.writerow((f"{x_m * 1e6:.4f}", f"{y_m * 1e6:.4f}", kind, label))


def _check(options: DemoOptions) -> None:
    """Refuse before anything runs what would fail at the end."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BenchOptionError("matplotlib is not installed, which draws the pictures; `make setup` installs it")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchOptionError(f"--out {options.out}: {error.strerror}; name a folder that can be written") from error
    if not os.access(options.out, os.W_OK):
        raise BenchOptionError(f"--out {options.out}: cannot be written; name another folder")
