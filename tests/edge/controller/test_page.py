"""The heartbeat page: shared between processes, and never mistaken for one when it is not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.controller.page import MAGIC, SIZE, STATES, Page
from edge.errors import RingError

BIG = 2**64 - 1
OTHER = """
import os, sys
from pathlib import Path
from edge.controller.page import Page
page = Page(Path(sys.argv[1]))
print(page.heartbeat_ns, page.energised, page.query_outstanding, page.epoch, page.worker_pid)
page.stamp(222)
page.energised = False
page.set_query_outstanding(True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page"


@pytest.fixture
def page(path: Path) -> Page:
    return Page(path, create=True)


def one_line(error: BaseException, path: Path) -> None:
    assert str(error).startswith(f"{path}: ")
    assert "\n" not in str(error)


# ---------------------------------------------------------------------------------------------------- the file


def test_a_fresh_page_says_nothing(path: Path, page: Page) -> None:
    assert path.stat().st_size == SIZE
    assert path.stat().st_mode & 0o777 == 0o600
    assert (page.heartbeat_ns, page.energised, page.query_outstanding) == (0, False, False)
    assert (page.epoch, page.worker_pid, page.keeper_cuts, page.restarts) == (0, 0, 0, 0)


def test_without_room_for_it_there_is_no_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked for when the page is made: on a full tmpfs the first store would otherwise be a SIGBUS.
    def full(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RingError, match="No space left on device") as caught:
        Page(path, create=True)
    one_line(caught.value, path)


def test_an_absent_page_is_none(path: Path) -> None:
    with pytest.raises(RingError, match="No such file or directory") as caught:
        Page(path)
    one_line(caught.value, path)


def test_a_page_where_none_can_be_made_is_none(tmp_path: Path) -> None:
    with pytest.raises(RingError, match="No such file or directory"):
        Page(tmp_path / "absent" / "page", create=True)


@pytest.mark.parametrize("content", [b"", b"x", bytes(SIZE - 1), bytes(SIZE + 1), bytes(2 * SIZE)])
def test_a_file_of_another_size_is_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RingError, match="not a heartbeat page; stop the controller") as caught:
        Page(path)
    one_line(caught.value, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("magic", [0, MAGIC + 1, MAGIC - 1, BIG])
def test_a_file_of_another_version_is_none(path: Path, magic: int) -> None:
    content = magic.to_bytes(8, "little") + bytes(SIZE - 8)
    path.write_bytes(content)
    with pytest.raises(RingError, match="not a heartbeat page of this version"):
        Page(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * SIZE, b"\xff" * 3 * SIZE])
def test_the_keeper_takes_over_whatever_lies_there(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    page = Page(path, create=True)
    assert path.stat().st_size == SIZE
    assert (page.heartbeat_ns, page.energised, page.query_outstanding, page.epoch) == (0, False, False, 0)
    assert (page.worker_pid, page.keeper_cuts, page.restarts) == (0, 0, 0)


def test_a_page_is_opened_again_as_it_was_left(path: Path, page: Page) -> None:
    page.begin_worker(77, BIG, 111)
    page.energised = True
    page.close()
    again = Page(path)
    assert (again.worker_pid, again.epoch, again.heartbeat_ns, again.energised) == (77, BIG, 111, True)


def test_closing_unmaps(path: Path, page: Page) -> None:
    page.close()
    with pytest.raises(ValueError, match="released"):
        page.stamp(1)


# --------------------------------------------------------------------------------------------------- the words


def test_every_word_is_a_word_of_its_own(path: Path, page: Page) -> None:
    page.begin_worker(2, 3, 4)
    page.energised = True
    page.set_query_outstanding(True)
    page.keeper_stamp(5, 6)
    assert page.keeper_heartbeat_ns == 5
    page.count_keeper_cut()
    page.count_restart()
    page.count_restart()
    assert (page.worker_pid, page.epoch, page.heartbeat_ns) == (2, 3, 4)
    assert (page.energised, page.query_outstanding) == (True, True)
    assert (page.keeper_cuts, page.restarts) == (1, 2)
    page.energised = False
    assert (page.energised, page.query_outstanding) == (False, True)
    page.set_query_outstanding(False)
    page.stamp(9)
    assert (page.heartbeat_ns, page.worker_pid, page.epoch, page.keeper_cuts, page.restarts) == (9, 2, 3, 1, 2)
    words = memoryview(path.read_bytes()).cast("Q")
    assert list(words[:10]) == [MAGIC, 9, 0, 0, 3, 2, 1, 5, 6, 2]
    assert not any(words[10:])


def test_a_new_worker_begins_with_nothing_energised_and_nothing_outstanding(page: Page) -> None:
    page.energised = True
    page.set_query_outstanding(True)
    page.count_restart()
    page.begin_worker(5, BIG, 6)
    assert (page.energised, page.query_outstanding, page.worker_pid, page.epoch) == (False, False, 5, BIG)
    # What the keeper counts is the keeper's.
    assert page.restarts == 1


def test_counting_returns_the_total(page: Page) -> None:
    assert [page.count_keeper_cut() for _ in range(3)] == [1, 2, 3]
    assert [page.count_restart() for _ in range(3)] == [1, 2, 3]


def test_another_process_sees_it_at_once_and_is_seen(path: Path, page: Page) -> None:
    page.begin_worker(77, BIG, 111)
    page.energised = True
    result = subprocess.run([sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["111", "True", "False", str(BIG), "77"]
    assert (page.heartbeat_ns, page.energised, page.query_outstanding) == (222, False, True)


def test_it_outlives_a_process_that_is_killed(path: Path, page: Page) -> None:
    code = "import os, sys\n" + OTHER.replace("print", "#") + "os.kill(os.getpid(), 9)\n"
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    assert result.returncode == -9
    assert (page.heartbeat_ns, page.query_outstanding) == (222, True)


def test_the_keeper_can_import_it_without_anything_but_the_standard_library() -> None:
    code = (
        "import sys\nimport edge.controller.page, edge.controller.mirror, edge.controller.realtime\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('pydantic', 'msgpack', 'numpy', 'asyncio', 'structlog')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_state_is_what_the_worker_said_until_another_worker_begins(page: Page) -> None:
    assert page.state == ""
    page.begin_worker(1, 2, 3)
    assert page.state == ""
    for name in STATES:
        page.state = name
        assert page.state == name
    page.begin_worker(4, 5, 6)
    assert page.state == ""
    with pytest.raises(ValueError, match="tuple"):
        page.state = "FINE"
