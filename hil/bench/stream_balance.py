"""The balance of ``tipguard bench stream``: what stood before the converter against what a store holds.

The account is the wave in the memory that firmware and bench share, and the number of the sample that the firmware's
port had reached when the window began and ended, read there too: neither has passed the line. What the store holds is
decoded here with plain msgpack and numpy, so that an error which encoder and decoder of :mod:`edge.frames` share does
not cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgpack
import numpy as np
import numpy.typing as npt

STREAM: Final = "frontend"


@dataclass(frozen=True, slots=True)
class StreamBalance:
    """Samples of a window, each by its number."""

    wanted: int
    """That many the converter has given."""
    lost: int
    """Of these no frame holds."""
    doubled: int
    """More than one does."""
    wrong: int
    """Held with another code than stood before the converter; counted in every frame that holds one."""
    frames: int
    """That hold some of them."""
    largest_frame: int
    """Bytes."""
    total: int
    """Bytes of all these frames."""

    @property
    def even(self) -> bool:
        """Every sample is there, once, as it was."""
        return not (self.lost or self.doubled or self.wrong)


def balance(payloads: Iterable[bytes], wave: npt.NDArray[np.int16], window: range, *, begins: int = 0) -> StreamBalance:
    """Compare. ``payloads``: frames of a store, of any kind; ``window``: numbers of the samples that must be there.

    ``wave`` stands before the converter again and again, its first code at sample ``begins`` for the first time.
    """
    held = np.zeros(len(window), np.uint8)
    wrong = 0
    sizes: list[int] = []
    for payload in payloads:
        fields = msgpack.unpackb(payload)
        if fields["stream"] != STREAM or "code" not in fields.get("cols", {}):
            continue
        first = fields["grid"]["index"]
        codes = np.frombuffer(fields["cols"]["code"]["data"], "<i2")
        low, high = max(first, window.start), min(first + len(codes), window.stop)
        if low >= high:
            continue
        sizes.append(len(payload))
        told = codes[low - first : high - first]
        wrong += int(np.count_nonzero(told != wave[np.arange(low - begins, high - begins) % len(wave)]))
        held[low - window.start : high - window.start] += 1
    return StreamBalance(
        wanted=len(window),
        lost=int(np.count_nonzero(held == 0)),
        doubled=int(np.count_nonzero(held > 1)),
        wrong=wrong,
        frames=len(sizes),
        largest_frame=max(sizes, default=0),
        total=sum(sizes),
    )


def resting_tip(count: int, seed: int = 1) -> npt.NDArray[np.int16]:
    """Return codes of a tip through which next to nothing flows: noise of -3 to 3 codes.

    What a search sees nearly all the time, and dear to the host: every byte that is zero makes COBS begin another
    group.
    """
    wave: npt.NDArray[np.int16] = np.random.default_rng(seed).integers(-3, 4, count).astype("<i2")
    return wave
