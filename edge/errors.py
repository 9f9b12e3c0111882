"""The one error root of the controller side.

Two branches, because the reader's next step differs: a *local* mistake (a wrong key, a missing port, a refused
plan) is mended by the person at the keyboard; a *remote* fault (a mute instrument, a refused publish) is mended at
the bench. Every error says what happened, where, and what to do, and carries its data as attributes.
"""

from __future__ import annotations


class TipguardError(Exception):
    """Root of all errors raised by :mod:`edge`; never raised itself."""


class LocalError(TipguardError):
    """Something on this host or in what a person asked for is wrong."""


class RemoteError(TipguardError):
    """Something at the other end of a wire is wrong."""


class ConfigError(LocalError, ValueError):
    """A configuration file cannot be used. ``file`` and ``key`` say where."""

    def __init__(self, message: str, *, file: str = "", key: str = "") -> None:
        super().__init__(message)
        self.file = file
        self.key = key


class PlanRefusedError(LocalError, ValueError):
    """A plan or command is outside what this rig allows. ``reason`` is a stable word for programs."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class BusyError(LocalError):
    """Another process holds what is needed (a rig, a port), or the controller is in another state."""


class InterlockError(LocalError):
    """Stage and bias may not do this at the same time; nothing was sent. ``reason`` is a stable word for programs."""

    reason = "interlock"


class RingError(LocalError, ValueError):
    """A ring file cannot be used."""


class FlightError(LocalError, ValueError):
    """A flight record cannot be read, written or replayed. The message says from where on, and what would do."""


class AnalysisError(LocalError, ValueError):
    """Measured values that cannot be analysed as asked for: arrays that do not fit together, a number out of range."""


class FrameError(RemoteError, ValueError):
    """A frame does not follow the published schema."""


class LinkLostError(RemoteError, OSError):
    """A port is gone: unplugged, closed at the other end, or failing. ``errno`` where the system gave one."""

    def __str__(self) -> str:
        """Return the sentence without the number."""
        return self.strerror or super().__str__()


class InstrumentError(RemoteError):
    """An instrument answered, but not with what is needed."""


class WrongInstrumentError(InstrumentError):
    """Another instrument, or another serial number, is behind the port."""


class LimitReadbackError(InstrumentError):
    """A limit or range read back differs from what was set; nothing is energised."""


class NoContactError(InstrumentError):
    """An approach found no sample, or a tip that should be up still touches it."""


class ReplyTimeoutError(InstrumentError, TimeoutError):
    """No reply within its deadline."""
