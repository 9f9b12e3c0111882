"""The verbs as typed, without an instrument: what they print, where, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge.cli.app import ORDER, build_app
from edge.cli.common import print_json
from edge.config import load, template
from edge.rundir import LOCK_FILE, RigLock, rig_dir


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))


def tipguard(*words: str) -> Result:
    return CliRunner().invoke(build_app(with_hil=False, with_demo=False), list(words))


def a_config(path: Path) -> Path:
    path.write_text(template(path="/dev/absent", serial_number="1304207", series_ohm=1000.0), encoding="utf-8")
    return path


def test_help_lists_the_verbs_as_they_are_needed() -> None:
    said = tipguard("--help").stdout
    at = [said.index(f"│ {verb} ") for verb in ORDER]
    assert at == sorted(at)


def test_init_says_the_next_step(tmp_path: Path) -> None:
    done = tipguard("init", "a.toml", "--port", "/dev/absent", "--serial-number", "1304207")
    assert done.stdout == "wrote a.toml\nnext: `tipguard check a.toml`\n"
    assert load(tmp_path / "a.toml").smu.serial_number == "1304207"
    assert "put the port and the serial number into it" in tipguard("init", "b.toml").stdout


def test_init_writes_a_stage_where_its_port_is_given(tmp_path: Path) -> None:
    smu = ("init", "a.toml", "--force", "--port", "/dev/x", "--serial-number", "1")
    assert tipguard(*smu, "--stage-port", "/dev/stage", "--stage-serial-number", "0119").exit_code == 0
    config = load(tmp_path / "a.toml")
    assert config.ports.stage is not None
    assert (config.ports.stage.path, config.stage.serial_number) == ("/dev/stage", "0119")
    text = (tmp_path / "a.toml").read_text(encoding="utf-8")
    assert '\nserial_number = "0119"       # compared with *IDN? where given' in text
    assert "\nthreshold_v = 0.1          " in text
    assert "\n# [scan]\n" in text
    assert tipguard(*smu, "--stage-port", "/dev/stage").exit_code == 0
    assert load(tmp_path / "a.toml").stage.serial_number is None
    assert '\n# serial_number = "..."' in (tmp_path / "a.toml").read_text(encoding="utf-8")
    assert tipguard(*smu).exit_code == 0
    assert load(tmp_path / "a.toml").ports.stage is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--stage-serial-number", "1"), "--stage-serial-number needs --stage-port"),
        (("--stage-port", "a b"), "ports.stage.path: value 'a b'"),
        (("--stage-port", "/dev/x", "--stage-serial-number", 'a"'), "stage.serial_number: value 'a\"'"),
    ],
)
def test_init_refuses_a_stage_that_cannot_be_written(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = tipguard("init", "a.toml", *words)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


def test_init_writes_nothing_that_cannot_be_used(tmp_path: Path) -> None:
    before = a_config(tmp_path / "rig.toml").read_bytes()
    done = tipguard("init", "rig.toml", "--force", "--series-ohm", "-5")
    assert done.exit_code == 2
    assert done.stderr.startswith("tipguard: rig.toml: rig.series_resistor_ohm")
    assert (tmp_path / "rig.toml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rig.toml"]


def test_a_failure_with_json_is_one_line_of_json_too(tmp_path: Path) -> None:
    a_config(tmp_path / "rig.toml")
    a_map = ("run", "trigger-map", "--line", "1,2,3,4,5")
    for verb in (("status",), ("stop",), ("rearm",), ("run", "iv"), a_map, ("run", "memristor")):
        done = tipguard(*verb, "--json")
        assert done.exit_code == 1
        assert "no controller answers" in json.loads(done.stdout)["error"]["message"]
        assert done.stdout.count("\n") == 1
        assert done.stderr.startswith("tipguard: no controller answers")
        assert done.stderr.count("\n") == 1


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"current_a": float("nan"), "more": [float("inf"), 1.5, None, True, "text"]})
    assert json.loads(capsys.readouterr().out) == {"current_a": None, "more": [None, 1.5, None, True, "text"]}


def test_a_controller_that_runs_but_does_not_answer_is_not_to_be_started_again(tmp_path: Path) -> None:
    config = a_config(tmp_path / "rig.toml")
    lock = RigLock(rig_dir(load(config).rig.id, create=True))
    try:
        done = tipguard("status")
        assert done.exit_code == 1
        assert "the controller runs but does not answer" in done.stderr
        assert "tipguard serve" not in done.stderr
        found = {f["what"]: f for f in json.loads(tipguard("check", "--json").stdout)["findings"]}
        assert found["instrument"]["grade"] == "fail"
        assert "switch the output off at the panel" in found["instrument"]["text"]
    finally:
        lock.close()
    assert (rig_dir("bench-1") / LOCK_FILE).exists()


def test_stop_is_heard_in_spite_of_a_typo_in_the_file(tmp_path: Path) -> None:
    config = a_config(tmp_path / "rig.toml")
    config.write_text(config.read_text().replace("current_a", "curent_a"), encoding="utf-8")
    done = tipguard("stop")
    # It got as far as the socket of the rig that the file names.
    assert done.exit_code == 1
    assert "bench-1/control.sock" in done.stderr
    done = tipguard("stop", "absent.toml")
    assert done.exit_code == 2
    assert "`tipguard safe-off` cuts without it" in done.stderr


@pytest.mark.parametrize(
    ("ohm", "clamp", "grade", "says"),
    [
        (1000, "false", "warn", "1000 ohm hold 0.001 A up to 1 V; plans beyond are refused"),
        (1000, "true", "warn", "beyond with --accept-clamp: SMU clamp only"),
        (0, "false", "warn", "none; plans beyond are refused"),
        (10_000, "false", "ok", "10 V / 10000 ohm = 0.001 A"),
    ],
)
def test_check_says_what_the_resistor_holds(tmp_path: Path, ohm: int, clamp: str, grade: str, says: str) -> None:
    text = template(path="/dev/absent", serial_number="1304207", series_ohm=ohm)
    text = text.replace("allow_clamp = false", f"allow_clamp = {clamp}").replace("port = 1883", "port = 9")
    (tmp_path / "rig.toml").write_text(text, encoding="utf-8")
    done = tipguard("check", "--json")
    assert done.exit_code == 1
    found = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["series resistor"]["grade"] == grade
    assert says in found["series resistor"]["text"]
    # A pipe gets a finding a line, however long: the first ones, then those about protection under their title.
    lines = tipguard("check").stdout.splitlines()
    graded = [line for line in lines if line.startswith(("ok ", "warn ", "fail "))]
    assert len(graded) == len(found)
    assert any(says in line for line in graded)
