"""Commissioning in virtual time: what three loads show, what is refused, and that a profile makes the rig again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config
from edge.controller import commission_profile, interview
from edge.controller.commission import LOADS, CommissionPlan
from edge.controller.plans import make_plan
from edge.errors import BusyError, ConfigError, InstrumentError, PlanRefusedError
from edge.flight import read_flight, stretches
from edge.guard.phases import phase_spec, prot_a, read_on
from edge.guard.states import State
from edge.profile import RigProfile, load_profile
from edge.ring import Kind
from edge.samples import Phase
from hil.devices.keithley2400 import Keithley2400, Timing
from hil.devices.keithley2400.flow import Flow
from hil.devices.keithley2400.profile import ConverterError, Profile, parse_profile
from hil.replay import replay
from hil.rig import config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.truth import TruthRecord
from hil.unit import UnitSpec
from hil.virtual_bench import VirtualBench, on_bench

SERIES_OHM = 1000.0
OHM = {"10kohm": 1e4, "10Mohm": 1e7, "open": 1e15}
QUICK = {"cuts": 20, "readings": 64, "zeros": 20}
UTC = "2026-01-02T03:04:05Z"
ODD = Profile(
    serial_number="4711",
    firmware="C30   Mar 17 2006 09:29:29/A02  /K/J",
    terminator="CRLF",
    line_freq_hz=50.0,
    timing=Timing(set_s=0.0017, query_s=0.0031, level_s=0.0083, output_s=0.0092, reply_s=0.0051, abort_s=0.035),
    current=(
        ConverterError(1e-6, 1.0, 250e-12, 40e-12),
        ConverterError(1e-3, 0.01, -450e-9, 220e-9),
    ),
)
"""A unit that is slower and worse than the data sheet's, in every figure that is measured."""


def unit(profile: Profile, load: OhmicLoad, *, seed: int = 3, swallow_s: float | None = None) -> Keithley2400:
    spec = UnitSpec(
        serial_number=profile.serial_number or "1304207",
        terminator={"CRLF": b"\r\n", "CR": b"\r"}[profile.terminator or "CR"],
        flow=Flow.NONE,
        baud=57600,
        abort_swallow_s=profile.abort_swallow_s if swallow_s is None else swallow_s,
        profile=profile,
    )
    return spec.build(load, seed=seed)


def on(
    directory: Path,
    work: Callable[[VirtualBench, OhmicLoad], Any],
    *,
    profile: Profile | None = None,
    r_ohm: float = 1e4,
    series_ohm: float = SERIES_OHM,
    **options: Any,  # noqa: ANN401 - VirtualRig's own
) -> None:
    """Run ``work`` on a rig with a resistor; ``profile`` is what its 2400 is like."""
    truth = TruthRecord()
    load = OhmicLoad(r_ohm, series_ohm, truth=truth)
    if profile is not None:
        options["device"] = unit(profile, load)
        options["config"] = config_for(series_ohm=SERIES_OHM, serial_number=profile.serial_number or "1304207")
    options.setdefault("config", config_for(series_ohm=SERIES_OHM))

    async def begin(bench: VirtualBench) -> None:
        await work(bench, load)

    on_bench(directory, begin, load=lambda _: load, **options)


