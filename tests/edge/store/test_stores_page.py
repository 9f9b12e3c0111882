"""docs/stores.md: its queries run, and say what they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from edge.store.directory import DirectoryStore
from edge.store.query import open_tables
from edge.store.tables import TABLES
from tests.edge.store.made import ROWS, many, payload_of

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "stores.md").read_text(encoding="utf-8")
FOLDER = "/srv/tipguard/lab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six frames of samples and four events in Parquet, two more of samples in the journal."""
    store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
    store.commit(many("rig-1", "samples", range(6)) + many("rig-2", "events", range(4)), [])
    store.rotate()
    store.compact()
    store.commit(many("rig-1", "samples", range(6, 8)), [])
    store.close()
    return tmp_path


def blocks(language: str, folder: Path) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert all(FOLDER in block for block in found)
    return [block.replace(FOLDER, str(folder)) for block in found]


def test_the_queries_on_parquet(folder: Path) -> None:
    samples, documents = blocks("sql", folder)
    assert duckdb.execute(samples).fetchall() == [("rig-1", _date(), 6 * ROWS, -0.25, (ROWS - 1) * 1e-9)]
    rows = duckdb.execute(documents).fetchall()
    assert [(rig, kind, number) for _, rig, kind, number in rows] == [("rig-2", "cut", str(n)) for n in (3, 2, 1, 0)]


def _date() -> Any:  # noqa: ANN401 - what duckdb makes of it
    (row,) = duckdb.execute("SELECT DATE '2023-11-14'").fetchall()
    return row[0]


def test_the_python_one_has_the_journal_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python", folder)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the page's own example
    np.testing.assert_array_equal(names["sweep"]["current_a"], np.tile(np.arange(ROWS) * 1e-9, 8))
    assert "-0.25" in capsys.readouterr().out


def test_a_view_of_each_table_with_or_without_parquet(tmp_path: Path, folder: Path) -> None:
    counts = {"samples": 8 * ROWS, "documents": 4, "frames": 12, "frontend": 0}
    db = open_tables(folder)
    assert {name: len(db.sql(f"FROM {name}").fetchall()) for name in TABLES} == counts
    store = DirectoryStore(tmp_path / "empty", "lab", compact_every_s=None)
    empty = open_tables(tmp_path / "empty")
    assert [empty.sql(f"FROM {name}").fetchall() for name in TABLES] == [[]] * 4
    assert empty.sql("FROM samples").columns == db.sql("FROM samples").columns
    store.close()


def test_the_columns_are_those_the_page_lists(folder: Path) -> None:
    db = open_tables(folder)
    for name in ("samples", "documents"):
        listed = set(re.findall(r"`([a-z_]+)`", PAGE)) | {"t_unc_ns", "t_rx_ns", "bias_v", "current_a", "flags"}
        assert set(db.sql(f"FROM {name}").columns) <= listed


def test_payloads_are_kept_byte_by_byte(folder: Path) -> None:
    found = open_tables(folder).sql("SELECT stream, seq, payload FROM frames WHERE rig = 'rig-1'").fetchall()
    assert sorted(found) == [("samples", seq, payload_of("rig-1", "samples", seq)) for seq in range(8)]
