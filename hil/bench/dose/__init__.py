"""``tipguard bench dose``: what seven ways of watching the same sites put into the tip.

``usual_script`` and ``competent_script`` are what is compared with; ``served`` hosts the emulated instruments, one line
an arm, and keeps the truth; ``judge`` says what a trial did to its site; ``arms`` and ``rounds`` run the trials;
``virtual`` has those whose microseconds want virtual time; ``figures`` makes ratios of them, ``plots`` pictures;
``bench`` is the whole.
"""

from hil.bench.dose.bench import dose

__all__ = ["dose"]