async def run(bench: VirtualBench, name: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - the plan's own
    bench.start(CommissionPlan(**{"load": name, "series_ohm": SERIES_OHM, **QUICK, **changes}))
    return await bench.ended()


def measured(
    directory: Path,
    bias_v: float = 0.4,
    baud: int = 57600,
    **options: Any,  # noqa: ANN401 - see on()
) -> tuple[RigProfile, tuple[str, ...]]:
    """Commission a rig and return its profile and what is said of it."""
    found: dict[str, Any] = {}
    configs: list[Config] = []

    async def work(bench: VirtualBench, load: OhmicLoad) -> None:
        configs.append(bench.rig.config)
        for name in LOADS:
            load.replace(OHM[name])
            ended = await run(bench, name, bias_v=bias_v, baud=baud)
            assert ended["status"] == "completed", ended["reason"]
            assert bench.off
            found[name] = json.loads(json.dumps(ended["results"]))

    on(directory, work, baud=baud, **options)
    profile = commission_profile.assemble(configs[0], found, utc=UTC, version="test")
    return profile, commission_profile.deviations(configs[0], found)


def refused(directory: Path, name: str, r_ohm: float, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - see on()
    """Measure on a wrong load; return the run's map."""
    ended: list[dict[str, Any]] = []

    async def work(bench: VirtualBench, load: OhmicLoad) -> None:
        ended.append(await run(bench, name))
        assert bench.off
        assert bench.engine.state is State.SAFE
        worst_a = max((abs(float(entry["i_a"] or 0.0)) for entry in load.truth.entries), default=0.0)
        assert worst_a < 25e-6, "what was not the load was looked at too hard"

    on(directory, work, r_ohm=r_ohm, **options)
    return ended[0]


def ratio(one: float, other: float) -> float:
    return one / other


# ---------------------------------------------------------------------------------------------- what three loads show


def test_a_rig_as_the_data_sheet_has_it(tmp_path: Path) -> None:
    profile, said = measured(tmp_path)
    assert said == ()
    assert (profile.serial_number, profile.terminator, profile.baud, profile.sign) == ("1304207", "CR", 57600, 1)
    assert profile.series_ohm == pytest.approx(SERIES_OHM, abs=20.0)
    # 76 readings a second at constant bias, 45 on a ramp: the wire is 8.5 ms of each.
    assert profile.sample_period_s.constant.p50 == pytest.approx(0.0129, rel=0.02)
    assert profile.sample_period_s.ramp.p50 == pytest.approx(0.0220, rel=0.02)
    # One query of 17 bytes there and 14 back, and the instrument's answer.
    assert profile.check_period_s.p50 - profile.sample_period_s.ramp.p50 == pytest.approx(0.0064, rel=0.03)
    assert profile.cut_latency_s.n == QUICK["cuts"]
    assert profile.cut_latency_s.p50 == pytest.approx(0.0239, rel=0.02)
    assert profile.abort_s == pytest.approx(0.0, abs=1e-6)
    ranges = [(one.range_a, one.nplc) for one in profile.current]
    assert ranges == [(1e-6, 1.0), (1e-5, 1.0), (1e-4, 1.0), (1e-4, 0.01), (1e-3, 0.01)]
    for one, sigma_a in zip(profile.current, (10e-12, 50e-12, 0.5e-9, 10e-9, 100e-9), strict=True):
        assert one.n == QUICK["zeros"]
        assert 0.5 < one.sigma_a / sigma_a < 1.7
        assert abs(one.offset_a) < sigma_a


def test_every_figure_of_an_odd_unit_comes_back_from_its_own_profile(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first, _ = measured(tmp_path / "first", profile=ODD)
    assert first.terminator == "CRLF"
    assert first.timing_s is not None
    for name in ("query_s", "set_s", "level_s", "output_s", "reply_s"):
        assert first.timing_s[name] == pytest.approx(getattr(ODD.timing, name), rel=0.05), name
    assert first.abort_s == pytest.approx(0.035, rel=0.02)
    # Through the file, as `tipguard hil smu --profile` reads it.
    copied = parse_profile(json.loads(first.to_json()), "rig-profile.json")
    second, _ = measured(tmp_path / "second", profile=copied)
    for what, one, other in (
        ("constant", first.sample_period_s.constant.p50, second.sample_period_s.constant.p50),
        ("ramp", first.sample_period_s.ramp.p50, second.sample_period_s.ramp.p50),
        ("check", first.check_period_s.p50, second.check_period_s.p50),
        ("cut", first.cut_latency_s.p50, second.cut_latency_s.p50),
        ("cut p99", first.cut_latency_s.p99, second.cut_latency_s.p99),
        ("abort", first.abort_s, second.abort_s),
        ("series", first.series_ohm, second.series_ohm),
    ):
        assert 0.9 < ratio(one, other) < 1.1, what
    assert (second.terminator, second.serial_number) == ("CRLF", "4711")
    for before, after in zip(first.current, second.current, strict=True):
        # Twenty readings: their mean and their spread are themselves uncertain.
        assert abs(before.offset_a - after.offset_a) < before.sigma_a
        assert 0.5 < before.sigma_a / after.sigma_a < 2.0


def test_bytes_that_are_lost_behind_an_abort_are_found_and_said(tmp_path: Path) -> None:
    profile, said = measured(tmp_path, profile=Profile(abort_swallow_s=0.004))
    assert profile.abort_swallow_s == 0.005
    assert "abort: what is sent within 5 ms behind it is lost" in said[0]


def test_a_series_resistor_that_is_not_the_one_in_the_file_is_said(tmp_path: Path) -> None:
    profile, said = measured(tmp_path, series_ohm=1600.0)
    assert profile.series_ohm == pytest.approx(1600.0, abs=20.0)
    assert "series resistance: 1.600 kohm measured" in said[0]
    assert "1.000 kohm in the file" in said[0]


def test_a_slow_line_is_measured_with_what_it_can_carry(tmp_path: Path) -> None:
    config = config_for(series_ohm=SERIES_OHM, ports={"smu": {"path": "memory", "baud": 9600}})
    profile, said = measured(tmp_path, baud=9600, config=config)
    assert said == ()
    assert profile.baud == 9600
    # 49 bytes take 51 ms.
    assert profile.sample_period_s.constant.p50 == pytest.approx(0.0555, rel=0.03)
    assert [one.range_a for one in profile.current] == [1e-4, 1e-4, 1e-3]


def test_with_hi_at_the_sample_and_another_abort(tmp_path: Path) -> None:
    config = config_for(series_ohm=SERIES_OHM, wiring={"hi": "sample"}, smu={"abort": "ctrl-x"})
    profile, said = measured(tmp_path, config=config)
    assert (profile.sign, said) == (-1, ())
    assert profile.series_ohm == pytest.approx(SERIES_OHM, abs=20.0)


# ------------------------------------------------------------------------------------------------- what is not believed


@pytest.mark.parametrize(
    ("load", "r_ohm", "says"),
    [
        ("10kohm", 3e3, "has 4.000 kohm at 20 mV, expected 11.00 kohm"),
        ("10kohm", 13e3, "expected 11.00 kohm"),
        ("10kohm", 1e7, "hardly conducts: 10.0 Mohm"),
        ("10kohm", 1e15, "hardly conducts"),
        ("10Mohm", 1e4, "conducts: less than 20 kohm"),
        ("10Mohm", 1e6, "conducts: 1.00 Mohm"),
        ("10Mohm", 13e6, "expected 10.00 Mohm"),
        ("10Mohm", 1e15, "hardly conducts"),
        ("open", 1e7, "conducts: 10.0 Mohm"),
        ("open", 200e6, "conducts: 20"),
        ("open", 1.0, "conducts: less than"),
    ],
)
def test_another_load_than_was_asked_for_is_refused_with_words(
    tmp_path: Path, load: str, r_ohm: float, says: str
) -> None:
    ended = refused(tmp_path, load, r_ohm)
    assert ended["status"] == "failed"
    assert says in ended["reason"]
    assert "Is something else connected" in ended["reason"]
    assert ended["results"]["refused"] is True


def test_a_short_without_a_series_resistor_trips(tmp_path: Path) -> None:
    # Less than the read range can bear even at 20 mV: the guard is quicker than the judgement.
    config = config_for(series_ohm=0.0, limits={"allow_clamp": True})

    async def work(bench: VirtualBench, _load: OhmicLoad) -> None:
        ended = await run(bench, "10kohm", series_ohm=0.0, accept_clamp=True)
        assert ended["status"] == "tripped"
        assert bench.off

    on(tmp_path, work, r_ohm=1.0, series_ohm=0.0, config=config)


def test_without_the_look_at_the_load_a_wrong_profile_would_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OHM, "10kohm", 3e3)
    (tmp_path / "with").mkdir()
    with pytest.raises(AssertionError, match=r"has 4.000 kohm"):
        measured(tmp_path / "with")
    # The check that protects from it, taken away: the file would say that there is no series resistor.
    monkeypatch.setattr(CommissionPlan, "_refuse_other", lambda *_: None)
    (tmp_path / "without").mkdir()
    profile, _ = measured(tmp_path / "without", bias_v=0.1)
    assert profile.series_ohm == 0.0


@pytest.mark.parametrize("looks", [True, False])
def test_without_the_first_look_what_is_still_there_would_get_the_whole_bias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    # 1 Mohm where nothing should be: a tip on its sample, say.
    if not looks:
        monkeypatch.setattr(CommissionPlan, "_look", lambda _: iter(()))
    levels_v: list[float] = []

    async def work(bench: VirtualBench, load: OhmicLoad) -> None:
        load.on_event = lambda *_: levels_v.append(abs(load.v_tip))
        ended = await run(bench, "open")
        assert ended["status"] == "failed"
        levels_v.extend(abs(float(entry["v_source"] or 0.0)) for entry in load.truth.entries)

    on(tmp_path, work, r_ohm=1e6)
    assert (max(levels_v) <= 0.020) is looks


# ----------------------------------------------------------------------------------------------- the plan is a plan


def test_a_stop_cuts_and_latches(tmp_path: Path) -> None:
    async def work(bench: VirtualBench, _load: OhmicLoad) -> None:
        bench.start(CommissionPlan("10kohm", SERIES_OHM, **QUICK))  # type: ignore[arg-type]
        await bench.until(lambda: bench.engine.state is State.ENERGISED)
        assert bench.rig.worker.runner.stop(by="anna")
        ended = await bench.ended()
        assert ended["status"] == "tripped"
        assert bench.off
        with pytest.raises(BusyError):
            bench.start()

    on(tmp_path, work)


def test_it_replays_with_its_interview_and_its_profile(tmp_path: Path) -> None:
    from tests.edge.test_profile import WHOLE

    profiled = config_for(series_ohm=SERIES_OHM).model_copy(update={"profile": RigProfile.model_validate(WHOLE)})

    async def work(bench: VirtualBench, _load: OhmicLoad) -> None:
        ended = await run(bench, "10kohm", cuts=3, readings=32)
        assert ended["status"] == "completed"
        bench.rig.worker.recorder.flush_tape()

    on(tmp_path, work, config=profiled)
    [stretch], notes = stretches(read_flight(tmp_path / "ring").records)
    assert notes == []
    replayed = replay(stretch)
    assert replayed.difference is None, replayed.difference.line()
    stop = replayed.documents(Kind.RUN)[-1]
    assert stop["results"]["cut_latency_s"]["n"] == 3
    assert Config.model_validate(stretch.start["config"]) == profiled


def test_only_a_high_resistance_read_takes_another_range() -> None:
    spec = read_on(Phase.HRS_READ, 0.1, 10e-6)
    usual = phase_spec(Phase.HRS_READ, 0.1)
    assert (spec.range_a, spec.nplc, spec.tests) == (10e-6, usual.nplc, usual.tests)
    assert prot_a(spec, 1e-3) == 10e-6
    for phase, range_a in ((Phase.SEEK, 10e-6), (Phase.LRS_READ, 10e-6), (Phase.HRS_READ, 20e-6)):
        with pytest.raises(ValueError, match="range"):
            read_on(phase, 0.1, range_a)


def test_an_interview_is_for_a_verified_output_only(tmp_path: Path) -> None:
    async def work(bench: VirtualBench, _load: OhmicLoad) -> None:
        await bench.engine.arm(Phase.RESET, 0.1)
        with pytest.raises(BusyError, match="this needs SAFE"):
            await bench.engine.interview(3)
        bench.engine.disarm()
        figures = await bench.engine.interview(3)
        assert figures["query_s"]["n"] == 3
        assert figures["terminator"] == "CR"
        # Asking left nothing behind that could answer the next question.
        await bench.engine.arm(Phase.RESET, 0.1)

    on(tmp_path, work)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda data: data.replace(b"\r", b";\r"), "expected a number and CR, LF or both"),
        (lambda data: data.replace(b"\r", b"\r\n\r"), "expected a number and CR, LF or both"),
    ],
)
def test_a_reply_that_ends_in_nothing_known_is_refused(
    tmp_path: Path, edit: Callable[[bytes], bytes], says: str
) -> None:
    async def work(bench: VirtualBench, _load: OhmicLoad) -> None:
        bench.replies.edit = edit
        with pytest.raises(InstrumentError, match=says):
            await bench.engine.interview(3)
        # And the link has its line back.
        bench.replies.edit = lambda data: data
        await bench.engine.arm(Phase.RESET, 0.1)

    on(tmp_path, work)


