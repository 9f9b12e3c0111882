"""Memory lock, priority, death signal: what the kernel can promise a process. Standard library only.

Each function returns None when it took effect, or one line saying what did not and what that means.
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Final

KEEPER_PRIORITY: Final = 30
WORKER_PRIORITY: Final = 20
_MCL_CURRENT_AND_FUTURE: Final = 3
_PR_SET_PDEATHSIG: Final = 1


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def lock_memory() -> str | None:
    """Keep every page in RAM: a page fault to an SD card takes longer than a cut."""
    if _libc().mlockall(_MCL_CURRENT_AND_FUTURE) == 0:
        return None
    reason = os.strerror(ctypes.get_errno())
    return f"memory is not locked ({reason}); under memory pressure a cut may wait for the disk. Allow LimitMEMLOCK"


def set_fifo(priority: int) -> str | None:
    """Run before every ordinary process."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        return "no real-time priority (not permitted); a busy host delays samples and cuts. Allow LimitRTPRIO"
    except OSError as error:
        return f"no real-time priority ({error.strerror}); a busy host delays samples and cuts"
    return None


def has_fifo() -> bool:
    """Tell whether this process runs before every ordinary one."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO


def die_with_parent(signum: int) -> None:
    """Get ``signum`` when the parent process dies; raise OSError if the kernel refuses."""
    libc = _libc()
    if libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")


def quiet_collector() -> None:
    """Stop cyclic garbage collection; the control task collects by hand while SAFE."""
    gc.collect()
    gc.freeze()
    gc.disable()
