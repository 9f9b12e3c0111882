"""What the verbs share: which rig, how errors end, how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from edge import rundir
from edge.config import Config, load
from edge.control_client import ControlClient
from edge.errors import ConfigError, InstrumentError, PlanRefusedError, TipguardError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TRIPPED = 3
EXIT_INTERRUPTED = 130

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

ConfigArgument = Annotated[
    Path, typer.Argument(envvar="TIPGUARD_CONFIG", help="the rig's configuration file", show_default=True)
]
DEFAULT_CONFIG = Path("rig.toml")
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def exit_code(error: TipguardError) -> int:
    """Return 2 for what the caller wrote wrong, 1 for everything else."""
    usage = isinstance(error, ConfigError) or (isinstance(error, PlanRefusedError) and error.reason == "bad_plan")
    return EXIT_USAGE if usage else EXIT_FAILED


def fail(error: TipguardError) -> NoReturn:
    """Print one line and end."""
    err.print(f"tipguard: {error}", style="red", markup=False)
    raise typer.Exit(exit_code(error))


def guarded(work: Callable[[], int]) -> None:
    """Run a verb's work and end with its exit code; our errors become one line."""
    try:
        code = work()
    except TipguardError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    raise typer.Exit(code)


def print_json(data: Any) -> None:  # noqa: ANN401 - whatever the verb reports
    """Print one JSON object, as plain text."""
    print(json.dumps(data))


def client_for(config: Config) -> ControlClient:
    """Connect to the rig's controller; raise BusyError with what to do if none runs."""
    return ControlClient(rundir.rig_dir(config.rig.id) / rundir.CONTROL_SOCKET)


def ask(client: ControlClient, verb: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - checked by the worker
    """Ask the controller; raise what it refused as PlanRefusedError (its own reason) or InstrumentError."""
    answer = client.call(verb, **args)
    if not answer.get("ok"):
        error = answer.get("error") or {}
        raise PlanRefusedError(str(error.get("message", "refused")), reason=str(error.get("reason", "refused")))
    data = answer.get("data")
    if not isinstance(data, dict):
        raise InstrumentError("the controller's reply has no data; are both of the same version?")
    return data


def open_rig(path: Path) -> tuple[Config, ControlClient]:
    """Load a configuration and connect to its controller."""
    config = load(path)
    return config, client_for(config)
