"""SCPI command patterns, compiled once, looked up by any accepted spelling.

A pattern is written as manuals print it: ``[:SENSe[1]]:CURRent[:DC]:PROTection[:LEVel]``. Square brackets around a
node make it optional, around a digit make that suffix optional; capitals are the short form; a ``?`` at the end makes
it a query, and a command and its query are two entries. Common commands are written ``*ESE`` and ``*ESE?``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from firmware_proto.errors import LocalProtocolError
from firmware_proto.scpi import errors
from firmware_proto.scpi.errors import ScpiError
from firmware_proto.scpi.message import Command
from firmware_proto.scpi.values import spellings

_CACHE_SIZE: Final = 4096
"""Resolved headers remembered per table; the cache is emptied when full, since only garbage can fill it."""

_NODE = re.compile(r"(\[)?:?(\*?)([A-Z]+)([a-z]*)(\d*)(?:\[(\d)\])?(\])?")

_T = TypeVar("_T")


class _Node(Generic[_T]):
    """One mnemonic of the tree. Children are listed under every spelling, so a step is one dictionary look-up."""

    __slots__ = ("children", "command", "name", "query")

    def __init__(self, name: str) -> None:
        self.name = name
        self.children: dict[str, _Node[_T]] = {}
        self.command: list[_T] = []
        self.query: list[_T] = []


class _Spec:
    """One node of a pattern: the spellings it takes and whether it may be left out."""

    __slots__ = ("name", "optional", "spellings")

    def __init__(self, name: str, names: frozenset[str], *, optional: bool) -> None:
        self.name = name
        self.spellings = names
        self.optional = optional


class CommandTable(Generic[_T]):
    """Headers to values (usually handlers), by short form, long form and with or without optional nodes.

    ``entries`` are ``(pattern, value)`` pairs. Two patterns that accept the same header are refused at construction.

    Raises:
        LocalProtocolError: a pattern is malformed, or clashes with another one.
    """

    def __init__(self, entries: Iterable[tuple[str, _T]]) -> None:
        """Compile the patterns."""
        self._root: _Node[_T] = _Node("")
        self._found: dict[tuple[tuple[str, ...], bool], _T] = {}
        self._size = 0
        for pattern, value in entries:
            self._add(pattern, value)

    def __len__(self) -> int:
        """Return the number of patterns."""
        return self._size

    def find(self, header: tuple[str, ...], *, query: bool = False) -> _T:
        """Return the value for a full header in upper case.

        Raises:
            ScpiError: -113, the header is not in the table, or not in this form (command against query).
        """
        key = (header, query)
        if key in self._found:
            return self._found[key]
        node = self._root
        for mnemonic in header:
            child = node.children.get(mnemonic)
            if child is None:
                raise _undefined(header, query=query)
            node = child
        values = node.query if query else node.command
        if not values:
            raise _undefined(header, query=query)
        if len(self._found) >= _CACHE_SIZE:
            self._found.clear()
        self._found[key] = values[0]
        return values[0]

    def lookup(self, command: Command) -> _T:
        """Return the value for a parsed command; raises as :meth:`find`."""
        return self.find(command.header, query=command.query)

    def _add(self, pattern: str, value: _T) -> None:
        query = pattern.endswith("?")
        for path in _expand(_compile(pattern.removesuffix("?"))):
            if not path:
                raise LocalProtocolError(f"{pattern!r} has no node that must be there")
            node = self._root
            for spec in path:
                node = _step(node, spec, pattern)
            slot = node.query if query else node.command
            if slot:
                raise LocalProtocolError(f"{pattern!r} accepts a header that another pattern has")
            slot.append(value)
        self._size += 1


def matches(pattern: str, header: Command | tuple[str, ...] | str) -> bool:
    """Return whether one pattern accepts a header; text is taken as a header from the root, in either case.

    A query matches only a pattern with a ``?``. For repeated use against many patterns compile a
    :class:`CommandTable`.
    """
    if isinstance(header, Command):
        names, query = header.header, header.query
    elif isinstance(header, str):
        query = header.endswith("?")
        names = tuple(header.removesuffix("?").removeprefix(":").upper().split(":"))
    else:
        names, query = header, False
    try:
        return _single(pattern).find(names, query=query)
    except ScpiError:
        return False


@functools.lru_cache(maxsize=256)
def _single(pattern: str) -> CommandTable[bool]:
    return CommandTable([(pattern, True)])


def _undefined(header: tuple[str, ...], *, query: bool) -> ScpiError:
    text = ":".join(header) + ("?" if query else "")
    return ScpiError(errors.UNDEFINED_HEADER, f"undefined header {text}", data=text)


def _compile(pattern: str) -> tuple[_Spec, ...]:
    specs: list[_Spec] = []
    pos = 0
    while pos < len(pattern):
        match = _NODE.match(pattern, pos)
        if match is None or bool(match[1]) != bool(match[7]):
            raise LocalProtocolError(f"{pattern!r} is not a command pattern (at character {pos})")
        star, short, rest, suffix, default = match[2], match[3], match[4], match[5], match[6]
        names = frozenset(star + name for name in spellings(short + rest + suffix))
        if default is not None:
            names |= frozenset(name + default for name in names)
        specs.append(_Spec(star + short + rest + suffix, names, optional=bool(match[1])))
        pos = match.end()
    return tuple(specs)


def _expand(specs: tuple[_Spec, ...]) -> Iterator[tuple[_Spec, ...]]:
    """Yield the paths with each optional node present and absent."""
    if not specs:
        yield ()
        return
    for rest in _expand(specs[1:]):
        yield (specs[0], *rest)
        if specs[0].optional:
            yield rest


def _step(node: _Node[_T], spec: _Spec, pattern: str) -> _Node[_T]:
    """Return the child for a node of a pattern, made if new, listed under each of its spellings."""
    child: _Node[_T] | None = None
    for name in sorted(spec.spellings):
        known = node.children.get(name)
        if known is None:
            continue
        if known.name != spec.name:
            raise LocalProtocolError(f"{pattern!r}: {name} already means {known.name}")
        child = known
    if child is None:
        child = _Node(spec.name)
    for name in spec.spellings:
        # Also the spellings that an earlier pattern did not list (LIMit and LIMit[1] are the same node).
        node.children[name] = child
    return child
