"""``tipguard watch``: a live view of the rigs on a broker. It only reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from edge.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TRIPPED,
    JsonOption,
    broker_files,
    err,
    guarded,
    mqtt_password,
    out,
    print_json,
)
from edge.cli.layout import say, width_of
from edge.cli.watch_model import Bench, Rig
from edge.cli.watch_view import screen, snapshot_text
from edge.cli.words import meaning
from edge.config import load
from edge.errors import ConfigError
from edge.tls import PLAIN_ANYWHERE, PLAIN_PORT, TLS_PORT, TlsFiles, refuse_plain, tls_files

if TYPE_CHECKING:
    from edge.cli.watch_reader import BrokerAddress, Reader

REFRESH_S: Final = 0.25
NICER: Final = 10
QUIET_S: Final = 0.3
"""A snapshot of all rigs is taken when for so long no new one has spoken."""


def watch(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="RIG|FILE", help="names of rigs, or their files; none: every rig on the broker"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="broker; default: the file's, or 127.0.0.1")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="its port; default: the file's, or 8883 with TLS, 1883 without"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(envvar="TIPGUARD_CONFIG", help="take broker, credentials and, where no rig is named, rig from it"),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(envvar="TIPGUARD_CA_FILE", help="the lab's CA, for TLS; default: the file's")
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(envvar="TIPGUARD_CERT_FILE", help="your certificate, e.g. viewer-hall.pem")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(envvar="TIPGUARD_KEY_FILE", help="its key")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="without TLS also to another computer: readable on the way")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="print one snapshot and end")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=0.1, max=600.0, help="how long --once waits for the rigs at most")
    ] = 3.0,
    json: JsonOption = False,
) -> None:
    """Watch rigs live: state, bias, current, runs, cuts. Reads the broker only; Ctrl-C ends the view, not the run.

    --once ends with 3 if a rig is tripped, 1 if one is absent, offline or without an answer. --json implies --once.
    """

    def work() -> int:
        own = tls_files(ca_file, cert_file, key_file)
        broker, names = chosen(what or [], config, host, port, tls=own, plain=plain)
        bench = Bench(broker.where, names)
        if once or json:
            asyncio.run(_once(broker, bench, wait_s))
            return _print(bench, wait_s, as_json=json)
        if not out.is_terminal:
            raise ConfigError("the live view needs a terminal; `tipguard watch --once` prints one snapshot")
        return asyncio.run(_view(broker, bench))

    guarded(work, json=json)


def chosen(
    what: list[str],
    config: Path | None,
    host: str | None,
    port: int | None,
    *,
    tls: TlsFiles | None = None,
    plain: bool = False,
) -> tuple[BrokerAddress, list[str]]:
    """Return the broker and the rigs that were asked for; raise ConfigError where that cannot be."""
    from edge.cli.watch_reader import BrokerAddress

    files = [Path(one) for one in what if _is_file(one)]
    named = [load(file) for file in files]
    names = [one for one in what if not _is_file(one)] + [one.rig.id for one in named]
    base = load(config) if config else None
    if base and not names:
        names = [base.rig.id]
    loaded = [base, *named] if base else named
    brokers = {(one.uplink.host, one.uplink.port) for one in loaded}
    if len(brokers) > 1 and (host is None or port is None):
        where = " and ".join(f"{a}:{b}" for a, b in sorted(brokers))
        raise ConfigError(f"these files name different brokers, {where}: watch each in a terminal of its own")
    if not loaded:
        host, port = host or "127.0.0.1", port or (PLAIN_PORT if tls is None else TLS_PORT)
        refuse_plain(host, tls=tls is not None, plain=PLAIN_ANYWHERE if plain else "loopback")
        broker = BrokerAddress(host, port, tls=tls)
    else:
        first, beside = loaded[0], (config or files[0]).parent
        said = first.uplink
        host, port = host or said.host, port or said.port
        tls = tls or broker_files(first, beside)
        refuse_plain(host, tls=tls is not None, plain=PLAIN_ANYWHERE if plain else said.plain)
        broker = BrokerAddress(host, port, said.username, mqtt_password(first, beside), tls)
    if tls is not None:
        tls.context()
    return broker, names


def _is_file(one: str) -> bool:
    return one.endswith(".toml") or "/" in one


async def _once(broker: BrokerAddress, bench: Bench, wait_s: float) -> None:
    """Fill the bench with what comes until every rig has spoken, at most ``wait_s``."""
    from edge.cli.watch_reader import Reader

    reader = Reader(broker, bench, time.monotonic)
    await reader.connect()
    reading = asyncio.create_task(reader.run())
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await told(bench, reader)
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        await reader.close()
    if not reading.cancelled():
        reading.result()


async def told(bench: Bench, reader: Reader) -> None:
    """Return once every rig has said what a snapshot needs; where none was named, once no new one comes."""
    while True:
        before = len(bench.rigs)
        if bench.told():
            if bench.wanted:
                return
            try:
                async with asyncio.timeout(QUIET_S):
                    while len(bench.rigs) == before:
                        reader.changed.clear()
                        await reader.changed.wait()
            except TimeoutError:
                return
            continue
        reader.changed.clear()
        await reader.changed.wait()


def _print(bench: Bench, wait_s: float, *, as_json: bool) -> int:
    now_s = time.monotonic()
    absent = [rig.name for rig in bench.shown() if not rig.known]
    if as_json:
        print_json(snapshot(bench, now_s))
    elif bench.rigs:
        out.print(snapshot_text(bench, now_s, width_of(out)))
    if not bench.rigs or absent:
        who = f"rig {', '.join(absent)}" if absent else "no rig"
        heard = "was not heard" if absent else "was heard"
        say(
            err,
            f"tipguard: {who} {heard} on broker {bench.broker} within {wait_s:g} s; is `tipguard serve` running, and "
            "to this broker?",
            "red",
        )
    return exit_code(bench)


def exit_code(bench: Bench) -> int:
    """Return 3 if a rig is tripped, 1 if one is absent, offline or without an answer, else 0."""
    rigs = bench.shown()
    if any(rig.state == "TRIPPED" for rig in rigs):
        return EXIT_TRIPPED
    return 0 if rigs and all(rig.online and rig.state for rig in rigs) else EXIT_FAILED


def snapshot(bench: Bench, now_s: float) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "broker": bench.broker,
        "rigs": {rig.name: _snapshot(rig, now_s) for rig in bench.shown()},
        "unreadable": bench.unreadable,
    }


def _snapshot(rig: Rig, now_s: float) -> dict[str, Any]:
    verdict = rig.worker.get("verdict")
    return {
        "known": rig.known,
        "online": rig.online,
        "cause": rig.status.get("cause"),
        "state": rig.state or None,
        "verdict": verdict,
        "meaning": meaning(verdict) if isinstance(verdict, str) else None,
        "silent_s": rig.silent_s(now_s),
        "stale": rig.stale(now_s),
        "status": rig.status or None,
        "live": rig.live or None,
        "event": rig.event or None,
    }


async def _view(broker: BrokerAddress, bench: Bench) -> int:
    """Show the view until a signal; return the exit code."""
    from rich.live import Live

    from edge.cli.watch_reader import Reader

    reader = Reader(broker, bench, time.monotonic)
    # Before the screen is taken: what is wrong then is one line where the person typed.
    await reader.connect()
    # On the rig's own computer the view comes after whatever guards the tip.
    os.nice(NICER)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    console = Console(highlight=False, markup=False, emoji=False)
    live = Live(console=console, screen=True, auto_refresh=False)
    reading = asyncio.create_task(reader.run())
    try:
        with live:
            loop.add_signal_handler(signal.SIGTSTP, _rest, live)
            while not stop.is_set() and not reading.done():
                live.update(_frame(bench, console), refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), REFRESH_S)
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        await reader.close()
    if not reading.cancelled():
        reading.result()
    return EXIT_INTERRUPTED


def _frame(bench: Bench, console: Console) -> Any:  # noqa: ANN401 - whatever rich draws
    width, height = console.size
    clock = datetime.now().astimezone().strftime("%H:%M:%S")
    return screen(bench, time.monotonic(), clock=clock, width=width, height=height)


def _rest(live: Any) -> None:  # noqa: ANN401 - rich's Live, imported late
    """Ctrl-Z: give the screen back first, and take it again when we go on."""
    live.stop()
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSTOP)
    live.start(refresh=True)
