"""The ``rig`` fixture from outside: benches, marks, options, reports, a rig of "hardware", and other people's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import template, with_stage
from hil.processes.stage_spec import STAGE_SERIAL_NUMBER

ROOT = Path(__file__).resolve().parents[2]
SUITE = (ROOT / "tests" / "rig" / "test_suite.py").read_text(encoding="utf-8")
LONG = os.environ.get("TIPGUARD_LONG") == "1"
PLUGIN = ("-p", "no:asyncio", "-p", "hil.pytest_plugin", "-W", "error", "--strict-markers", "-rA")

BENCH = '''
import dataclasses
import pytest


class Paper:
    """A bench of paper: it writes down what is done to it."""

    name, marks, capabilities = "paper", (), frozenset({"smu", "paper"})

    def rig(self, directory, wish):
        return PaperRig(wish)


class PaperRig:
    command, logs, emulated, capabilities = "fold 'a sheet'", ("pencil",), True, Paper.capabilities
    made = []

    def __init__(self, wish):
        self.wish, self.done = wish, ["made"]
        self.made.append(self)

    def open(self):
        self.done.append("opened")

    def begin(self):
        self.done.append("begun")

    def log(self, name):
        return f"the {name} said " + " ".join(self.done)

    def close(self):
        from hil.processes import Ending

        self.done.append("closed")
        print("closed after", self.done)
        return Ending(True, "")


def pytest_tipguard_benches(config):
    return [Paper()]
'''


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What sessions with failures leave behind, for a person to look at, is nobody's here. Short: see the socket."""
    tmp_path_factory.getbasetemp()  # this session's own folder is not in it
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def paper(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(BENCH)
    return pytester


def test_a_third_bench_is_a_class_and_rigs_are_kept_between_tests(paper: pytest.Pytester) -> None:
    paper.makepyfile(
        """
        import pytest

        @pytest.mark.rig(needs="paper", seed=1)
        def test_first(rig):
            assert rig.done == ["made", "opened", "begun"]
            assert (dict(rig.wish.settings), rig.wish.needs) == ({"seed": 1}, {"paper"})

        @pytest.mark.rig(needs=("paper", "smu"), seed=1)
        def test_the_same_rig_at_rest_again(rig):
            assert rig.done == ["made", "opened", "begun", "begun"]

        @pytest.mark.rig(needs="paper", seed=2)
        def test_another_wish_another_rig(rig):
            assert len(rig.made) == 2
            assert rig.made[0].done[-1] == "closed"

        @pytest.mark.rig(needs="balance")
        def test_a_bench_that_nobody_has(rig):
            raise AssertionError
        """
    )
    done = paper.runpytest_inprocess(*PLUGIN, "--print-cmd")
    done.assert_outcomes(passed=3, skipped=1)
    done.stdout.fnmatch_lines(
        [
            "*benches of tipguard*",
            "paper: fold 'a sheet'",
            "paper: fold 'a sheet'",
            "PASSED*test_first?paper?",
            "SKIPPED*no bench of this session has balance",
        ]
    )


def test_what_is_not_emulated_is_not_started_anew_for_another_wish(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(BENCH.replace('("pencil",), True', '("pencil",), False'))
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.rig(needs="paper", seed=1)
        def test_first(rig):
            assert rig.done == ["made", "opened", "begun"]

        @pytest.mark.rig(needs="paper", seed=2)
        def test_second(rig):
            assert rig.done == ["made", "opened", "begun", "begun"]
        """
    )
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=2)


def test_a_failure_shows_the_command_and_the_logs(paper: pytest.Pytester) -> None:
    paper.makepyfile(
        """
        import pytest

        @pytest.mark.rig(needs="paper")
        def test_it(rig):
            assert 0
        """
    )
    done = paper.runpytest_inprocess(*PLUGIN, "--junit-xml", "out.xml")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*the command that starts this bench again*", "fold 'a sheet'", "*log of the pencil*", "the pencil said made*"]
    )
    xml = (paper.path / "out.xml").read_text(encoding="utf-8")
    assert '<property name="tipguard_command" value="fold \'a sheet\'"' in xml


def test_a_mark_that_asks_for_what_no_rig_has_is_told(paper: pytest.Pytester) -> None:
    paper.makepyfile("import pytest\n@pytest.mark.rig(laod='ohmic:1')\ndef test_it(rig): pass\n")
    done = paper.runpytest_inprocess(*PLUGIN)
    assert done.ret != 0
    done.stdout.fnmatch_lines(["*mark rig: 'laod': want needs or one of rig, seed, load*"])


def test_a_rig_file_that_is_none_is_told(paper: pytest.Pytester) -> None:
    paper.makepyfile("def test_it(rig): pass\n")
    done = paper.runpytest_inprocess(*PLUGIN, "--rig", "nowhere.toml")
    assert done.ret != 0
    done.stdout.fnmatch_lines(["*--rig: nowhere.toml: No such file*"])


def test_hardware_is_off_without_a_file(paper: pytest.Pytester) -> None:
    paper.makepyfile("import pytest\n@pytest.mark.rig(needs='paper')\ndef test_it(rig): pass\n")
    done = paper.runpytest_inprocess(*PLUGIN, "-m", "hardware")
    done.assert_outcomes(skipped=1, deselected=1)
    done.stdout.fnmatch_lines(["SKIPPED*needs a real rig: --rig FILE -m hardware"])


def test_other_peoples_tests_notice_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.fixture
        def rig():
            return "my own"

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(rig, number):
            assert rig == "my own"

        def test_nothing_of_tipguard_is_loaded():
            loaded = [name for name in sys.modules if name.partition(".")[0] in {"edge", "hil", "firmware_proto"}]
            assert sorted(loaded) == ["hil", "hil.pytest_plugin"]
        """
    )
    done = pytester.runpytest_subprocess(*PLUGIN)
    done.assert_outcomes(passed=3)
    done.stdout.no_fnmatch_line("*benches of tipguard*")


# ------------------------------------------------------------------------------------------------------ a real rig


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Path]:
    """The configuration of a rig that somebody else serves: as far from here as hardware, but harmless."""
    smu, stage = tmp_path / "smu", tmp_path / "stage"
    command = [sys.executable, "-m", "hil", "rig", "--smu-link", str(smu), "--stage-link", str(stage)]
    options = ["--series-ohm", "10000", "--start-um", "50,50,49.97", "--seed", "5"]
    text = template(path=str(smu), serial_number="1304207", series_ohm=10_000.0)
    values: dict[str, float | str | bool] = {
        "path": str(stage),
        "serial_number": STAGE_SERIAL_NUMBER,
        "lift_m": 50e-9,
        "settle_s": 0.05,
    }
    config = tmp_path / "rig.toml"
    config.write_text(with_stage(text, values), encoding="utf-8")
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "no ready line"
            yield config
        finally:
            process.kill()


