"""``--print-cmd``: what it prints starts the same bench again, seed and all."""

from __future__ import annotations

import shlex
import sys

import pytest
from typer.testing import CliRunner

from hil.cli import app

LINES = [
    ["smu", "--link", "/tmp/with a space/smu", "--site", "gb:0.2", "--twin", "full", "--transients"],  # noqa: S108
    ["stage", "--link", "stage", "--model", "c863", "--identity", "it's mine", "--servo-on"],
    ["rig", "--smu-link", "a", "--stage-link", "b", "--layer", "0,0,1,1", "--layer", "2,2,3,3", "--no-servo-on"],
]


def printed(words: list[str]) -> list[str]:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (line,) = done.output.splitlines()
    return shlex.split(line)


@pytest.mark.parametrize("words", LINES, ids=lambda words: words[0])
def test_the_printed_command_says_the_same_again(words: list[str]) -> None:
    command = printed([*words, "--print-cmd"])
    assert command[:5] == [sys.executable, "-P", "-m", "hil", words[0]]
    # The order of options is not that of the line, and what has a default is said as well.
    assert sorted(words) == sorted(word for word in command[4:] if word in words)
    seed = command[command.index("--seed") + 1]
    assert 0 <= int(seed) < 2**32
    assert printed([*command[4:], "--print-cmd"]) == command


def test_each_line_without_a_seed_draws_one() -> None:
    seeds = set()
    for _ in range(3):
        command = printed([*LINES[0], "--print-cmd"])
        seeds.add(command[command.index("--seed") + 1])
    assert len(seeds) > 1


def test_a_seed_that_is_none_is_told() -> None:
    done = CliRunner().invoke(app, [*LINES[0], "--seed", "-1", "--print-cmd"])
    assert done.exit_code == 2
    assert "--seed -1: want an integer" in done.output
