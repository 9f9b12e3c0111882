"""``tipguard replay``: live through a flight record again, read it, or make a fixture of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edge.cli.common import EXIT_FAILED, JsonOption, err, guarded, out, print_json
from edge.cli.layout import say
from edge.errors import FlightError
from edge.flight import Contents, Stretch, cut_out, read_flight, run_uids, stretches


def replay(
    file: Annotated[
        Path, typer.Argument(help="a segment, a directory of them, a fixture, or a ring's file", show_default=False)
    ],
    run: Annotated[str | None, typer.Option(help="only this run (16 hex digits), from the last rest before it")] = None,
    json: JsonOption = False,
    print_it: Annotated[bool, typer.Option("--print", help="print who wrote what and when; replay nothing")] = False,
    port: Annotated[Literal["smu", "stage"] | None, typer.Option(help="with --print: only this port")] = None,
    from_s: Annotated[float, typer.Option("--from", help="with --print: from here on, s")] = float("-inf"),
    to_s: Annotated[float, typer.Option("--to", help="with --print: up to here, s")] = float("inf"),
    essential: Annotated[
        bool, typer.Option("--essential", help="leave out what a newer version only says beside samples and cuts")
    ] = False,
    fixture: Annotated[
        Path | None, typer.Option(help="write the run (default: the last one), stripped of names, to this file")
    ] = None,
) -> None:
    """Feed a flight record through the same drivers and guard, and compare.

    Exit 1 where a message, a sample, a cut or a run's document is not as recorded.
    """

    def work() -> int:
        contents = read_flight(file)
        found, notes = _chosen(contents, run, last=fixture is not None)
        for note in notes:
            say(err, f"tipguard replay: {note}", "yellow")
        if print_it:
            return _print(found, port, from_s, to_s)
        if fixture is not None:
            return _fixture(found[-1], fixture, json=json)
        return _replay(found, notes, essential=essential, json=json)

    guarded(work, json=json)


def _chosen(contents: Contents, run: str | None, *, last: bool) -> tuple[list[Stretch], list[str]]:
    """Return what is asked for, and what is to be said about the rest; raise FlightError if there is nothing."""
    found, notes = stretches(contents.records)
    if contents.torn is not None:
        notes.append(contents.torn)
    if not found:
        raise FlightError(
            f"{contents.name}: nothing to begin a replay from. A replay needs the start of a controller, or a "
            "checkpoint (one is written every 10 s at rest), and the tape from there on without a gap"
            + (f"; {'; '.join(notes)}" if notes else "")
        )
    if run is None and not last:
        return found, notes
    runs = {uid: stretch for stretch in found for uid in run_uids(stretch)}
    uid = run or next(reversed(runs), None)
    if uid is None or uid not in runs:
        raise FlightError(f"{contents.name}: no run {uid or ''} begins in it; it holds: {', '.join(runs) or 'none'}")
    return [cut_out(runs[uid], uid)], notes


def _replay(found: list[Stretch], notes: list[str], *, essential: bool, json: bool) -> int:
    # The bench is no part of a rig: it is imported only here.
    from hil.replay import replay as live_again
    from hil.replay.words import in_words, report

    outcomes: list[dict[str, Any]] = []
    for stretch in found:
        outcome = report(live_again(stretch, essential=essential))
        outcomes.append(outcome)
        if not json:
            say(out, in_words(outcome), "" if outcome["same"] else "red")
    same = all(outcome["same"] for outcome in outcomes)
    if json:
        print_json({"same": same, "notes": notes, "stretches": outcomes})
    return 0 if same else EXIT_FAILED


def _print(found: list[Stretch], port: str | None, from_s: float, to_s: float) -> int:
    from hil.replay.words import lines

    for stretch in found:
        print(f"# epoch {stretch.epoch:016x}, from a {stretch.start['from']}, 0 is at {stretch.t_ns / 1e9:.6f} s")
        for line in lines(stretch, port=port, from_s=from_s, to_s=to_s):
            print(line)
    return 0


def _fixture(stretch: Stretch, path: Path, *, json: bool) -> int:
    from hil.replay.fixture import make_fixture
    from hil.replay.words import in_words, report

    written, replayed = make_fixture(stretch, path)
    outcome = report(replayed)
    size = written.stat().st_size
    if json:
        print_json({"fixture": str(written), "bytes": size, **outcome})
    else:
        say(out, f"{written} ({size} bytes)\n{in_words(outcome)}")
    return 0
