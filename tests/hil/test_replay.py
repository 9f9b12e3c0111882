"""A rig in virtual time is recorded and the recording lived through again: the same comes out, or it says what not."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.controller.host_watch import HostWatch
from edge.errors import FlightError
from edge.experiments.iv import IvPlan
from edge.experiments.memristor import MemristorPlan
from edge.experiments.trigger_map import TriggerMapPlan
from edge.flight import FlightRecord, Stretch, cut_out, read_flight, run_uids, stretches
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.ring import Kind, Record
from edge.samples import Phase
from edge.tape import IN, OUT, SMU, STAGE, Entry, pack, unpack
from hil.map_bench import MapBench, on_map_bench
from hil.replay import Replayed, replay
from hil.replay.compare import first_difference
from hil.replay.world import World
from hil.rig import config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.virtual_bench import MS, VirtualBench, on_bench
from tests.made_folders import made_folders

SECOND = 1_000_000_000
A_SITE = functools.partial(SwitchingSite, "gb", series_ohm=1000.0, seed=4)


def recorded(
    work: Callable[[VirtualBench], Awaitable[None]],
    load: Callable[[Any], Any] = lambda truth: A_SITE(truth=truth),
    **options: Any,  # noqa: ANN401 - the bench's own
) -> Stretch:
    """Return the one stretch of a bench's whole life."""
    with tempfile.TemporaryDirectory() as folder:

        async def whole(bench: VirtualBench) -> None:
            await work(bench)
            bench.rig.worker.recorder.flush_tape()

        on_bench(Path(folder), whole, load=load, **options)
        found, notes = stretches(read_flight(Path(folder) / "ring").records)
    assert notes == []
    [stretch] = found
    return stretch


def recorded_map(work: Callable[[MapBench], Awaitable[None]]) -> Stretch:
    """The same of a rig with a stage, whose ring is drained on the way."""
    records: list[FlightRecord] = []

    async def whole(bench: MapBench) -> None:
        read = bench.rig.records

        def keep() -> list[Record]:
            found = read()
            records.extend(FlightRecord(r.kind, r.epoch, r.seq, r.pos, r.payload) for r in found)
            return found

        bench.rig.records = keep  # type: ignore[method-assign] # a look over the bench's shoulder
        await work(bench)
        bench.rig.worker.recorder.flush_tape()
        bench.drain()

    with tempfile.TemporaryDirectory() as folder:
        on_map_bench(Path(folder), whole)
    found, notes = stretches(records)
    assert notes == []
    [stretch] = found
    return stretch


async def a_sweep(bench: VirtualBench) -> None:
    bench.start(IvPlan(to_v=-0.6))
    await bench.ended()


@functools.cache
def sweep() -> Stretch:
    """A sweep to the surge of a site: one planned cut, then the read of what formed."""
    return recorded(a_sweep)


def edited(stretch: Stretch, edit: Callable[[Entry], Entry | None]) -> Stretch:
    """Return a stretch with every entry of its tape edited; None takes it out."""
    records = []
    for record in stretch.records:
        if record.kind == Kind.TAPE:
            entries = [new for entry in unpack(record.payload) if (new := edit(entry)) is not None]
            record = record._replace(payload=pack(entries))  # noqa: PLW2901
        records.append(record)
    return Stretch(stretch.start, records)


def documents(stretch: Stretch, kind: Kind) -> list[dict[str, Any]]:
    return list(stretch.documents(kind))


def is_same(stretch: Stretch) -> Replayed:
    """Replay, and be sure that there was something to compare."""
    replayed = replay(stretch)
    assert replayed.difference is None, replayed.difference.line()
    theirs = [record.payload for record in stretch.whole() if record.kind == Kind.SAMPLE]
    ours = [record.payload for record in replayed.records if record.kind == Kind.SAMPLE]
    assert ours == theirs
    return replayed


# ---------------------------------------------------------------------------------------------- the same comes out


