"""The worker's ports, from the descriptors that the keeper has opened."""

from __future__ import annotations

import argparse

from edge.config import Config
from edge.instruments.port import SerialTransport
from edge.instruments.transport import Transport


class Untouched(SerialTransport):
    """The line to an instrument that is not this rig's: heard, so that its plug is noticed, and never written to."""

    def write(self, data: bytes) -> int:
        """Drop it, whoever wants it written."""
        return len(data)


def stage_transport(args: argparse.Namespace, config: Config) -> Transport | None:
    """Return the line to the stage's controller; None where there is none, or its port is gone."""
    if config.ports.stage is None or args.stage_fd is None:
        return None
    return SerialTransport(
        args.stage_fd,
        name=config.ports.stage.path,
        baud=config.ports.stage.baud,
        emulated=args.stage_emulated,
        selector=None,
    )


def frontend_transport(args: argparse.Namespace, config: Config) -> Transport | None:
    """Return the line to the front end; None where there is none, or its port is gone."""
    if config.ports.frontend is None or args.frontend_fd is None:
        return None
    return SerialTransport(
        args.frontend_fd,
        name=config.ports.frontend.path,
        baud=config.ports.frontend.baud,
        emulated=args.frontend_emulated,
        selector=None,
    )
