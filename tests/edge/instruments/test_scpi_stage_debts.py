"""What is owed on the line of a described stage: acknowledgements of stops, and what they tell."""

from __future__ import annotations

import asyncio

import pytest

from edge.errors import ReplyTimeoutError
from edge.instruments.stage import StageRefusedError, StageStoppedError
from hil.described_bench import DescribedBench, on_described_bench
from tests.edge.instruments.test_scpi_stage import MS, quick, scpi
from tests.edge.instruments.test_scpi_stage_ends import acknowledged


def test_a_move_that_was_still_on_its_way_shows_in_the_second_look_after_a_stop() -> None:
    rules = quick(lambda data: None)

    async def main(bench: DescribedBench) -> None:
        late = asyncio.ensure_future(bench.at(15 * MS, lambda: bench.link.write(rules.line.encode("MOVE:ABS X,90"))))
        bench.stage.stop()
        await bench.stage.stopped()
        await late
        await bench.pause(5 * MS)
        assert not bench.moving()

    on_described_bench(rules, main)


def test_acknowledgements_of_stops_that_got_lost_are_not_waited_for_after_another_answer() -> None:
    async def main(bench: DescribedBench) -> None:
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"MOVE:STOP") else data)
        bench.stage.stop()
        bench.line.tamper(None)
        # "50.0000" is no acknowledgement: with it the debt is over, on a line that nobody doubts.
        assert (await bench.stage.position())["x"] == pytest.approx(50e-6, abs=5e-9)
        await bench.stage.move_to({"x": 60e-6})

    on_described_bench(scpi(acknowledged), main)


def test_acknowledgements_of_several_stops_that_got_lost_cost_one_time_out() -> None:
    async def main(bench: DescribedBench) -> None:
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"MOVE:STOP") else data)
        bench.stage.stop()
        bench.stage.stop()
        bench.line.tamper(None)
        with pytest.raises(ReplyTimeoutError):
            await bench.stage.on_target()
        await bench.stage.on_target()

    on_described_bench(scpi(acknowledged), main)


@pytest.mark.parametrize(("code", "kind"), [(-310, StageStoppedError), (-222, StageRefusedError)])
def test_what_an_acknowledgement_tells_is_a_stop_or_a_refusal_and_what_is_left_is_kept(
    code: int, kind: type[Exception]
) -> None:
    rules = quick(lambda data: data["error"].update(stopped=[-310]))

    async def main(bench: DescribedBench) -> None:
        async def tell(_message: str) -> int:
            return code

        async def left() -> int:
            return 77

        bench.link.tell, bench.stage._read_error = tell, left  # type: ignore[method-assign, assignment]
        with pytest.raises(kind) as caught:
            await bench.stage._set("MOVE:ABS X,1", "a move")
        assert type(caught.value) is kind
        assert bench.stage._error == 77

    on_described_bench(rules, main)
