"""SIGKILL of any part, or several, at random moments, while data flows; after each round everything is stored.

And at the end of each handful of rounds what the stores hold is balanced against what the ring was given. 10 rounds in
the quick suite, 200 in the long one: feeder, uplink, broker and a directory; the same with PostgreSQL; whole rigs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from hil.errors import BenchOptionError
from hil.postgres import Postgres
from tests.proof.chains import LAB, Proof, one_round
from tests.proof.rigs import RigProof, rig_round
from tests.proof.stores import Ours

LONG = os.environ.get("TIPGUARD_LONG") == "1"
DIRECTORY_ROUNDS: Final = 5 if LONG else 1
DIRECTORY_PER: Final = 20 if LONG else 6
POSTGRES_ROUNDS: Final = 3 if LONG else 1
POSTGRES_PER: Final = 20 if LONG else 2
RIG_ROUNDS: Final = 10 if LONG else 1
RIG_PER: Final = 4 if LONG else 2
POSTGRES: Final = "postgresql"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900 if LONG else 120)]


def play(proof: Proof, rounds: int, seed: int) -> None:
    """Play rounds and balance; what was struck is printed, so that a failure can be told from its output."""
    rng = random.Random(seed)
    proof.chain.start()
    for number in range(rounds):
        print(f"\nseed {seed}, round {number}: killed {one_round(proof, rng, proof.chain.names)}", end="")
    result = proof.finish()[LAB]
    print(f"\nseed {seed}: {result}; kills {proof.chain.kills}")
    assert result.even, str(result)
    # The count must be of something: a feeder that gave nothing balances, too.
    assert result.frames > 10 * rounds


@pytest.mark.parametrize("seed", range(1, DIRECTORY_ROUNDS + 1))
def test_random_kills_with_a_directory_store(tmp_path: Path, seed: int) -> None:
    with Proof(tmp_path, seed=seed, kind=Ours()) as proof:
        play(proof, DIRECTORY_PER, seed)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    try:
        # With fsync, as in production: what is killed here comes back by its log.
        server = Postgres(durable=True)
    except BenchOptionError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.mark.parametrize("seed", range(101, 101 + POSTGRES_ROUNDS))
def test_random_kills_with_postgresql(tmp_path: Path, postgres: Postgres, seed: int) -> None:
    with Proof(tmp_path, seed=seed, kind=Ours(url=postgres.create(f"proof_{seed}"))) as proof:
        proof.chain.lend(POSTGRES, postgres)
        play(proof, POSTGRES_PER, seed)


@pytest.mark.parametrize("seed", range(201, 201 + RIG_ROUNDS))
def test_random_kills_with_a_whole_rig(tmp_path: Path, seed: int) -> None:
    """Keeper, worker and twin instead of the feeder; the account is what a tap reads from the ring's memory."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        proof = stack.enter_context(RigProof(tmp_path, seed=seed))
        for number in range(RIG_PER):
            print(f"\nseed {seed}, round {number}: killed {rig_round(proof, rng)}", end="")
        result = proof.finish()
        print(f"\nseed {seed}: {result}")
        assert result.even, str(result)
        assert result.samples > 20 * RIG_PER
        proof.judge_by_the_twin()


def test_rounds_are_two_hundred_or_ten() -> None:
    rounds = DIRECTORY_ROUNDS * DIRECTORY_PER + POSTGRES_ROUNDS * POSTGRES_PER + RIG_ROUNDS * RIG_PER
    assert rounds == (200 if LONG else 10)
