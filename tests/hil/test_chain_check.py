"""A part that ends in good order while it is looked at has not died."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.broker import Broker, available
from hil.processes.chain import Chain
from hil.processes.child import ChildDiedError

pytestmark = pytest.mark.skipif("mosquitto" not in available(), reason="needs Mosquitto: apt-get install mosquitto")


class Ending:
    """Still at work at the first look, and ended with ``code`` at the next."""

    def __init__(self, code: int) -> None:
        self._looks: list[int | None] = [None, code]

    @property
    def code(self) -> int | None:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def check(self) -> None:
        if (code := self.code) is not None:
            raise ChildDiedError("part", code, "")


def chain_of(directory: Path, part: Any) -> Chain:  # noqa: ANN401 - stands in for a child
    chain = Chain(directory, Broker(prefer="mosquitto"), {"part": lambda _life: []}, environment={})
    chain._children = SimpleNamespace(get={"part": part}.get)  # type: ignore[assignment]
    return chain


def test_one_that_ends_in_good_order_between_two_looks(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, Ending(0))
    chain.check()
    chain.check()


def test_one_that_ends_otherwise(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, Ending(1))
    chain.check()
    with pytest.raises(ChildDiedError):
        chain.check()
