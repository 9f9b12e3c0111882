"""Verbs for a rig that is reached over a broker, not on this computer: ``--rig NAME --via HOST[:PORT]``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import getpass
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from edge.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TRIPPED, err, out, print_json
from edge.cli.layout import grid, say, width_of
from edge.cli.words import verified_off
from edge.errors import BusyError, ConfigError, PlanRefusedError
from edge.tls import PLAIN_PORT, TLS_PORT, client_context, read_secret, refuse_plain

if TYPE_CHECKING:
    # Takes a fifth of a second, which a stop on this computer must not wait for.
    from edge.command_client import Commander

SETTLE_S: Final = 8.0
"""How long a rig's own word may take that its output is off: an uplink says what is new within half a second."""

RigOption = Annotated[str | None, typer.Option("--rig", metavar="NAME", help="a rig elsewhere, by its rig.id")]
ViaOption = Annotated[
    str | None,
    typer.Option("--via", metavar="HOST[:PORT]", envvar="TIPGUARD_VIA", help="the broker on the way to --rig"),
]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="who asks, as the rig's file names it; default: you")
]
CertsOption = Annotated[
    Path | None,
    typer.Option(
        "--certs", envvar="TIPGUARD_CERTS", metavar="DIR", help="folder with ca.pem, user-USER.pem and .key: TLS"
    ),
]
PasswordOption = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="USER's password at the broker, if it wants one")
]
T = TypeVar("T")
CHOSEN: ContextVar[Afar | None] = ContextVar("rig elsewhere", default=None)
"""What `tipguard run` was told before the experiment's name; None: the rig is on this computer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Afar:
    """A rig elsewhere, and the way to it."""

    rig: str
    host: str
    port: int
    user: str
    certs: Path | None
    password_file: Path | None

    def commander(self) -> Commander:
        """Return the way to the rig, not connected yet; raises ConfigError for files that cannot be used."""
        from edge.command_client import Commander

        tls = None
        if self.certs is not None:
            mine = self.certs / f"user-{self.user}"
            tls = client_context(self.certs / "ca.pem", mine.with_name(f"{mine.name}.pem"), f"{mine}.key")
        refuse_plain(self.host, tls=tls is not None)
        password = None if self.password_file is None else read_secret(self.password_file, "--password-file")
        return Commander(
            self.host,
            self.port,
            rig=self.rig,
            user=self.user,
            username=None if password is None else self.user,
            password=password,
            tls=tls,
        )


def afar(rig: str | None, via: str | None, user: str | None, certs: Path | None, password: Path | None) -> Afar | None:
    """Return where to go, None for a rig on this computer. Raises ConfigError for half an address."""
    if rig is None:
        # --via may come from the environment; without --rig it is not meant.
        if user is not None or password is not None:
            raise ConfigError(
                "--as and --password-file are for a rig elsewhere: expected --rig NAME and --via HOST, too"
            )
        return None
    if not via:
        raise ConfigError(f"--rig {rig}: over which broker? expected --via HOST[:PORT], too")
    host, port = _address(via, TLS_PORT if certs is not None else PLAIN_PORT)
    return Afar(rig, host, port, user or getpass.getuser(), certs, password)


def _address(via: str, default: int) -> tuple[str, int]:
    """Split HOST, HOST:PORT, [IPV6] or [IPV6]:PORT."""
    if via.startswith("["):
        host, bracket, rest = via[1:].partition("]")
        number = rest.removeprefix(":") if bracket and rest.startswith(":") else rest
    elif via.count(":") > 1:
        host, number = via, ""
    else:
        host, _, number = via.partition(":")
    if not host or (number and not (number.isascii() and number.isdigit() and 0 < int(number) < 65_536)):
        raise ConfigError(f"--via {via}: expected HOST or HOST:PORT")
    return host, int(number) if number else default


def _talk(where: Afar, work: Callable[[Commander], Awaitable[T]]) -> T:
    async def main() -> T:
        async with where.commander() as rig:
            return await work(rig)

    return asyncio.run(main())


def stop_afar(where: Afar, words: Callable[[bool, dict[str, Any]], str], *, json: bool) -> int:
    """Stop, wait until the rig says that its output is off, say so; return the exit code."""

    async def work(rig: Commander) -> tuple[bool, dict[str, Any] | None]:
        done = await rig.stop()
        return bool(done.get("stopped")), await _settled(rig, done)

    stopped, worker = _talk(where, work)
    off = worker is not None and verified_off(worker)
    if json:
        state, verdict = (None, None) if worker is None else (worker["state"], worker.get("verdict"))
        print_json({"stopped": stopped, "output_verified_off": off, "state": state, "verdict": verdict})
    elif worker is None:
        say(out, f"rig {where.rig} took the stop, and has not said since that its output is off; see the rig itself")
    else:
        say(out, words(stopped, worker))
    return 0 if off else EXIT_FAILED


async def _settled(rig: Commander, done: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the rig says of itself after a stop, once its output is off, or the last it said; None: nothing."""
    since_ns = done.get("t_ns")
    last: dict[str, Any] | None = None

    def at_rest(worker: dict[str, Any]) -> bool:
        nonlocal last
        if not isinstance(worker.get("state"), str):
            return False
        new = isinstance(since_ns, int) and isinstance(worker.get("t_ns"), int) and worker["t_ns"] >= since_ns
        # Where nothing was to be stopped, what it said before is as good.
        if not new and done.get("stopped") is not False:
            return False
        last = worker
        run = worker.get("run")
        return verified_off(worker) and not (isinstance(run, dict) and run.get("status") == "running")

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            await rig.until_worker(at_rest)
    return last


