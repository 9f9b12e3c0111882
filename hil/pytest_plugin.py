"""pytest plugin: the ``rig`` fixture, by which one test runs on every bench there is.

    @pytest.mark.rig(load="ohmic:1e6", series_ohm=1e4)
    def test_a_sweep(rig):
        assert rig.run("iv", to_v=-0.1, step_v=0.01).status == "completed"

Such a test runs on the emulated benches, on pseudo-terminals, and with ``pytest --rig FILE -m hardware`` on the rig
that FILE, its own configuration, describes. What a test asks for stands in its mark (:class:`hil.suite.Wish`); what it
got, it asks its ``rig`` (:class:`hil.suite.RigHandle`). Another kind of bench is a class like those in
:mod:`hil.suite`, returned by an implementation of the hook ``pytest_tipguard_benches``.

Rigs live as long as the session; between tests they are brought back to rest. A test that fails shows the command that
starts its emulator again, and what emulator and controller have said.

Without the fixture and without its options the plugin does nothing and imports nothing of tipguard.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from hil.suite import Bench, RigHandle, Wish

MARK: Final = "rig"
BENCH: Final = "tipguard_bench"


class Hooks:
    """Hooks of this plugin."""

    @pytest.hookspec
    def pytest_tipguard_benches(self, config: pytest.Config) -> list[Bench]:  # type: ignore[empty-body] # a hook has none
        """Return further benches (:class:`hil.suite.bench.Bench`)."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make the hook known."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the ``rig`` fixture."""
    group = parser.getgroup("tipguard", "rigs of tipguard")
    group.addoption(
        "--rig",
        metavar="FILE",
        dest="tipguard_rig",
        help="run tests of the rig fixture on real hardware, too: on the rig that this configuration describes; with "
        "-m hardware on nothing else",
    )
    group.addoption(
        "--rig-rearm",
        action="store_true",
        dest="tipguard_rearm",
        help="the rig of --rig may be re-armed: you have looked at it",
    )
    group.addoption(
        "--print-cmd",
        action="store_true",
        dest="tipguard_print_cmd",
        help="print the command line of every emulator that is started, to have it again by hand",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    config.addinivalue_line("markers", "rig(needs=(), **spec): what a test with the rig fixture wants its rig to be")
    config.addinivalue_line("markers", "hardware: needs a real instrument; skipped without --rig FILE")
    config.stash[SESSION] = Session(config)


class Session:
    """The rigs of a test session: at most one for each bench, made anew when a test wishes for another."""

    def __init__(self, config: pytest.Config) -> None:
        """Start nothing."""
        self._config = config
        self._benches: list[Bench] | None = None
        self._rigs: dict[str, tuple[Wish, RigHandle]] = {}
        self._directories: list[Path] = []
        self.commands: list[tuple[str, str]] = []
        """Bench and command line of each rig that was started."""
        self.failed = False

    @property
    def benches(self) -> list[Bench]:
        """The benches of this session; raises UsageError for a configuration that is none."""
        if self._benches is None:
            from edge.errors import ConfigError
            from hil.suite.emulated import EmulatedBench
            from hil.suite.hardware import HardwareBench

            found: list[Bench] = [
                EmulatedBench(),
                EmulatedBench(with_stage=True),
                EmulatedBench(frontend="native"),
                EmulatedBench(frontend="qemu"),
            ]
            for more in self._config.hook.pytest_tipguard_benches(config=self._config):
                found += more
            path = self._config.getoption("tipguard_rig")
            if path is not None:
                bench = HardwareBench(Path(path), may_rearm=self._config.getoption("tipguard_rearm"))
                try:
                    _ = bench.capabilities
                except ConfigError as error:
                    raise pytest.UsageError(f"--rig: {error}") from error
                found.append(bench)
            self._benches = found
        return self._benches

    def rig(self, bench: Bench, wish: Wish, item: pytest.Item) -> RigHandle:
        """Return a rig on ``bench``, at rest: the one there is, if it is what the test wishes for, or another."""
        from hil.errors import HilError

        before = self._rigs.get(bench.name)
        if before is not None:
            wished, rig = before
            # A real rig is what it is, whatever a test wishes.
            if not rig.emulated or wished.settings == wish.settings:
                item.stash[RIG] = rig
                try:
                    rig.begin()
                except HilError:
                    # Whatever the test before has left: on an emulated bench the next one gets a new rig.
                    if not rig.emulated:
                        raise
                else:
                    return rig
            del self._rigs[bench.name]
            _end(rig, strict=not rig.emulated)
        # A short path: the control socket's may have 107 bytes.
        directory = Path(tempfile.mkdtemp(prefix="tipguard-"))
        self._directories.append(directory)
        rig = bench.rig(directory, wish)
        item.stash[RIG] = rig
        self.commands.append((bench.name, rig.command))
        self._rigs[bench.name] = wish, rig
        try:
            rig.open()
            rig.begin()
        except BaseException:
            del self._rigs[bench.name]
            rig.close()
            raise
        return rig

    def close(self) -> None:
        """End all rigs, the outputs first. The directories stay if a test has failed: the commands name them."""
        try:
            for _, rig in self._rigs.values():
                _end(rig)
        finally:
            self._rigs.clear()
            if not self.failed:
                for directory in self._directories:
                    shutil.rmtree(directory, ignore_errors=True)


def _end(rig: RigHandle, *, strict: bool = True) -> None:
    ending = rig.close()
    if strict and ending.verified_off is not True:
        pytest.fail(f"the rig was left with its output not verified off: {ending.report}", pytrace=False)


SESSION = pytest.StashKey[Session]()
RIG = pytest.StashKey["RigHandle"]()


def _wish(item: pytest.Item | pytest.Metafunc) -> Wish:
    from hil.errors import BenchOptionError
    from hil.suite import Wish

    definition = item.definition if isinstance(item, pytest.Metafunc) else item
    settings: dict[str, Any] = {}
    # The nearest mark last: what a test says counts more than what its module does.
    for mark in reversed(list(definition.iter_markers(MARK))):
        settings |= mark.kwargs
    try:
        return Wish.of(settings)
    except BenchOptionError as error:
        raise pytest.UsageError(f"{definition.nodeid}: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of the ``rig`` fixture on every bench that has what it needs."""
    if BENCH not in metafunc.fixturenames:
        return
    config = metafunc.config
    wish = _wish(metafunc)
    found = [bench for bench in config.stash[SESSION].benches if wish.needs <= bench.capabilities]
    params = [
        pytest.param(bench, id=bench.name, marks=[getattr(pytest.mark, mark) for mark in bench.marks])
        for bench in found
    ]
    if config.getoption("tipguard_rig") is None and "hardware" in config.getoption("markexpr"):
        reason = "needs a real rig: --rig FILE -m hardware"
        params.append(pytest.param(None, id="hardware", marks=[pytest.mark.hardware, pytest.mark.skip(reason=reason)]))
    if not params:
        reason = f"no bench of this session has {', '.join(sorted(wish.needs))}"
        params.append(pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason)))
    metafunc.parametrize(BENCH, params, indirect=True, scope="function")