def test_an_instrument_that_is_mute_behind_an_abort_is_said(tmp_path: Path) -> None:
    async def work(bench: VirtualBench, _load: OhmicLoad) -> None:
        bench.rig.device.abort_swallow_s = 0.5
        with pytest.raises(InstrumentError, match=r"see smu.abort"):
            await bench.engine.interview(3)

    on(tmp_path, work)


def test_it_is_made_by_its_name_and_checked() -> None:
    plan = make_plan("commission", {"load": "open", "series_ohm": 1e4})
    assert type(plan) is CommissionPlan
    assert plan.v_max_v == 0.4
    assert not plan.needs_stage
    for wrong in ({"load": "tip"}, {"bias_v": 5.0}, {"cuts": 0}, {"zeros": True}, {"accept_clamp": 1}):
        with pytest.raises(PlanRefusedError) as found:
            make_plan("commission", {"load": "open", "series_ohm": 1e4, **wrong})
        assert found.value.reason == "bad_plan"


def test_the_longest_of_its_parts_is_under_ten_minutes_and_the_whole_about_two() -> None:
    whole_s = sum(CommissionPlan(load, 1e4).duration_s() for load in LOADS)
    assert 100 < whole_s < 150


# -------------------------------------------------------------------------------------------------- from map to file


def test_figures_of_another_instrument_make_no_profile() -> None:
    ten = {"instrument": {"serial_number": "7"}}
    config = config_for()
    with pytest.raises(InstrumentError, match="serial number '7'"):
        commission_profile.assemble(config, {"10kohm": ten, "10Mohm": {}, "open": {}}, utc=UTC, version="0")
    with pytest.raises(InstrumentError, match="nothing was measured on 10Mohm, open"):
        commission_profile.assemble(config, {"10kohm": ten}, utc=UTC, version="0")


