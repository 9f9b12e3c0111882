"""The sections about the front end: what belongs together, and what is refused with file, key, value, expectation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config import Config, load, template
from edge.errors import ConfigError

Load = Callable[[str], Config]
PORT = '[ports.frontend]\npath = "/dev/y"\n'


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load the template with this text behind it."""

    def read(text: str) -> Config:
        file = tmp_path / "rig.toml"
        file.write_text(template(path="/dev/x", serial_number="1", series_ohm=1000.0) + text, encoding="utf-8")
        return load(file)

    return read


def test_a_rig_without_one_has_none(loaded: Load) -> None:
    config = loaded("")
    assert config.frontend is None
    assert config.ports.frontend is None


def test_one_threshold_is_enough(loaded: Load) -> None:
    section = loaded(f"{PORT}[frontend]\nhard_a = 0.0005\n").frontend
    assert section is not None
    assert (section.hard_a, section.lease_s, section.recording) == (0.0005, 0.1, "event")
    assert (section.level_a, section.jump_a, section.rate_a) == (None, None, None)


def test_the_template_has_a_section_that_loads_once_its_hashes_are_off(tmp_path: Path) -> None:
    text = template(path="/dev/x", serial_number="1", series_ohm=1000.0)
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("# ["):
            inside = line.startswith(("# [ports.frontend]", "# [frontend]"))
        lines.append(line[2:] if inside and line.startswith("# ") else line)
        inside = inside and bool(line)
    file = tmp_path / "rig.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    section = load(file).frontend
    assert section is not None
    assert (section.level_a, section.jump_a, section.rate_a, section.full_max_s) == (2e-4, 1e-4, 1e-4, 60.0)


@pytest.mark.parametrize(
    ("text", "key", "names"),
    [
        ("[frontend]\nhard_a = 0.0005\n", "ports.frontend", "is missing"),
        (PORT, "frontend", "is missing"),
        (f"{PORT}[frontend]\n", "frontend.hard_a", "is missing"),
        (f"{PORT}[frontend]\nhard_a = 0.002\n", "frontend.hard_a", r"value 0\.002: must not exceed limits\.current_a"),
        (f"{PORT}[frontend]\nhard_a = 0.0\n", "frontend.hard_a", "greater than 0"),
        (f"{PORT}[frontend]\nhard_a = 0.0005\nlease_s = 0.2\n", "frontend.lease_s", "less than or equal to 0.1"),
        (f"{PORT}[frontend]\nhard_a = 0.0005\nlease_s = 0.01\n", "frontend.lease_s", "greater than or equal to 0.04"),
        (f"{PORT}[frontend]\nhard_a = 0.0005\nlevel_a = 0.0006\n", "frontend", "level_a 0.0006 is above hard_a"),
        (f"{PORT}[frontend]\nhard_a = 0.0005\njump_a = 0.0006\n", "frontend", "jump_a 0.0006 is above hard_a"),
        (f'{PORT}[frontend]\nhard_a = 0.0005\nrecording = "full"\n', "frontend", "without full_max_s"),
        (f'{PORT}[frontend]\nhard_a = 0.0005\nrecording = "all"\n', "frontend.recording", "'event', 'decimated'"),
        (f"{PORT}[frontend]\nhard_a = 0.0005\nhard = 1\n", "frontend.hard", "expected one of: baseline_s"),
        (f"{PORT}[frontend]\nhard_a = 0.0005\nrate_samples = 33\n", "frontend.rate_samples", "less than or equal"),
        ('[ports.frontend]\npath = "/dev/y"\nbaud = 1\n', "ports.frontend.baud", "115200"),
        ('[ports.frontend]\npath = "/dev/y"\nspeed = 1\n', "ports.frontend.speed", "baud, path"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(loaded: Load, text: str, key: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names) as caught:
        loaded(text)
    assert caught.value.key == key
    assert caught.value.file.endswith("rig.toml")


def test_a_lower_ceiling_takes_the_threshold_with_it(loaded: Load, tmp_path: Path) -> None:
    loaded(f"{PORT}[frontend]\nhard_a = 0.001\n")
    text = (tmp_path / "rig.toml").read_text(encoding="utf-8").replace("current_a = 0.001", "current_a = 0.0005")
    (tmp_path / "rig.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"limits\.current_a \(0\.0005\)"):
        load(tmp_path / "rig.toml")
