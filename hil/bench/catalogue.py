"""The benches by name. Each is a module with a function of the same name: BenchOptions in, report out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from hil.bench.options import BenchOptions
from hil.errors import BenchOptionError

MODULES: Final[dict[str, str]] = {
    "detector": "hil.bench.detector",
    "dose": "hil.bench.dose",
    "observe": "hil.bench.observe",
    "reaction": "hil.bench.reaction",
    "store": "hil.bench.store",
    "stream": "hil.bench.stream",
    "uplink": "hil.bench.uplink",
    "wire": "hil.bench.wire",
}
"""Loaded when asked for: some need compilers or programs that others do not."""


def bench(name: str, options: BenchOptions) -> dict[str, Any]:
    """Run the bench ``name``; raises BenchOptionError where there is none, and whatever keeps it from measuring."""
    if name not in MODULES:
        raise BenchOptionError(f"bench {name!r}: expected one of: {', '.join(MODULES)}")
    run: Callable[[BenchOptions], dict[str, Any]] = getattr(importlib.import_module(MODULES[name]), name)
    return run(options)
