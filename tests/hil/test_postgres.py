"""The PostgreSQL server of tests and benches: keeps its data over a kill, ends with us, leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from hil import postgres
from hil.errors import BenchFaultError, BenchOptionError
from hil.postgres import Postgres

psycopg = pytest.importorskip("psycopg", reason="needs the extra store: make setup")
pytestmark = pytest.mark.skipif(postgres.programs() is None, reason="needs PostgreSQL: apt-get install postgresql")


def test_data_outlive_a_kill_and_a_stop_and_nothing_outlives_the_close() -> None:
    with Postgres() as server:
        url = server.create("one")
        with psycopg.connect(url) as conn:
            conn.execute("CREATE TABLE kept (number int)")
            conn.execute("INSERT INTO kept VALUES (7)")
        held = psycopg.connect(url)
        pid, folder = server.pid, server.folder
        server.kill()
        assert not Path(f"/proc/{pid}").exists()
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
        server.start()
        server.start()
        server.stop()
        assert server.pid is None
        server.start()
        assert server.url("one") == url
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT number FROM kept").fetchall() == [(7,)]
        with pytest.raises(BenchFaultError, match="createdb"):
            server.create("one")
        server.drop("one")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
    server.close()
    assert not folder.exists()


def test_all_of_a_killed_server_has_ended_when_the_kill_returns() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Postgres())
        for _ in range(30):
            stack.enter_context(contextlib.closing(psycopg.connect(server.url())))
        assert server.pid is not None
        family = [os.pidfd_open(pid) for pid in (server.pid, *postgres._children(server.pid))]
        for descriptor in family:
            stack.callback(os.close, descriptor)
        assert len(family) > 30
        server.kill()
        # Those that still live hold the shared memory, and the next start is refused.
        ended, _, _ = select.select(family, [], [], 0)
        assert len(ended) == len(family)
        server.start()


_CHILD = """
import sys
from hil.postgres import Postgres
server = Postgres()
server.start()
print(server.pid, server.folder, flush=True)
sys.stdin.read()
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_whoever_started_it_even_killed() -> None:
    child = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    pid, folder = child.stdout.readline().split()
    server = os.pidfd_open(int(pid))
    child.stdin.close()
    child.wait()
    # A pidfd can be read once its process has ended.
    import shutil

    ended, _, _ = select.select([server], [], [], 20.0)
    os.close(server)
    child.stdout.close()
    shutil.rmtree(folder)
    assert ended


def test_only_its_user_reaches_it(postgres_server: Postgres) -> None:
    assert postgres_server.folder.stat().st_mode & 0o077 == 0
    with psycopg.connect(postgres_server.url()) as conn:
        assert conn.execute("SHOW listen_addresses").fetchall() == [("",)]


def test_without_the_programs_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "programs", lambda: None)
    with pytest.raises(BenchOptionError, match="apt-get install postgresql"):
        Postgres()


def test_a_start_that_fails_says_what_the_server_said() -> None:
    server = Postgres(settings={"shared_buffers": "'much'"})
    try:
        with pytest.raises(BenchFaultError, match="shared_buffers"):
            server.start()
    finally:
        server.close()
