"""``tipguard store``: its refusals, its verbs, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge.cli.app import build_app
from edge.store.directory import DirectoryStore
from tests.edge.store.made import many


def tipguard(*words: str) -> Result:
    return CliRunner().invoke(build_app(with_hil=False, with_demo=False), ["store", *words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = DirectoryStore(tmp_path / "lab", "lab", compact_every_s=None)
    store.commit(many("rig-1", "samples", [0, 1, 4]), [])
    store.rotate()
    store.compact()
    store.close()
    return tmp_path / "lab"


def test_verify_in_words(folder: Path) -> None:
    done = tipguard("verify", "--to", str(folder))
    assert done.exit_code == 0, done.output
    assert "rig-1  fedcba9876543210  samples: 3 frames, holes: 2-3; 9 samples, 6 missing undeclared" in done.output
    assert "3 frames" in done.output
    assert done.output.rstrip().endswith("good")


def test_verify_for_programs(folder: Path) -> None:
    done = tipguard("verify", "--to", str(folder), "--json")
    report = json.loads(done.output)
    assert (done.exit_code, report["good"], report["frames"], report["doubled"]) == (0, True, 3, 0)
    assert report["streams"][0]["holes"] == [[2, 3]]


def test_verify_fails_for_a_hole_where_that_is_asked_for(folder: Path) -> None:
    done = tipguard("verify", "--to", str(folder), "--complete")
    assert done.exit_code == 1
    assert "not complete: 1 holes, 6 samples missing undeclared" in done.output
    report = json.loads(tipguard("verify", "--to", str(folder), "--complete", "--json").output)
    assert (report["good"], report["complete"], report["holes"], report["samples_missing"]) == (True, False, 1, 6)


def test_verify_passes_as_complete_what_has_no_hole(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "lab", "lab", compact_every_s=None)
    store.commit(many("rig-1", "samples", [0, 1, 2]), [])
    store.close()
    done = tipguard("verify", "--to", str(tmp_path / "lab"), "--complete")
    assert (done.exit_code, "not complete" in done.output) == (0, False)


def test_verify_counts_the_holes_that_it_does_not_print(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "lab", "lab", compact_every_s=None)
    store.commit(many("rig-1", "samples", list(range(1, 51, 2))), [])
    store.close()
    done = tipguard("verify", "--to", str(tmp_path / "lab"))
    # 25 of them: 0, 2, ... 48.
    assert "38-38 and 5 more;" in done.output
    assert "not complete: 25 holes" in done.output
    report = json.loads(tipguard("verify", "--to", str(tmp_path / "lab"), "--json").output)
    assert [len(stream["holes"]) for stream in report["streams"]] == [25]


def test_verify_of_a_store_with_a_loss_is_exit_1(folder: Path) -> None:
    (gone,) = folder.glob("frames/*/*/*.parquet")
    (samples,) = folder.glob("samples/*/*/*.parquet")
    # A frame's row that is gone, the manifest still counting it.
    from pyarrow import parquet

    with parquet.ParquetFile(gone) as file:
        table = file.read()
    parquet.write_table(table.slice(0, 2), gone)
    done = tipguard("verify", "--to", str(folder))
    assert done.exit_code == 1
    assert "1 said to be held and not: NOT GOOD" in done.output
    assert samples.exists()


def test_import(folder: Path, tmp_path: Path) -> None:
    words = ("import", "--from", str(folder), "--to", str(tmp_path / "attic"), "--name", "attic", "--json")
    for _ in range(2):
        done = tipguard(*words)
        assert (done.exit_code, json.loads(done.output)) == (0, {"read": 3, "unreadable": 0})
    assert json.loads(tipguard("verify", "--to", str(tmp_path / "attic"), "--json").output)["frames"] == 3


def test_an_import_joins_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    made = DirectoryStore.__init__

    def spied(self: DirectoryStore, *how: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        asked.append(named["join_bytes"])
        made(self, *how, **named)

    monkeypatch.setattr(DirectoryStore, "__init__", spied)
    done = tipguard("import", "--from", str(folder), "--to", str(tmp_path / "attic"), "--name", "attic")
    assert (done.exit_code, asked) == (0, [0])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--name", "lab"], 2, "--to"),
        (["--to", "DIR", "--name", "lab", "--host", "broker.lab"], 2, "goes to this computer only"),
        (["--to", "DIR", "--name", "lab", "--workers-group", "g", "--worker", "1"], 2, "one writer"),
        (["--to", "DIR", "--name", "Lab!"], 1, "name of the store"),
        (["--to", "DIR"], 1, "--name NAME"),
        (["--to", "DIR", "--name", "lab", "--cert-file", "x"], 2, "--ca-file"),
        (["verify", "--to", "DIR"], 1, "no store is there"),
        (["import", "--from", "DIR", "--to", "DIR2"], 1, "no store is there"),
    ],
)
def test_refusals(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    done = tipguard(*(str(tmp_path / word) if word.startswith("DIR") else word for word in words))
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_a_directory_that_is_being_written_is_refused(folder: Path) -> None:
    store = DirectoryStore(folder, "lab", compact_every_s=None)
    done = tipguard("--to", str(folder))
    assert done.exit_code == 1
    assert "another `tipguard store` writes it" in done.output
    # To read it is another matter.
    assert tipguard("verify", "--to", str(folder)).exit_code == 0
    store.close()


def test_help_names_what_there_is() -> None:
    done = tipguard("--help")
    assert done.exit_code == 0
    for word in ("verify", "import", "--to", "--restored"):
        assert word in done.output
