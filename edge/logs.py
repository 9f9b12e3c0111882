"""Logs: JSON lines under systemd, plain text on a terminal; always to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO, cast

import structlog

MAX_VALUE: Final = 160
"""Characters of one value in a plain line; the whole is in the JSON lines and in the events."""
_COLOURS: Final = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_RESET: Final = "\x1b[0m"


def value_in_words(value: object) -> str:
    """Return a value for a person: no braces, no nanoseconds, nothing that is absent."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value + 0.0:.4g}"
    if isinstance(value, Mapping):
        parts = (
            f"{str(key).replace('_', ' ')} {value_in_words(inner)}"
            for key, inner in value.items()
            if inner is not None and key != "epoch" and not str(key).endswith("_ns")
        )
        return f"({', '.join(parts)})"
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."


class PlainRenderer:
    """One line for a person: time, who, how bad where it is bad, what, and the rest in words."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> str:
        """Render; the rig's name is left out, a terminal knows its rig."""
        details: dict[str, Any] = dict(event)
        at, level = details.pop("timestamp", ""), str(details.pop("level", "info"))
        what = str(details.pop("event", ""))
        below = [str(details.pop(key)) for key in ("stack", "exception") if key in details]
        details.pop("rig", None)
        rest = ", ".join(
            f"{key.replace('_', ' ')} {value_in_words(value)}" for key, value in details.items() if value is not None
        )
        bad = ""
        if level in _COLOURS:
            bad = f"{_COLOURS[level]}{level}{_RESET}: " if self._colours else f"{level}: "
        return "\n".join([f"{at} {bad}{what}" + (f" ({rest})" if rest else ""), *below])


class Forgiving(io.TextIOBase):
    """A stream for logs that drops what cannot be written: a full disk, or a terminal that went away, ends no run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or do not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logs() -> None:
    """Set up structlog for this process; the choice follows how it was started."""
    under_systemd = "JOURNAL_STREAM" in os.environ or "INVOCATION_ID" in os.environ
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if under_systemd else PlainRenderer(colours=colours)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if under_systemd else "%H:%M:%S", utc=under_systemd),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Forgiving(sys.stderr))),
        cache_logger_on_first_use=True,
    )
