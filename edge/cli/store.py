"""``tipguard store``: keep what the rigs send; verify it, and bring it from one store into another."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from edge.cli.common import EXIT_FAILED, JsonOption, err, guarded, out, print_json
from edge.cli.layout import say
from edge.errors import ConfigError
from edge.logs import configure_logs
from edge.tls import TlsFiles, find_file, read_secret, refuse_plain

if TYPE_CHECKING:
    from edge.store.verify import Report

MAX_HOLES: Final = 20
"""Of each stream so many are printed."""

app = typer.Typer(invoke_without_command=True, no_args_is_help=True)

_TO = "a directory, or postgresql://user@host/database (the password from ~/.pgpass or PGPASSWORD)"
ToOption = Annotated[str, typer.Option("--to", help=_TO, show_default=False)]


@app.callback()
def store(
    context: typer.Context,
    to: Annotated[str | None, typer.Option(help=_TO, show_default=False)] = None,
    name: Annotated[
        str | None, typer.Option(help="name of the store, as rigs list it in outbox.stores", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="the broker")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 1883,
    ca_file: Annotated[Path | None, typer.Option(help="the lab's CA: TLS 1.3", show_default=False)] = None,
    cert_file: Annotated[Path | None, typer.Option(help="this store's certificate", show_default=False)] = None,
    key_file: Annotated[Path | None, typer.Option(help="its key", show_default=False)] = None,
    username: Annotated[str | None, typer.Option(show_default=False)] = None,
    password_file: Annotated[Path | None, typer.Option(help="its first line", show_default=False)] = None,
    plain: Annotated[
        Literal["loopback", "anywhere"], typer.Option(help="where MQTT without TLS may go to")
    ] = "loopback",
    workers_group: Annotated[
        str | None, typer.Option(help="share the messages with the workers of this group", show_default=False)
    ] = None,
    worker: Annotated[
        int | None, typer.Option(min=0, help="number of this worker in its group", show_default=False)
    ] = None,
    watermark_every_s: Annotated[
        float, typer.Option(min=0.01, max=60, help="least time between two watermarks of one rig, s")
    ] = 0.2,
    compact_every_s: Annotated[float, typer.Option(min=1, help="a directory: frames become Parquet after, s")] = 600.0,
    join_mib: Annotated[
        int, typer.Option(min=0, help="a directory: a date's Parquet files are joined up to, MiB; 0: they are not")
    ] = 128,
    restored: Annotated[
        bool, typer.Option("--restored", help="it was restored from a backup: let the rigs send again what they have")
    ] = False,
) -> None:
    """Take what the rigs send from the broker and keep it, until SIGTERM.

    What is committed is acknowledged and told to the rigs, which then may forget it.
    """
    if context.invoked_subcommand is not None:
        return

    def work() -> int:
        from edge.notify import Notifier
        from edge.store.opening import is_database, open_store
        from edge.store.receiver import ReceiverSettings
        from edge.store.service import run_store

        if to is None:
            raise ConfigError("--to: expected a directory, or postgresql://...", key="--to")
        if workers_group is not None and not is_database(to):
            raise ConfigError("--workers-group: a directory has one writer; several need postgresql://", key="--to")
        refuse_plain(host, tls=ca_file is not None, plain=plain)
        configure_logs()
        backend = open_store(to, name, compact_every_s=compact_every_s, join_bytes=join_mib << 20)
        try:
            for note in getattr(backend, "notes", ()):
                say(err, f"tipguard store: {note}", "yellow")
            if restored:
                backend.renew()
            settings = ReceiverSettings(
                store=backend.store,
                host=host,
                port=port,
                username=username,
                password=None if password_file is None else read_secret(find_file(password_file), "--password-file"),
                tls=_tls(ca_file, cert_file, key_file),
                group=workers_group,
                worker=worker,
                watermark_every_s=watermark_every_s,
                # Mosquitto deals a group's messages out to absent members, too: a dead worker's share would wait for
                # it. Without a session the others get all; what it had under way, the rigs send again.
                session_expiry_s=86_400 if workers_group is None else 0,
            )

            async def serve() -> None:
                stop = asyncio.Event()
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
                await run_store(settings, backend, stop=stop, notifier=Notifier.from_environment())

            asyncio.run(serve())
        finally:
            backend.close()
        return 0

    guarded(work)


def _tls(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> Any:  # noqa: ANN401 - a maker of contexts, or None
    if ca_file is None:
        if cert_file is not None or key_file is not None:
            raise ConfigError("--cert-file without --ca-file: the broker could be anybody", key="--ca-file")
        return None
    files = TlsFiles(
        find_file(ca_file),
        None if cert_file is None else find_file(cert_file),
        None if key_file is None else find_file(key_file),
    )
    context: ssl.SSLContext = files.context()  # a file that is wrong is told now, not at every attempt
    del context
    return files.context


@app.command()
def verify(
    to: ToOption,
    complete: Annotated[
        bool, typer.Option("--complete", help="exit 1 where a number is missing or samples are undeclared, too")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Read everything back and check it; the store may go on meanwhile.

    Exit 1 where a frame is damaged, there twice, or said to be there and is not. Holes are listed, the first 20 of each
    stream (all of them with --json): they may be the rig's, or on their way. What would follow the last frame of a
    stream cannot be seen here.
    """

    def work() -> int:
        from edge.store.opening import open_readable
        from edge.store.verify import verify as judge

        with open_readable(to) as (readable, claimed):
            report = judge(readable, claimed)
        failed = not report.good or (complete and not report.complete)
        if json:
            print_json(report.to_map())
        else:
            _say_report(report)
        return EXIT_FAILED if failed else 0

    guarded(work, json=json)


def _say_report(report: Report) -> None:
    for stream in report.to_map()["streams"]:
        missing = stream["samples_missing"]
        say(
            out,
            f"{stream['rig']}  {stream['epoch']}  {stream['stream']}: {stream['frames']} frames, "
            f"holes: {_holes(stream['holes'])}"
            + (f"; {stream['samples']} samples, {missing} missing undeclared" if stream["samples"] else ""),
        )
    for text in report.named:
        say(err, text, "red")
    if not report.complete:
        say(out, f"not complete: {report.holes} holes, {report.undeclared} samples missing undeclared", "yellow")
    say(
        out,
        f"{report.frames} frames, {report.bytes} bytes; {report.doubled} twice, {report.unreadable} unreadable, "
        f"{report.not_held} said to be held and not: {'good' if report.good else 'NOT GOOD'}",
        "" if report.good else "red",
    )


def _holes(holes: list[list[int]]) -> str:
    said = ", ".join(f"{first}-{last}" for first, last in holes[:MAX_HOLES]) or "none"
    more = len(holes) - MAX_HOLES
    return said if more <= 0 else f"{said} and {more} more"


@app.command("import")
def import_(
    from_: Annotated[str, typer.Option("--from", help="another store, which may go on meanwhile", show_default=False)],
    to: ToOption,
    name: Annotated[str | None, typer.Option(help="name of a store that is new", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Bring every frame of one store into another, which keeps what it has; may be repeated."""

    def work() -> int:
        from edge.store.opening import open_readable, open_store
        from edge.store.verify import import_frames

        with open_readable(from_) as (source, _):
            # The store itself joins, as its own options say.
            target = open_store(to, name, join_bytes=0)
            try:
                done = import_frames(source, target)
            finally:
                target.close()
        if json:
            print_json({"read": done.read, "unreadable": done.unreadable})
        else:
            say(out, f"{done.read} frames read, {done.unreadable} of them unreadable and put into quarantine")
        return 0

    guarded(work, json=json)
