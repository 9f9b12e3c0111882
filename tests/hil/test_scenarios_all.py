"""Every scenario holds, its faults confirmed; the long round. ``.ci/run`` runs the verb for the page."""

from __future__ import annotations

import os

import pytest

from hil.scenarios.run import run_scenario
from hil.scenarios.spec import load_scenario, names

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("name", names() if LONG else ("all",))
def test_it_holds(name: str) -> None:
    if not LONG:
        pytest.skip("a minute for all of them: TIPGUARD_LONG=1")
    outcome = run_scenario(load_scenario(name))
    assert outcome.held, outcome.line()["broken"]
