"""What a bench is: something that can put a rig in front of a test. A third kind is one class more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from hil.errors import BenchOptionError
from hil.processes import RigSpec
from hil.suite.handle import RigHandle


@dataclass(frozen=True, slots=True)
class Wish:
    """What a test asks of its rig, as its mark says: ``@pytest.mark.rig(needs="truth", load="ohmic:1e6")``.

    ``needs``: capabilities without which the test says nothing; it is not run on a bench that lacks one. ``settings``:
    fields of :class:`hil.processes.RigSpec` for an emulated rig, each for the benches that it means something on; a
    real rig is what it is, so a test asks its rig what it got.
    """

    needs: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Wish:
        """Make one from the arguments of a mark; raises BenchOptionError for one that does not exist."""
        settings = dict(arguments)
        needs = settings.pop("needs", ())
        known = [one.name for one in fields(RigSpec)]
        for name in settings:
            if name not in known:
                raise BenchOptionError(f"mark rig: {name!r}: want needs or one of {', '.join(known)}")
        return cls(frozenset((needs,) if isinstance(needs, str) else needs), settings)


class Bench(Protocol):
    """One kind of bench.

    ``name`` stands in the ids of tests, ``marks`` are names of pytest marks that its tests get. ``capabilities``: what
    a rig on it can do, of ``smu``, ``stage``, ``load`` (the load is known), ``truth`` (a record that is not the
    controller's), ``emulated``, or words of its own that its tests ask for.
    """

    @property
    def name(self) -> str:
        """Word in the ids of tests."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Names of pytest marks."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What a rig on it can do."""

    def rig(self, directory: Path, wish: Wish) -> RigHandle:
        """Return a rig in ``directory``, which no other shares, not started. Raises BenchOptionError."""
