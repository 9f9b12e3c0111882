"""A recording that anybody may see: without names, and still the same recording."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.errors import FlightError
from edge.experiments.iv import IvPlan
from edge.flight import FlightRecord, Stretch, cut_out, read_flight, run_uids, stretches
from edge.ring import Kind
from edge.tape import IN, OUT, SMU, STAGE, pack, unpack
from hil.replay import fixture, replay
from hil.replay.fixture import make_fixture, stripped
from hil.replay.words import in_words, lines, report
from hil.rig import config_for
from hil.twin.ohmic import OhmicLoad
from hil.virtual_bench import VirtualBench, on_bench

SERIAL = "1304207"


def recorded() -> Stretch:
    """A short run of a rig that has names everywhere, stopped by a person who has one."""

    async def work(bench: VirtualBench) -> None:
        bench.rig.worker.runner.start(IvPlan(to_v=-0.3, step_v=0.01), by="ada.lovelace")
        await bench.until_live()
        bench.rig.worker.runner.stop(by="ada.lovelace")
        await bench.ended()
        bench.rig.worker.recorder.flush_tape()

    config = config_for(
        rig="cellar-7",
        uplink={"host": "broker.cellar.example", "username": "cellar", "plain": "anywhere"},
        recorder={"directory": "/data/ada"},
    )
    with tempfile.TemporaryDirectory() as folder:
        on_bench(Path(folder), work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth), config=config)
        [stretch], _ = stretches(read_flight(Path(folder) / "ring").records)
    return cut_out(stretch, run_uids(stretch)[0])


@pytest.fixture(scope="module")
def run() -> Stretch:
    return recorded()


def whole(stretch: Stretch) -> bytes:
    return bytes(msgpack.packb(stretch.start)) + b"".join(record.payload for record in stretch.records)


def test_names_are_in_the_recording_and_not_in_the_fixture(run: Stretch) -> None:
    names = [SERIAL, "cellar-7", "ada.lovelace", "broker.cellar.example", "/data/ada"]
    assert all(name.encode() in whole(run) for name in names)
    assert not any(name.encode() in whole(stripped(run)) for name in names)


def test_what_was_measured_and_written_stays(run: Stretch) -> None:
    def of(stretch: Stretch, kind: Kind) -> list[bytes]:
        return [record.payload for record in stretch.records if record.kind == kind]

    def written(stretch: Stretch) -> list[Any]:
        return [entry for entry in stretch.entries() if not isinstance(entry, int) and entry[0] == OUT]

    assert of(stripped(run), Kind.SAMPLE) == of(run, Kind.SAMPLE)
    assert written(stripped(run)) == written(run)


def test_a_serial_number_in_two_pieces_is_replaced_too(run: Stretch) -> None:
    identity = b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,1304207,C31\r"
    entries = [(IN, 5, SMU, identity[:40]), (IN, 5, STAGE, b"x"), (IN, 6, SMU, identity[40:])]
    made = Stretch(run.start, [FlightRecord(Kind.TAPE, run.epoch, 0, 0, pack([5, *entries[:2]]))])
    made.records.append(FlightRecord(Kind.TAPE, run.epoch, 1, 8, pack([5, entries[2]])))
    replies = [entry[3] for entry in stripped(made).entries() if not isinstance(entry, int) and entry[2] == SMU]
    assert [len(reply) for reply in replies] == [40, len(identity) - 40]
    assert b"".join(replies) == identity.replace(b"1304207", b"0000001")


def test_digits_of_a_reading_are_no_serial_number(run: Stretch) -> None:
    reading = b"+1.304207E-07,+1304207.5\r"
    made = Stretch(run.start, [FlightRecord(Kind.TAPE, run.epoch, 0, 0, pack([5, (IN, 5, SMU, reading)]))])
    [entry] = [entry for entry in stripped(made).entries() if not isinstance(entry, int)]
    assert entry[3] == reading


def test_the_fixture_replays_and_is_never_written_over(run: Stretch, tmp_path: Path) -> None:
    path, replayed = make_fixture(run, tmp_path / "new" / "one")
    assert path == tmp_path / "new" / "one.flight.gz"
    assert replayed.same
    assert replayed.documents(Kind.RUN)[-1]["reason"] == "OPERATOR by somebody"
    with pytest.raises(FlightError, match="is there already"):
        make_fixture(run, tmp_path / "new" / "one.flight.gz")


def test_one_that_would_not_replay_is_not_left_behind(
    run: Stretch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixture, "_strip_replies", lambda *_args: None)
    with pytest.raises(FlightError, match="the fixture would not replay"):
        make_fixture(run, tmp_path / "one")
    assert list(tmp_path.iterdir()) == []


def test_the_exchange_can_be_read(run: Stretch) -> None:
    found = list(lines(run))
    times = [float(line.split()[0]) for line in found]
    assert times == sorted(times)
    text = "\n".join(found)
    assert "smu   > *IDN?\\n" in text
    # In one piece, however it came.
    assert f"smu   < KEITHLEY INSTRUMENTS INC.,MODEL 2400,{SERIAL},C" in text
    assert "* run plan=iv parameters={'to_v': -0.3" in text
    assert "* stop by=ada.lovelace verdict=OPERATOR" in text
    assert list(lines(run, port="stage")) == []
    some = [float(line.split()[0]) for line in lines(run, port="smu", from_s=0.2, to_s=0.4)]
    assert some
    assert 0.2 <= min(some) <= max(some) <= 0.4


def test_an_outcome_in_words(run: Stretch) -> None:
    outcome = report(replay(run))
    text = in_words(outcome)
    assert "cuts: OPERATOR (protective); at the end TRIPPED" in text
    assert text.endswith("same as recorded")
    records = [
        record._replace(payload=pack([e for e in unpack(record.payload) if isinstance(e, int) or e[0] != IN]))
        if record.kind == Kind.TAPE
        else record
        for record in run.records
    ]
    text = in_words(report(replay(Stretch(run.start, records))))
    assert "DIFFERENT: write after 0." in text
    assert "recorded: " in text
