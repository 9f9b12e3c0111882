"""The plain script that ``tipguard bench uplink`` compares with: ready payloads, an SQLite outbox, aiomqtt, no more.

What a careful person writes in an afternoon: commit first (WAL, synchronous FULL, one writer thread, at most 32 frames
or 20 ms in a group), publish at QoS 1 with 20 under way, delete on PUBACK in the next group's transaction. It builds no
frames, reads no ring, checks no reason codes, reconnects never, and no store tells it anything. It stands by itself.

    python uplink_script.py --port 1883 --topic tipguard/script/samples --outbox FILE --payloads FILE

``--payloads``: frames with their length before each (4 bytes, little-endian); read before anything is timed. Without it
what stands in the outbox is drained. One JSON line when connected; goes at the first byte on stdin; another at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import queue
import sqlite3
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

GROUP: Final = 32
GROUP_S: Final = 0.020
WINDOW: Final = 20
AHEAD: Final = 64
"""Committed frames in memory that no publish has taken yet."""
SCHEMA: Final = "CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)"

Row = tuple[int, bytes]


class _Put(NamedTuple):
    payloads: list[bytes]
    done: asyncio.Future[list[Row]]


class _Take(NamedTuple):
    after: int
    done: asyncio.Future[list[Row]]


class Outbox:
    """The database and the one thread that uses it."""

    def __init__(self, path: Path) -> None:
        """Open it and start the thread."""
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Put | _Take | int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outbox")
        self._thread.start()
        self.commits = 0

    def put(self, payloads: list[bytes]) -> asyncio.Future[list[Row]]:
        """Return the future rows, committed."""
        job = _Put(payloads, self._loop.create_future())
        self._jobs.put(job)
        return job.done

    def take(self, after: int) -> asyncio.Future[list[Row]]:
        """Return the next rows behind ``after``, a group of them at most."""
        job = _Take(after, self._loop.create_future())
        self._jobs.put(job)
        return job.done

    def delete(self, row: int) -> None:
        """Delete with the next commit."""
        self._jobs.put(row)

    async def close(self) -> int:
        """Commit what is left and return how many rows that leaves."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        db = sqlite3.connect(self._path)
        rows = int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])
        db.close()
        return rows

    def _run(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(SCHEMA)
        over = False
        while not over:
            puts, takes, gone, over = self._group()
            if puts or gone:
                db.execute("BEGIN IMMEDIATE")
                kept = [(put, [self._insert(db, payload) for payload in put.payloads]) for put in puts]
                db.executemany("DELETE FROM outbox WHERE id = ?", [(row,) for row in gone])
                db.execute("COMMIT")
                self.commits += 1
                for put, rows in kept:
                    self._loop.call_soon_threadsafe(put.done.set_result, rows)
            for take in takes:
                sql = f"SELECT id, payload FROM outbox WHERE id > ? ORDER BY id LIMIT {GROUP}"  # noqa: S608 - a constant
                self._loop.call_soon_threadsafe(take.done.set_result, db.execute(sql, (take.after,)).fetchall())
        db.close()

    @staticmethod
    def _insert(db: sqlite3.Connection, payload: bytes) -> Row:
        row = db.execute("INSERT INTO outbox (payload) VALUES (?)", (payload,)).lastrowid
        return int(row or 0), payload

    def _group(self) -> tuple[list[_Put], list[_Take], list[int], bool]:
        """Collect jobs: up to 32 frames, or what came within 20 ms of the first."""
        puts: list[_Put] = []
        takes: list[_Take] = []
        gone: list[int] = []
        end = 0.0
        while sum(len(put.payloads) for put in puts) < GROUP and not takes:
            try:
                job = self._jobs.get(timeout=max(end - time.monotonic(), 0.0) if end else None)
            except queue.Empty:
                break
            end = end or time.monotonic() + GROUP_S
            if job is None:
                return puts, takes, gone, True
            if isinstance(job, _Put):
                puts.append(job)
            elif isinstance(job, _Take):
                takes.append(job)
            else:
                gone.append(job)
        return puts, takes, gone, False


async def feed(outbox: Outbox, payloads: list[bytes], ready: asyncio.Queue[Row]) -> None:
    """Commit the payloads, and hand on what is committed while the next group is written."""
    groups = [payloads[at : at + GROUP] for at in range(0, len(payloads), GROUP)]
    following = outbox.put(groups[0])
    for group in [*groups[1:], None]:
        rows = await following
        if group is not None:
            following = outbox.put(group)
        for row in rows:
            await ready.put(row)


async def drain(outbox: Outbox, ready: asyncio.Queue[Row]) -> None:
    """Hand on what stands in the outbox, oldest first."""
    rows = await outbox.take(0)
    while rows:
        following = outbox.take(rows[-1][0])
        for row in rows:
            await ready.put(row)
        rows = await following


async def publish(client: aiomqtt.Client, topic: str, outbox: Outbox, ready: asyncio.Queue[Row]) -> None:
    """Publish one at a time; as many of these run as may be under way."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho annotates no constructor here
    properties.ContentType = "application/msgpack"
    while True:
        row, payload = await ready.get()
        await client.publish(topic, payload, qos=1, properties=properties)
        outbox.delete(row)
        ready.task_done()


async def run(host: str, port: int, topic: str, path: Path, payloads: list[bytes] | None) -> None:
    """Say that we are ready, wait for the word, send everything."""
    outbox = Outbox(path)
    logger = logging.getLogger("script")
    logger.addHandler(logging.NullHandler())
    async with aiomqtt.Client(
        host, port, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=WINDOW, logger=logger
    ) as client:
        # Else it warns at more than ten publishes at a time.
        client.pending_calls_threshold = WINDOW + 1
        ready: asyncio.Queue[Row] = asyncio.Queue(AHEAD)
        tasks = [asyncio.create_task(publish(client, topic, outbox, ready)) for _ in range(WINDOW)]
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read, 1)
        cpu_s = time.process_time()
        await (drain(outbox, ready) if payloads is None else feed(outbox, payloads, ready))
        await ready.join()
        cpu_s = time.process_time() - cpu_s
        for task in tasks:
            task.cancel()
    rows = await outbox.close()
    print(json.dumps({"rows_left": rows, "commits": outbox.commits, "cpu_s": cpu_s}), flush=True)


def read_payloads(path: Path) -> list[bytes]:
    """Return the payloads in a file."""
    data = path.read_bytes()
    payloads, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        payloads.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return payloads


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--outbox", type=Path, required=True)
    parser.add_argument("--payloads", type=Path)
    words = parser.parse_args()
    payloads = None if words.payloads is None else read_payloads(words.payloads)
    asyncio.run(run(words.host, words.port, words.topic, words.outbox, payloads))


if __name__ == "__main__":
    main()
