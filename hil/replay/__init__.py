"""A flight record lived through again: the same drivers, guard, engine and runner, fed with what was recorded.

``world`` what a worker meets there, ``loop`` how its time passes, ``player`` one stretch from beginning to end,
``compare`` whether the same came out, ``fixture`` a recording that anybody may see, ``words`` the exchange to read.
"""

from hil.replay.compare import Difference
from hil.replay.player import Replayed, replay

__all__ = ["Difference", "Replayed", "replay"]