@pytest.fixture
def tipguard_bench(request: pytest.FixtureRequest) -> Bench:
    """The bench that this test runs on."""
    bench: Bench = request.param
    return bench


@pytest.fixture(scope="session")
def tipguard_session(pytestconfig: pytest.Config) -> Iterator[Session]:
    """The rigs of this session; they end with it."""
    session = pytestconfig.stash[SESSION]
    yield session
    session.close()


@pytest.fixture
def rig(request: pytest.FixtureRequest, tipguard_bench: Bench, tipguard_session: Session) -> RigHandle:
    """A rig at rest on this test's bench (:class:`hil.suite.RigHandle`)."""
    missing = getattr(tipguard_bench, "missing", "")  # a bench of somebody else need not know of it
    if missing:
        pytest.skip(f"bench {tipguard_bench.name}: {missing}")
    return tipguard_session.rig(tipguard_bench, _wish(request.node), request.node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the command of a test's rig into its report, and what emulator and controller said if it failed."""
    report = yield
    rig = item.stash.get(RIG, None)
    if rig is None:
        return report
    if report.when == "call" or report.failed:
        item.user_properties[:] = [one for one in item.user_properties if one[0] != "tipguard_command"]
        item.user_properties.append(("tipguard_command", rig.command))
        report.user_properties = list(item.user_properties)
    if report.failed:
        item.config.stash[SESSION].failed = True
        report.sections.append(("the command that starts this bench again", rig.command))
        report.sections.extend((f"log of the {name}", rig.log(name)) for name in rig.logs)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the commands, if they were asked for."""
    if config.getoption("tipguard_print_cmd"):
        terminalreporter.section("benches of tipguard")
        for bench, command in config.stash[SESSION].commands:
            terminalreporter.line(f"{bench}: {command}")
