"""Two decoders, one stream: the Python decoder against the firmware's, built with sanitizers.

``python -m hil.frontend.fuzz --frames N --seed S`` makes N frames in C (whole, damaged on the line, whole but
dishonest), decodes them there byte by byte and here in other pieces, and compares every event. Exit 1 at the first
disagreement, for a frame that was accepted and never sent or whole and not accepted, and when a sanitizer stops the C
side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from hil.errors import BenchOptionError
from hil.frontend.fuzz_batch import HEAD, Batch, Disagreement, compare
from hil.frontend.fuzz_build import build

BATCH: Final = 4000
"""Frames per batch; each has its own session, side and pieces."""
ENDS_S: Final = 60.0
CONFIDENCE: Final = 3.0
"""0 of n: at 95 % the rate is below 3/n."""
LOW_BITS: Final = {"crc_low8": 8, "crc_low12": 12, "crc_low16": 16}


def run(frames: int, seed: int, *, tool: Path | None = None, batch: int = BATCH) -> dict[str, int]:
    """Fuzz ``frames`` frames in this process; return what the C side counted.

    Raises Disagreement, whose text says where; BenchOptionError when the C side cannot be built or ends by itself.
    """
    tool = build() if tool is None else tool
    command = [str(tool), "stream", str(seed), str(frames), str(batch)]
    done = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if process.stdout is None or process.stderr is None:
            raise BenchOptionError("tg_fuzz has no pipes")
        try:
            while done < frames:
                head = process.stdout.read(HEAD.size)
                if len(head) < HEAD.size:
                    break
                got = Batch.read(head, process.stdout.read)
                compare(got, seed * 1_000_003 + done)
                done += got.frames
            said = process.stderr.read().decode(errors="replace")
        finally:
            if done < frames:
                process.kill()
        code = process.wait(ENDS_S)
    if code or done < frames:
        raise BenchOptionError(f"tg_fuzz ended with {code} after {done} of {frames} frames: {said[-2000:]}")
    counts: dict[str, int] = json.loads(said)
    return counts


def run_all(frames: int, seed: int, processes: int) -> dict[str, Any]:
    """Fuzz in several processes, each with a seed of its own; return the report."""
    tool = build()
    shares = [frames // processes + (at < frames % processes) for at in range(processes)]
    began = time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        waiting = [pool.submit(run, share, seed + at, tool=tool) for at, share in enumerate(shares) if share]
        counts: dict[str, int] = {}
        for one in waiting:
            for name, value in one.result().items():
                counts[name] = counts.get(name, 0) + value
    return report(counts, seed, processes, time.perf_counter() - began)


def report(counts: dict[str, int], seed: int, processes: int, took_s: float) -> dict[str, Any]:
    """Return the counts with rates, and what they say of corruption that nobody notices."""
    damaged, alone = counts["damaged"], counts["crc_alone"]
    low = {name: counts[name] * 2**bits / alone if alone else 0.0 for name, bits in LOW_BITS.items()}
    return {
        **counts,
        "seed": seed,
        "processes": processes,
        "seconds": round(took_s, 1),
        "frames_per_s": round(counts["frames"] / took_s),
        "undetected_below_95": CONFIDENCE / damaged if damaged and not counts["undetected"] else None,
        "crc_low_bits_times_chance": {name: round(value, 3) for name, value in low.items()},
        "undetected_estimate": counts["plausible"] / damaged / 2**32 if damaged else None,
    }


def exhaust(bits: int) -> list[dict[str, Any]]:
    """Try every pattern of 1 to ``bits`` wrong bits in short frames; return a row per message and number of bits."""
    done = subprocess.run(
        [str(build(sanitize=False)), "exhaust", str(bits)], capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 1}:
        raise BenchOptionError(f"tg_fuzz exhaust: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, or try all short patterns; print JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hil.frontend.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="how many frames (1000000)")
    parser.add_argument("--seed", type=int, default=1, help="the first process's; the next have the next (1)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at once (one per core)")
    parser.add_argument("--exhaust", type=int, metavar="BITS", help="every pattern of up to BITS wrong bits instead")
    options = parser.parse_args(arguments)
    try:
        if options.exhaust is not None:
            rows = exhaust(options.exhaust)
            print("\n".join(json.dumps(row) for row in rows))
            return int(any(row["undetected"] for row in rows))
        found = run_all(options.frames, options.seed, options.processes)
    except Disagreement as error:
        print(f"disagreement: {error}", file=sys.stderr)
        return 1
    except BenchOptionError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found))
    return int(found["undetected"] > 0 or found["lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
