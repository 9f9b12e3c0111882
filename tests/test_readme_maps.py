"""The README's map and memristor, typed as written, over the sample of the demo; a long round of two minutes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.broker import Broker, free_port
from hil.demo.show import POINTS_FILE, DemoOptions, write_points
from tests.test_readme import MQTT_PORT, READY, Desk, blocks, port_is_free

LONG = bool(os.environ.get("TIPGUARD_LONG"))
SEED = 2


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setitem(READY, "tipguard hil rig", '"ready": true')
    port = MQTT_PORT if port_is_free(MQTT_PORT) else free_port()
    with Broker(port=port) as broker:
        someone = Desk(tmp_path, broker)
        yield someone
        someone.go_home()


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.skipif(not LONG, reason="two minutes; set TIPGUARD_LONG=1")
def test_a_map_and_a_memristor_as_written(desk: Desk) -> None:
    out = desk.folder / "demo-out"
    out.mkdir()
    write_points(out / POINTS_FILE, DemoOptions(out=out, seed=SEED))
    printed = {
        line: desk.type(line)
        for block in blocks("Maps and memristors")
        if block.language == "sh"
        for line in block.text.splitlines()
    }
    (mapped,) = [text for line, text in printed.items() if line.startswith("tipguard run trigger-map")]
    assert "completed, 10 points" in mapped
    assert re.search(r"^GB +8 +8 +-1\d\d mV +0 +0 +0$", mapped, re.MULTILINE), mapped
    assert re.search(r"^GI +2 ", mapped, re.MULTILINE), mapped
    (cycled,) = [text for line, text in printed.items() if line.startswith("tipguard run memristor")]
    assert "completed, 5 cycles" in cycled
    assert "set    5 of 5" in cycled
    (checked,) = [text for line, text in printed.items() if line.startswith("tipguard check")]
    assert "stage" in checked
    assert desk.interrupt("tipguard serve") == 0, desk.printed("tipguard serve")