def rearm_afar(where: Afar, *, json: bool) -> int:
    """Release the latch of a rig elsewhere."""
    data = _talk(where, lambda rig: rig.ask("rearm"))
    if json:
        print_json(data)
    else:
        say(out, f"rig {where.rig}: re-armed; state {data.get('state')}")
    return 0


def status_afar(where: Afar, rows: Callable[[dict[str, Any]], Any], *, json: bool) -> int:
    """Show the status of a rig elsewhere."""
    data = _talk(where, lambda rig: rig.ask("status"))
    if json:
        print_json(data)
    else:
        out.print(grid(rows(data), width_of(out)))
    return EXIT_TRIPPED if data.get("state") == "TRIPPED" else 0


def run_afar(
    where: Afar,
    plan: str,
    parameters: dict[str, Any],
    report: Callable[[dict[str, Any], float], int],
    *,
    json: bool,
) -> int:
    """Start a plan on a rig elsewhere, wait for its end, report; Ctrl-C cuts there and ends it."""

    async def work(rig: Commander) -> tuple[dict[str, Any], float] | None:
        uid = await rig.run(plan, parameters)
        if not json:
            say(err, f"rig {where.rig}, run {uid}: started; Ctrl-C cuts and ends it")
        try:
            await rig.until_run_ends(uid)
            return await _full_status(rig, uid), _series_ohm(rig, uid)
        except asyncio.CancelledError:
            await rig.stop()
            return None

    found = _talk(where, work)
    if found is None:
        say(err, f"interrupted: rig {where.rig} took the stop; `tipguard stop --rig` says whether its output is off")
        return EXIT_INTERRUPTED
    return report(*found)


async def _full_status(rig: Commander, uid: str) -> dict[str, Any]:
    """Return the status after a run; from what is published where we may not ask for it."""
    try:
        return await rig.ask("status")
    except PlanRefusedError as error:
        if error.reason != "verb_not_allowed":
            raise

    def ended(worker: dict[str, Any]) -> bool:
        run = worker.get("run")
        return not isinstance(run, dict) or run.get("uid") != uid or run.get("status") != "running"

    try:
        async with asyncio.timeout(SETTLE_S):
            return await rig.until_worker(ended)
    except TimeoutError:
        raise BusyError(f"run {uid} has ended, and the rig has not said since how it is") from None


def _series_ohm(rig: Commander, uid: str) -> float:
    """Return the rig's series resistance as the run's start document has it; 0 where it was missed."""
    for document in rig.run_documents:
        if document.get("kind") == "start" and document.get("uid") == uid and isinstance(document.get("rig"), dict):
            ohm = document["rig"].get("series_resistor_ohm")
            return float(ohm) if isinstance(ohm, int | float) else 0.0
    return 0.0