def test_a_sweep_with_its_planned_cut_replays() -> None:
    replayed = is_same(sweep())
    assert len(replayed.samples) > 50
    [cut] = replayed.cuts
    assert (cut["planned"], cut["verified"], replayed.state) == (True, True, "SAFE")
    [before] = [event for event in documents(sweep(), Kind.EVENT) if event["kind"] == "cut"]
    # Also what was measured of our own speed, and the whole waveform.
    assert msgpack.packb(cut) == msgpack.packb(before)
    stops = [run for run in documents(sweep(), Kind.RUN) if run["kind"] == "stop"]
    assert stops[0]["status"] == "completed"
    assert replayed.documents(Kind.RUN)[-1]["results"] == stops[0]["results"]


def test_times_are_equal_to_the_nanosecond() -> None:
    replayed = is_same(sweep())
    arrived = [sample.t_rx_ns for sample in replayed.samples]
    readings = {entry for entry in sweep().entries() if isinstance(entry, int)}
    assert set(arrived) <= readings
    assert arrived == sorted(arrived)


def test_a_trip_by_a_broken_reading_and_its_rearm_replay() -> None:
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.replies.edit = lambda data: data.replace(b"E-", b"#-", 1)
        await bench.until(lambda: bench.engine.report.protective_cuts == 1)
        bench.replies.edit = lambda data: data
        await bench.ended()
        bench.engine.rearm(by="somebody")
        await bench.clock.sleep_until(bench.clock.now_ns() + 3 * SECOND)

    stretch = recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth))
    replayed = is_same(stretch)
    [cut] = replayed.cuts
    assert (cut["verdict"], cut["planned"]) == (Verdict.UNPARSABLE.value, False)
    assert [event["kind"] for event in replayed.documents(Kind.EVENT)][-1] == "rearm"
    assert replayed.state == "SAFE"


def test_a_cut_by_the_output_enable_line_and_the_key_after_it_replay() -> None:
    # The beats themselves are on no tape; what the instrument says of the line is.
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        assert bench.rig.worker.runner.stop(by="somebody")
        await bench.ended()
        bench.engine.rearm(by="somebody")
        await bench.clock.sleep_until(bench.clock.now_ns() + 3 * SECOND)
        bench.rig.device.press_output_key(bench.clock.now_ns())
        await bench.clock.sleep_until(bench.clock.now_ns() + 12 * SECOND)
        bench.start()
        assert (await bench.ended())["status"] == "completed"

    gpio = {"chip": "memory", "heartbeat_line": 17, "clear_line": 27, "rearm": "key"}
    stretch = recorded(
        work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth), config=config_for(series_ohm=1000.0, gpio=gpio)
    )
    with_its_cut = is_same(cut_out(stretch, run_uids(stretch)[0]))
    [cut] = with_its_cut.cuts
    assert [one["name"] for one in cut["actuators"]] == ["gpio", "serial"]
    assert is_same(stretch).state == "SAFE"
    # From a checkpoint the line is taken as proven, as it was.
    again = cut_out(stretch, run_uids(stretch)[1])
    assert again.start["from"] == "checkpoint"
    assert again.start["state"]["engine"]["enable"]["proven"] is True
    assert len(is_same(again).samples) > 50


def test_a_person_s_stop_replays() -> None:
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.worker.runner.stop(by="somebody")
        await bench.ended()

    replayed = is_same(recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth)))
    assert replayed.cuts[0]["verdict"] == Verdict.OPERATOR.value
    assert replayed.documents(Kind.RUN)[-1]["reason"] == "OPERATOR by somebody"


@pytest.mark.parametrize("under_bias", [False, True])
def test_the_worker_s_own_end_replays(*, under_bias: bool) -> None:
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await (bench.until_live() if under_bias else bench.ended())
        assert await bench.rig.worker.shut_down(Verdict.SHUTDOWN, by="SIGTERM")

    replayed = is_same(recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth)))
    assert [cut["verdict"] for cut in replayed.cuts] == (["SHUTDOWN"] if under_bias else [])
    assert replayed.state == ("TRIPPED" if under_bias else "SAFE")


