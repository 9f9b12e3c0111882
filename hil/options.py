"""What several verbs of the bench ask for, checked once; every error is one line that names the option."""

from __future__ import annotations

import math
import os
from collections.abc import Collection

from hil.errors import BenchOptionError


def seed_of(seed: int | None) -> int:
    """Return the seed, 0 to 2**32 - 1, or draw one for None."""
    if seed is None:
        return int.from_bytes(os.urandom(4), "little")
    if not 0 <= seed < 2**32:
        raise BenchOptionError(f"--seed {seed}: want an integer from 0 to {2**32 - 1}")
    return seed


def check_baud(option: str, baud: int, known: Collection[int], who: str) -> None:
    """Refuse a rate in bit/s that ``who`` does not know; 0, bytes that take no time, is among ``known``."""
    if baud not in known:
        rates = ", ".join(str(rate) for rate in known if rate)
        raise BenchOptionError(f"{option} {baud}: {who} {rates}; 0 makes bytes take no time")


def check_serial_number(option: str, value: str) -> None:
    """Refuse what cannot stand in a reply to ``*IDN?``."""
    if not (value.isascii() and value.isalnum() and len(value) <= 16):
        raise BenchOptionError(f"{option} {value!r}: want 1 to 16 letters and digits")


def numbers(option: str, text: str, count: int, example: str) -> tuple[float, ...]:
    """Return ``count`` finite numbers, separated by commas."""
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count or not all(math.isfinite(value) for value in found):
        raise BenchOptionError(f"{option} {text}: want {count} numbers, for example {example}")
    return found
