"""One rig from start to end: processes up, one sweep, processes down; what is left is what was received."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.errors import TipguardError
from hil.broker import Broker
from hil.demo.findings import IvFindings, find_iv
from hil.demo.story import Story
from hil.demo.subscriber import Subscriber
from hil.demo.truth import SetTruth, read_sets
from hil.errors import BenchFaultError, HilError
from hil.processes import BenchRig, Ending, Interruption, RigSpec

ONLINE_S: Final = 15.0
GRACE_S: Final = 15.0
"""On top of what the plan takes, for a busy host."""
ARRIVAL_S: Final = 5.0


class DemoFailedError(HilError):
    """The demo could not be shown. The message says why, and, if so, that the output was not verified off."""


class DemoInterruptedError(HilError):
    """A signal ended the demo; everything has ended. ``ending`` says how the rig was left."""

    def __init__(self, ending: Ending) -> None:
        """Say it in one line."""
        super().__init__(f"interrupted; {ending.report}")
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Seen:
    """What is left when the processes have ended.

    ``samples``: ``recorded`` by the controller's own count, ``received``, ``missing``. ``truth``: None without a set.
    """

    findings: IvFindings
    truth: SetTruth | None
    frames: dict[str, int]
    samples: dict[str, int]


def play(
    spec: RigSpec, parameters: Mapping[str, Any], broker: Broker, interruption: Interruption, story: Story
) -> Seen:
    """Start everything, run the plan ``iv`` with ``parameters``, end everything; whatever happens, nothing is left.

    Raises DemoFailedError or DemoInterruptedError.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        subscriber = Subscriber(broker.host, broker.port, spec.rig)
        rig = BenchRig(folder, spec, broker=broker, interruption=interruption)
        stack.callback(broker.close)
        stack.callback(subscriber.stop)
        stack.callback(rig.close)
        try:
            with story.working("starting"):
                _start(rig, subscriber, broker)
            story.say(f"running: {broker.kind}, {', '.join(rig.pids)}, and a plain subscriber", "dim")
            return _run(rig, subscriber, parameters, story)
        except KeyboardInterrupt as error:
            raise DemoInterruptedError(rig.close()) from error
        except (HilError, TipguardError) as error:
            raise DemoFailedError(_why(rig, error)) from error


def _why(rig: BenchRig, error: Exception) -> str:
    """Return the cause in words: a process that ended explains more than whoever missed it."""
    why = str(error)
    try:
        rig.check()
    except KeyboardInterrupt:
        pass
    except BenchFaultError as death:
        why = str(death)
    ending = rig.close()
    return why if ending.verified_off is not False else f"{why}\noutput NOT verified off: {ending.report}"


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


def _start(rig: BenchRig, subscriber: Subscriber, broker: Broker) -> None:
    """Bring everything up, the subscriber before anything can be published."""
    broker.start()
    try:
        subscriber.start()
    except OSError as error:
        raise BenchFaultError(f"{broker.kind} started but does not serve: {error}") from error
    rig.start()
    deadline = time.monotonic() + ONLINE_S
    while not subscriber.wait(lambda: subscriber.status.get("online") is True, 0.05):
        rig.check()
        if time.monotonic() > deadline:
            raise BenchFaultError(f"the uplink did not reach the broker within {ONLINE_S:g} s")


def _run(rig: BenchRig, subscriber: Subscriber, parameters: Mapping[str, Any], story: Story) -> Seen:
    uid = rig.start_run("iv", **parameters)
    with story.sweeping(float(parameters["to_v"])) as tell:
        for doing in _until_ended(rig, subscriber, uid):
            tell(subscriber.live, doing)
    rig.check()
    status = rig.status()
    if status is None:
        raise BenchFaultError("the controller does not answer after the run")
    recorded = int(status["samples"])
    # Controller and uplink say their last words before anything is counted.
    rig.close()
    subscriber.wait(
        lambda: len(subscriber.samples()["t_ns"]) >= recorded and subscriber.counts()["missing"] == 0, ARRIVAL_S
    )
    try:
        findings = find_iv(subscriber, uid)
    except KeyError as error:
        raise BenchFaultError(f"the run's {error} document never arrived over MQTT") from error
    sets = read_sets(rig.truth_path)
    received = len(subscriber.samples()["t_ns"])
    return Seen(
        findings,
        sets[0] if sets else None,
        subscriber.counts(),
        {"recorded": recorded, "received": received, "missing": recorded - received},
    )


def _until_ended(rig: BenchRig, subscriber: Subscriber, uid: str) -> Iterator[str]:
    """Yield, ten times a second, what the run is doing, until its stop document has arrived."""

    def documents() -> dict[str, dict[str, Any]]:
        return {doc["kind"]: doc for doc in subscriber.documents("run") if doc.get("uid") == uid}

    longest_s = 0.0
    began = time.monotonic()
    while not subscriber.wait(lambda: "stop" in documents(), 0.1):
        rig.check()
        events = [doc.get("kind") for doc in subscriber.documents("event")]
        if "restart" in events:
            raise BenchFaultError(f"the worker ended during the run, and the keeper cut:\n{rig.controller.tail()}")
        if not subscriber.connected:
            raise BenchFaultError("the broker closed the connection to the subscriber")
        if "start" in documents():
            longest_s = float(documents()["start"]["parameters"]["duration_s"])
        if time.monotonic() - began > longest_s + GRACE_S:
            raise BenchFaultError(f"the run did not end within {longest_s + GRACE_S:.0f} s; is this host very busy?")
        yield "cut; reading what formed" if "cut" in events else "searching"
