"""Logs: JSON lines under systemd, plain text on a terminal; always to stderr."""

from __future__ import annotations

import os
import sys

import structlog


def configure_logs() -> None:
    """Set up structlog for this process; the choice follows how it was started."""
    under_systemd = "JOURNAL_STREAM" in os.environ or "INVOCATION_ID" in os.environ
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if under_systemd
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if under_systemd else "%H:%M:%S", utc=under_systemd),
            structlog.processors.StackInfoRenderer(),
            *([structlog.processors.format_exc_info] if under_systemd else []),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
