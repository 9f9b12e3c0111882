"""The one error root of the bench.

Two branches, as in :mod:`edge.errors`: a :class:`BenchOptionError` is a mistake of the person who starts the bench; a
:class:`BenchFaultError` means that a part of the bench broke its own contract, which no option can mend.
"""

from __future__ import annotations


class HilError(Exception):
    """Root of all errors raised by :mod:`hil`; never raised itself."""


class BenchOptionError(HilError, ValueError):
    """What was asked for cannot be served. The message is one line: what, where, what to do."""


class BenchFaultError(HilError, RuntimeError):
    """A device, load or line of the bench broke the contract of :mod:`hil.protocols`."""


class DeadlockError(BenchFaultError):
    """Under virtual time everything waits and nothing will ever happen."""
