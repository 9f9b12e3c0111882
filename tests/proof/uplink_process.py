"""The uplink as a process with a proof's settings, and optionally with one of its checks taken out."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from edge.logs import configure_logs
from edge.uplink import UplinkSettings, run_uplink
from tests.proof.mutations import MUTATIONS


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ring", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rig", default="rig-1")
    parser.add_argument("--outbox", type=Path, required=True)
    parser.add_argument("--store", action="append", default=[])
    parser.add_argument("--no-stores", action="store_true", help="as a rig that has none configured")
    parser.add_argument("--set", action="append", default=[], help="name=value of any number among the settings")
    parser.add_argument("--mutate", choices=sorted(MUTATIONS))
    args = parser.parse_args(words)
    values: dict[str, Any] = {
        "backoff_min_s": 0.05,
        "backoff_max_s": 0.2,
        "live_hz": 10.0,
        "status_period_s": 0.5,
        "redrive_s": 1.0,
        "keep_after_watermark_s": 0.0,
    }
    for text in args.set:
        name, _, value = text.partition("=")
        values[name] = value if name == "policy" else type(getattr(UplinkSettings("a", Path()), name))(float(value))
    if args.mutate:
        MUTATIONS[args.mutate]()
    configure_logs()
    settings = UplinkSettings(
        args.rig,
        args.ring,
        port=args.port,
        outbox_directory=args.outbox,
        stores=() if args.no_stores else tuple(args.store),
        **values,
    )

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await run_uplink(settings, stop=stop)

    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
