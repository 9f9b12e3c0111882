"""The stream bench's own parts: the balance finds every kind of harm, the counter every sample, the script is one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import config
from edge.frames import UtcMapping, doc_frame, front_frame
from edge.front_block import FULL, MINMAX, FrontBlock
from hil.bench import stream as bench
from hil.bench.options import BenchOptions
from hil.bench.stream import Rounds, bound, figures
from hil.bench.stream_balance import StreamBalance, balance, resting_tip
from hil.bench.stream_cores import Window, cpu_s
from hil.bench.stream_counter import Seen, subscribe
from hil.bench.stream_lines import BLOCK, Lines, block
from hil.bench.stream_plot import draw
from hil.bench.stream_script import forward, lines
from hil.bench.stream_sides import WAYS, Ours, RunInterruptedError, Theirs, rig_spec
from hil.bench.uplink_sides import STORE, Ground
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes.spec import config_of

UTC = UtcMapping(1, True, 1)
WAVE = resting_tip(1000)
FRAME = 256


def frame(index: int, codes: Sequence[int], *, seq: int = 0, columns: tuple[str, ...] = FULL, step: int = 1) -> bytes:
    data = np.asarray(codes, "<i2").tobytes()
    told = FrontBlock(0, 0, index, 10_000 * index, 100, step, 10_000.0 * step, 4e-8, 7, columns, data)
    return front_frame("bench", 1, seq, told, UTC)


def whole(first: int, last: int) -> list[bytes]:
    """Frames with every sample from ``first`` on, to ``last`` at least."""
    starts = range(first, last, FRAME)
    return [frame(at, WAVE[np.arange(at, at + FRAME) % len(WAVE)].tolist()) for at in starts]


# ---------------------------------------------------------------------------------------------------- the balance


def test_what_is_stored_as_it_was_is_even() -> None:
    told = balance(whole(0, 5000), WAVE, range(100, 4900))
    assert told.even
    assert (told.wanted, told.lost, told.doubled, told.wrong) == (4800, 0, 0, 0)
    # Frames outside the window are no part of it.
    assert told.frames == 20
    assert told.largest_frame * told.frames >= told.total > 2 * told.wanted


def test_a_frame_that_is_not_stored_is_lost_by_its_samples() -> None:
    stored = whole(0, 5000)
    del stored[3]
    told = balance(stored, WAVE, range(100, 4900))
    assert (told.lost, told.doubled, told.wrong, told.even) == (FRAME, 0, 0, False)


def test_the_end_of_the_window_is_wanted_too() -> None:
    told = balance(whole(0, 2000), WAVE, range(5000))
    assert told.lost == 5000 - 8 * FRAME


def test_a_frame_under_two_names_is_doubled() -> None:
    stored = whole(0, 5000)
    told = balance([*stored, stored[3]], WAVE, range(100, 4900))
    assert (told.lost, told.doubled, told.wrong, told.even) == (0, FRAME, 0, False)


def test_one_code_that_is_another_is_wrong() -> None:
    codes = WAVE[:FRAME].tolist()
    codes[17] += 1
    told = balance([frame(0, codes), *whole(FRAME, 2000)], WAVE, range(2000))
    assert (told.lost, told.wrong, told.even) == (0, 1, False)


def test_samples_under_their_neighbours_numbers_are_wrong() -> None:
    shifted = WAVE[np.arange(1, 2001) % len(WAVE)]
    told = balance([frame(0, shifted.tolist())], WAVE, range(2000))
    assert told.wrong > 1000


def test_pairs_and_other_streams_hold_no_samples() -> None:
    pairs = frame(0, [0, 0] * 20, columns=MINMAX, step=100)
    event = doc_frame("event", "bench", 1, 0, {"kind": "trip"}, UTC)
    assert balance([pairs, event], WAVE, range(2000)).lost == 2000


def test_a_tip_at_rest_never_trips_but_is_never_still() -> None:
    wave = resting_tip(65536)
    assert wave.dtype == np.dtype("<i2")
    assert (int(wave.min()), int(wave.max())) == (-3, 3)
    # Were it periodic, samples could stand for others.
    assert all(np.any(wave[:-shift] != wave[shift:]) for shift in (1, 240, 4096))


# ------------------------------------------------------------------------------------------------- the script's side


def messages(numbers: Sequence[int]) -> bytes:
    """As they come over MQTT, headers in between."""
    payloads = [json.dumps({"i": i, "t_us": 10 * i, "a": 1e-9}).encode() for i in numbers]
    return b"".join(bytes((0x30, len(one) + 13)) + b"\x00\x0blab/current" + one for one in payloads)


@pytest.mark.parametrize("piece", [1, 2, 7, 50, 4096])
def test_the_counter_counts_the_same_however_it_comes(piece: int) -> None:
    seen = Seen()
    data = messages([*range(30), *range(35, 120), 40, 41])
    for at in range(0, len(data), piece):
        seen.feed(data[at : at + piece])
    assert (seen.unique, seen.lost, seen.doubled) == (115, 5, 2)
    assert seen.to_json().keys() == {"t_ns", "unique", "lost", "doubled"}


def test_a_number_whose_end_has_not_come_is_not_counted() -> None:
    seen = Seen()
    seen.feed(b'{"i": 1')
    assert seen.unique == 0
    seen.feed(b'2, "t_us": 1}')
    assert (seen.unique, seen.lost) == (1, 12)


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x05", b"\x20\x02\x00\x00\x90\x03\x00\x01\x80", b""])
def test_a_broker_that_refuses_is_said(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            with server.accept()[0] as line:
                line.recv(100)
                line.sendall(answer)

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(ConnectionError):
            subscribe(server.getsockname()[1], "lab/current")
        thread.join()


def test_a_block_of_lines_is_json_with_every_number_once() -> None:
    samples = [json.loads(line) for line in (block(0) + block(BLOCK)).splitlines()]
    assert [one["i"] for one in samples] == list(range(2 * BLOCK))
    assert all(one["t_us"] == 10 * one["i"] and abs(one["a"]) < 1e-6 for one in samples)


def test_the_device_waits_while_it_is_not_read_and_loses_nothing() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    device = Lines(writing)
    taken = b""
    for _ in range(200):
        device.turn()
        taken += os.read(reading, 5000)
    taken += os.read(reading, 1 << 20)
    os.close(reading)
    os.close(writing)
    *complete, _ = taken.split(b"\n")
    assert [json.loads(line)["i"] for line in complete] == list(range(len(complete)))
    assert device.written == len(complete)


class Port:
    """As much of a serial port as the script needs: what has come, a piece at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def in_waiting(self) -> int:
        return min(len(self._data), 100)

    def read(self, most: int) -> bytes:
        piece, self._data = self._data[:most], self._data[most:]
        return piece

    def readline(self) -> bytes:
        line, end, self._data = self._data.partition(b"\n")
        return line + end


