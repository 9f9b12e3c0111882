"""``tipguard replay`` as typed: what it prints, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge.cli.app import build_app
from edge.flight import Stretch, write_flight
from edge.ring import Kind
from edge.tape import IN, pack, unpack
from tests.hil.test_replay import sweep, with_event


def typed(*words: object) -> Result:
    app = build_app(with_hil=False, with_demo=False)
    return CliRunner().invoke(app, ["replay", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def stretch() -> Stretch:
    return sweep()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A sweep with its cut, recorded by this version."""
    path = tmp_path / "recording" / "00000001.flight"
    write_flight(path, "r", [sweep()], compressed=False)
    return path


def uid_of(stretch: Stretch) -> str:
    return next(str(document["uid"]) for document in stretch.documents(Kind.RUN))


def samples_of(stretch: Stretch) -> int:
    return sum(record.kind == Kind.SAMPLE for record in stretch.whole())


def tampered(stretch: Stretch, path: Path) -> Path:
    """One digit of one reading."""
    done = False
    records = []
    for record in stretch.records:
        if record.kind == Kind.TAPE and not done:
            entries = unpack(record.payload)
            for at, entry in enumerate(entries):
                if not isinstance(entry, int) and entry[0] == IN and b"E-09," in entry[3] and not done:
                    entries[at] = (*entry[:3], entry[3].replace(b"E-09,", b"E-08,"))
                    done = True
            record = record._replace(payload=pack(entries))  # noqa: PLW2901
        records.append(record)
    assert done
    write_flight(path, "r", [Stretch(stretch.start, records)], compressed=False)
    return path


def test_the_same_ends_with_0_and_says_so(recording: Path) -> None:
    result = typed(recording)
    assert result.exit_code == 0
    assert "CONDUCTANCE (planned)" in result.output
    assert "same as recorded" in result.output


def test_json_is_one_object(stretch: Stretch, recording: Path) -> None:
    result = typed(recording, "--json")
    report = json.loads(result.stdout)
    assert report["same"] is True
    [one] = report["stretches"]
    assert (one["samples"], one["difference"], one["state"]) == (samples_of(stretch), None, "SAFE")
    assert one["runs"] == [{"uid": uid_of(stretch), "status": "completed", "reason": None}]
    assert one["cuts"][0]["verdict"] == "CONDUCTANCE"


def test_one_digit_ends_with_1_and_the_first_difference(stretch: Stretch, tmp_path: Path) -> None:
    path = tampered(stretch, tmp_path / "other.flight")
    result = typed(path)
    assert result.exit_code == 1
    assert "DIFFERENT: sample after" in result.output
    assert "current_a" in result.output
    report = json.loads(typed(path, "--json").stdout)
    assert report["same"] is False
    assert report["stretches"][0]["difference"]["kind"] == "sample"


def test_one_run_is_chosen_and_an_unknown_one_refused(stretch: Stretch, recording: Path) -> None:
    assert typed(recording, "--run", uid_of(stretch)).exit_code == 0
    result = typed(recording, "--run", "0123456789abcdef")
    assert result.exit_code == 1
    assert "no run 0123456789abcdef begins in it" in " ".join(result.output.split())
    assert uid_of(stretch) in result.output


def test_a_torn_file_is_replayed_up_to_the_tear_and_says_so(stretch: Stretch, tmp_path: Path) -> None:
    path = tmp_path / "torn.flight"
    # In the middle of a record: one that ends between two is only shorter.
    whole = write_flight(path, "r", [Stretch(stretch.start, stretch.records[:40])], compressed=False)
    path.write_bytes(path.read_bytes()[: whole - 3])
    result = typed(path)
    assert result.exit_code == 0
    assert "ends in the middle of a record" in " ".join(result.output.split())
    assert "same as recorded" in result.output


def test_what_begins_in_the_middle_is_refused_with_what_is_needed(stretch: Stretch, tmp_path: Path) -> None:
    from edge.flight import encode, header

    path = tmp_path / "middle.flight"
    path.write_bytes(header("r", 1, continues=True) + b"".join(encode(record) for record in stretch.records[5:]))
    result = typed(path)
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert "A replay needs the start of a controller, or a checkpoint" in said


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert typed(tmp_path / "x").exit_code == 1
    assert "no flight record" in typed(tmp_path / "x").output


def test_print_shows_who_wrote_what(recording: Path) -> None:
    result = typed(recording, "--print", "--port", "smu", "--from", "0", "--to", "0.3")
    assert result.exit_code == 0
    begin, *lines = result.output.splitlines()
    assert begin.startswith("# epoch ")
    assert any(line.endswith("smu   > *IDN?\\n") for line in lines)
    assert all("smu" in line for line in lines)


def test_a_fixture_in_one_command(tmp_path: Path, recording: Path) -> None:
    result = typed(recording, "--fixture", tmp_path / "mine", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    path = Path(report["fixture"])
    assert path == tmp_path / "mine.flight.gz"
    assert report["bytes"] == path.stat().st_size
    assert typed(path).exit_code == 0


def test_an_older_recording_is_compared_in_what_matters(stretch: Stretch, tmp_path: Path) -> None:
    path = tmp_path / "older.flight"
    write_flight(path, "r", [with_event(stretch, said_by_an_older_version=1)], compressed=False)
    assert typed(path).exit_code == 1
    assert typed(path, "--essential").exit_code == 0
