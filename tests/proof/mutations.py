"""Checks of the uplink that protect data, each taken out by changing the code in the process that asks for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from edge.uplink import holes, lanes, outbox_file, redrive, window
from edge.uplink.held import Held
from edge.uplink.ranges import Ranges
from edge.watermark import Watermark


def change(owner: object, name: str, value: object) -> None:
    """Put something else in the place of a function or number of the code under test."""
    if not hasattr(owner, name):
        raise AttributeError(f"nothing to take out: {owner} has no {name}")
    setattr(owner, name, value)


def delete_at_the_acknowledgement() -> None:
    """What the broker has counts as stored."""
    change(Held, "everywhere", lambda self, _stores: self.kept.both(self.acked))


def delete_when_one_store_has_it() -> None:
    """One store's word is enough for all."""

    def everywhere(self: Held, stores: tuple[str, ...]) -> Ranges:
        union = Ranges()
        for store in stores:
            union.update(self.covered.get(store, Ranges()))
        return self.kept.both(union)

    change(Held, "everywhere", everywhere)


def believe_any_watermark() -> None:
    """A store's word is not compared with what was sent, nor its name with the configured ones."""

    def check(self: redrive.Redrive, said: Watermark) -> redrive.Checked:
        found = []
        for mark in said.marks:
            held = self._outbox.streams.get((mark.epoch, mark.stream))
            if held is not None:
                found.append((held, mark, Ranges(mark.covered()).both(held.kept)))
        return redrive.Checked(found)

    change(redrive.Redrive, "_check", check)


def ignore_what_stores_lack() -> None:
    """Neither holes nor what no store has are sent again."""
    change(redrive.Redrive, "_send", lambda _self, _held, _first, _last: None)


def ignore_a_store_that_goes_back() -> None:
    """What a store has said once counts for ever."""
    genuine = redrive.Redrive._check

    def check(self: redrive.Redrive, said: Watermark) -> redrive.Checked:
        state = self.stores[said.store]
        object.__setattr__(said, "generation", state.generation or said.generation)
        checked = genuine(self, said)
        grown = []
        for held, mark, covered in checked.believed:
            union = Ranges(covered)
            union.update(held.covered.get(said.store, Ranges()))
            grown.append((held, replace(mark, holes=()), union))
        return replace(checked, believed=grown)

    change(redrive.Redrive, "_check", check)


def forget_what_was_under_way() -> None:
    """What a broken connection left unanswered is not sent again."""
    change(lanes.Lanes, "again", lambda _self, _entry: None)


def take_a_refusal_for_an_acknowledgement() -> None:
    """The reason code of a PUBACK is not looked at, as with MQTT 3.1.1."""
    change(window, "FAILURE", 0x100)


def declare_nothing() -> None:
    """What went with an outbox that is no more is not looked for."""
    change(holes.Holes, "turn", lambda _self, _now_ns, _former: None)


def sync_nothing() -> None:
    """SQLite does not wait for the disk."""
    genuine = outbox_file.OutboxFile.open

    def open_without(self: outbox_file.OutboxFile) -> Any:  # noqa: ANN401
        found = genuine(self)
        database: sqlite3.Connection = self._connection()
        database.execute("PRAGMA synchronous = OFF")
        return found

    change(outbox_file.OutboxFile, "open", open_without)


MUTATIONS: Final[dict[str, Callable[[], None]]] = {
    one.__name__: one
    for one in (
        delete_at_the_acknowledgement,
        delete_when_one_store_has_it,
        believe_any_watermark,
        ignore_what_stores_lack,
        ignore_a_store_that_goes_back,
        forget_what_was_under_way,
        take_a_refusal_for_an_acknowledgement,
        declare_nothing,
        sync_nothing,
    )
}
