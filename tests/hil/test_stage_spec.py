"""A rig with a stage, as a spec: its configuration, the emulator's command line, the sample, and the process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.config import load
from hil import bench_rig
from hil.bench_rig import EmulatedRig, RigOptions
from hil.cli import app
from hil.errors import BenchFaultError, BenchOptionError
from hil.processes import BenchRig, RigSpec, StageSpec
from hil.processes.spec import SERIAL_NUMBER, config_of, smu_command
from hil.processes.stage_spec import STAGE_SERIAL_NUMBER
from hil.twin.grains import Box

EVERYTHING = StageSpec(
    baud=0,
    axes=("X", "Y", "Z"),
    travel_um=60.0,
    velocity_um_s=100.0,
    surface_um=40.0,
    towards="-",
    start_um=(10.0, 20.0, 41.25),
    servo_on=False,
    xi_nm=30.0,
    placement_sd_nm=1.0,
    drift_nm_s=(0.05, -0.1),
    layers_um=((0.0, 0.0, 30.0, 60.0), (40.0, 0.0, 50.0, 10.0)),
    stuck_on_um=((1.0, 1.0, 2.0, 2.0),),
    bridged_um=((3.0, 3.0, 4.0, 4.0),),
    open_tip=True,
    settings={"settle_s": 0.05, "threshold_v": 0.2, "lift_unverified": True},
)


def heard(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> RigOptions:
    """Return what the command line makes of ``words``."""
    asked: list[RigOptions] = []

    def take(options: RigOptions) -> int:
        asked.append(options)
        return 0

    monkeypatch.setattr(bench_rig, "serve_rig", take)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    [options] = asked
    return options


def test_the_configuration_has_the_stage_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    link = tmp_path / 'a "folder" with \\ and spaces' / "smu"
    path.write_text(config_of(RigSpec(stage=EVERYTHING), link, None), encoding="utf-8")
    config = load(path)
    assert config.ports.stage is not None
    # At no pace on the emulator's side; a port has a rate all the same.
    assert (config.ports.stage.path, config.ports.stage.baud) == (str(link.with_name("stage")), 115200)
    stage, contact = config.stage, config.contact
    assert (stage.serial_number, stage.x, stage.y, stage.z) == (STAGE_SERIAL_NUMBER, "X", "Y", "Z")
    assert (stage.towards_sample, stage.settle_s, stage.lift_unverified) == ("-", 0.05, True)
    assert (contact.threshold_v, contact.channel) == (0.2, 1)
    assert config.smu.serial_number == SERIAL_NUMBER


def test_without_a_stage_there_is_none_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text(config_of(RigSpec(), tmp_path / "smu", None), encoding="utf-8")
    assert load(path).ports.stage is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[smu]\n", "no commented sections"),
        ("\n# [ports.stage]\n# path = 1\n\n# [scan]\n", "not one key 'baud'"),
    ],
)
def test_a_template_that_has_changed_is_told(text: str, told: str) -> None:
    with pytest.raises(BenchFaultError, match=told):
        StageSpec().configure(text, Path("stage"))


def test_a_setting_that_is_none_is_told() -> None:
    with pytest.raises(BenchFaultError, match="not one key 'setle_s' of a stage"):
        config_of(RigSpec(stage=StageSpec(settings={"setle_s": 0.0})), Path("smu"), None)


@pytest.mark.parametrize("stage", [StageSpec(), EVERYTHING])
def test_the_command_line_says_what_the_spec_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: StageSpec
) -> None:
    spec = RigSpec(stage=stage, seed=7, series_ohm=1e4, transients=True, baud=9600)
    command = smu_command(spec, tmp_path / "smu", tmp_path / "truth")
    options = heard(monkeypatch, command[command.index("rig") :])
    assert options == replace(
        stage.options(tmp_path / "smu", tmp_path / "stage"),
        seed=7,
        series_ohm=1e4,
        transients=True,
        baud=9600,
        serial_number=SERIAL_NUMBER,
        truth=tmp_path / "truth",
    )


def test_the_least_command_line_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    options = heard(monkeypatch, ["rig", "--smu-link", "a", "--stage-link", "b"])
    assert options == RigOptions(smu_link=Path("a"), stage_link=Path("b"))
    assert replace(StageSpec().options(Path("a"), Path("b")), drift_nm_s="0,0") == options


def test_who_plans_has_the_emulators_sample() -> None:
    planned = EVERYTHING.sample(3)
    emulated = EmulatedRig(replace(EVERYTHING.options(Path("a"), Path("b")), seed=3)).tip.sample
    assert planned.parameters == emulated.parameters
    box = Box(0.0, 0.0, 60e-6, 60e-6)
    assert planned.boundary_points(5, box) == emulated.boundary_points(5, box)
    assert planned.parameters.layers == (Box(0.0, 0.0, 30e-6, 60e-6), Box(40e-6, 0.0, 50e-6, 10e-6))


@pytest.mark.parametrize("sample", [{"load": "ohmic:1e6"}, {"site": "gb"}])
def test_a_stage_and_a_single_site_exclude_each_other(sample: dict[str, str]) -> None:
    with pytest.raises(BenchOptionError, match="leave out load and site"):
        RigSpec(stage=StageSpec(), load=sample.get("load"), site=sample.get("site"))


def test_a_site_can_have_the_full_twin(tmp_path: Path) -> None:
    words = smu_command(RigSpec(site="gb", twin="full", transients=True), tmp_path / "smu", tmp_path / "truth")
    assert words[words.index("--twin") + 1] == "full"
    assert "--transients" in words
    assert "--transients" not in smu_command(RigSpec(site="gb"), tmp_path / "smu", tmp_path / "truth")


@pytest.mark.processes
def test_the_process_of_a_rig_with_a_stage(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path / "rig", RigSpec(stage=StageSpec(surface_um=42.0), seed=5))
    assert rig.stage_link == tmp_path / "rig" / "stage"
    try:
        rig.start_smu()
        assert (rig.ready["seed"], rig.ready["surface_um"]) == (5, 42.0)
        assert (rig.ready["smu_link"], rig.ready["stage_link"]) == (str(rig.link), str(rig.stage_link))
        assert rig.link.is_symlink()
        assert rig.stage_link.is_symlink()
        assert rig.pids == {"emulated 2400 with its stage": rig.ready["pid"]}
    finally:
        rig.close()
    assert rig.smu.code == 0
    assert not rig.link.is_symlink()
    assert not rig.stage_link.is_symlink()
    assert [entry["event"] for entry in rig.truth()] == ["stage_summary", "summary"]


@pytest.mark.processes
def test_a_rig_with_a_stage_that_does_not_start_says_why(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, RigSpec(stage=StageSpec(surface_um=200.0)))
    try:
        with pytest.raises(BenchFaultError, match=r"the emulated 2400 with its stage (?s:.*)--surface-um 200.0"):
            rig.start_smu()
    finally:
        rig.close()
    assert BenchRig(tmp_path / "other").stage_link is None