@pytest.mark.parametrize("buffered", [False, True])
def test_the_script_reads_every_line(buffered: bool) -> None:
    port: Any = Port(block(0)[:3000])
    want = block(0)[:3000].split(b"\n")[:-1]
    assert [line.strip() for line in itertools.islice(lines(port, buffered=buffered), len(want))] == want


class Client:
    """As much of a client as the script needs; ends it after some messages."""

    def __init__(self, after: int) -> None:
        self.published: list[tuple[str, str, int]] = []
        self._after = after

    def publish(self, topic: str, payload: str, qos: int) -> None:
        self.published.append((topic, payload, qos))
        if len(self.published) == self._after:
            raise KeyboardInterrupt


def test_the_script_publishes_each_sample_and_leaves_out_what_is_none() -> None:
    port: Any = Port(b'7,"t_us":1}\n' + block(0)[:500])
    client: Any = Client(3)
    with pytest.raises(KeyboardInterrupt):
        forward(port, client, "lab/current", 1, buffered=True)
    assert [(topic, json.loads(text)["i"], qos) for topic, text, qos in client.published] == [
        ("lab/current", 0, 1),
        ("lab/current", 1, 1),
        ("lab/current", 2, 1),
    ]


# -------------------------------------------------------------------------------------------------------- figures


def test_processor_time_is_that_of_the_process() -> None:
    window = Window({"me": os.getpid()})
    begun, before = time.process_time(), cpu_s(os.getpid())
    while time.process_time() - begun < 0.1:
        pass
    assert cpu_s(os.getpid()) - before == pytest.approx(time.process_time() - begun, abs=0.03)
    assert 0 < window.cores()["me"] < 2


def test_a_process_that_is_gone_is_said() -> None:
    with pytest.raises(BenchFaultError, match="gone"):
        cpu_s(2**22 + 1)


EVEN = StreamBalance(1_000_000, 0, 0, 0, 245, 8400, 2_050_000)
CORES = {"firmware": 0.1, "keeper": 0.05, "worker": 0.3, "uplink": 0.1, "broker": 0.02, "store": 0.1, "smu": 0.03}
SCRIPT = {"script": 1.0, "device": 0.01, "broker": 0.1, "counter": 0.1}