def test_a_link_that_is_lost_replays() -> None:
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.unplug()
        bench.rig.worker.give_up()

    replayed = is_same(recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth)))
    assert replayed.cuts[0]["verdict"] == Verdict.LINK_LOST.value
    assert replayed.cuts[0]["verified"] is False
    assert replayed.state == "CUTTING"


def test_a_deaf_instrument_and_every_round_of_its_cut_replay() -> None:
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.replies.edit = lambda data: b""
        await bench.until(lambda: Verdict.CUT_UNVERIFIED.value in bench.engine.report.alarms)
        bench.replies.edit = lambda data: data
        await bench.ended()

    replayed = is_same(recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth)))
    [cut] = replayed.cuts
    assert cut["verdict"] == Verdict.STALE.value
    assert cut["rounds"] > 3


def test_a_fault_of_the_host_replays() -> None:
    slept = [0]

    async def work(bench: VirtualBench) -> None:
        page = bench.rig.page
        watch = HostWatch(page, lambda: slept[0])
        watch.on_fault = bench.rig.worker.flight.tape.host  # type: ignore[union-attr] # it is recorded
        bench.engine._host = watch
        bench.start()
        while not bench.engine.report.protective_cuts:
            page.keeper_stamp(bench.clock.now_ns(), 1)
            if abs(bench.load.v_tip) > 0.1:
                slept[0] = SECOND
            await bench.clock.sleep_until(bench.clock.now_ns() + MS)
        await bench.ended()

    stretch = recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth))
    # The bench has no keeper of its own; the record of one that has says so.
    stretch.start["watched"] = True
    replayed = is_same(stretch)
    assert replayed.cuts[0]["verdict"] == Verdict.SHUTDOWN.value


