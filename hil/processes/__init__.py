"""A whole rig as processes in a folder of its own: what the demo, the kill rounds and the scenarios work on.

``forms`` a rig as ``tipguard serve``, ``supervised`` one as in production; ``cable`` a cable to pull. ``child`` one
process, ``waiting`` how to wait and to be interrupted, ``spec``, ``stage_spec`` and ``frontend_spec`` what a rig is,
``controlled`` a controller over any configuration, ``rig`` one with emulated instruments, ``ending`` the proof that its
output is off, ``chain`` the way of the data, each part to be killed. What is started here is ended here, by process id.
"""

from hil.processes.child import Child, ChildDiedError, Children
from hil.processes.controlled import ControlledRig
from hil.processes.ending import Ending
from hil.processes.frontend_spec import FrontendSpec
from hil.processes.rig import BenchRig
from hil.processes.spec import RigSpec
from hil.processes.stage_spec import StageSpec
from hil.processes.waiting import Interruption, wait_for

__all__ = [
    "BenchRig",
    "Child",
    "ChildDiedError",
    "Children",
    "ControlledRig",
    "Ending",
    "FrontendSpec",
    "Interruption",
    "RigSpec",
    "StageSpec",
    "wait_for",
]
