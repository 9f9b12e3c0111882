"""What a process has in memory once its module is imported: the cut must not hang on packages it does not need.

The import contracts in ``pyproject.toml`` judge the source; here the interpreter itself is asked, in a process of
its own, what came in.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

OURS = {"edge", "firmware_proto"}
_ASK = """\
import contextlib, json, sys
before = set(sys.modules)
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
    {code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(code: str) -> set[str]:
    """Run ``code`` in a fresh interpreter; return the names of the modules it brought in."""
    done = subprocess.run([sys.executable, "-c", _ASK.format(code=code)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def foreign(modules: set[str]) -> set[str]:
    """Return the top-level names among ``modules`` that are neither ours nor of the standard library."""
    return {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - OURS


RUN_SAFE_OFF = "import sys; sys.argv = ['tipguard', 'safe-off', '--help']; import edge.cli.main; edge.cli.main.main()"


@pytest.mark.parametrize("code", ["import edge.controller.safe_off", RUN_SAFE_OFF, "import edge.guard.cut"])
def test_the_last_resort_needs_the_standard_library_only(code: str) -> None:
    modules = loaded_by(code)
    assert "edge.guard.cut" in modules
    assert foreign(modules) == set()
    # None of these is foreign, and none is needed to write three lines to a port.
    assert modules & {"asyncio", "ssl", "sqlite3", "multiprocessing", "concurrent.futures"} == set()


def test_the_keeper_needs_the_standard_library_and_pyserial_only() -> None:
    modules = loaded_by("import edge.controller.keeper")
    assert "edge.guard.cut" in modules
    assert foreign(modules) == {"serial"}
    assert "asyncio" not in modules


@pytest.mark.parametrize("package", ["scpi", "keithley2400"])
def test_the_wire_protocols_need_no_package_and_no_process_of_ours(package: str) -> None:
    modules = loaded_by(f"import firmware_proto.{package}")
    assert foreign(modules) == set()
    assert {name.partition(".")[0] for name in modules} & {"edge", "hil", "asyncio", "serial"} == set()


def test_the_worker_loads_no_network_client_and_no_bench() -> None:
    modules = {name.partition(".")[0] for name in loaded_by("import edge.controller.worker")}
    assert modules & {"aiomqtt", "paho", "hil", "typer", "matplotlib"} == set()


def test_the_uplink_loads_nothing_that_could_touch_an_instrument() -> None:
    modules = loaded_by("import edge.uplink")
    assert {name for name in modules if name.startswith(("edge.instruments", "edge.controller", "edge.guard"))} == set()
    assert modules & {"serial", "firmware_proto", "hil"} == set()


def test_the_command_line_loads_bench_demo_and_plots_only_when_asked() -> None:
    everyday = loaded_by("import edge.cli.app; edge.cli.app.build_app(with_hil=False, with_demo=False)")
    assert {name.partition(".")[0] for name in everyday} & {"hil", "matplotlib", "iotcore", "serial"} == set()
    assert "hil.cli" in loaded_by("import edge.cli.app; edge.cli.app.build_app(with_demo=False)")
