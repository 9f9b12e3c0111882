"""What the tests of pictures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text


@pytest.fixture
def texts() -> Callable[[Figure], str]:
    """Return what reads a figure: all its words and numbers, after the layout, which must not complain."""

    def read(figure: Figure) -> str:
        figure.draw_without_rendering()
        found: list[Any] = figure.findobj(Text)
        return "\n".join(text.get_text() for text in found if text.get_visible())

    return read
