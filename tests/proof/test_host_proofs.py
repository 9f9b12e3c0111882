"""A rig's host at its worst: outbox damaged, clock astray, two rigs of one name. Full disks are among the scenes."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgpack
import pytest

from hil.balance import balance
from hil.ledger import Account, read_ledger
from tests.proof.chains import BROKER, FEEDER, LAB, RIG, STORE, UPLINK, Proof
from tests.proof.stores import Ours

LONG = os.environ.get("TIPGUARD_LONG") == "1"
LAB_PART = f"{STORE} {LAB}"
KEEP = ("--set", "keep_after_watermark_s=3600")
DAY_S = 86_400

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1"),
]


# --------------------------------------------------------------------------------------------------- a damaged outbox


def files(outbox: Path) -> tuple[Path, Path]:
    """Return the outbox's file and its log."""
    (file,) = outbox.glob("*.sqlite")
    return file, file.with_name(file.name + "-wal")


def overwrite(path: Path, share: float, size: int) -> None:
    """Put noise into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share) // 4096 * 4096)
        file.write(random.Random(1).randbytes(size))


def nothing_left(outbox: Path) -> None:
    file, log = files(outbox)
    file.write_bytes(b"")
    log.unlink(missing_ok=True)


def no_database(outbox: Path) -> None:
    file, log = files(outbox)
    file.write_bytes(b"a shopping list\n" * 1000)
    log.unlink(missing_ok=True)


def half_of_the_file(outbox: Path) -> None:
    file, _ = files(outbox)
    os.truncate(file, file.stat().st_size // 2)


def half_of_the_log(outbox: Path) -> None:
    _, log = files(outbox)
    os.truncate(log, log.stat().st_size // 2)


def noise_in_the_file(outbox: Path) -> None:
    overwrite(files(outbox)[0], 0.0, 4096)
    overwrite(files(outbox)[0], 0.5, 8192)


DAMAGES = [nothing_left, no_database, half_of_the_file, half_of_the_log, noise_in_the_file]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_outbox_of_which_the_store_has_everything(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with Proof(tmp_path, uplink=KEEP) as proof:
        proof.chain.start()
        proof.wait_given(3000)
        proof.wait_stored()
        # The feeder first: what it gave is stored, and nothing is under way when the outbox is damaged.
        proof.chain.stop(FEEDER)
        proof.wait_stored()
        if damage is half_of_the_log:
            # A polite end leaves no log.
            proof.chain.kill(UPLINK)
        else:
            proof.chain.stop(UPLINK)
        damage(proof.outbox)
        proof.chain.start(UPLINK)
        proof.give(1000)
        result = proof.finish()[LAB]
        assert result.even, str(result)


@pytest.mark.parametrize("damage", [noise_in_the_file, half_of_the_file])
def test_damaged_outbox_of_which_the_store_has_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """What can be read of it arrives, and below the last of that nothing is missing that is not declared."""
    # A ring that holds a fraction of it: the rest is in the outbox.
    with Proof(tmp_path, ring_bytes=1 << 17, uplink=KEEP) as proof:
        proof.chain.start(UPLINK)
        proof.give(6000, max_frame=20)
        # SIGTERM: the log goes into the file, so that it is the file that is damaged.
        proof.chain.stop(UPLINK)
        damage(proof.outbox)
        proof.chain.start(BROKER, LAB_PART, UPLINK)
        proof.give(1000)
        epoch = max(proof.reader.look().times_ns.items(), key=lambda item: item[1])[0][0]
        newest = {key for key in proof.reader.look().must_be_stored() if key[0] == epoch}
        proof.marks.wait(LAB, newest, 30)
        status = proof.marks.wait_status("what was put aside", lambda status: "damaged" in str(status["uplink"]), 30)
        assert list(proof.outbox.glob("*.damaged-*")), status
        proof.wait_quiet()
        proof.marks.wait_status(
            "holes that are declared", lambda status: status["uplink"]["outbox"]["unaccounted"] == 0, 30
        )
        proof.wait_quiet()
        result = proof.balances()[LAB]
        assert result.spoiled == []
        # Samples that the ring could not take are named by documents, and of those some are lost: declared, but mute.
        assert [line for line in result.undeclared if not line.startswith("sample numbers")] == []
        given = len(proof.reader.look().must_be_stored())
        print(f"\n{damage.__name__}: of {given} frames {len(result.lost)} missing, {result.declared} declared lost")
        # The ends of the file can be read, so most of it is there.
        assert len(result.lost) + result.declared < given


# ---------------------------------------------------------------------------------------------------------- the clock


@pytest.fixture(scope="module")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): nothing that shifts CLOCK_REALTIME can be made")
    made = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    source = Path(__file__).parents[1] / "realtime" / "clock_shift.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


class WallClock:
    """What processes started with :attr:`words` take for the time of day."""

    def __init__(self, path: Path, shim: Path, *, shift_s: int = 0) -> None:
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)
        self.words = ["env", f"LD_PRELOAD={shim}", f"TIPGUARD_CLOCK_SHIFT={path}"]
        self.set(shift_s)

    def set(self, shift_s: int) -> None:
        self._page[:8] = struct.pack("q", shift_s)


def utc_of_frames(proof: Proof) -> list[datetime]:
    """Return the UTC time of every sample frame that the store holds, oldest first by the monotonic clock."""
    held = [msgpack.unpackb(one.payload) for one in proof.held() if one.stream == "samples"]
    held.sort(key=lambda fields: fields["t0_ns"])
    return [datetime.fromtimestamp((one["t0_ns"] + one["mono_to_utc_ns"]) / 1e9, UTC) for one in held]


def test_clock_that_steps_by_days(tmp_path: Path, clock_shim: Path) -> None:
    clock = WallClock(tmp_path / "clock", clock_shim)
    with Proof(tmp_path, uplink=KEEP, uplink_prefix=clock.words, store_prefix=clock.words, kind=Ours()) as proof:
        proof.chain.start()
        for shift_s in (3 * DAY_S, -2 * DAY_S, 0, 400 * DAY_S):
            proof.wait_given(300)
            proof.wait_stored()
            clock.set(shift_s)
        proof.chain.kill(UPLINK)
        proof.chain.start(UPLINK)
        proof.wait_given(300)
        proof.wait_stored()
        # Days by the clock, seconds in truth: what was to be kept for an hour is still there for a store that is new.
        proof.chain.kill(LAB_PART)
        shutil.rmtree(tmp_path / LAB)
        proof.marks.forget()
        proof.chain.start(LAB_PART)
        result = proof.finish()[LAB]
        assert result.even, str(result)


def test_boot_without_the_time(tmp_path: Path, clock_shim: Path) -> None:
    clock = WallClock(tmp_path / "clock", clock_shim, shift_s=-int(time.time()) + 60)
    with Proof(tmp_path, uplink_prefix=clock.words) as proof:
        proof.chain.start()
        proof.wait_given(1000)
        proof.wait_stored()
        clock.set(0)
        proof.wait_given(1000)
        result = proof.finish()[LAB]
        assert result.even, str(result)
        times = utc_of_frames(proof)
        assert (times[0].year, times[-1].year) == (1970, datetime.now(UTC).year)


# ------------------------------------------------------------------------------------------------- two of one name


def test_a_rig_s_id_used_twice(tmp_path: Path) -> None:
    """Two hosts with one id throw each other off the broker; slow it may be, but their epochs keep them apart."""
    # With the proofs' own pauses, a fortieth of the shipped ones, a busy host may get no word out between two kicks.
    patient = ("--set", "backoff_max_s=2")
    with Proof(tmp_path / "one", seed=1, rate=500.0, uplink=patient) as one:
        one.chain.start()
        with Proof(tmp_path / "other", seed=2, rate=500.0, broker=one.broker, uplink=patient) as other:
            other.chain.start(FEEDER, UPLINK)
            for proof in (one, other):
                proof.wait_given(1000)
            accounts = []
            for proof in (one, other):
                proof.chain.stop(FEEDER)
                proof.give(7)
                one.marks.wait(LAB, proof.reader.look().must_be_stored(), 60)
                accounts.append(read_ledger(proof.ledger))
            other.chain.kill(UPLINK)
            one.chain.kill(UPLINK, LAB_PART)
            both = Account(
                frames=accounts[0].frames | accounts[1].frames,
                documents=accounts[0].documents | accounts[1].documents,
                doubtful=accounts[0].doubtful | accounts[1].doubtful,
            )
            result = balance(both, one.held(), rig=RIG)
            assert result.even, str(result)
