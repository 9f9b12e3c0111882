"""``tipguard bench store``: what one store worker takes, with a real broker and a real PostgreSQL that flushes to disk.

Two parts. *commit*: batches of 256 frames of 4 KiB straight into the backend, all of one rig or each of another.
*service*: as many frames wait at the broker in the store's session; timed is from the worker's start to the commit of
the last, so receiving, decoding, committing, acknowledging and watermarks are all in it. The size on disk is the
server's own count, of noise that does not compress.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiomqtt
import numpy as np
import structlog

from edge.frames import UtcMapping, decode_frame, sample_frame
from edge.samples import Sample
from edge.store.backend import Key, Received, Unreadable
from edge.store.postgres.backend import PostgresBackend
from edge.store.receiver import ReceiverSettings
from edge.store.service import run_store
from edge.watermark import Mark
from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report
from hil.broker import Broker
from hil.postgres import Postgres

ROUNDS: Final = 5
FRAMES: Final = 4096
"""A round and part."""
QUICK: Final = 8
"""So many times fewer if quick."""
BATCH: Final = 256
SAMPLES: Final = 95
"""They make 4 KiB."""
SETTINGS: Final = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
_EPOCH: Final = 1
_ASKED: Final = 1024
_METHOD: Final = (
    "Broker, worker and database share this host's cores, so a worker of its own host does better; the network between "
    "them is not in it. server_cpu: the process of the worker's connection, without WAL writer and checkpoints."
)


def store(options: BenchOptions, *, rounds: int = ROUNDS, frames: int | None = None) -> dict[str, Any]:
    """Measure. Raises BenchOptionError where Mosquitto or PostgreSQL is not installed."""
    count = frames or (FRAMES // QUICK if options.quick else FRAMES)
    measured: dict[str, list[float]] = {}
    with _quiet(), Postgres(durable=True, settings=SETTINGS) as server, Broker(prefer="mosquitto") as broker:
        parts: dict[str, Callable[[PostgresBackend, list[Received]], Mapping[str, float]]] = {
            "commit": _commit,
            "service": partial(_service, broker),
        }
        fleets = {"one_rig": made(count, 1), "many_rigs": made(count, BATCH)}
        for number in range(rounds):
            options.progress(number / rounds, f"round {number + 1} of {rounds}")
            for part, run in parts.items():
                for fleet, batch in fleets.items():
                    database = f"{part}_{fleet}_{number}"
                    backend = PostgresBackend(server.create(database), "bench")
                    try:
                        found = run(backend, batch)
                    finally:
                        backend.close()
                        server.drop(database)
                    for name, value in found.items():
                        measured.setdefault(f"{part}.{fleet}.{name}", []).append(value)
    figures = [Figure(name, statistics.median(values), _unit(name)) for name, values in measured.items()]
    figures += [
        Figure(f"{name}.least", min(values), _unit(name)) for name, values in measured.items() if "per_s" in name
    ]
    return bench_report(
        "store", figures, method=f"{_METHOD} {rounds} rounds of {count} frames; 4 KiB, {BATCH} a commit."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The service's log does not belong into a report."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)


def made(count: int, rigs: int) -> list[Received]:
    """Return ``count`` frames of noise, dealt out to ``rigs`` rigs in turn, 1 s apart each; the first is now."""
    rng = np.random.default_rng(1)
    utc = UtcMapping(time.time_ns() - time.monotonic_ns(), True, 1_000)
    begin_ns = time.monotonic_ns() - (count // rigs + 1) * 1_000_000_000
    found = []
    for at in range(count):
        seq, rig = divmod(at, rigs)
        t_ns = begin_ns + seq * 1_000_000_000 + np.arange(SAMPLES) * 10_000_000 + rng.integers(0, 200_000, SAMPLES)
        columns = (
            t_ns.tolist(),
            rng.integers(100_000, 500_000, SAMPLES).tolist(),
            (t_ns + 700_000 + rng.integers(0, 90_000, SAMPLES)).tolist(),
            np.linspace(0.0, -1.0, SAMPLES).tolist(),
            rng.normal(0, 1e-9, SAMPLES).tolist(),
            [0] * SAMPLES,
            [1] * SAMPLES,
        )
        samples = [Sample(*values) for values in zip(*columns, strict=True)]
        payload = sample_frame(f"rig-{rig}", _EPOCH, seq, seq * SAMPLES, samples, [0] * SAMPLES, utc)
        found.append(Received(f"rig-{rig}", _EPOCH, "samples", seq, payload, decode_frame(payload)))
    return found


def _commit(backend: PostgresBackend, frames: Sequence[Received]) -> Mapping[str, float]:
    backend.commit(frames[:1], [])
    before = _sizes(backend)
    server_s, cpu_s, began = _server_cpu_s(backend), time.process_time(), time.perf_counter()
    for at in range(0, len(frames), BATCH):
        backend.commit(frames[at : at + BATCH], [])
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    server_s = _server_cpu_s(backend) - server_s
    grown = {name: (size - before[name]) / len(frames) for name, size in _sizes(backend).items()}
    return {
        "frames_per_s": len(frames) / took_s,
        "worker_cpu_s_per_frame": cpu_s / len(frames),
        "server_cpu_s_per_frame": server_s / len(frames),
        **{f"{name}_bytes_per_frame": size for name, size in grown.items()},
        **_watermarks(backend, sorted({one.rig for one in frames})),
    }


def _watermarks(backend: PostgresBackend, rigs: Sequence[str]) -> dict[str, float]:
    """What it takes to ask for a rig's marks, as before every watermark, processor seconds."""
    calls = max(1, _ASKED // len(rigs)) * len(rigs)
    server_s, cpu_s = _server_cpu_s(backend), time.process_time()
    for at in range(calls):
        backend.recent_marks(rigs[at % len(rigs)])
    return {
        "worker_cpu_s_per_watermark": (time.process_time() - cpu_s) / calls,
        "server_cpu_s_per_watermark": (_server_cpu_s(backend) - server_s) / calls,
    }


def _server_cpu_s(backend: PostgresBackend) -> float:
    """Return the processor time of the server's process for this connection, s."""
    pid = backend._connection().info.backend_pid  # noqa: SLF001 - the bench asks the same server
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sizes(backend: PostgresBackend) -> dict[str, float]:
    conn = backend._connection()  # noqa: SLF001 - the bench asks the same server
    query = """SELECT CASE WHEN relname LIKE 'frames%%' THEN 'frames' WHEN relname LIKE 'frame_sec%%' THEN 'seconds'
                      ELSE 'ledger' END, sum(pg_total_relation_size(oid))::float8
               FROM pg_class WHERE relkind = 'r' AND (relname LIKE 'frame%%') GROUP BY 1
               UNION ALL SELECT 'wal', (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8"""
    return dict(conn.execute(query).fetchall())


class _Counting:
    """A backend that calls ``done`` when it has committed ``count`` different frames."""

    def __init__(self, backend: PostgresBackend, count: int, done: Callable[[], object]) -> None:
        self._backend = backend
        self._count = count
        self._seen: set[tuple[Key, int]] = set()
        self._done = done
        self.store, self.generation = backend.store, backend.generation
        self.recent_marks, self.rigs, self.renew = backend.recent_marks, backend.rigs, backend.renew
        self.raw_frames, self.close = backend.raw_frames, backend.close

    def commit(self, frames: Sequence[Received], unreadable: Sequence[Unreadable]) -> Mapping[Key, Mark]:
        """See Backend."""
        marks = self._backend.commit(frames, unreadable)
        self._seen |= {(one.key, one.seq) for one in frames}
        if len(self._seen) >= self._count:
            self._done()
        return marks


def _service(broker: Broker, backend: PostgresBackend, frames: Sequence[Received]) -> Mapping[str, float]:
    settings = ReceiverSettings(store="bench", port=broker.port)
    # The session begins, and with it the queue.
    asyncio.run(_take(settings, backend, 1, partial(_publish, broker, frames[:1])))
    asyncio.run(_publish(broker, frames[1:]))
    cpu_s, began = time.process_time(), time.perf_counter()
    ended = asyncio.run(_take(settings, backend, len(frames) - 1))
    cpu_s = time.process_time() - cpu_s
    return {
        "frames_per_s": (len(frames) - 1) / (ended - began),
        "worker_cpu_s_per_frame": cpu_s / (len(frames) - 1),
    }


async def _take(
    settings: ReceiverSettings,
    backend: PostgresBackend,
    count: int,
    publish: Callable[[], Awaitable[None]] | None = None,
) -> float:
    """Run the service until ``count`` frames are committed; return when that was, of ``time.perf_counter``.

    ``publish``: done again and again until then.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended: list[float] = []

    def done() -> None:
        ended.append(time.perf_counter())
        loop.call_soon_threadsafe(stop.set)

    task = asyncio.create_task(run_store(settings, _Counting(backend, count, done), stop=stop))
    while publish is not None and not stop.is_set():
        await publish()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.1)
    await task
    return ended[0]


async def _publish(broker: Broker, frames: Sequence[Received]) -> None:
    client = aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=100)
    client.pending_calls_threshold = len(frames) + 1
    async with client:
        for at in range(0, len(frames), BATCH):
            await asyncio.gather(
                *(client.publish(f"tipguard/{one.rig}/samples", one.payload, qos=1) for one in frames[at : at + BATCH])
            )


def _unit(name: str) -> str:
    last = name.removesuffix(".least").rpartition(".")[2]
    return "1/s" if last == "frames_per_s" else "s" if "_cpu_s_" in last else "byte"
