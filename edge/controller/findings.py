"""What a check has found: one line of a report each."""

from __future__ import annotations

import dataclasses
from typing import Literal

Grade = Literal["ok", "warn", "fail"]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    grade: Grade
    text: str
