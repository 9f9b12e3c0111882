"""PostgreSQL as the store: killed by itself; and with two workers, the one that holds the lower numbers killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hil.errors import BenchOptionError
from hil.postgres import Postgres
from tests.proof.chains import BROKER, LAB, STORE, UPLINK, Proof
from tests.proof.stores import Ours

LONG = os.environ.get("TIPGUARD_LONG") == "1"
FIRST, SECOND = f"{STORE} {LAB}", "second worker"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1"),
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    try:
        server = Postgres(durable=True)
    except BenchOptionError as error:
        pytest.skip(str(error))
    with server:
        yield server


def counted(url: str) -> tuple[int, int]:
    """Return how many sample rows the view shows, and how many different ones: a doubling inside a frame shows here."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT (epoch, index)) FROM samples").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def test_the_database_killed_again_and_again(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.create("killed")
    with Proof(tmp_path, kind=Ours(url=url)) as proof:
        proof.chain.lend("postgresql", postgres)
        proof.chain.start()
        for _ in range(5):
            proof.wait_given(300)
            proof.wait_stored()
            proof.chain.kill("postgresql")
            proof.wait_given(300)
            proof.chain.start("postgresql")
        result = proof.finish()[LAB]
        assert result.even, str(result)
        assert counted(url) == (result.samples, result.samples)


def test_two_workers_the_one_with_the_lower_numbers_killed(tmp_path: Path, postgres: Postgres) -> None:
    """One worker takes frames and hangs, the other goes on above them: the watermark must not cover what hangs."""
    url = postgres.create("workers")
    group = ("--workers-group", "lab")
    with Proof(tmp_path, kind=Ours(*group, "--worker", "0", url=url)) as proof:
        second = Ours(*group, "--worker", "1", url=url)
        proof.chain.replace(
            SECOND, lambda _life: [str(word) for word in second.command(tmp_path, proof.broker.port, LAB)]
        )
        proof.chain.start(BROKER, FIRST, SECOND, UPLINK)
        proof.give(500)
        proof.wait_stored()
        proof.chain.child(FIRST).send_signal(signal.SIGSTOP)
        proof.give(3000, max_frame=20)
        account = proof.reader.look()
        wanted = account.must_be_stored()
        # The second has stored something above what the first holds: a mark with a hole.
        proof.chain.wait(
            "a hole in a mark",
            lambda: any(mark.holes or mark.top >= mark.contiguous for mark in proof.marks.latest[LAB].marks),
            30.0,
        )
        claimed = wanted - proof.marks.missing(LAB, wanted)
        held = {(one.epoch, one.stream, one.seq) for one in proof.held()}
        assert claimed <= held, f"said to be held and not: {sorted(claimed - held)[:5]}"
        proof.chain.kill(FIRST)
        proof.chain.start(FIRST)
        result = proof.finish()[LAB]
        proof.chain.kill(SECOND)
        assert result.even, str(result)
        assert counted(url) == (result.samples, result.samples)
