"""The command map of a stage controller, as a file beside the rig's: read, and every mistake named with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from firmware_proto.stage_map import MapError, StageMap, read_map

DRIVER: Final = "scpi-stage"
"""The driver that reads a map."""
MAX_BYTES: Final = 65_536


def load_command_map(path: str | Path) -> StageMap:
    """Read and check a command map; raise :class:`ConfigError` with file, key, value and expectation."""
    file = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; docs/stage.md walks through a command map, deploy/examples has one", file=file
        ) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{file}: {len(raw)} bytes; a command map has up to {MAX_BYTES}", file=file)
    try:
        return read_map(tomllib.loads(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8", file=file) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not TOML: {error}", file=file) from error
    except MapError as error:
        raise ConfigError(f"{file}: {error}", file=file, key=error.key) from error
