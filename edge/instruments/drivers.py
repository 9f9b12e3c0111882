"""Finds the drivers a configuration names, among the entry points ``tipguard.smu`` and ``tipguard.stage``."""

from __future__ import annotations

import importlib.metadata

from edge.clock import Clock
from edge.config import Config
from edge.errors import ConfigError
from edge.instruments.link import Link
from edge.instruments.smu import Smu
from edge.instruments.stage import Contact, Stage
from edge.instruments.transport import Transport

GROUP = "tipguard.smu"
STAGE_GROUP = "tipguard.stage"


def make_smu(link: Link, config: Config) -> Smu:
    """Return the driver for ``smu.driver``; raise ConfigError naming those there are."""
    found = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    point = found.get(config.smu.driver)
    if point is None:
        raise ConfigError(
            f"smu.driver: value {config.smu.driver!r}: expected one of: {', '.join(sorted(found))}", key="smu.driver"
        )
    smu: Smu = point.load()(link, config)
    return smu


def make_stage(transport: Transport, clock: Clock, config: Config) -> tuple[Stage, Contact]:
    """Return the driver for ``stage.driver`` and what tells contact; raise ConfigError naming those there are."""
    found = {point.name: point for point in importlib.metadata.entry_points(group=STAGE_GROUP)}
    point = found.get(config.stage.driver)
    if point is None:
        raise ConfigError(
            f"stage.driver: value {config.stage.driver!r}: expected one of: {', '.join(sorted(found))}",
            key="stage.driver",
        )
    made: tuple[Stage, Contact] = point.load()(transport, clock, config)
    return made
