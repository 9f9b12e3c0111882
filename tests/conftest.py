"""Which tests run: hardware only when asked for, long rounds marked as such, required services there or it fails."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import structlog

from hil import node_red, postgres
from hil.broker import mosquitto_path
from tests import firmware_tools
from tests.long_rounds import with_long_rounds

# The rig fixture, loaded here whether or not the installed package has its entry point; pytester tests it.
pytest_plugins = ["hil.pytest_plugin", "pytester"]

SERVICES: dict[str, Callable[[], object]] = {
    "firmware": firmware_tools.tools,
    "mosquitto": mosquitto_path,
    "node-red": node_red.programs,
    "postgresql": postgres.programs,
}


ALONE = frozenset({"realtime"})
"""Folders whose tests measure time on real programs: not beside others, unless marked as processes."""

BESIDE = frozenset({"proof", "frontend_qemu"})
"""Folders whose tests start real programs and wait for them: a few at a time, unless marked as realtime."""

LONG_BENCHES = {"emulated-stage": "a stage", "emulated-frontend-qemu": "a front end under QEMU"}
"""Benches of the rig fixture that only long rounds use."""

# No wall-clock deadline: a busy host is not a bug in what is tested. The quick suite repeats the same examples, so that
# green stays green; the long rounds draw new ones.
hypothesis.settings.register_profile(
    "tipguard", deadline=None, derandomize=os.environ.get("TIPGUARD_LONG") != "1", print_blob=True
)
hypothesis.settings.load_profile("tipguard")


def pytest_sessionstart() -> None:
    """A service named in TIPGUARD_REQUIRE that is absent is a failure, not a skip."""
    for name in filter(None, os.environ.get("TIPGUARD_REQUIRE", "").split(",")):
        if name not in SERVICES:
            raise pytest.UsageError(f"TIPGUARD_REQUIRE: unknown service {name!r}; one of: {', '.join(SERVICES)}")
        if not SERVICES[name]():
            raise pytest.UsageError(f"TIPGUARD_REQUIRE: {name} is not installed on this host")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a bench; mark as long what runs more rounds with TIPGUARD_LONG=1."""
    no_bench = pytest.mark.skip(reason="needs a real instrument: --rig FILE -m hardware")
    for item in items:
        kinds = {mark.name for mark in item.iter_markers()} & {"realtime", "processes"}
        if ALONE & set(item.path.parts) and not kinds:
            item.add_marker("realtime")
        if BESIDE & set(item.path.parts) and not kinds:
            item.add_marker("processes")
        if item.get_closest_marker("hardware") and config.getoption("tipguard_rig") is None:
            item.add_marker(no_bench)
        # Starting on these benches takes seconds more; all of it is tested without the rig fixture, too.
        for bench, what in LONG_BENCHES.items():
            if item.name.endswith(f"[{bench}]"):
                item.add_marker("long")
                if os.environ.get("TIPGUARD_LONG") != "1":
                    item.add_marker(pytest.mark.skip(reason=f"the bench with {what}: TIPGUARD_LONG=1"))
        function = getattr(item, "function", None)
        if function is not None and function.__qualname__.split(".")[0] in with_long_rounds(item.path):
            item.add_marker("long")
    if os.environ.get("TIPGUARD_LONG") == "1" and "PYTEST_XDIST_WORKER" in os.environ:
        # What may take longest begins first: a core is left with minutes of work at the end otherwise.
        items.sort(key=_patience_s, reverse=True)


def pytest_collection_finish() -> None:
    """Set aside what collecting thousands of tests has left: a worker at rest collects garbage, and would look at it.

    In virtual time a worker rests hundreds of times a second. This halves what its tests take.
    """
    gc.collect()
    gc.freeze()


def _patience_s(item: pytest.Item) -> float:
    """Return the time-out, in s, that a test or its module gives; 0 for the usual one."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None and marker.args else 0.0


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """What a test, or a verb that it calls, sets up for logs ends with it: others look at what was logged."""
    before = structlog.get_config()
    yield
    if structlog.get_config() != before:
        structlog.configure(**before)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """One PostgreSQL server for all tests of a session; each makes databases of its own in it, and never stops it."""
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres.Postgres() as server:
        yield server
