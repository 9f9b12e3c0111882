"""The commands in deploy/mosquitto/README.md do what it says, in its order."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli.app import build_app
from edge.config_network import UplinkConfig
from tests.deploy.lab_broker import CONFIGURATION
from tests.deploy.unit_files import settings, unit_text

TEXT = (CONFIGURATION.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SHELL = [line for kind, block in BLOCKS if kind == "sh" for line in block.replace("\\\n", " ").splitlines()]


def test_the_authority_s_commands_work_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIPGUARD_CERTS", raising=False)
    app = build_app(with_hil=False, with_demo=False)
    lines = [line for line in SHELL if line.startswith("tipguard certs")]
    assert {line.split()[2] for line in lines} == {"init", "issue", "acl", "list", "renew", "withdraw"}
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output)
    # What is copied from there later is there, under these names.
    copied = {word for line in SHELL if line.startswith("scp ") for word in line.split() if word.startswith("certs/")}
    assert copied
    assert all((tmp_path / name).is_file() for name in copied)
    assert "user rig-1\n" in (tmp_path / "acl").read_text(encoding="utf-8")
    assert "user user-ana\n" not in (tmp_path / "acl").read_text(encoding="utf-8")


def test_the_options_it_names_exist() -> None:
    app = build_app(with_hil=False, with_demo=False)
    for verb in ("watch", "store"):
        (line,) = [one for one in SHELL if one.startswith(f"tipguard {verb} ")]
        shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
        options = re.findall(r"--[a-z-]+", line)
        assert options
        assert [option for option in options if option not in shown] == []


def test_files_are_installed_where_configuration_and_unit_look_for_them() -> None:
    named = re.findall(r"/etc/mosquitto/tipguard/[\w.]+", CONFIGURATION.read_text(encoding="utf-8"))
    installed = " ".join(line for line in SHELL if line.startswith("sudo install"))
    for name in map(Path, named):
        assert str(name) in installed or f" {name.name} " in installed, name
    stored = {value.split(":")[1] for value in settings(unit_text("tipguard-uplink"))["LoadCredential"]}
    written = set(re.findall(r"/etc/credstore/(\S+)", installed))
    assert written == {name for name in stored if not name.endswith("password")}


def test_the_rig_s_section_is_one_that_the_configuration_takes() -> None:
    (text,) = [block for kind, block in BLOCKS if kind == "toml"]
    section = UplinkConfig(**tomllib.loads(text)["uplink"])
    handed = {value.split(":")[0] for value in settings(unit_text("tipguard-uplink"))["LoadCredential"]}
    assert {section.ca_file, section.cert_file, section.key_file} < handed
