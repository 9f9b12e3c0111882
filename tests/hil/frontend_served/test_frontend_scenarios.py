"""Scenarios of a front end through the controller as shipped: one of each sort; and what protects, taken away."""

from __future__ import annotations

import tomllib

import pytest

from edge.instruments import frontend_reader
from hil.errors import BenchOptionError
from hil.frontend import build
from hil.frontend.lockstep import LockstepFrontend
from hil.scenarios import virtual
from hil.scenarios.run import run_scenario
from hil.scenarios.spec import FOLDER, load_scenario, parse_scenario

QUICK = ("frontend-report-lost", "frontend-deaf", "frontend-switch-stuck")
"""A set with more going wrong, half a cable, the switch; all of them with TIPGUARD_LONG=1 and in ``.ci/run``."""


@pytest.mark.parametrize("name", QUICK)
def test_it_holds(name: str) -> None:
    outcome = run_scenario(load_scenario(name))
    assert outcome.held, outcome.line()["broken"]
    assert outcome.seen.applied


def test_a_controller_that_does_not_mind_silence_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Front end and watchdog hang: only the controller is left, and it no longer looks whether it hears anything."""
    monkeypatch.setattr(frontend_reader, "SILENT_S", 1e6)
    outcome = run_scenario(load_scenario("frontend-frozen-for-good"))
    assert not outcome.held
    assert "status" in outcome.line()["broken"]


def test_a_firmware_without_the_end_of_its_lease_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears no renewal any more and stays closed all the same."""
    edit = build.Edit("tg_core.c", "if (judged && now >= core->lease_deadline)", "if (0)")
    library = build.lockstep(edits=[edit])

    def careless(**options: int) -> LockstepFrontend:
        return LockstepFrontend(library=library, boot_nonce=options["boot_nonce"])

    monkeypatch.setattr(virtual, "LockstepFrontend", careless)
    outcome = run_scenario(load_scenario("frontend-deaf"))
    assert "safe" in outcome.line()["broken"]


def test_a_map_has_no_front_end() -> None:
    data = tomllib.loads((FOLDER / "stage-stalls.toml").read_text(encoding="utf-8"))
    data["rig"]["frontend"] = True
    with pytest.raises(BenchOptionError, match=r'rig\.frontend: the bench "map" has none'):
        parse_scenario(data, name="it", source="it")
