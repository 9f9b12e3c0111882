"""Program messages: one line to commands with their full paths.

The grammar is that of IEEE 488.2 as the 2400 Series User's Manual narrows it (14-11, 14-12): units joined with
``;``, headers relative to the path of the unit before, ``:`` in front resets to the root, common commands (``*X``)
leave the path alone. Every cap below is a refusal, never a cut.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from firmware_proto.scpi import errors
from firmware_proto.scpi.errors import ScpiError

MAX_UNITS: Final = 64
"""Commands in one message."""
MAX_PARAMS: Final = 128
"""Parameters of one command; the 2400's list commands take 100 values."""
MAX_NODES: Final = 10
"""Mnemonics of one full header; no instrument of ours goes deeper than 6."""
MAX_MNEMONIC: Final = 16
"""Characters of one mnemonic with its suffix; IEEE 488.2 allows 12."""
MAX_WORD: Final = 64
"""Characters of one unquoted parameter."""
MAX_NESTING: Final = 8
"""Depth of parentheses in an expression."""


class ParamKind(enum.Enum):
    """How a parameter was written."""

    WORD = "word"
    """Unquoted: a number or character data such as ``MIN``."""
    STRING = "string"
    """Quoted with ``"`` or ``'``; the text is without its quotes."""
    EXPRESSION = "expression"
    """In parentheses; the text is with them."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: its kind and its text (unquoted and unescaped when it was a string)."""

    kind: ParamKind
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One program message unit.

    ``header`` is the full path from the root, upper case, numeric suffixes kept (``("SOUR1", "VOLT")``); a common
    command is one mnemonic with its star (``("*IDN",)``). ``common`` says so, ``absolute`` says that the unit began
    with a colon.
    """

    header: tuple[str, ...]
    query: bool = False
    params: tuple[Param, ...] = ()
    common: bool = False
    absolute: bool = False

    def __str__(self) -> str:
        """Return the header as one would send it, without parameters."""
        return ("" if self.common else ":") + ":".join(self.header) + ("?" if self.query else "")


_WS = "\x01-\x09\x0b\x0c\x0e-\x20"  # IEEE 488.2 white space; CR, LF and NUL end or leave a line before
_MNEMONIC = r"[A-Za-z][A-Za-z0-9_]*"
# IEEE 488.2 knows no colon before a star; clients send ":*RST" all the same, and a 2400 takes it.
_HEADER = re.compile(
    rf"[{_WS}]*(?::?(?P<common>\*{_MNEMONIC})|(?P<colon>:?)(?P<path>{_MNEMONIC}(?::{_MNEMONIC})*))(?P<query>\??)"
)
_SPACE = re.compile(rf"[{_WS}]*")
_WORD = re.compile(r"[!#$%&*+\-./0-9:<=>?@A-Z\[\\\]^_`a-z{|}~]+")
# Possessive, so that a doubled quote is never taken apart to end the string early.
_DQUOTED = re.compile(r'"((?:[^"]|"")*+)"')
_SQUOTED = re.compile(r"'((?:[^']|'')*+)'")


def parse_message(line: bytes) -> list[Command]:
    """Parse a whole message; an empty or blank one gives an empty list.

    Raises:
        ScpiError: anything in the line breaks the grammar; commands before it are lost (see :func:`iter_commands`).
    """
    return list(iter_commands(line))


def iter_commands(line: bytes) -> Iterator[Command]:
    """Yield the commands of a message one by one, then raise at the first that is invalid.

    This is the order an instrument works in: commands before an invalid one are executed, those after it are
    ignored (User's Manual 14-12).

    Raises:
        ScpiError: with ``code`` as the instrument would queue it.
    """
    text = line.decode("latin-1")
    end = len(text)
    pos = _skip_space(text, 0)
    path: tuple[str, ...] = ()
    count = 0
    while pos < end:
        if count == MAX_UNITS:
            raise ScpiError(errors.TOO_MUCH_DATA, f"more than {MAX_UNITS} commands in one message", data=line)
        command, path, pos = _parse_unit(text, pos, path)
        yield command
        count += 1
        if pos < end:
            # _parse_unit stops only at the end or at a separator. One behind the last command is tolerated.
            pos = _skip_space(text, pos + 1)


def _parse_unit(text: str, pos: int, path: tuple[str, ...]) -> tuple[Command, tuple[str, ...], int]:
    match = _HEADER.match(text, pos)
    if match is None:
        bad = text[pos]
        code = errors.SYNTAX_ERROR if " " < bad <= "~" else errors.INVALID_CHARACTER
        raise ScpiError(code, f"a command cannot begin with {bad!r}", data=text[pos:])
    common: str | None = match["common"]
    pos = match.end()
    if common is not None:
        if len(common) > MAX_MNEMONIC:
            raise ScpiError(errors.MNEMONIC_TOO_LONG, f"mnemonic of {len(common)} characters", data=common)
        header: tuple[str, ...] = (common.upper(),)
    else:
        header = _resolve(() if match["colon"] else path, match["path"])
        path = header[:-1]
    params, pos = _parse_params(text, pos)
    command = Command(header, match["query"] == "?", params, common is not None, match["colon"] == ":")
    return command, path, pos


@functools.lru_cache(maxsize=1024)
def _resolve(path: tuple[str, ...], relative: str) -> tuple[str, ...]:
    """Join a relative header to the path; cached because a controller repeats a handful of headers for hours."""
    header = path + tuple(relative.upper().split(":"))
    if len(header) > MAX_NODES:
        raise ScpiError(errors.UNDEFINED_HEADER, f"header of {len(header)} mnemonics", data=relative)
    longest = max(map(len, header))
    if longest > MAX_MNEMONIC:
        raise ScpiError(errors.MNEMONIC_TOO_LONG, f"mnemonic of {longest} characters", data=relative)
    return header


def _skip_space(text: str, pos: int) -> int:
    match = _SPACE.match(text, pos)
    return match.end() if match else pos


def _parse_params(text: str, pos: int) -> tuple[tuple[Param, ...], int]:
    """Parse what follows a header, up to a ``;`` or the end."""
    end = len(text)
    start = pos
    pos = _skip_space(text, pos)
    if pos == end or text[pos] == ";":
        return (), pos
    if pos == start:
        raise ScpiError(errors.HEADER_SEPARATOR, f"{text[pos]!r} directly behind a header", data=text[pos:])
    params: list[Param] = []
    while True:
        if len(params) == MAX_PARAMS:
            raise ScpiError(errors.TOO_MUCH_DATA, f"more than {MAX_PARAMS} parameters", data=text[start:])
        param, pos = _parse_param(text, pos)
        params.append(param)
        pos = _skip_space(text, pos)
        if pos == end or text[pos] == ";":
            return tuple(params), pos
        if text[pos] != ",":
            raise ScpiError(errors.INVALID_SEPARATOR, f"{text[pos]!r} between parameters", data=text[start:])
        pos = _skip_space(text, pos + 1)


def _parse_param(text: str, pos: int) -> tuple[Param, int]:
    word = _WORD.match(text, pos)
    if word is not None:
        if text.startswith("#", pos) and word[0][1:2].isdigit():
            raise ScpiError(errors.BLOCK_NOT_ALLOWED, "block data is not used over RS-232", data=text[pos:])
        if len(word[0]) > MAX_WORD:
            raise ScpiError(errors.CHARACTER_DATA_TOO_LONG, f"parameter of {len(word[0])} characters", data=word[0])
        return Param(ParamKind.WORD, word[0]), word.end()
    first = text[pos : pos + 1]
    if first in {'"', "'"}:
        quoted = (_DQUOTED if first == '"' else _SQUOTED).match(text, pos)
        if quoted is None:
            raise ScpiError(errors.INVALID_STRING, "the closing quote is missing", data=text[pos:])
        return Param(ParamKind.STRING, quoted[1].replace(first * 2, first)), quoted.end()
    if first == "(":
        return _parse_expression(text, pos)
    if first in {"", ",", ";"}:
        raise ScpiError(errors.MISSING_PARAMETER, "a parameter is empty", data=text[pos:])
    code = errors.INVALID_EXPRESSION if first == ")" else errors.INVALID_CHARACTER
    raise ScpiError(code, f"a parameter cannot begin with {first!r}", data=text[pos:])


def _parse_expression(text: str, start: int) -> tuple[Param, int]:
    depth = 0
    for pos in range(start, len(text)):
        char = text[pos]
        if char == "(":
            depth += 1
            if depth > MAX_NESTING:
                raise ScpiError(errors.INVALID_EXPRESSION, f"parentheses deeper than {MAX_NESTING}", data=text[start:])
        elif char == ")":
            depth -= 1
            if depth == 0:
                return Param(ParamKind.EXPRESSION, text[start : pos + 1]), pos + 1
        elif char in "\"';":
            break
    raise ScpiError(errors.INVALID_EXPRESSION, "the closing parenthesis is missing", data=text[start:])
