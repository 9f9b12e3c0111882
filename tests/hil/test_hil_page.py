"""docs/hil.md: every test it names exists, and it names every kind of fault and every scenario."""

from __future__ import annotations

import re
from pathlib import Path

from hil.faults.kinds import KINDS
from hil.scenarios.spec import names

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/hil.md").read_text(encoding="utf-8")


def test_every_test_it_names_exists() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)
    assert len(named) > 150
    for file, name in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"


def test_it_names_every_kind_of_fault_and_what_it_does() -> None:
    for name, kind in KINDS.items():
        assert f"| `{name}` |" in PAGE
        assert kind.what in PAGE


def test_it_names_every_scenario_and_no_other() -> None:
    section = PAGE[PAGE.index("## Scenarios") : PAGE.index("## One suite")]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE) == list(names())
