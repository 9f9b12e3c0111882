"""The store's unit file: walls, watchdog, and that its command is one the program takes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import typer.main

from edge.cli.store import app
from edge.store.service import STUCK_NS
from tests.deploy.test_units import EXPOSURE_MAX, analyze, exposure, needs_analyze
from tests.deploy.unit_files import DEPLOY, comments, settings

PATH = DEPLOY / "systemd" / "tipguard-store@.service"
TEXT = PATH.read_text(encoding="utf-8")


def as_instance(tmp_path: Path) -> Path:
    """Return the unit as systemd sees it for the store "lab", its program being one that is there."""
    path = tmp_path / "tipguard-store@lab.service"
    path.write_text(TEXT.replace("/opt/tipguard/bin/tipguard", "/bin/true"), encoding="utf-8")
    return path


@needs_analyze
def test_the_exposure_is_small_and_every_exception_explained(tmp_path: Path) -> None:
    path = as_instance(tmp_path)
    assert exposure(path) <= EXPOSURE_MAX
    done = analyze("security", "--offline=true", "--json=short", str(path))
    for item in json.loads(done.stdout):
        if item["set"] or not item["exposure"]:
            continue
        subject = item["name"].split("~")[-1] if "~" in item["name"] else item["name"].split("=")[0]
        word = re.sub(r"^AF_\((\w+)\|.*\)$", r"AF_\1", subject)
        assert word in comments(TEXT), f"{item['name']} ({item['description']}) is not explained in the unit"


@needs_analyze
def test_systemd_reads_it(tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(as_instance(tmp_path)))
    assert (done.returncode, done.stderr) == (0, "")


def test_it_never_gives_up_and_its_watchdog_waits_for_a_slow_commit() -> None:
    unit = settings(TEXT)
    assert unit["Type"] == ["notify"]
    assert (unit["Restart"], unit["RestartPreventExitStatus"], unit["StartLimitIntervalSec"]) == (
        ["always"],
        ["2"],
        ["0"],
    )
    assert float(unit["WatchdogSec"][0]) > STUCK_NS / 1e9
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["StateDirectory"] == ["tipguard-store"]


def test_its_command_and_the_example_s_options_are_the_program_s() -> None:
    (line,) = settings(TEXT)["ExecStart"]
    example = re.search(r"^# +STORE_OPTIONS=(.*)$", TEXT, re.MULTILINE)
    assert example is not None
    words = [word for word in shlex.split(line)[2:] if word != "$STORE_OPTIONS"] + shlex.split(example[1])
    command = typer.main.get_command(app)
    context = command.make_context("store", [*words], resilient_parsing=True)
    assert context.params["to"] == "/var/lib/tipguard-store/%i"
    assert (context.params["host"], context.params["port"]) == ("broker.lab", 8883)
    assert not context.args


def test_a_database_among_the_options_counts_instead_of_the_folder() -> None:
    (line,) = settings(TEXT)["ExecStart"]
    example = re.search(r"--to postgresql://[^ ]+\b", TEXT)
    assert example is not None
    words = [word for word in shlex.split(line)[2:] if word != "$STORE_OPTIONS"] + shlex.split(example[0])
    context = typer.main.get_command(app).make_context("store", words, resilient_parsing=True)
    assert context.params["to"] == "postgresql://tipguard@db.lab/tipguard"
    # libpq reads its passwords from there, and the service has no home.
    assert settings(TEXT)["Environment"] == ["PGPASSFILE=%d/pgpass"]
    assert "pgpass:tipguard.store-%i.pgpass" in settings(TEXT)["LoadCredential"]
