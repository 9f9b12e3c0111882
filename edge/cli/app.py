"""Puts the verbs together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from edge.cli import bench, certs, check, commission, init, processes, replay, run, store, talk, watch

ORDER: Final = (
    "init",
    "check",
    "commission",
    "serve",
    "run",
    "status",
    "watch",
    "stop",
    "rearm",
    "safe-off",
    "controller",
    "uplink",
    "store",
    "replay",
    "certs",
    "bench",
    "hil",
    "demo",
)


class _InOrder(TyperGroup):
    """Lists the verbs in the order in which they are needed, not groups last."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - typer's own
        super().__init__(**settings)
        self.commands = {name: self.commands[name] for name in ORDER}


def build_app(*, with_hil: bool = True, with_demo: bool = True) -> typer.Typer:
    """Return the command line; the bench (``hil``) and the demo are imported only when they are asked for."""
    app = typer.Typer(
        name="tipguard",
        cls=_InOrder,
        help="Guards a conductive-AFM tip: sources the bias, reads every sample, cuts at the surge, loses no event.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    @app.callback()
    def _options(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="print and end")
        ] = False,
    ) -> None:
        del version

    app.command("init")(init.init)
    app.command("check")(check.check)
    app.command("commission")(commission.commission)
    app.add_typer(run.app, name="run")
    app.command("stop")(talk.stop)
    app.command("rearm")(talk.rearm)
    app.command("status")(talk.status)
    app.command("watch")(watch.watch)
    app.command("serve")(processes.serve)
    app.command("controller")(processes.controller)
    app.command("uplink")(processes.uplink)
    app.add_typer(store.app, name="store")
    app.command("replay")(replay.replay)
    app.add_typer(certs.app, name="certs")
    app.command("bench")(bench.bench)
    app.command("safe-off")(_safe_off_help)
    if with_hil:
        from hil.cli import app as hil_app

        app.add_typer(hil_app, name="hil")
    else:
        app.command("hil")(_placeholder("The emulated bench: `tipguard hil smu --help`."))
    if with_demo:
        from edge.cli.demo import demo

        app.command("demo")(demo)
    else:
        app.command("demo")(
            _placeholder("A trigger map and a memristor on emulated instruments, in under two minutes.")
        )
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tipguard {importlib.metadata.version('tipguard')}")
        raise typer.Exit


def _safe_off_help() -> None:
    """Switch the output off and verify it, whatever else is broken."""


def _placeholder(text: str) -> Callable[[], None]:
    def verb() -> None:
        raise AssertionError("served by its own module")

    verb.__doc__ = text
    return verb
