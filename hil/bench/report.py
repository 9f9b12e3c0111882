"""The shape of a bench's result: name, results (name, value, unit, target, op, met), method, host, versions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import operator
import os
import platform
from typing import Any, Literal

_OPERATORS = {"<=": operator.le, ">=": operator.ge}


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and what it should be; ``target`` None: reported only."""

    name: str
    value: float
    unit: str
    target: float | None = None
    op: Literal["<=", ">="] = "<="

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else bool(_OPERATORS[self.op](self.value, self.target))

    def to_json(self) -> dict[str, Any]:
        """Return the figure as plain types."""
        return {**dataclasses.asdict(self), "met": self.met}


def bench_report(name: str, figures: list[Figure], *, method: str) -> dict[str, Any]:
    """Return a whole report, with what it ran on."""
    return {
        "name": name,
        "results": [figure.to_json() for figure in figures],
        "method": method,
        "host": {
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "load_1min": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "tipguard": importlib.metadata.version("tipguard"),
        },
    }
