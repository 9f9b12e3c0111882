"""How the emulator of a bench is started by hand: the exact command line, from the options that say what it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from hil.options import seed_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PYTHON: Final = (sys.executable, "-P")
"""-P: a folder named edge or hil where somebody is is not ours."""


def words_of(options: DataclassInstance) -> list[str]:
    """Return the options as words behind the verb: every field that has a value, tuples as repeated options."""
    words: list[str] = []
    for one in fields(options):
        value, name = getattr(options, one.name), one.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            values: Iterable[Any] = value if isinstance(value, tuple) else (value,)
            words += [word for each in values for word in (f"--{name}", str(each))]
    return words


def command_line(verb: str, options: DataclassInstance) -> str:
    """Return what to type for ``tipguard hil <verb>`` with ``options``, quoted for a shell, its seed drawn now.

    Raises BenchOptionError for a seed that is none.
    """
    drawn = replace(options, seed=seed_of(getattr(options, "seed", None)))
    return shlex.join((*PYTHON, "-m", "hil", verb, *words_of(drawn)))
