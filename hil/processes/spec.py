"""What one rig is, and what follows from it: its configuration and the emulator's command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge.config import template
from hil.broker import Broker
from hil.errors import BenchFaultError, BenchOptionError
from hil.output_enable import REARM
from hil.processes.frontend_spec import FrontendSpec
from hil.processes.stage_spec import StageSpec

SERIAL_NUMBER: Final = "1304207"
# -P: a folder named edge or hil where we were started is not ours.
PYTHON: Final = (sys.executable, "-P")
TIPGUARD: Final = (*PYTHON, "-m", "edge.cli.main")


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RigSpec:
    """What a rig is. ``load``, ``site``, ``seed``, ``series_ohm`` (ohm), ``baud``: as for ``tipguard hil smu``.

    ``twin``: plain or full, ``transients`` with the full one. ``stage``: what moves the tip; the emulator is then
    ``tipguard hil rig``, whose twin is always full, and there is no ``load`` or ``site``. ``rig``: its id.
    ``config_text`` edits the configuration. ``pin_to``, ``pin_smu_to``: the one core that the controller and the
    emulator may use.
    """

    rig: str = "bench"
    seed: int = 1
    load: str | None = None
    site: str | None = None
    series_ohm: float = 1000.0
    baud: int = 57600
    twin: str = "plain"
    transients: bool = False
    stage: StageSpec | None = None
    config_text: Callable[[str], str] = _as_it_is
    pin_to: int | None = None
    pin_smu_to: int | None = None
    oe: bool = False
    """A heartbeat from the controller into a monostable at the emulated 2400's output enable line, both sides wired."""
    oe_clear: bool = True
    """The monostable's clear is wired, too."""
    oe_rearm: str = "remote"
    """As for ``tipguard hil smu``, and ``gpio.rearm`` alike: key or remote."""
    frontend: FrontendSpec | None = None
    """A front end in series with the tip, served by the emulator; None: none."""
    smu_words: tuple[str, ...] = ()
    """More words for the emulator's command line, such as ("--faults", "plan.toml")."""

    def __post_init__(self) -> None:
        """Refuse two samples at one pair of terminals."""
        if self.stage is not None and (self.load is not None or self.site is not None):
            raise BenchOptionError("a rig with a stage has a whole sample under its tip; leave out load and site")


def config_of(spec: RigSpec, link: Path, broker: Broker | None) -> str:
    """Return the configuration of a rig whose port is ``link``; without a broker it names the default one.

    A stage's port is at :func:`stage_link_of`.
    """
    text = template(path="PORT", serial_number=SERIAL_NUMBER, series_ohm=spec.series_ohm)
    if spec.oe:
        text += _gpio_table(spec, oe_socket_of(link))
    if spec.frontend is not None:
        text += spec.frontend.tables(frontend_link_of(link))
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
    if spec.stage is not None:
        text = spec.stage.configure(text, stage_link_of(link))
    return spec.config_text(text)


def stage_link_of(link: Path) -> Path:
    """Return where the stage's port is, beside the 2400's."""
    return link.with_name("stage")


def frontend_link_of(link: Path) -> Path:
    """Return where the front end's port is, beside the 2400's."""
    return link.with_name("frontend")


def oe_socket_of(link: Path) -> Path:
    """Return where the socket of the heartbeat is, beside the 2400's port."""
    return link.with_name("oe")


def _gpio_table(spec: RigSpec, path: Path) -> str:
    clear = "clear_line = 27\n" if spec.oe_clear else ""
    return (
        f"\n[gpio]\nchip = {json.dumps(str(path))}\nheartbeat_line = 17\n{clear}rearm = {json.dumps(spec.oe_rearm)}\n"
    )


def smu_command(spec: RigSpec, link: Path, truth: Path) -> list[str]:
    """Return how the emulator is started: the 2400's, or with a stage that of both."""
    begin = [*pinned(spec.pin_smu_to), *PYTHON, "-m", "hil"]
    front = [] if spec.frontend is None else spec.frontend.words(frontend_link_of(link))
    if spec.stage is not None:
        options = replace(
            spec.stage.options(link, stage_link_of(link)),
            baud=spec.baud,
            serial_number=SERIAL_NUMBER,
            series_ohm=float(spec.series_ohm),
            transients=spec.transients,
            seed=spec.seed,
            truth=truth,
            oe=oe_socket_of(link) if spec.oe else None,
            oe_rearm=spec.oe_rearm if spec.oe else REARM,
        )
        return [*begin, "rig", *options.words(), *front, *spec.smu_words]
    values = {
        "--link": link,
        "--baud": spec.baud,
        "--load": spec.load,
        "--site": spec.site,
        "--series-ohm": float(spec.series_ohm),
        "--seed": spec.seed,
        "--truth": truth,
        "--serial-number": SERIAL_NUMBER,
        "--twin": spec.twin,
        "--oe": oe_socket_of(link) if spec.oe else None,
        "--oe-rearm": spec.oe_rearm if spec.oe else None,
    }
    words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    return [*begin, "smu", *words, *(["--transients"] if spec.transients else []), *front, *spec.smu_words]


def pinned(core: int | None) -> list[str]:
    """Return what keeps a command that follows on ``core``; nothing for None."""
    return [] if core is None else ["taskset", "-c", str(core)]
