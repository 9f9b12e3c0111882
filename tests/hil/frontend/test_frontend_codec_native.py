"""The codec in C on this host, under sanitizers: golden vectors, and every pattern of few wrong bits."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hil.errors import BenchOptionError
from hil.frontend import fuzz, fuzz_build
from hil.frontend.build import CORE, GENERATED

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SOURCE = (CORE / "tg_frame.c").read_text(encoding="utf-8")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")


def golden(source: str | None = None, flags: Sequence[str] = ("-O0",)) -> subprocess.CompletedProcess[str]:
    folder = fuzz_build.GOLDEN
    sources = [folder / "tg_golden.c", folder / "tg_golden_host.c", GENERATED / "tg_golden_vectors.c"]
    program = fuzz_build.compiled("tg_golden", sources, folder, flags, source)
    return subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=30)


def without(old: str, new: str) -> str:
    assert SOURCE.count(old) == 1, old
    return SOURCE.replace(old, new)


def test_golden_vectors_hold_in_c() -> None:
    done = golden(flags=("-O0", *fuzz_build.SANITIZERS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if (gap >= 0x10000u - TG_REPEAT_WINDOW)", "if (0)"),
        ("if (id != TG_TRIP) {", "if (1) {"),
        ("(id & 0x80u) != side", "(side & 1u)"),
        ("static bool urgent(uint8_t id) { return id == TG_TRIP ||", "static bool urgent(uint8_t id) { return"),
        ("d->coded > TG_CODED_MAX", "0"),
    ],
    ids=["repetition", "trip-takes-a-number", "direction", "urgent", "too-long"],
)
def test_golden_vectors_see_what_is_missing(old: str, new: str) -> None:
    done = golden(without(old, new))
    assert done.returncode == 1
    assert "the first: " in done.stdout


@pytest.mark.parametrize("bits", [3 if LONG else 2])
def test_no_pattern_of_few_wrong_bits_gives_another_frame(bits: int) -> None:
    rows = fuzz.exhaust(bits)
    assert {row["message"] for row in rows} == {"TRIP", "OPEN", "LEASE", "ARM", "CONFIG", "TRIP_REPORT"}
    assert sum(row["patterns"] for row in rows) > (18_000_000 if LONG else 180_000)
    assert [row for row in rows if row["undetected"] or row["unharmed"]] == []


def test_what_does_not_compile_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BenchOptionError, match=r"tg_fuzz does not compile: (.|\n)*nonsense"):
        fuzz_build.build(source="nonsense")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchOptionError, match="apt-get install gcc"):
        fuzz_build.build()
