"""Chains as the proofs use them: a feeder, the uplink, Mosquitto, and a store or two."""

from __future__ import annotations

import contextlib
import os
import random
import select
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from hil.balance import Balance, Held, balance
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.ledger import LedgerReader, read_ledger
from hil.processes.chain import BROKER, Chain, Marks
from tests.proof.stores import Plain, StoreKind

__all__ = ["BROKER", "FEEDER", "LAB", "RIG", "STORE", "UPLINK", "Proof", "at_rest", "idle", "let_pass", "one_round"]

ROOT: Final = Path(__file__).parents[2]
RIG: Final = "rig-1"
FEEDER: Final = "feeder"
UPLINK: Final = "uplink"
STORE: Final = "store"
LAB: Final = "lab"
PYTHON: Final = (sys.executable, "-P", "-m")
STORED_S: Final = 60.0
"""A busy host may take its time; nothing here waits longer than it must."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Proof:
    """One rig's chain with what is needed to judge it. Entering starts nothing."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int = 1,
        rate: float = 2000.0,
        ring_bytes: int = 1 << 20,
        stores: Sequence[str] = (LAB,),
        uplink: Sequence[str] = (),
        kind: StoreKind | None = None,
        uplink_prefix: Sequence[str] = (),
        store_prefix: Sequence[str] = (),
        broker_lines: str = "",
        broker: Broker | None = None,
    ) -> None:
        """``uplink``: more words for its command line; ``..._prefix``: what comes before a command line.

        ``kind``: of the stores; a plain one, if none is given. ``seed``: of the feeder. ``broker``: another proof's,
        whose end is that one's.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ring, self.ledger, self.outbox = directory / "ring", directory / "ledger", directory / "outbox"
        self.broker = broker or Broker(prefer="mosquitto", mosquitto_lines=broker_lines)
        self.seed, self.rate, self.ring_bytes = seed, rate, ring_bytes
        self.stores = tuple(stores)
        self.uplink_words = tuple(uplink)
        self.kind = kind or Plain()
        self.uplink_prefix, self.store_prefix = tuple(uplink_prefix), tuple(store_prefix)
        self.chain = Chain(
            directory,
            self.broker,
            {
                FEEDER: self.feeder_command,
                UPLINK: self.uplink_command,
                **{self.part(name): partial(self.store_command, name) for name in self.stores},
            },
            environment=environment(),
        )
        if broker is not None:
            self.chain.lend(BROKER, broker)
        self.marks = Marks(self.broker.port, RIG)
        self.reader = LedgerReader(self.ledger)

    # ---------------------------------------------------------------------------------------------- commands

    def part(self, store: str) -> str:
        return f"{STORE} {store}"

    def feeder_command(self, life: int, *more: str) -> list[str]:
        words = [*PYTHON, "hil.feeder", "--ring", self.ring, "--ledger", self.ledger, "--rig", RIG]
        numbers = {"--seed": self.seed * 100_000 + life, "--rate": self.rate, "--ring-bytes": self.ring_bytes}
        for name, value in numbers.items():
            words += [name, value]
        return [str(word) for word in (*words, *more)]

    def uplink_command(self, _life: int) -> list[str]:
        words: list[object] = [*self.uplink_prefix, *PYTHON, "tests.proof.uplink_process", "--ring", self.ring]
        words += ["--port", self.broker.port]
        words += ["--outbox", self.outbox]
        for name in self.stores:
            words += ["--store", name]
        return [str(word) for word in (*words, *self.uplink_words)]

    def store_command(self, name: str, _life: int) -> list[str]:
        words = (*self.store_prefix, *self.kind.command(self.directory / name, self.broker.port, name))
        return [str(word) for word in words]

    # ------------------------------------------------------------------------------------------------ judging

    def held(self, store: str = LAB) -> Iterable[Held]:
        """What a store holds; it must not be running for a final word."""
        return self.kind.held(self.directory / store)

    def wait_given(self, more: int = 1, timeout_s: float = STORED_S) -> None:
        """Wait until the ring was given ``more`` samples than at this moment."""
        wanted = self.reader.look().sample_count + more
        self.chain.wait("the feeder", lambda: self.reader.look().sample_count >= wanted, timeout_s)

    def wait_stored(self, store: str = LAB, timeout_s: float = STORED_S) -> None:
        """Wait until the store says that it has all that the ring has been given by now."""
        wanted = self.reader.look().must_be_stored()
        try:
            self.marks.wait(store, wanted, timeout_s)
        except BenchFaultError:
            # A part that died by itself is the better explanation.
            self.chain.check()
            raise

    def wait_standstill(self, seconds: float = 1.0) -> None:
        """Wait until the ring has been given nothing for a while."""
        while True:
            before = self.reader.look().sample_count
            idle(seconds)
            if self.reader.look().sample_count == before and before:
                return

    def start_give(self, samples: int, *, max_frame: int = 256, rate: float = 0.0) -> None:
        """Start a life of the feeder that ends once it has given ``samples``."""
        words = ("--samples", str(samples), "--max-frame", str(max_frame), "--rate", str(rate))
        self.chain.replace(FEEDER, lambda life: self.feeder_command(life, *words))
        self.chain.start(FEEDER)

    def wait_fed(self, timeout_s: float = STORED_S) -> None:
        """Wait for the end of a life that ends by itself."""
        self.chain.wait("the feeder's end", lambda: self.chain.child(FEEDER).code is not None, timeout_s)

    def give(self, samples: int, *, max_frame: int = 256, timeout_s: float = STORED_S) -> None:
        """Give ``samples`` as fast as the ring takes them, in whole frames, and wait until it has them."""
        self.start_give(samples, max_frame=max_frame)
        self.wait_fed(timeout_s)

    def wait_newest_life(self, store: str = LAB, timeout_s: float = STORED_S) -> None:
        """Wait until the store says that it has all that the feeder's newest life gave."""
        account = self.reader.look()
        epoch = max(account.times_ns.items(), key=lambda item: item[1])[0][0]
        self.marks.wait(store, {key for key in account.must_be_stored() if key[0] == epoch}, timeout_s)

    def wait_quiet(self, timeout_s: float = STORED_S) -> None:
        """Wait until the uplink says, from now on, that its outbox holds nothing that a store lacks."""
        self.marks.forget_status()
        self.marks.wait_status("an outbox at rest", at_rest, timeout_s)

    def finish(self, timeout_s: float = STORED_S, *, strict: bool = True) -> dict[str, Balance]:
        """End the feeder, let one more life of it close what was open, wait for all; return each store's balance.

        ``strict``: BenchFaultError when a store has not said after ``timeout_s`` that it has all; else judge what
        there is then.
        """
        self.chain.stop(FEEDER)
        self.give(7)
        with contextlib.nullcontext() if strict else contextlib.suppress(BenchFaultError):
            for store in self.stores:
                self.wait_stored(store, timeout_s)
        return self.balances()

    def balances(self) -> dict[str, Balance]:
        """Kill what runs, and balance each store's disk as it is."""
        chain = self.chain
        chain.kill(UPLINK, *(self.part(store) for store in self.stores))
        account = read_ledger(self.ledger)
        return {store: balance(account, self.held(store), rig=RIG) for store in self.stores}

    def __enter__(self) -> Self:
        self.marks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.marks.__exit__(None, None, None)
        self.chain.close()