def rounds(told: StreamBalance = EVEN, **cores: float) -> Rounds:
    ways = {way.name: [Theirs(2000.0 * (at + 1), 0, SCRIPT)] * 3 for at, way in enumerate(WAYS)}
    return Rounds([Ours(10.0, CORES | cores, told), *[Ours(10.0, CORES, EVEN)] * 2], ways)


def by_name(told: Rounds) -> dict[str, Any]:
    return {one.name: one for one in figures(told)}


def test_the_names_that_others_rely_on() -> None:
    told = by_name(rounds())
    assert [told[name].met for name in ("samples_lost", "controller_cores", "script_ratio")] == [True, True, None]
    assert told["controller_cores"].value == pytest.approx(0.35)
    assert told["script_ratio"].value == pytest.approx(50.0)
    assert told["script_qos1_ratio"].value == pytest.approx(25.0)
    # 100 000 a second with 0.45 of a core, against 2000 with a whole one.
    assert told["script_core_ratio"].value == pytest.approx(100_000 / 0.45 / 2000)
    assert told["samples"].value == 3_000_000


@pytest.mark.parametrize("harm", ["lost", "doubled", "wrong"])
def test_a_single_sample_misses_the_target(harm: str) -> None:
    kept = {"lost": 0, "doubled": 0, "wrong": 0} | {harm: 1}
    told = by_name(rounds(StreamBalance(1_000_000, **kept, frames=245, largest_frame=8400, total=2_050_000)))
    assert told[f"samples_{harm}"].met is False


def test_none_of_so_many_is_said_with_its_bound() -> None:
    assert "0 of 3000000, so below 1.0e-06" in bound(rounds())
    assert bound(rounds(StreamBalance(1_000_000, 1, 0, 0, 245, 8400, 2_050_000))) == ""


def test_a_run_that_is_interrupted_is_repeated_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[RunInterruptedError | Ours] = [RunInterruptedError("LEASE"), Ours(10.0, CORES, EVEN)]

    def ours(*_given: object) -> Ours:
        outcome = outcomes.pop(0)
        if isinstance(outcome, RunInterruptedError):
            raise outcome
        return outcome

    @contextlib.contextmanager
    def prepared() -> Iterator[Ground]:
        yield Ground(Path("/nowhere"), Path("/nowhere"), Broker(port=1))

    monkeypatch.setattr(bench, "ours", ours)
    monkeypatch.setattr(bench, "theirs", lambda *_given: Theirs(2000.0, 0, SCRIPT))
    monkeypatch.setattr(Ground, "prepared", prepared)
    report = bench.stream(BenchOptions(), bench.Amount((10.0,), 1.0))
    found = {one["name"]: one for one in report["results"]}
    assert (found["runs_interrupted"]["value"], found["runs_interrupted"]["met"]) == (1, False)
    assert found["samples_lost"]["met"] is True
    outcomes[:] = [RunInterruptedError("LEASE")] * bench.TRIES
    with pytest.raises(RunInterruptedError):
        bench.stream(BenchOptions(), bench.Amount((10.0,), 1.0))


def test_what_is_lost_is_no_rate() -> None:
    told = Ours(10.0, CORES, StreamBalance(1_000_000, 400_000, 0, 0, 245, 8400, 2_050_000))
    assert told.rate_hz == pytest.approx(60_000)


def test_a_keeper_that_works_counts_too() -> None:
    told = by_name(rounds(keeper=0.4))
    assert told["controller_cores"].value == pytest.approx(0.7)
    assert told["controller_cores"].met is False


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    told = rounds()
    draw(told.ours, told.theirs, tmp_path / "plots" / "stream.png")
    assert (tmp_path / "plots" / "stream.png").read_bytes().startswith(b"\x89PNG")


def test_the_rig_records_every_sample_into_a_store(tmp_path: Path) -> None:
    spec = rig_spec(Ground(tmp_path, tmp_path, Broker(port=1)), tmp_path / "frontend", 60.0)
    path = tmp_path / "rig.toml"
    path.write_text(config_of(spec, tmp_path / "smu", None), encoding="utf-8")
    found = config.load(path)
    assert found.frontend is not None
    assert found.frontend.recording == "full"
    assert (found.frontend.full_max_s or 0) > 60.0
    assert (found.frontend.level_a, found.frontend.jump_a, found.frontend.rate_a) != (None, None, None)
    assert found.outbox.stores == (STORE,)


def test_the_full_form_is_five_rounds_and_a_minute() -> None:
    amount = bench.Amount()
    assert len(amount.ours_s) >= 5
    assert amount.ours_s[0] == 60.0
