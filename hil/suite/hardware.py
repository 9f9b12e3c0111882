"""The bench of a real rig: its own configuration, and a controller that is started for the suite."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from edge.config import Config, load
from hil.errors import BenchFaultError
from hil.processes import ControlledRig
from hil.processes.spec import TIPGUARD
from hil.suite.bench import Wish
from hil.suite.handle import RigHandle


@dataclass(frozen=True, slots=True)
class HardwareBench:
    """The rig that ``config_path`` describes. ``may_rearm``: who started the suite has looked at it and said so.

    Nothing is made easier for it: the controller is the one that runs for people, and what it refuses, a port
    without a profile, a current limit, a latched trip, is refused here with its words. Its run directory is the
    suite's own, so a real port starts TRIPPED (there is no record of how the rig was left) until ``may_rearm``.
    """

    config_path: Path
    may_rearm: bool = False

    @property
    def name(self) -> str:
        """See :class:`hil.suite.bench.Bench`."""
        return "hardware"

    @property
    def marks(self) -> tuple[str, ...]:
        """See :class:`hil.suite.bench.Bench`."""
        return ("hardware",)

    @property
    def capabilities(self) -> frozenset[str]:
        """See :class:`hil.suite.bench.Bench`. Raises ConfigError for a configuration that is none."""
        return frozenset({"smu"} if self._config().ports.stage is None else {"smu", "stage"})

    def rig(self, directory: Path, wish: Wish) -> RigHandle:
        """See :class:`hil.suite.bench.Bench`; what the rig is was decided when it was wired, whatever the wish."""
        del wish
        config = self._config()
        path = self.config_path.absolute()
        controlled = ControlledRig(directory, path, config.rig.id, interruption=None)

        def start() -> None:
            controlled.start_controller()
            state = controlled.wait_state("SAFE", "TRIPPED")
            if state["state"] == "TRIPPED" and not self.may_rearm:
                raise BenchFaultError(
                    f"the rig starts TRIPPED ({state['verdict']}): look at it, then start pytest with --rig-rearm"
                )

        return RigHandle(
            controlled,
            start=start,
            command=shlex.join([*TIPGUARD, "controller", str(path)]),
            logs={"controller": controlled.controller_log},
            capabilities=self.capabilities,
            may_rearm=self.may_rearm,
        )

    def _config(self) -> Config:
        return load(self.config_path)
