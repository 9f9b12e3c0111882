"""What one rig is, and what follows from it: its configuration and the emulated instrument's command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.config import template
from hil.broker import Broker
from hil.errors import BenchFaultError

SERIAL_NUMBER: Final = "1304207"
# -P: a folder named edge or hil where we were started is not ours.
PYTHON: Final = (sys.executable, "-P")
TIPGUARD: Final = (*PYTHON, "-m", "edge.cli.main")


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RigSpec:
    """What a rig is. ``load``, ``site``, ``seed``, ``series_ohm`` (ohm), ``baud``: as for ``tipguard hil smu``.

    ``rig``: its id. ``config_text`` edits the configuration. ``pin_to``, ``pin_smu_to``: the one core that the
    controller and the instrument may use.
    """

    rig: str = "bench"
    seed: int = 1
    load: str | None = None
    site: str | None = None
    series_ohm: float = 1000.0
    baud: int = 57600
    config_text: Callable[[str], str] = _as_it_is
    pin_to: int | None = None
    pin_smu_to: int | None = None


def config_of(spec: RigSpec, link: Path, broker: Broker | None) -> str:
    """Return the configuration of a rig whose port is ``link``; without a broker it names the default one."""
    text = template(path="PORT", serial_number=SERIAL_NUMBER, series_ohm=spec.series_ohm)
    edits = {
        'path = "PORT"': f"path = {json.dumps(str(link))}",
        'id = "bench-1"': f"id = {json.dumps(spec.rig)}",
        # 0 is the emulator's: bytes take no time. A port has a rate all the same.
        "baud = 57600": f"baud = {spec.baud or 57600}",
    }
    if broker is not None:
        edits['host = "127.0.0.1"'] = f"host = {json.dumps(broker.host)}"
        edits["port = 1883"] = f"port = {broker.port}"
    for old, new in edits.items():
        if text.count(f"\n{old}") != 1:
            raise BenchFaultError(f"the configuration's template has not one line that begins with {old!r}")
        text = text.replace(f"\n{old}", f"\n{new}")
    return spec.config_text(text)


def smu_command(spec: RigSpec, link: Path, truth: Path) -> list[str]:
    """Return how the emulated instrument is started."""
    options = {
        "--link": link,
        "--baud": spec.baud,
        "--load": spec.load,
        "--site": spec.site,
        "--series-ohm": float(spec.series_ohm),
        "--seed": spec.seed,
        "--truth": truth,
        "--serial-number": SERIAL_NUMBER,
    }
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return [*pinned(spec.pin_smu_to), *PYTHON, "-m", "hil", "smu", *words]


def pinned(core: int | None) -> list[str]:
    """Return what keeps a command that follows on ``core``; nothing for None."""
    return [] if core is None else ["taskset", "-c", str(core)]