def test_short_writes_replay() -> None:
    async def work(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.short_writes(5)
        await bench.ended()

    stretch = recorded(work, load=lambda truth: OhmicLoad(1e6, 1000.0, truth=truth))
    short = [entry for entry in stretch.entries() if not isinstance(entry, int) and entry[0] == OUT and len(entry) > 4]
    assert short
    is_same(stretch)


def test_a_map_of_two_points_replays_with_its_stage() -> None:
    async def work(bench: MapBench) -> None:
        run = await bench.run(TriggerMapPlan(points=bench.boundary(2), to_v=-0.6))
        assert run["status"] == "completed"

    stretch = recorded_map(work)
    replayed = is_same(stretch)
    points = [document for document in replayed.documents(Kind.RUN) if document["kind"] == "point"]
    assert [point["class"] for point in points] == ["triggered", "triggered"]
    ports = {entry[2] for entry in stretch.entries() if not isinstance(entry, int) and entry[0] == IN}
    assert ports == {SMU, STAGE}


def _seeking(bench: MapBench) -> bool:
    sample = bench.engine.report.last_sample
    return bench.engine.state is State.ENERGISED and sample is not None and sample.phase == Phase.SEEK


def test_a_stage_that_is_moved_by_somebody_else_trips_in_the_replay_too() -> None:
    async def work(bench: MapBench) -> None:
        bench.start(TriggerMapPlan(points=bench.boundary(2), to_v=-0.6))
        await bench.until(lambda: _seeking(bench))
        bench.at_the_stage(b"MVR 1 0.5")
        await bench.ended()
        await bench.clock.sleep_until(bench.clock.now_ns() + 2 * SECOND)

    replayed = is_same(recorded_map(work))
    assert replayed.cuts[-1]["verdict"] == Verdict.STAGE_FAULT.value
    assert replayed.cuts[-1]["setting"]["context"]["stage"]


def test_memristor_cycles_replay() -> None:
    async def work(bench: MapBench) -> None:
        [[x_m, y_m, *_]] = bench.boundary(1)
        run = await bench.run(MemristorPlan(x_m=x_m, y_m=y_m, cycles=2))
        assert run["status"] == "completed", run["reason"]

    replayed = is_same(recorded_map(work))
    assert sum(document["kind"] == "cycle" for document in replayed.documents(Kind.RUN)) == 2


# ------------------------------------------------------------------------------------------------- in the middle


def two_runs() -> Stretch:
    async def work(bench: MapBench) -> None:
        await bench.clock.sleep_until(bench.clock.now_ns() + 12 * SECOND)
        for seed in range(2):
            await bench.run(TriggerMapPlan(points=bench.boundary(1, seed=seed), to_v=-0.6))
            await bench.clock.sleep_until(bench.clock.now_ns() + 12 * SECOND)

    return recorded_map(work)


def test_a_run_replays_from_the_checkpoint_before_it() -> None:
    stretch = two_runs()
    first, second = run_uids(stretch)
    whole = is_same(stretch)
    run = cut_out(stretch, second)
    assert run.start["from"] == "checkpoint"
    replayed = is_same(run)
    assert [document["uid"] for document in replayed.documents(Kind.RUN) if document["kind"] == "start"] == [second]
    # The numbers go on where the first run ended, and nothing of that one is there.
    assert 0 < len(replayed.samples) < len(whole.samples)
    assert replayed.samples == whole.samples[-len(replayed.samples) :]
    assert first not in {document["uid"] for document in replayed.documents(Kind.RUN)}


def test_without_the_state_of_its_checkpoint_a_run_would_be_another() -> None:
    """What a checkpoint keeps is needed: with the tip's surface forgotten, the approach is another."""
    stretch = two_runs()
    run = cut_out(stretch, run_uids(stretch)[1])
    state = run.start["state"]
    forgetful = Stretch({**run.start, "state": {**state, "tip": {**state["tip"], "surface_m": None}}}, run.records)
    assert replay(forgetful).difference is not None


def test_a_run_that_does_not_begin_here_is_refused_in_words() -> None:
    with pytest.raises(FlightError, match=f"run 00 does not begin in this stretch; it holds: {run_uids(sweep())[0]}"):
        cut_out(sweep(), "00")


def test_a_tape_that_ends_in_the_middle_replays_up_to_there() -> None:
    stretch = sweep()
    half = Stretch(stretch.start, stretch.records[: len(stretch.records) // 2])
    replayed = replay(half)
    assert replayed.difference is None
    assert 0 < len(replayed.samples) < len(is_same(stretch).samples)


# ------------------------------------------------------------------------------------------------ something else


def test_one_digit_of_one_reading_is_a_difference() -> None:
    seen = 0

    def tamper(entry: Entry) -> Entry:
        nonlocal seen
        if not isinstance(entry, int) and entry[0] == IN and entry[3].endswith(b"E+04\r"):
            seen += 1
            if seen == 12:
                data = bytearray(entry[3])
                # The last digit of the current, whatever stands before it.
                at = data.rindex(b"E", 0, data.rindex(b",")) - 1
                data[at] = ord("1") if data[at] != ord("1") else ord("2")
                return (*entry[:3], bytes(data))
        return entry

    tampered = edited(sweep(), tamper)
    for essential in (False, True):
        difference = replay(tampered, essential=essential).difference
        assert difference is not None
        assert (difference.kind, difference.where) == ("sample", "sample 11, current_a")


def test_a_message_that_we_would_not_write_is_a_difference() -> None:
    changed = edited(
        sweep(),
        lambda entry: (
            (*entry[:3], entry[3].replace(b"-0.1000", b"-0.2000"))
            if not isinstance(entry, int) and entry[0] == OUT
            else entry
        ),
    )
    difference = replay(changed).difference
    assert difference is not None
    assert (difference.kind, difference.where) == ("write", "smu")
    assert "-0.2000" in difference.recorded
    assert "-0.1000" in difference.replayed


def test_a_message_that_was_written_and_is_not_any_more_is_a_difference() -> None:
    stretch = sweep()
    records = list(stretch.records)
    at = next(n for n, record in enumerate(records) if record.kind == Kind.TAPE and record.seq == 20)
    entries = unpack(records[at].payload)
    where = next(n for n, entry in enumerate(entries) if not isinstance(entry, int) and entry[0] == OUT)
    t_ns = entries[where][1]  # type: ignore[index] # a tuple
    entries.insert(where, (OUT, t_ns, SMU, b":SYST:BEEP 100,1\n"))
    records[at] = records[at]._replace(payload=pack(entries))
    difference = replay(Stretch(stretch.start, records)).difference
    assert difference is not None
    assert "BEEP" in difference.recorded


def with_event(stretch: Stretch, **changed: object) -> Stretch:
    """Return a stretch whose cuts say something else, or more."""
    records = [
        record._replace(payload=msgpack.packb({**msgpack.unpackb(record.payload), **changed}))
        if record.kind == Kind.EVENT
        else record
        for record in stretch.records
    ]
    return Stretch(stretch.start, records)


def test_what_a_newer_version_says_beside_is_left_out_of_what_matters() -> None:
    older = with_event(sweep(), decided_ns=5, said_by_an_older_version=True)
    assert replay(older).difference is not None
    assert replay(older, essential=True).difference is None


@pytest.mark.parametrize("changed", [{"verdict": "SURGE_JUMP"}, {"planned": False}, {"phase": "RESET"}])
def test_another_verdict_is_no_side_remark(changed: dict[str, object]) -> None:
    difference = replay(with_event(sweep(), **changed), essential=True).difference
    assert difference is not None
    assert difference.kind == "event"
    assert next(iter(changed)) in difference.where


def test_another_limit_is_another_run() -> None:
    """What a fixture is for: with a changed guard, the same bytes come to another end."""
    stretch = sweep()
    config = {**stretch.start["config"], "limits": {**stretch.start["config"]["limits"], "conductance_s": 0.0}}
    difference = replay(Stretch({**stretch.start, "config": config}, stretch.records)).difference
    assert difference is not None


def test_a_verb_that_would_be_refused_is_a_difference() -> None:
    changed = edited(
        sweep(),
        lambda entry: (
            (*entry[:3], {**entry[3], "parameters": {"to_v": -15.0}})
            if not isinstance(entry, int) and len(entry) > 3 and entry[2] == "run"
            else entry
        ),
    )
    difference = replay(changed).difference
    assert difference is not None
    assert (difference.kind, difference.recorded) == ("verb", "granted")
    assert "refused" in difference.replayed


def test_a_configuration_of_another_version_is_refused_in_words() -> None:
    stretch = Stretch({**sweep().start, "config": {"rig": {}}}, sweep().records)
    with pytest.raises(FlightError, match="configuration is not one of this version"):
        replay(stretch)


def test_a_plan_that_says_nothing_of_itself_is_refused_in_words() -> None:
    changed = edited(
        sweep(),
        lambda entry: (
            (*entry[:3], {**entry[3], "parameters": None})
            if not isinstance(entry, int) and len(entry) > 3 and entry[2] == "run"
            else entry
        ),
    )
    difference = replay(changed).difference
    assert difference is not None
    assert "did not say what it was made of" in difference.replayed


def test_a_rig_that_does_not_record_writes_no_tape(tmp_path: Path) -> None:
    from hil.rig import config_for

    on_bench(tmp_path, a_sweep, load=lambda truth: A_SITE(truth=truth), config=config_for(recorder={"enabled": False}))
    kinds = {record.kind for record in read_flight(tmp_path / "ring").records}
    assert Kind.SAMPLE in kinds
    assert not kinds & {Kind.TAPE, Kind.TAPE_START}


def test_a_replay_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    stretch = sweep()
    # Not by what lies in the temporary folders: another process may be replaying just now.
    folders = made_folders(monkeypatch)
    is_same(stretch)
    assert [folder.name.startswith("tipguard-replay-") for folder in folders] == [True]
    assert not folders[0].exists()


def test_what_is_done_at_the_last_moment_may_be_recorded_behind_it() -> None:
    def event(t_ns: int) -> FlightRecord:
        return FlightRecord(Kind.EVENT, 1, 0, 0, msgpack.packb({"kind": "alarm", "t_ns": t_ns}))

    assert first_difference([], [event(100)], 100) is None
    assert first_difference([], [event(99)], 100) is not None
    assert first_difference([event(100)], [], 100) is not None


def test_a_port_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(FlightError, match="names port 7"):
        World([(IN, 1, 7, b"")], turns=True)
