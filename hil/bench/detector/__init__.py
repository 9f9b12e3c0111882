"""``tipguard bench detector``: the surge detector against theory, against other detectors, against nuisances."""

from hil.bench.detector.bench import detector

__all__ = ["detector"]
