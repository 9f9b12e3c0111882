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


@dataclasses.dataclass(frozen=True, slots=True)
class ProtectionLayer:
    """Something that protects the tip, or would. ``acts_within_s``: from the fault to no bias; None: never."""

    finding: Finding
    acts_within_s: float | None