def test_a_profile_is_written_whole_and_the_old_one_is_kept(tmp_path: Path) -> None:
    from tests.edge.test_profile import WHOLE

    file = tmp_path / "rig-profile.json"
    old = RigProfile.model_validate(WHOLE)
    new = RigProfile.model_validate({**WHOLE, "series_ohm": 1.0})
    assert commission_profile.write(file, old, force=False) is None
    with pytest.raises(ConfigError, match="--force"):
        commission_profile.write(file, new, force=False)
    assert load_profile(file) == old
    kept = commission_profile.write(file, new, force=True)
    assert kept is not None
    assert kept.name == "rig-profile-until-20260102T030405Z.json"
    assert (load_profile(file), load_profile(kept)) == (new, old)
    # A second one of the same second has a name of its own.
    again = commission_profile.write(file, old, force=True)
    assert again is not None
    assert again != kept
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([file.name, kept.name, again.name])


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    from tests.edge.test_profile import WHOLE

    file = tmp_path / "rig-profile.json"
    commission_profile.write(file, RigProfile.model_validate(WHOLE), force=False)
    (tmp_path / "rig-profile.json.new").mkdir()
    with pytest.raises(ConfigError, match="choose another place"):
        commission_profile.write(file, RigProfile.model_validate({**WHOLE, "series_ohm": 1.0}), force=True)
    assert load_profile(file).series_ohm == WHOLE["series_ohm"]


def test_a_summary_is_of_something_and_never_below_zero() -> None:
    assert interview.summary([0.003, -0.001, 0.002]) == {"p50": 0.002, "p99": 0.003, "max": 0.003, "n": 3}
    with pytest.raises(InstrumentError):
        interview.summary([])
