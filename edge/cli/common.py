"""What the verbs share: which rig, how errors end, how results are printed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from edge import rundir
from edge.cli.layout import say
from edge.config import Config, load
from edge.control_client import ControlClient
from edge.errors import BusyError, ConfigError, InstrumentError, PlanRefusedError, TipguardError
from edge.tls import TlsFiles, find_file, read_secret

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
    say(err, f"tipguard: {error}", "red")
    raise typer.Exit(exit_code(error))


def guarded(work: Callable[[], int], *, json: bool = False) -> None:
    """Run a verb's work and end with its exit code; our errors become one line, with ``json`` also one object."""
    try:
        code = work()
    except TipguardError as error:
        if json:
            reason = getattr(error, "reason", None) or type(error).__name__
            print_json({"error": {"reason": reason, "message": str(error)}})
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    raise typer.Exit(code)


def print_json(data: Any) -> None:  # noqa: ANN401 - whatever the verb reports
    """Print one JSON object in one line, as plain text."""
    print(json.dumps(_finite(data), allow_nan=False))


def _finite(data: Any) -> Any:  # noqa: ANN401 - whatever the verb reports
    """Return ``data`` with null for what JSON has no number for."""
    match data:
        case float():
            return data if math.isfinite(data) else None
        case dict():
            return {key: _finite(value) for key, value in data.items()}
        case list() | tuple():
            return [_finite(value) for value in data]
    return data


def mqtt_password(config: Config, beside: Path | None = None) -> str | None:
    """Return the first line of the rig's password file, None without one; raise ConfigError if it cannot be read.

    ``beside``: folder of the rig's file, for a relative name that is no credential of systemd's.
    """
    file = config.uplink.password_file
    return None if file is None else read_secret(find_file(file, beside), "uplink.password_file")


def broker_files(config: Config, beside: Path | None = None) -> TlsFiles | None:
    """Return what the rig's file says about TLS, None if nothing; names are found as in :func:`mqtt_password`."""
    said = config.uplink
    if said.ca_file is None:
        return None
    cert, key = (None if name is None else find_file(name, beside) for name in (said.cert_file, said.key_file))
    return TlsFiles(find_file(said.ca_file, beside), cert, key)


def client_for(config: Config) -> ControlClient:
    """Connect to the rig's controller; raise BusyError with what to do if none runs."""
    directory = rundir.rig_dir(config.rig.id)
    try:
        return ControlClient(directory / rundir.CONTROL_SOCKET)
    except BusyError as error:
        if not rundir.controller_runs(directory):
            raise
        # Its keeper is there: a second controller would only be refused.
        raise BusyError(
            f"rig {config.rig.id}: the controller runs but does not answer: it is starting, or its instrument does not "
            "confirm that the output is off. See its messages; in doubt switch the output off at the panel"
        ) from error


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
