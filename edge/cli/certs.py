"""``tipguard certs``: the lab's certificate authority, and the broker's access list made of what it signed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from edge.certs.acl import acl_text
from edge.certs.files import write_cert
from edge.certs.identities import AUTHORITY_NAME, CertsError, Role, identity
from edge.cli.common import EXIT_FAILED, JsonOption, err, guarded, out, print_json
from edge.cli.layout import say

DAYS: Final = 730
AUTHORITY_DAYS: Final = 3650
SOON_DAYS: Final = 30

app = typer.Typer(
    help="The lab's certificates: who may talk to the broker, and as whom. See docs/security.md.",
    no_args_is_help=True,
)

DirOption = Annotated[
    Path, typer.Option("--dir", envvar="TIPGUARD_CERTS", help="folder of the authority", show_default=True)
]
DaysOption = Annotated[int, typer.Option(min=1, max=AUTHORITY_DAYS, help="days it is valid")]
DEFAULT_DIR: Final = Path("certs")


def _with_crypto(work: Callable[[], int], *, json: bool = False) -> None:
    """Run a verb that signs or reads certificates; without the package say how to get it."""

    def checked() -> int:
        if importlib.util.find_spec("cryptography") is None:
            raise CertsError("certificates need the package cryptography; `make setup` installs it")
        return work()

    guarded(checked, json=json)


@app.command("init")
def init(
    folder: DirOption = DEFAULT_DIR,
    lab: Annotated[str, typer.Option(help="name of the lab, for people")] = "the lab",
    days: DaysOption = AUTHORITY_DAYS,
) -> None:
    """Make the lab's authority: ca.key, which stays here, and ca.pem, which everybody gets."""

    def work() -> int:
        from edge.certs.authority import Authority

        made = Authority.create(folder, lab=lab, days=days, now=datetime.now(UTC))
        say(out, f"{folder}/ca.pem and ca.key, valid until {made.expires_utc:%Y-%m-%d}")
        say(out, "keep ca.key on one computer and in one backup: whoever has it can make a certificate for anybody")
        return 0

    _with_crypto(work)


@app.command("issue")
def issue(
    role: Annotated[Role, typer.Argument(help="what it is for")],
    name: Annotated[
        str, typer.Argument(help="rig.id of the rig, name of the store, user or viewer, host name of the broker")
    ],
    also: Annotated[
        list[str] | None, typer.Option(help="broker: a further name or address under which it is reached")
    ] = None,
    folder: DirOption = DEFAULT_DIR,
    days: DaysOption = DAYS,
) -> None:
    """Make a key and a certificate for a rig, a store, a user, a viewer or a broker."""

    def work() -> int:
        from edge.certs.authority import Authority

        who = identity(role, name)
        made = Authority.open(folder).issue(who, days=days, now=datetime.now(UTC), hosts=also or ())
        base = who.common_name
        say(out, f"{folder}/{base}.pem and {base}.key, valid until {made.expires_utc:%Y-%m-%d}")
        say(out, f"it gets ca.pem, {base}.pem and {base}.key; nothing here needs the key any more")
        if role is not Role.BROKER:
            say(out, "then the broker's access list: tipguard certs acl")
        return 0

    _with_crypto(work)


@app.command("renew")
def renew(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="as `list` shows them; ca: the authority")],
    folder: DirOption = DEFAULT_DIR,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=AUTHORITY_DAYS, help=f"days it is valid; default {DAYS}, for ca {AUTHORITY_DAYS}"),
    ] = None,
) -> None:
    """Extend certificates, for the same keys: only the .pem has to be copied, and is taken up by reconnecting."""

    def work() -> int:
        from edge.certs.authority import Authority

        authority, now = Authority.open(folder), datetime.now(UTC)
        for name in names:
            if name == AUTHORITY_NAME:
                authority.renew_itself(days=days or AUTHORITY_DAYS, now=now)
                until = authority.expires_utc
            else:
                until = authority.renew(name, days=days or DAYS, now=now).expires_utc
            say(out, f"{folder}/{name}.pem, valid until {until:%Y-%m-%d}")
        return 0

    _with_crypto(work)


@app.command("list")
def list_certificates(
    folder: DirOption = DEFAULT_DIR,
    within_days: Annotated[int, typer.Option(min=0, help="end with 1 if one ends within so many days")] = SOON_DAYS,
    json: JsonOption = False,
) -> None:
    """List the certificates and when they end; the exit code is for a daily job."""

    def work() -> int:
        from edge.certs.authority import authority_expires_utc, held

        now = datetime.now(UTC)
        rows = [_row("", AUTHORITY_NAME, authority_expires_utc(folder), now)]
        rows += [_row(one.who.role, one.who.common_name, one.expires_utc, now) for one in held(folder)]
        soon = [row["name"] for row in rows if row["days_left"] < within_days]
        if json:
            print_json({"certificates": rows, "soon": soon})
        else:
            for row in rows:
                say(out, f"{row['name']:<24} {row['role']:<7} {row['expires_utc'][:10]}  {_left(row['days_left'])}")
        if soon:
            say(err, f"within {within_days} days: tipguard certs renew {' '.join(soon)}")
        return EXIT_FAILED if soon else 0

    _with_crypto(work, json=json)


@app.command("acl")
def acl(
    folder: DirOption = DEFAULT_DIR,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file to write; default: print it")] = None,
) -> None:
    """Write Mosquitto's access list for everybody who has a certificate here."""

    def work() -> int:
        from edge.certs.authority import held

        text = acl_text(one.who for one in held(folder))
        if output is None:
            sys.stdout.write(text)
            return 0
        write_cert(output, text.encode())
        say(out, f"{output} written; on the broker: sudo systemctl reload mosquitto")
        return 0

    _with_crypto(work)


@app.command("withdraw")
def withdraw(name: Annotated[str, typer.Argument(help="as `list` shows it")], folder: DirOption = DEFAULT_DIR) -> None:
    """Take a certificate back, for a lost laptop: its name leaves the access list for good."""

    def work() -> int:
        from edge.certs.authority import withdraw as take_back

        if name == AUTHORITY_NAME:
            raise CertsError("the authority itself cannot be withdrawn: begin anew in another --dir, for everybody")
        kept = take_back(folder, name)
        say(out, f"{kept}; it counts once the broker has the new list: tipguard certs acl")
        return 0

    _with_crypto(work)


def _row(role: str, name: str, expires_utc: datetime, now: datetime) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "expires_utc": expires_utc.isoformat(timespec="seconds"),
        "days_left": int((expires_utc - now).total_seconds() // 86_400),
    }


def _left(days: int) -> str:
    return "EXPIRED" if days < 0 else f"{days} days"
