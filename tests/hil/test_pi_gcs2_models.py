"""What tells one emulated stage controller from another: references, parameters, single bytes, names, the line."""

from __future__ import annotations

import itertools
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from edge.instruments.stage import StageRefusedError
from firmware_proto.gcs2.errors import ErrorCode
from hil.devices.pi_gcs2 import Model, PiController
from hil.devices.pi_gcs2.models import ModelOptionError, ModelOptions, build
from hil.stage import StageOptions, serve_stage
from hil.stage_bench import StageBench, on_stage_bench
from tests.hil.test_pi_gcs2 import MS, Desk, S, Wire, ready


class Motor(Desk):
    """A C-863 as the command line makes it, its noise off."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        model = build(ModelOptions(**({"model": "c863"} | options)), None, 200.0)  # type: ignore[arg-type] # as the test says
        self.unit = PiController(model, self.surface)
        self.wire = Wire()
        self.unit.attach(self.wire)
        self.unit.advance(self.t_ns)


# Discovery


@pytest.mark.parametrize(("name", "only"), [("e727", "ATZ"), ("c863", "FRF")])
def test_each_model_answers_all_that_it_lists_and_nothing_else(name: str, only: str) -> None:
    desk = Desk() if name == "e727" else Motor()
    lines = (desk.ask("HLP?") or "").split(" \n")[1:-1]
    listed = {line.split()[0] for line in lines}
    assert {"ATZ", "FRF"} & listed == {only}
    for mnemonic in sorted(listed):
        if mnemonic.endswith("?"):
            assert desk.ask(mnemonic) is not None, mnemonic
        elif mnemonic.startswith("#") and mnemonic not in {"#24", "#27"}:
            assert desk.single(int(mnemonic[1:])) is not None, mnemonic
    assert desk.error() == 0
    # A set command without a word is short of something, or acts on all; it is never unknown.
    for mnemonic in sorted(word for word in listed if word.isalpha()):
        desk.tell(mnemonic)
        desk.wait(S)
        assert desk.error() != ErrorCode.UNKNOWN_COMMAND, mnemonic
    for number in {3, 4, 5, 6, 7, 8, 9, 24, 27} - {int(word[1:]) for word in listed if word.startswith("#")}:
        assert desk.single(number) is None
        assert desk.error() == ErrorCode.UNKNOWN_COMMAND


def test_an_e727_of_the_manual_has_no_analog_input() -> None:
    model = build(ModelOptions(analog_inputs=0), None, None)
    desk = Desk(analog_inputs=model.analog_inputs)
    assert "TAV?" not in (desk.ask("HLP?") or "")
    assert desk.ask("TAD? 2") == "2=0"
    assert desk.ask("TNS?") == "1=0.0000 \n2=0.0000 \n3=0.0000"
    assert desk.ask("TSP? 4") is None
    assert desk.error() == ErrorCode.PARAMETER_OUT_OF_RANGE


# Single bytes


def test_the_tab_is_9_wherever_it_stands() -> None:
    """Found by PIPython: IsGeneratorRunning waited for a reply that never came."""
    desk = Desk()
    assert desk.single(9) == b"0\n"
    desk.write(b"POS\t? 1\n")
    desk.wait(5 * MS)
    assert [data for _, data in desk.wire.sent[-2:]] == [b"0\n", b"1=50.0000\n"]


def test_6_tells_what_has_moved_since_the_last_look() -> None:
    desk = ready()
    assert desk.single(6) == b"0\n"
    desk.tell("MOV 2 60 3 40")
    desk.wait(S)
    assert desk.single(6) == b"6\n"
    desk.ask("POS? 2")
    assert desk.single(6) == b"4\n"
    desk.single(3)
    assert desk.single(6) == b"0\n"


def test_27_stops_everything_and_opens_every_loop() -> None:
    desk = ready()
    desk.tell("MOV 1 90")
    desk.wait(50 * MS)
    assert desk.single(27) is None
    assert desk.single(5) == b"0\n"
    assert desk.ask("SVO?") == "1=0 \n2=0 \n3=0"
    assert desk.error() == ErrorCode.STOPPED


def test_7_is_two_bytes_and_5_works_while_a_reference_move_is_under_way() -> None:
    desk = Motor()
    desk.tell("SVO 1 1", "FRF")
    assert desk.single(7) == b"\xb0\n"
    assert desk.single(5) == b"1\n"
    assert int(desk.single(4) or b"", 16) & 0x7000 == 0x7000
    desk.wait(S)
    assert desk.single(7) == b"\xb1\n"
    assert desk.ask("SRG? 1 1") == "1 1=0x9000"
    desk.tell("SRG? 1 2")
    assert desk.error() == ErrorCode.PARAMETER_OUT_OF_RANGE


# References


def test_an_incremental_axis_counts_from_where_it_was_switched_on() -> None:
    desk = Motor()
    where = desk.unit.position_m(desk.t_ns, "1")
    assert where > 1e-6
    assert float((desk.ask("POS? 1") or "").partition("=")[2]) == pytest.approx(0.0, abs=1e-4)
    desk.tell("SVO 1 1", "FNL 1")
    desk.wait(2 * S)
    assert float((desk.ask("POS? 1") or "").partition("=")[2]) == pytest.approx(0.0, abs=1e-4)
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(0.0, abs=1e-9)
    desk.tell("FPL")
    desk.wait(2 * S)
    assert desk.ask("FRF?") == "1=1"
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(200e-6, abs=1e-9)


def test_a_position_can_be_set_only_without_reference_and_moves_nothing() -> None:
    desk = Motor()
    desk.tell("SVO 1 1", "POS 1 0.05")
    assert desk.error() == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
    desk.tell("MVR 1 0.001")
    assert desk.error() == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
    where = desk.unit.position_m(desk.t_ns, "1")
    desk.tell("RON 1 0", "POS 1 0.05")
    assert desk.error() == 0
    assert desk.ask("FRF? 1") == "1=1"
    assert desk.ask("MOV? 1") == "1=0.0500000"
    assert desk.unit.position_m(desk.t_ns, "1") == where
    step = 0.01 if where < 100e-6 else -0.01
    desk.tell(f"MOV 1 {0.05 + step:.3f}")
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") - where == pytest.approx(step * 1e-3, abs=1e-9)
    # Limits stay where they were; what the hardware cannot reach is refused as well.
    assert desk.ask("TMX? 1") == "1=0.2000000"
    for target in ("-0.001", "0.201", "0" if where < 50e-6 else "0.2"):
        desk.tell(f"MOV 1 {target}")
    assert desk.error() == ErrorCode.POSITION_LIMITS


def test_without_reference_mode_steps_are_free() -> None:
    desk = Motor()
    where = desk.unit.position_m(desk.t_ns, "1")
    step = 0.005 if where < 100e-6 else -0.005
    desk.tell("SVO 1 1", "RON 1 0", f"MVR 1 {step}", "MOV 1 0.1")
    assert desk.error() == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") - where == pytest.approx(step * 1e-3, abs=1e-9)


def test_home_is_zero() -> None:
    desk = Motor()
    desk.tell("SVO 1 1", "FRF 1")
    desk.wait(S)
    desk.tell("GOH")
    desk.wait(S)
    assert desk.error() == 0
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(0.0, abs=1e-9)


def test_autozero_counts_when_it_has_ended_by_itself() -> None:
    desk = ready(autozero_s=1.0)
    assert desk.ask("ATZ?") == "1=0 \n2=0 \n3=0"
    desk.tell("ATZ 1 NaN")
    desk.wait(500 * MS)
    desk.single(24)
    assert desk.error() == ErrorCode.STOPPED
    desk.wait(S)
    assert desk.ask("ATZ? 1") == "1=0"
    desk.tell("ATZ 1 0.5 2 NaN")
    desk.wait(S)
    assert desk.ask("ATZ?") == "1=1 \n2=1 \n3=0"
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask("ATZ? 1") == "1=0"


def test_in_open_loop_a_piezo_is_driven_by_its_voltage() -> None:
    desk = ready()
    desk.tell("SVA 1 30")
    assert desk.error() == ErrorCode.OPEN_LOOP_WITH_SERVO_ON
    desk.tell("SVO 1 0", "SVA 1 101")
    assert desk.error() == ErrorCode.VOLTAGE_LIMITS
    desk.tell("SVA 1 30 2 30")
    assert desk.error() == ErrorCode.OPEN_LOOP_WITH_SERVO_ON, "of the second one; the first has not moved"
    desk.wait(S)
    assert desk.ask("SVA? 1") == "1=50.0000"
    desk.tell("SVA 1 30", "SVR 1 -10.5")
    desk.wait(S)
    assert desk.error() == 0
    assert desk.ask("SVA? 1") == "1=19.5000"
    assert desk.ask("VOL? 1") == "1=19.5000"
    assert desk.ask("POS? 1") == "1=19.5000"
    assert desk.ask("ONT? 1") == "1=0"
    desk.tell("SVR 1 -20")
    assert desk.error() == ErrorCode.VOLTAGE_LIMITS


# Parameters


def settled_after_ms(desk: Desk, target: str) -> int:
    desk.tell(f"MOV 1 {target}")
    for ms in itertools.count():
        if desk.ask("ONT? 1") == "1=1":
            return ms
        desk.wait(MS)
    raise AssertionError


def test_the_settling_time_is_a_parameter_and_on_target_keeps_to_it() -> None:
    desk = ready(axis={"velocity_um_s": 10_000.0})
    short = settled_after_ms(desk, "51")
    assert desk.ask("SPA? 1 0x07000901") == "1 0x7000901=0.0100"
    desk.tell("SPA 1 0x07000901 0.2")
    assert desk.error() == ErrorCode.PROTECTED
    desk.tell("CCL 1 advanced", "SPA 1 117442817 0.2")
    assert desk.error() == 0
    assert desk.ask("SPA? 1 117442817") == "1 0x7000901=0.2000"
    assert settled_after_ms(desk, "52") >= short + 80
    assert desk.ask("SPA? 2 0x07000901") == "2 0x7000901=0.0100"


def test_parameters_last_as_long_as_they_were_told_to() -> None:
    desk = ready()
    desk.tell("CCL 1 advanced", "SPA 1 0x07000900 0.5 2 0x07000900 0.6", "SEP 100 3 0x07000900 0.7")
    ask = "SPA? 1 0x07000900 2 0x07000900 3 0x07000900"
    assert desk.ask(ask) == "1 0x7000900=0.5000 \n2 0x7000900=0.6000 \n3 0x7000900=0.0050"
    assert desk.ask(ask.replace("SPA", "SEP")) == "1 0x7000900=0.0050 \n2 0x7000900=0.0050 \n3 0x7000900=0.7000"
    desk.tell("RPA 2 0x07000900", "WPA 100")
    assert desk.error() == 0
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask(ask) == "1 0x7000900=0.5000 \n2 0x7000900=0.0050 \n3 0x7000900=0.7000"
    assert desk.ask("CCL?") == "0"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("SPA? 1 0x1234", ErrorCode.UNKNOWN_PARAMETER),
        ("SPA? 1 window", ErrorCode.UNKNOWN_PARAMETER),
        ("SPA? 1", ErrorCode.MISSING_PARAMETER),
        ("SPA? 9 0x07000900", ErrorCode.WRONG_AXIS),
        ("SPA 1 0x07000900", ErrorCode.MISSING_PARAMETER),
        ("SPA 1 0x07000900 1 2 0x07000900 -1", ErrorCode.PARAMETER_OUT_OF_RANGE),
        ("SPA 1 0x07000001 200", ErrorCode.PROTECTED),
        ("SPA 1 0x07000900 wide", ErrorCode.BAD_NUMBER),
        ("SEP 99 1 0x07000900 1", ErrorCode.INVALID_PASSWORD),
        ("WPA", ErrorCode.INVALID_PASSWORD),
        ("CCL 2", ErrorCode.PARAMETER_OUT_OF_RANGE),
        ("CCL 1", ErrorCode.INVALID_PASSWORD),
        ("CCL", ErrorCode.MISSING_PARAMETER),
        ("SAI 1 2", ErrorCode.DUPLICATE_AXIS),
        ("SAI 1 a-b", ErrorCode.ILLEGAL_AXIS),
        ("SAI 9 X", ErrorCode.WRONG_AXIS),
    ],
)
def test_what_is_refused_leaves_parameters_and_names_alone(line: str, code: ErrorCode) -> None:
    desk = ready()
    desk.tell("CCL 1 advanced")
    before = desk.ask("SPA?"), desk.ask("SEP?"), desk.ask("SAI?")
    desk.tell(line)
    assert desk.error() == code
    assert (desk.ask("SPA?"), desk.ask("SEP?"), desk.ask("SAI?")) == before


def test_a_motor_controller_counts_its_window() -> None:
    desk = Motor()
    assert desk.ask("SPA? 1 0x36 1 0x0E 1 0x0F") == "1 0x36=100 \n1 0xE=1000000 \n1 0xF=1"
    desk.tell("SPA 1 0x36 250")
    assert desk.ask("SPA? 1 54") == "1 0x36=250"
    assert desk.error() == 0
    lines = (desk.ask("HPA?") or "").split(" \n")
    assert lines[0].startswith("The following")
    assert any(line.startswith("0x3F=\t0\t1\tFLOAT\t") for line in lines)


def test_acceleration_makes_ramps() -> None:
    desk = Motor()
    desk.tell("SVO 1 1", "FRF 1")
    desk.wait(2 * S)
    desk.tell("VEL 1 1", "ACC 1 1", "MOV 1 0.2")
    desk.wait(100 * MS)
    # Half the acceleration times the square of the time: 5 um after 0.1 s at 1 mm/s2.
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(105e-6, abs=0.2e-6)
    assert desk.ask("DEC? 1") == "1=1.0000000"
    for line in ("ACC 1 0", "ACC 1 -1", "VEL 1 3"):
        desk.tell(line)
    assert desk.error() == ErrorCode.VELOCITY_LIMITS


# Names, addresses, the line


def test_renamed_axes_are_the_same_axes() -> None:
    desk = ready()
    desk.tell("SAI 1 X 2 1", "MOV X 60 1 70")
    desk.wait(S)
    assert desk.ask("POS?") == "X=60.0000 \n1=70.0000 \n3=50.0000"
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(60e-6)
    assert desk.unit.position_m(desk.t_ns, "2") == pytest.approx(70e-6)
    desk.tell("MOV 2 10")
    assert desk.error() == ErrorCode.WRONG_AXIS


def test_a_controller_with_an_address_answers_to_it() -> None:
    desk = Motor()
    assert desk.ask("1 SVO?") == "0 1 1=0"
    assert desk.ask("1 0 SVO? 1") == "0 1 1=0"
    assert desk.ask("2 SVO?") is None
    assert desk.error() == 0
    help_text = desk.ask("1 HLP?") or ""
    assert help_text.startswith("0 1 The following")
    assert help_text.count("0 1 ") == 1
    piezo = Desk()
    piezo.tell("1 SVO?")
    assert piezo.error() == ErrorCode.UNKNOWN_COMMAND


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n"])
def test_other_line_ends_and_spaces(end: str) -> None:
    desk = ready()
    desk.write(f"  mov  1   61.5{end}".encode())
    desk.wait(S)
    assert desk.error() == 0
    assert desk.ask("pos? 1") == "1=61.5000"


def test_a_reboot_is_deaf_for_a_while_and_forgets() -> None:
    desk = ready(boot_s=0.5)
    desk.tell("MOV 1 90")
    desk.write(b"RBT\nPOS?\n")
    desk.wait(100 * MS)
    count = len(desk.wire.sent)
    desk.write(b"ERR?\nPOS? 1\n\x05")
    desk.wait(300 * MS)
    assert len(desk.wire.sent) == count
    desk.wait(200 * MS)
    assert desk.ask("SVO?") == "1=0 \n2=0 \n3=0"
    assert desk.error() == 0


def test_our_own_driver_references_and_moves_a_motor_stage_in_mm() -> None:
    model = build(ModelOptions(model="c863", numbers="exponent"), "1,2,3", 100.0)

    async def main(bench: StageBench) -> None:
        with pytest.raises(StageRefusedError):
            await bench.stage.move_to({"1": 60e-6})
        await bench.stage.reference()
        position = await bench.stage.move_to({"1": 60e-6, "3": 50.05e-6})
        assert position["1"] == pytest.approx(60e-6, abs=0.1e-6)
        assert bench.true_um("1") == pytest.approx(60, abs=0.1)
        assert await bench.contact.in_contact()
        await bench.stage.move_to({"3": 10e-6})
        assert not await bench.contact.in_contact()

    on_stage_bench(main, **{one.name: getattr(model, one.name) for one in fields(model)})


# Options


def test_models_can_be_set_apart() -> None:
    options = ModelOptions(
        model="c863", referencing="absolute", unit="um", numbers="exponent", servo_on=True, identity="X-1",
        velocity_um_s=10.0, autozero_s=0.5,
    )  # fmt: skip
    model = build(options, "a, b", 50.0)
    assert (model.referencing, model.unit, model.numbers, model.servo_on) == ("absolute", "um", "exponent", True)
    assert [(axis.name, axis.high_um, axis.velocity_um_s) for axis in model.axes] == [("a", 50.0, 10.0), ("b", 50, 10)]
    assert model.identity.split(", ")[1] == "X-1"
    assert model.autozero_s == 0.5
    assert build(ModelOptions(identity="me, E-709, 7, 1.0"), None, None).serial_number == "7"
    assert build(ModelOptions(), None, None) == Model()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "e816"}, "--model e816: want e727 or c863"),
        ({"referencing": "maybe"}, "--referencing maybe: want absolute or required"),
        ({"unit": "nm"}, "--unit nm: want um or mm"),
        ({"numbers": "hex"}, "--numbers hex: want fixed or exponent"),
        ({"identity": "a,b"}, "--identity 'a,b': want the name of a model, or four fields"),
        ({"identity": "µ"}, "--identity 'µ': want"),
        ({"analog_inputs": 17}, "--analog-inputs 17: want 0 to 16"),
        ({"autozero_s": -1.0}, "--autozero-s -1.0: want 0 to 60"),
        ({"velocity_um_s": 0.0}, "--velocity-um-s 0.0: want um/s from 0.001 to 10000"),
        ({"model": "c863", "velocity_um_s": 5000.0}, "--velocity-um-s 5000.0: want um/s from 0.001 to 2000"),
    ],
)
def test_options_that_no_controller_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelOptionError):
        build(ModelOptions(**options), None, None)
    assert serve_stage(StageOptions(**{"link": tmp_path / "stage", **options})) == 2
    assert capsys.readouterr().err.startswith(f"tipguard hil stage: {told}")