def at_rest(status: dict[str, Any]) -> bool:
    """Tell whether the outbox holds nothing that a store lacks."""
    uplink = status["uplink"]
    return uplink is not None and not any(store["waiting"] for store in uplink["stores"].values())


def idle(seconds: float) -> None:
    """Give what must not happen the time to happen."""
    select.select([], [], [], seconds)


def let_pass(rng: random.Random, at_most_s: float) -> None:
    """Let a random time pass: what is wanted is the moment, not a condition."""
    idle(rng.uniform(0, at_most_s))


def one_round(proof: Proof, rng: random.Random, victims: Sequence[str]) -> list[str]:
    """Kill one or more of ``victims`` at a random moment, start them again, wait until all is stored."""
    several = min(len(victims), rng.choice((1, 1, 1, 2, 2, 3, len(victims))))
    struck = rng.sample(list(victims), several)
    # Not before all parts work: a process that is killed while it imports has nothing to lose.
    proof.wait_given(rng.randint(1, 500))
    for store in proof.stores:
        proof.wait_stored(store)
    let_pass(rng, 0.2)
    if rng.random() < 0.5:  # at once, or one after another
        proof.chain.kill(*struck)
    else:
        for name in struck:
            proof.chain.kill(name)
            let_pass(rng, 0.1)
    let_pass(rng, 0.2)
    rng.shuffle(struck)
    for name in struck:
        proof.chain.start(name)
        let_pass(rng, 0.1)
    for store in proof.stores:
        proof.wait_stored(store)
    return struck