@pytest.mark.processes
@pytest.mark.skipif(not LONG, reason="the whole suite on another rig: TIPGUARD_LONG=1")
def test_the_suite_on_a_rig_that_a_file_describes(pytester: pytest.Pytester, standin: Path) -> None:
    pytester.makepyfile(test_suite=SUITE)
    done = pytester.runpytest_subprocess(
        *PLUGIN, "-W", "ignore::pytest.PytestUnknownMarkWarning", "-o", "markers=realtime: long", "--rig", str(standin),
        "-m", "hardware", "--rig-rearm", "--print-cmd",
    )  # fmt: skip
    done.assert_outcomes(passed=6, deselected=23)
    done.stdout.fnmatch_lines(
        [f"hardware: *controller {standin}", "PASSED*knows_who_it_is?hardware?", "PASSED*next_run_is_clean?hardware?"]
    )


@pytest.mark.processes
@pytest.mark.skipif(not LONG, reason="two more starts of a controller: TIPGUARD_LONG=1")
def test_what_the_controller_refuses_is_refused_with_its_reason(pytester: pytest.Pytester, standin: Path) -> None:
    pytester.makepyfile(
        """
        import pytest
        from hil.errors import BenchFaultError

        def test_a_trip_stays(rig):
            uid = rig.start("iv", to_v=-0.1, step_v=0.01, dwell_s=0.5)
            rig.wait_bias(0.01)
            assert rig.stop()["state"] == "TRIPPED"
            rig.rearm()

        def test_the_next_one(rig):
            raise AssertionError("never reached")
        """
    )
    options = (*PLUGIN, "-m", "hardware", "--rig")
    done = pytester.runpytest_subprocess(*options, str(standin))
    done.assert_outcomes(failed=1, errors=1, deselected=8)
    done.stdout.fnmatch_lines(["*the rig is TRIPPED (OPERATOR): look at it, then start pytest with --rig-rearm*"] * 2)
    gone = pytester.path / "gone.toml"
    gone.write_text(template(path="/dev/null", serial_number="1304207", series_ohm=1e4), encoding="utf-8")
    done = pytester.runpytest_subprocess(*options, str(gone), "-k", "next")
    done.assert_outcomes(errors=1, deselected=9)
    done.stdout.fnmatch_lines(["*the controller ended (exit 2)*", "*/dev/null*"])


ONE = """
    import pytest

    @pytest.mark.rig(needs="paper")
    def test_it(rig):
        pass
    """


def test_a_rig_that_is_left_without_proof_of_its_output_fails_the_session(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(BENCH.replace('Ending(True, "")', 'Ending(None, "nobody knows")'))
    pytester.makepyfile(ONE)
    done = pytester.runpytest_inprocess(*PLUGIN)
    assert done.ret != 0
    assert "output not verified off: nobody knows" in str(done.stdout) + str(done.stderr)


def test_a_real_rig_that_does_not_come_to_rest_is_not_replaced(pytester: pytest.Pytester) -> None:
    real = BENCH.replace("True, Paper.capabilities", "False, Paper.capabilities")
    moves = """
        from hil.errors import BenchFaultError

        if len(self.done) > 2:
            raise BenchFaultError("it moves")
"""
    real = real.replace("    def begin(self):\n", f"    def begin(self):{moves}")
    pytester.makeconftest(real)
    pytester.makepyfile(ONE, test_second=ONE)
    done = pytester.runpytest_inprocess(*PLUGIN)
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*it moves*"])


def test_what_a_test_says_counts_more_than_its_module(paper: pytest.Pytester) -> None:
    paper.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.rig(needs="paper", seed=1)

        @pytest.mark.rig(seed=2)
        def test_it(rig):
            assert dict(rig.wish.settings) == {"seed": 2}
        """
    )
    paper.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)
