"""The lock: nothing but names and versions, and everything that any supported Python asks for."""

from __future__ import annotations

import pytest

from deploy import check_lock, lock
from deploy.check_lock import coverage, differing, environment, parse, walk


def test_the_lock_is_well_formed_complete_and_what_is_installed_here() -> None:
    pins, problems = parse(lock.LOCK.read_text(encoding="utf-8"))
    assert problems == []
    assert differing(pins) == []
    assert coverage(pins, check_lock.wanted(lock.ROOT / "pyproject.toml"), check_lock.installed_requires) == []


def test_the_lock_is_what_the_script_would_write() -> None:
    pins, _ = parse(lock.LOCK.read_text(encoding="utf-8"))
    assert lock.LOCK.read_text(encoding="utf-8") == lock.lock_text(pins)


@pytest.mark.parametrize(
    "line",
    [
        "https://example.invalid/simple",
        "--index-url https://example.invalid",
        "numpy @ https://example.invalid/numpy.whl",
        "numpy==2.0 --hash=sha256:00",
        "/srv/wheels/numpy.whl",
        "-e .",
        "numpy>=2.0",
        "numpy",
        "NumPy==2.0",
        "typing_extensions==4.0",
        "numpy==2.0 ",
        "",
        "pip==24.0",
        "tipguard==0.1.0",
        "# see https://example.invalid",
    ],
)
def test_anything_but_a_name_and_a_version_is_refused(line: str) -> None:
    assert parse(f"# a comment\n{line}\n")[1] != []
    assert parse("# a comment\nnumpy==2.0\n")[1] == []


def test_order_and_repetition_are_refused() -> None:
    assert parse("b==1\na==1\n")[1] == ["not sorted by name"]
    assert parse("a==1\na==2\n")[1] == ["line 2: a stands twice"]


def test_a_missing_package_is_found_through_those_that_need_it() -> None:
    needs = {"a": ["b>=2"], "b": ["c; python_version >= '3.12'", "d; extra == 'big'"], "c": []}
    pins = {"a": "1", "b": "2.1"}
    assert walk(pins, ["a"], lambda name: needs[name], environment("3.11", "aarch64")) == ([], {"a", "b"})
    problems, _ = walk(pins, ["a"], lambda name: needs[name], environment("3.12", "aarch64"))
    assert len(problems) == 1
    assert problems[0].startswith("b needs c")
    problems, _ = walk(pins, ["a", "b[big]"], lambda name: needs[name], environment("3.11", "aarch64"))
    assert problems[0].startswith("b needs d")


def test_a_locked_version_outside_what_is_asked_for_is_found() -> None:
    problems, _ = walk({"a": "1.9"}, ["A>=2,<3"], lambda _: [], environment("3.11", "x86_64"))
    assert problems == ["pyproject.toml needs A<3,>=2, locked is 1.9"]


def test_what_nothing_asks_for_is_found() -> None:
    assert coverage({"a": "1", "left-over": "1"}, ["a"], lambda _: []) == [
        "nothing asks for left-over; `make clean setup`, then lock again"
    ]


def test_a_version_other_than_the_installed_one_is_found() -> None:
    assert differing({"numpy": "0.0.1", "no-such-package": "1"}) == [
        f"numpy: locked 0.0.1, here {lock.installed()['numpy']}; run `make setup`",
        "no-such-package: locked 1, here not installed; run `make setup`",
    ]


def test_the_writer_leaves_out_the_project_and_the_installer() -> None:
    text = lock.lock_text({"tipguard": "0.1.0", "pip": "24.0", "b": "2", "a": "1"})
    assert text == lock.HEADER + "a==1\nb==2\n"
    assert lock.canonical("Typing_Extensions") == lock.canonical("typing.extensions") == "typing-extensions"
