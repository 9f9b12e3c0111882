"""The long rounds are the tests from which LONG is reached, and no others."""

from __future__ import annotations

from pathlib import Path

from tests.long_rounds import with_long_rounds

MODULE = """
import os
LONG = os.environ.get("TIPGUARD_LONG") == "1"
ROUNDS = 200 if LONG else 10
pytestmark = [pytest.mark.timeout(900 if LONG else 60)]
SMALL: int = 3

def seeds():
    return range(ROUNDS)

@pytest.fixture
def amount():
    return ROUNDS

@pytest.mark.skipif(not LONG, reason="long rounds")
def test_skipped(): ...
def test_by_a_constant(): assert ROUNDS
def test_by_a_helper(): assert list(seeds())
async def test_by_a_fixture(amount): ...
@pytest.mark.parametrize("seed", seeds())
def test_by_its_parameters(seed): ...
def test_quick(): assert SMALL
class TestMany:
    def test_all(self): assert ROUNDS
"""


def test_what_uses_it_in_whatever_way(tmp_path: Path) -> None:
    path = tmp_path / "test_made.py"
    path.write_text(MODULE, encoding="utf-8")
    found = with_long_rounds(path)
    assert {name for name in found if name.startswith(("test_", "Test"))} == {
        "test_skipped",
        "test_by_a_constant",
        "test_by_a_helper",
        "test_by_a_fixture",
        "test_by_its_parameters",
        "TestMany",
    }


def test_a_module_that_is_skipped_without_it_has_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "test_made.py"
    path.write_text(MODULE.replace("timeout(900 if LONG else 60)", "skipif(not LONG, reason='')"), encoding="utf-8")
    assert "test_quick" in with_long_rounds(path)


def test_a_module_that_does_not_read_it_has_none(tmp_path: Path) -> None:
    path = tmp_path / "test_made.py"
    path.write_text("def test_a(LONG): ...\n", encoding="utf-8")
    assert with_long_rounds(path) == frozenset()


def test_every_module_of_ours_that_reads_it_has_some() -> None:
    """A module that reads TIPGUARD_LONG under another name would be left out of the long rounds."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if 'environ.get("TIPGUARD_LONG")' in text and path != Path(__file__):
            assert with_long_rounds(path) or "mark.long" in text, path
