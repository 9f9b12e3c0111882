"""Finds the drivers a configuration names, among the entry points ``tipguard.smu``, ``.stage`` and ``.frontend``."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import TYPE_CHECKING

from edge.clock import Clock
from edge.config import Config
from edge.errors import ConfigError
from edge.instruments.link import Link
from edge.instruments.smu import Smu
from edge.instruments.stage import Contact, Stage
from edge.instruments.transport import Transport

if TYPE_CHECKING:
    # A rig without one loads neither its driver nor the arrays that this works with.
    from edge.instruments.frontend import Frontend
    from edge.instruments.lease import Permissions

GROUP = "tipguard.smu"
STAGE_GROUP = "tipguard.stage"
FRONTEND_GROUP = "tipguard.frontend"


@functools.cache
def points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the entry points of ``group`` by name, as they were when first asked for.

    What is installed does not change under a process, and to look through all packages takes milliseconds each time.
    """
    return {point.name: point for point in importlib.metadata.entry_points(group=group)}


def make_smu(link: Link, config: Config) -> Smu:
    """Return the driver for ``smu.driver``; raise ConfigError naming those there are."""
    found = points(GROUP)
    point = found.get(config.smu.driver)
    if point is None:
        raise ConfigError(
            f"smu.driver: value {config.smu.driver!r}: expected one of: {', '.join(sorted(found))}", key="smu.driver"
        )
    smu: Smu = point.load()(link, config)
    return smu


def make_stage(transport: Transport, clock: Clock, config: Config) -> tuple[Stage, Contact]:
    """Return the driver for ``stage.driver`` and what tells contact; raise ConfigError naming those there are."""
    found = points(STAGE_GROUP)
    point = found.get(config.stage.driver)
    if point is None:
        raise ConfigError(
            f"stage.driver: value {config.stage.driver!r}: expected one of: {', '.join(sorted(found))}",
            key="stage.driver",
        )
    made: tuple[Stage, Contact] = point.load()(transport, clock, config)
    return made


def make_frontend(
    transport: Transport, clock: Clock, config: Config, *, nonce: int, permissions: Permissions
) -> Frontend:
    """Return the driver for ``frontend.driver``; raise ConfigError naming those there are. ``nonce``: see Frontend."""
    name = "" if config.frontend is None else config.frontend.driver
    found = points(FRONTEND_GROUP)
    point = found.get(name)
    if point is None:
        raise ConfigError(
            f"frontend.driver: value {name!r}: expected one of: {', '.join(sorted(found))}", key="frontend.driver"
        )
    made: Frontend = point.load()(transport, clock, config, nonce=nonce, redeem=permissions.redeem)
    return made
