"""One suite, any bench: what the ``rig`` fixture of :mod:`hil.pytest_plugin` hands to a test.

``bench`` what a bench is and what a test may wish for; ``handle`` a rig on one, as tests see it; ``record`` what the
controller has recorded, read without a broker; ``emulated`` and ``hardware`` the benches there are.
"""

from hil.suite.bench import Bench, Wish
from hil.suite.handle import RigHandle, Run

__all__ = ["Bench", "RigHandle", "Run", "Wish"]
