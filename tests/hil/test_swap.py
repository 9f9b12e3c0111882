"""Another resistor at the terminals: the load itself, the socket, and the verbs."""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.errors import BenchOptionError
from hil.smu import SmuOptions, serve_smu
from hil.swap import OPEN_OHM, Swap, swap, swap_verb
from hil.twin.ohmic import OhmicLoad

MS = 1_000_000


@contextmanager
def served(path: Path, load: OhmicLoad, questions: int) -> Iterator[None]:
    """Answer so many questions."""

    def serve() -> None:
        with Swap(path, load) as socket:
            up.set()
            for _ in range(questions):
                assert select.select([socket], [], [], 10.0)[0]
                socket.ready()

    up = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    assert up.wait(10.0)
    yield
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_resistor_is_replaced_where_the_sample_is_and_its_charge_stays() -> None:
    load = OhmicLoad(1e4)
    load.set_source(0, 1.0, 1e-3, connected=True)
    load.advance(10 * MS)
    load.replace(1e6)
    assert load.terminal_current_a == pytest.approx(1e-6)
    load.advance(20 * MS)
    assert load.charge_c == pytest.approx(1e-4 * 0.010 + 1e-6 * 0.010)
    with pytest.raises(BenchOptionError):
        load.replace(0.0)
    assert load.r_ohm == 1e6


def test_what_is_asked_for_is_put_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load, path = OhmicLoad(1e7), tmp_path / "swap"
    with served(path, load, 3):
        swap(path, "ohmic:1e4")
        assert load.r_ohm == 1e4
        assert swap_verb(path, "open") == 0
        assert load.r_ohm == OPEN_OHM
        with pytest.raises(BenchOptionError, match="want ohmic:R"):
            swap(path, "gb")
    assert json.loads(capsys.readouterr().out) == {"load": "open"}
    assert not path.exists()
    assert swap_verb(path, "open") == 2
    assert "is a server with this --swap running?" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"no", b"[]", b'{"load": 7}', b'{"load": "ohmic:-1"}', b'{"load": "ohmic:nan"}'])
def test_nonsense_changes_nothing(tmp_path: Path, data: bytes) -> None:
    load = OhmicLoad(1e7)
    with Swap(tmp_path / "swap", load) as socket:
        answer = socket.answer_to(data)
    assert answer["ok"] is False
    assert answer["error"]
    assert load.r_ohm == 1e7


def test_a_site_is_no_resistor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_smu(SmuOptions(link=tmp_path / "smu", site="gb", seed=1, swap=tmp_path / "swap")) == 2
    assert "only a resistor can be swapped" in capsys.readouterr().err
