"""A whole rig in the feeder's place: twin, keeper, worker and uplink under supervisors, broker and store beside it."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import msgpack
import numpy as np

from edge import rundir
from hil.balance import Balance, balance
from hil.broker import Broker
from hil.processes.chain import BROKER, Chain, Marks
from hil.processes.spec import RigSpec
from hil.processes.supervised import SupervisedRig
from hil.processes.waiting import wait_for
from hil.ring_tap import RingTap
from tests.proof.chains import LAB, STORE, STORED_S, environment, let_pass
from tests.proof.stores import Ours

RIG: Final = "bench"
OUTBOX: Final = f'\n[outbox]\nstores = ["{LAB}"]\nredrive_s = 1.0\nkeep_after_watermark_s = 0.0\n'
LAB_PART: Final = f"{STORE} {LAB}"
PARTS: Final = ("worker", "keeper", "uplink", BROKER, LAB_PART)
TRIES: Final = 10
LIVE_NS: Final = 300_000_000
"""A tip that had bias for so long was measured at least once."""


class RigProof:
    """Entering starts all of it."""

    def __init__(self, directory: Path, *, seed: int) -> None:
        """``seed``: of the twin."""
        self._stack = ExitStack()
        self._kind = Ours()
        self._store = directory / LAB
        self.broker = Broker(prefer="mosquitto")
        self.chain = Chain(
            directory,
            self.broker,
            {LAB_PART: lambda _life: [str(word) for word in self._kind.command(self._store, self.broker.port, LAB)]},
            environment=environment(),
        )
        self.marks = Marks(self.broker.port, RIG)
        spec = RigSpec(rig=RIG, seed=seed, load="ohmic:1e6", config_text=lambda text: text + OUTBOX)
        self.rig = SupervisedRig(directory / "rig", spec, broker=self.broker)
        self.tap = RingTap(self.rig.run_directory / rundir.RING_FILE)

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.chain)
            self._stack.enter_context(self.tap)
            self.chain.start()
            self._stack.enter_context(self.marks)
            self._stack.callback(self.rig.close)
            self.rig.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def kill(self, part: str) -> None:
        """SIGKILL one part; the rig's own are started again by their supervisors."""
        if part in self.chain.names:
            self.chain.kill(part)
            return
        pids = {"worker": self.rig.worker_pid, "keeper": lambda: self.rig.keeper_pid, "uplink": self._uplink_pid}
        os.kill(pids[part](), signal.SIGKILL)

    def _uplink_pid(self) -> int:
        return wait_for("the uplink", lambda: self.rig.uplink_pid, STORED_S)

    def start(self, part: str) -> None:
        """Start one part again, where nobody else does."""
        if part in self.chain.names:
            self.chain.start(part)

    def ready(self) -> None:
        """Have the rig SAFE, as a person would."""
        if self.rig.wait_state("SAFE", "TRIPPED", timeout_s=STORED_S)["state"] == "TRIPPED":
            wait_for("the rearm", lambda: self.rig.call("rearm")["ok"], STORED_S)
            self.rig.wait_state("SAFE", timeout_s=STORED_S)

    def wait_stored(self) -> None:
        """Wait until the store says that it has all that the ring has been given by now."""
        self.marks.wait(LAB, self.tap.account().must_be_stored(), STORED_S)

    def finish(self) -> Balance:
        """End the rig, its uplink last; balance what the store then holds."""
        self.rig.controller.stop(STORED_S)
        self.tap.close()
        self.wait_stored()
        self.chain.kill(LAB_PART)
        return balance(self.tap.account(), self._kind.held(self._store), rig=RIG)

    def judge_by_the_twin(self) -> None:
        """Whenever the tip had bias for a while, by the twin's own record, the store has samples of it."""
        times: list[Any] = []
        for one in self._kind.held(self._store):
            fields = msgpack.unpackb(one.payload)
            if fields["kind"] == "samples":
                times.append(np.frombuffer(fields["cols"]["t_ns"]["data"], "<i8"))
        t_ns = np.sort(np.concatenate(times))
        since: int | None = None
        spans = []
        for event in self.rig.truth():
            if event["event"] == "live" and since is None:
                since = int(event["t_ns"])
            elif event["event"] == "safe" and since is not None:
                spans.append((since, int(event["t_ns"])))
                since = None
        long_ones = [(first, last) for first, last in spans if last - first > LIVE_NS]
        assert long_ones, "the tip never had bias"
        for first, last in long_ones:
            inside = np.searchsorted(t_ns, last) - np.searchsorted(t_ns, first)
            assert inside > 0, f"bias for {(last - first) / 1e9:.2f} s, and not one sample of it is stored"


def rig_round(proof: RigProof, rng: random.Random) -> str:
    """Begin a sweep, kill one part at a random moment of it, let the rig recover, wait until all is stored."""
    for _ in range(TRIES):
        proof.ready()
        proof.rig.start_run("iv", to_v=-1.0, step_v=0.01, dwell_s=0.02, back_scan=False)
        # On a busy host a reading may miss its deadline: STALE, a cut, and another try.
        if proof.rig.wait_current(1e-7):
            break
    struck = rng.choice(PARTS)
    let_pass(rng, 0.5)
    proof.kill(struck)
    let_pass(rng, 0.3)
    proof.start(struck)
    _wait_run_over(proof)
    proof.wait_stored()
    return struck


def _wait_run_over(proof: RigProof) -> None:
    """Wait until no run is under way: ended, or gone with its worker."""

    def over() -> bool:
        status = proof.rig.status()
        return status is not None and status["state"] in ("SAFE", "TRIPPED") and not _running(status)

    wait_for("the end of the run", over, STORED_S)


def _running(status: dict[str, Any]) -> bool:
    run = status.get("run")
    return run is not None and run.get("status") == "running"
