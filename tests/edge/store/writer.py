"""A process that commits numbered frames to a directory store until it is killed, and says what was committed.

    python -m tests.edge.store.writer DIR FIRST [MOST_BYTES_OF_A_FILE]

One line on stdout for each commit: the number of the first frame that is not committed. Every second commit is followed
by a compaction, every sixth by joins, which take longer: most kills hit one.
"""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path

import structlog

from edge.store.directory import DirectoryStore
from tests.edge.store.made import LATER_S, received

BATCH = 3


def main(folder: Path, seq: int) -> None:
    store = DirectoryStore(folder, "lab", compact_every_s=None, utc_s=lambda: LATER_S)
    while True:
        store.commit([received("rig-1", "samples", number) for number in range(seq, seq + BATCH)], [])
        seq += BATCH
        print(seq, flush=True)
        if seq % (2 * BATCH) == 0:
            store.rotate()
            store.compact()
        if seq % (6 * BATCH) == 0:
            store.join()


if __name__ == "__main__":
    # What is said on stdout is of commits.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if len(sys.argv) > 3:
        limit = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    main(Path(sys.argv[1]), int(sys.argv[2]))
