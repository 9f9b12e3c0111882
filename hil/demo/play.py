"""The demo's rigs from start to end: a sweep beside a plain script, then a map and a memristor at the same time.

Whatever happens, nothing is left running; what is left is what was received, and the twin's own records.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from edge.errors import TipguardError
from hil.broker import Broker
from hil.demo.argument import PlainScript, ScriptRun
from hil.demo.findings import IvFindings, find_iv
from hil.demo.map_findings import MapFindings, find_map
from hil.demo.memristor_findings import MemristorFindings, find_memristor
from hil.demo.plan import STAY_CYCLES, Part, Size, argument_part, map_part, memristor_part
from hil.demo.rigs import ShownRig
from hil.demo.story import Story
from hil.demo.truth import RunTruth, SetTruth, read_run, read_sets
from hil.errors import BenchFaultError, HilError
from hil.processes import Ending, Interruption

LOOK_S: Final = 0.2


class DemoFailedError(HilError):
    """The demo could not be shown. The message says why, and, if so, that the output was not verified off."""


class DemoInterruptedError(HilError):
    """A signal ended the demo; everything has ended. ``ending`` says how the rigs were left."""

    def __init__(self, ending: Ending) -> None:
        """Say it in one line."""
        super().__init__(f"interrupted; {ending.report}")
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Seen:
    """What is left when the processes have ended.

    ``argument``, ``map``, ``memristor``: computed from what was received. ``script``, ``argument_truth``, ``truths``:
    from the twin's own records. ``frames``, ``samples``: what arrived, of all three rigs together. ``contact``: what
    the emulator said of tip and sample.
    """

    argument: IvFindings
    map: MapFindings
    memristor: MemristorFindings
    script: ScriptRun
    argument_truth: SetTruth
    truths: dict[str, RunTruth]
    frames: dict[str, int]
    samples: dict[str, int]
    contact: dict[str, Any]


class Demo:
    """The demo's processes. A context manager that ends all of them, outputs first.

    Everything raises DemoFailedError saying why, or DemoInterruptedError after a signal.
    """

    def __init__(self, seed: int, size: Size, broker: Broker, interruption: Interruption, story: Story) -> None:
        """Prepare; starts nothing."""
        self._seed = seed
        self._size = size
        self._broker = broker
        self._interruption = interruption
        self._story = story
        self._stack = contextlib.ExitStack()
        self._rigs: list[ShownRig] = []

    def __enter__(self) -> Self:
        """Make room and start the broker."""
        with self._told():
            self._folder = self._stack.enter_context(_folder())
            self._stack.callback(self._broker.close)
            self._broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs: outputs, then the rest, then the broker."""
        self._close()
        self._stack.close()

    def play(self) -> Seen:
        """Show everything once and end the rigs; the broker goes on."""
        with self._told():
            return self._play()

    def stay(self) -> None:
        """Start map and memristor once more and go on until a signal comes; returns then, everything ended."""
        with self._told():
            parts = [map_part(self._seed, self._size), memristor_part(self._seed, STAY_CYCLES)]
            rigs = [self._rig("again", part) for part in parts]
            with self._story.working("starting the two rigs again"):
                for rig in rigs:
                    rig.listen()
                    rig.start()
            self._story.staying(self._broker.port, [rig.part.spec.rig for rig in rigs])
            rigs[0].run()
            while not self._interruption.came:
                memristor = rigs[1]
                if not memristor.uid or memristor.ended:
                    memristor.run()
                for rig in rigs:
                    # A signal is how this ends.
                    with contextlib.suppress(KeyboardInterrupt):
                        rig.rig.check()
                memristor.subscriber.wait(lambda: self._interruption.came, LOOK_S)
            self._close()

    # ------------------------------------------------------------------------------------------------- one showing

    def _play(self) -> Seen:
        story = self._story
        argument, mapping, memristor = (
            self._rig("once", part)
            for part in (
                argument_part(self._seed),
                map_part(self._seed, self._size),
                memristor_part(self._seed, self._size.cycles),
            )
        )
        script = PlainScript(self._folder, argument.part, argument.rig.environment, self._interruption)
        self._stack.callback(script.stop)
        with story.working("starting a plain script and tipguard on the same site"):
            script.start()
            argument.listen()
            argument.start()
            argument.run()
        with story.working("the argument: both sweep the same site; meanwhile two more rigs start"):
            for rig in (mapping, memristor):
                rig.listen()
                rig.start()
            self._until(lambda: argument.ended and script.ended, (argument,))
            script.stop()
            argument.note_recorded()
            argument.rig.close()
        story.started(self._broker.kind, mapping.rig.ready)
        for rig in (mapping, memristor):
            rig.run()
        with story.running((mapping, memristor)) as tell:
            self._until(lambda: mapping.ended and memristor.ended, (mapping, memristor), tell)
        with story.working("ending the rigs: outputs off and verified, then what is still on its way"):
            return self._collect(argument, mapping, memristor, script)

    def _until(self, done: Any, rigs: tuple[ShownRig, ...], tell: Any = lambda: None) -> None:  # noqa: ANN401 - callbacks
        while not done():
            for rig in rigs:
                rig.check()
            tell()
            rigs[0].subscriber.wait(lambda: False, LOOK_S)
        tell()

    def _collect(self, argument: ShownRig, mapping: ShownRig, memristor: ShownRig, script: PlainScript) -> Seen:
        rigs = (argument, mapping, memristor)
        for rig in (mapping, memristor):
            rig.note_recorded()
        # Controllers and uplinks say their last words before anything is counted.
        self._close()
        balances = [rig.balance() for rig in rigs]
        counts = [rig.subscriber.counts() for rig in rigs]
        try:
            found = find_iv(argument.subscriber, argument.uid)
            found_map = find_map(mapping.subscriber, mapping.uid)
            found_memristor = find_memristor(memristor.subscriber, memristor.uid)
        except KeyError as error:
            raise BenchFaultError(f"a run's {error} document never arrived over MQTT") from error
        sets = read_sets(argument.rig.truth_path)
        if not sets:
            raise BenchFaultError("the site did not give way in the sweep beside the script; take another --seed")
        return Seen(
            argument=found,
            map=found_map,
            memristor=found_memristor,
            script=script.result(),
            argument_truth=sets[0],
            truths={rig.part.title: read_run(rig.rig.truth_path) for rig in (mapping, memristor)},
            frames=_sum(counts),
            samples=_sum(balances),
            contact=mapping.rig.ready,
        )

    # -------------------------------------------------------------------------------------------------- beginnings

    def _rig(self, where: str, part: Part) -> ShownRig:
        rig = ShownRig(self._folder / where, part, self._broker, self._interruption)
        self._rigs.append(rig)
        self._stack.callback(rig.subscriber.stop)
        return rig

    def _close(self) -> Ending:
        """End every rig, whatever one of them says; return the worst ending."""
        endings = [rig.rig.close() for rig in self._rigs]
        bad = [ending for ending in endings if ending.verified_off is False]
        ran = [ending for ending in endings if ending.verified_off]
        return (bad or ran or endings or [Ending(None, "nothing had been started")])[0]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever goes wrong into the one line that a person reads."""
        try:
            yield
        except KeyboardInterrupt as error:
            raise DemoInterruptedError(self._close()) from error
        except (HilError, TipguardError) as error:
            raise DemoFailedError(self._why(error)) from error

    def _why(self, error: Exception) -> str:
        """Return the cause in words: a process that ended explains more than whoever missed it."""
        why = str(error)
        for rig in self._rigs:
            try:
                rig.rig.check()
            except KeyboardInterrupt:
                pass
            except BenchFaultError as death:
                why = str(death)
                break
        ending = self._close()
        return why if ending.verified_off is not False else f"{why}\noutput NOT verified off: {ending.report}"


def _sum(parts: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder of our own, on tmpfs if there is one, as a real rig's run directory; removed at the end."""
    shared = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a private folder with a new name
    where = shared if os.access(shared, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="tipguard-demo-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
