"""The demo, in order: check what is needed, play, draw, tell, write ``summary.json``."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from hil.broker import Broker
from hil.demo.pictures import draw
from hil.demo.play import DemoInterruptedError, Seen, play
from hil.demo.story import DEVICE, Story
from hil.errors import BenchOptionError
from hil.processes import Ending, Interruption, RigSpec

RIG: Final = "demo-gb"
PLAN: Final = {"to_v": -0.44, "step_v": 0.0022, "dwell_s": 0.020}
"""0.1 V/s: at 57600 baud a level and its reading take 21 ms, a look at the limits every 16 readings included 22."""
SUMMARY_FILE: Final = "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """``out`` is created; ``seed`` draws the site; ``broker`` "auto" takes Mosquitto where it is installed."""

    out: Path
    seed: int
    broker: Literal["auto", "mosquitto", "iotcore"] = "auto"
    as_json: bool = False


def run_demo(options: DemoOptions, console: Console) -> tuple[int, dict[str, Any]]:
    """Run the demo; return the exit code and what ``summary.json`` holds.

    0: one set was found and cut as planned, and nothing is missing. Raises HilError saying what to do, and
    DemoInterruptedError after a signal; nothing runs any more then.
    """
    began = time.monotonic()
    _check(options)
    story = Story(console, quiet=options.as_json)
    interruption = Interruption()
    spec = RigSpec(rig=RIG, seed=options.seed, site="gb")
    broker = Broker(prefer=None if options.broker == "auto" else options.broker)
    story.say(f"tipguard demo: {DEVICE} at {spec.baud} baud, grain-boundary site, seed {spec.seed}", "bold")
    with interruption.watching():
        seen = play(spec, PLAN, broker, interruption, story)
        with story.working("drawing"):
            bench = f"{DEVICE}, {spec.baud} baud, seed {spec.seed}"
            pictures = draw(seen.findings, seen.truth, bench, options.out)
    if interruption.came:
        raise DemoInterruptedError(Ending(True, "everything had ended"))
    ok = _as_it_should_be(seen)
    took_s = time.monotonic() - began
    summary = _summary(spec, broker, seen, pictures, took_s) | {"ok": ok}
    summary_path = options.out / SUMMARY_FILE
    summary_path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    story.event(seen.findings, seen.truth)
    story.delivery(seen.frames, seen.samples, broker.kind)
    story.files([*pictures, summary_path], took_s)
    return (0 if ok else 1), summary


def _check(options: DemoOptions) -> None:
    """Refuse before anything runs what would fail at the end."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BenchOptionError("matplotlib is not installed, which draws the pictures: pip install 'tipguard[demo]'")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchOptionError(f"--out {options.out}: {error.strerror}; name a folder that can be written") from error
    if not os.access(options.out, os.W_OK):
        raise BenchOptionError(f"--out {options.out}: cannot be written; name another folder")


def _as_it_should_be(seen: Seen) -> bool:
    sets = seen.findings.sets
    complete = seen.frames["missing"] == seen.samples["missing"] == 0
    return complete and seen.findings.status == "completed" and len(sets) == 1 and sets[0].planned


def _summary(spec: RigSpec, broker: Broker, seen: Seen, pictures: list[Path], took_s: float) -> dict[str, Any]:
    findings = seen.findings
    return {
        "v": 1,
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "rig": {"id": spec.rig, "device": DEVICE, "baud": spec.baud, "series_ohm": spec.series_ohm},
        "site": spec.site,
        "seed": spec.seed,
        "broker": broker.kind,
        "run": findings.uid,
        "plan": findings.plan,
        "iv": findings.document(),
        "cut_latency_s": findings.latency_document(),
        "frames": seen.frames,
        "samples": seen.samples,
        "truth": seen.truth.document() if seen.truth else None,
        "files": [path.name for path in pictures],
        "took_s": round(took_s, 2),
    }
