"""The command map in the rig's file: found beside it, or refused with its place; and what the verbs make of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge.cli.app import build_app
from edge.command_map import MAX_BYTES, load_command_map
from edge.config import load, template
from edge.controller.checkup_stage import check_stage, look
from edge.errors import ConfigError
from hil.described_bench import DescribedBench, map_from
from hil.virtual import VirtualClock, run_virtual

ROOT = Path(__file__).resolve().parent.parent.parent
SCPI = ROOT / "deploy/examples/stage-scpi.toml"
ODD = ROOT / "tests/edge/instruments/maps/odd.toml"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))


def tipguard(*words: str) -> Result:
    return CliRunner().invoke(build_app(with_hil=False, with_demo=False), list(words))


def a_rig(directory: Path, text: str = "", **changes: str) -> Path:
    """Write a rig's file with a stage of the map stage.toml beside it."""
    (directory / "stage.toml").write_text(text or SCPI.read_text(encoding="utf-8"), encoding="utf-8")
    rig = template(
        path="/dev/absent",
        serial_number="1",
        series_ohm=1e4,
        stage_path=changes.pop("path", "/dev/absent-stage"),
        stage_command_map="stage.toml",
        stage_axes=("x", "y", "z"),
    )
    for old, new in changes.items():
        rig = re.sub(rf"(?m)^{old} = .*$", new, rig, count=1)
    path = directory / "rig.toml"
    path.write_text(rig, encoding="utf-8")
    return path


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_map_is_found_beside_the_rig_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_rig(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    stage = load(path).stage
    assert (stage.driver, stage.x, stage.y, stage.z) == ("scpi-stage", "x", "y", "z")
    assert stage.command_map == str(tmp_path / "stage.toml")
    assert stage.command_map is not None
    assert list(load_command_map(stage.command_map).axes) == ["x", "y", "z"]
    # Loading again what was loaded finds the same file.
    assert load(Path("../rig.toml")).stage.command_map is not None


def test_a_driver_without_its_map(tmp_path: Path) -> None:
    error = refused(a_rig(tmp_path, command_map="# command_map"))
    assert error.key == "stage.command_map"
    assert str(error).endswith("stage.command_map: is missing; driver 'scpi-stage' needs it")


def test_a_map_that_another_driver_would_not_read(tmp_path: Path) -> None:
    path = a_rig(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"scpi-stage" ', '"pi-gcs2" ', 1), encoding="utf-8")
    error = refused(path)
    assert "only driver 'scpi-stage' reads it; stage.driver is 'pi-gcs2'" in str(error)


def test_an_axis_that_is_not_in_the_map(tmp_path: Path) -> None:
    error = refused(a_rig(tmp_path, z='z = "3"'))
    assert error.key == "stage.z"
    assert str(error).endswith("stage.toml: x, y, z")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[line\n", "not TOML"),
        ("[line]\nsend_end = 'XX'\n", "line.send_end: value 'XX': expected one of: LF, CR, CRLF"),
        ("\x00", "not TOML"),
        ("# " + "x" * MAX_BYTES, "a command map has up to 65536"),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_a_wrong_map_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    path = a_rig(tmp_path, text)
    error = refused(path)
    assert str(error).startswith(f"{tmp_path / 'stage.toml'}: ")
    assert said in str(error)


def test_a_map_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    path = a_rig(tmp_path)
    (tmp_path / "stage.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8 text (byte 0)" in str(refused(path))
    (tmp_path / "stage.toml").unlink()
    assert "No such file or directory; docs/stage.md" in str(refused(path))


def test_a_wrong_map_ends_every_verb_with_2(tmp_path: Path) -> None:
    a_rig(tmp_path, "[line]\nsend_end = 'XX'\n")
    for words in (("check", "rig.toml"), ("controller", "rig.toml"), ("status", "rig.toml")):
        done = tipguard(*words)
        assert done.exit_code == 2, words
        assert "line.send_end: value 'XX'" in done.stderr


# init


def test_init_writes_a_described_stage_with_its_axes(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(ODD.read_text(encoding="utf-8"), encoding="utf-8")
    words = ("init", "rig.toml", "--port", "/dev/x", "--serial-number", "1", "--stage-port", "/dev/stage")
    assert tipguard(*words, "--stage-command-map", "odd.toml").exit_code == 0
    stage = load(tmp_path / "rig.toml").stage
    assert (stage.driver, stage.x, stage.y, stage.z) == ("scpi-stage", "a", "b", "c")
    text = (tmp_path / "rig.toml").read_text(encoding="utf-8")
    assert '\ncommand_map = "odd.toml"' in text
    # Without one the key stays a comment.
    assert tipguard(*words, "--force").exit_code == 0
    assert '\n# command_map = "stage.toml"' in (tmp_path / "rig.toml").read_text(encoding="utf-8")
    assert load(tmp_path / "rig.toml").stage.command_map is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stage-command-map", "odd.toml"), "--stage-command-map needs --stage-port"),
        (("--stage-port", "/dev/s", "--stage-command-map", "absent.toml"), "absent.toml: No such file"),
        (("--stage-port", "/dev/s", "--stage-command-map", "a b.toml"), "a b.toml: No such file"),
    ],
)
def test_init_refuses_a_map_that_cannot_be_used(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = tipguard("init", "rig.toml", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "rig.toml").exists()


# check


@pytest.mark.parametrize("path", [SCPI, ODD])
def test_check_says_axes_servo_contact(path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        rules = map_from(path)
        bench = DescribedBench(clock, rules)
        x, y, z = rules.axes
        settings = load_settings(x, y, z)
        said = {finding.what: finding for finding in await look(bench.stage, bench.contact, settings, 0.5)}
        assert {finding.grade for finding in said.values()} == {"ok"}
        assert f"x ({x}) at " in said["axes"].text
        assert "of 0 to 100 um" in said["axes"].text or "of 0 to 90 um" in said["axes"].text
        assert said["servo"].text == "on, on target"
        assert said["contact"].text == "deflection 0.020 V, contact.threshold_v = 0.5 V: no contact"

    run_virtual(main)


def load_settings(x: str, y: str, z: str) -> Any:  # noqa: ANN401 - a section of the configuration
    from edge.config import StageConfig

    return StageConfig(driver="scpi-stage", x=x, y=y, z=z)


def test_check_says_what_cannot_be_verified() -> None:
    def less(data: dict[str, Any]) -> None:
        data["target"] = {"verify": "position"}
        del data["on_target"], data["servo"]

    async def main(clock: VirtualClock) -> None:
        bench = DescribedBench(clock, map_from(SCPI, less))
        said = await look(bench.stage, bench.contact, load_settings("x", "y", "z"), 0.5)
        warned = [finding.text for finding in said if finding.grade == "warn"]
        assert len(warned) == 3
        assert "targets cannot be verified" in warned[0]

    run_virtual(main)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    link = tmp_path / "stage-link"
    command = [sys.executable, "-P", "-m", "hil", "stage", "--link", str(link), "--command-map", str(SCPI)]
    process = subprocess.Popen(
        [*command, "--servo-on", "--seed", "1"], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ)
    )
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["ready"]
        yield str(link)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.mark.realtime
def test_check_on_a_pseudo_terminal_finds_the_driver_by_its_name(tmp_path: Path, served: str) -> None:
    config = load(a_rig(tmp_path, path=served))
    said = {finding.what: finding for finding in check_stage(config)}
    assert said["stage"].text == "SPM-4, serial S0417, firmware 2.3"
    assert {finding.grade for finding in said.values()} == {"ok"}
