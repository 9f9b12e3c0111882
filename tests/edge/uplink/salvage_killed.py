"""Salvages copies of a directory with an outbox, each killed at another step; `python -m ... FROM TO`.

Killed by SIGKILL before its n-th step, in TO/n; the last one comes to its end. With `--same` there is one copy, TO/0,
and each goes on where the one before was killed. Prints how many there were.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.uplink.outbox_file import OutboxFile
from edge.uplink.salvage import load

STEPS = ((os, "rename"), (os, "unlink"), (os, "fsync"), *((OutboxFile, name) for name in ("open", "commit", "seal")))


def killed_before(step: int) -> None:
    """Have this process killed when it has done ``step`` of the steps."""
    done = [0]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **more: Any) -> Any:  # noqa: ANN401 - as the one it replaces
            if done[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            done[0] += 1
            return call(*args, **more)

        return counting

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))


def main(source: Path, target: Path, *, same: bool) -> int:
    """Return how many processes there were."""
    for step in range(1000):
        directory = target / ("0" if same else str(step))
        if not directory.exists():
            shutil.copytree(source, directory)
        child = os.fork()
        if not child:
            killed_before(step)
            load(OutboxFile(directory / "outbox.sqlite"), "rig-1", "said to be damaged")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return step + 1
        if not os.WIFSIGNALED(status):
            break
    raise SystemExit("it was not killed, and came to no good end")


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2]), same="--same" in sys.argv))
