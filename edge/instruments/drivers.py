"""Finds the driver a configuration names, among the entry points ``tipguard.smu``."""

from __future__ import annotations

import importlib.metadata

from edge.config import Config
from edge.errors import ConfigError
from edge.instruments.link import Link
from edge.instruments.smu import Smu

GROUP = "tipguard.smu"


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
