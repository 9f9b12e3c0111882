"""The rigs on which the table of failures is played: one at a time, kept from row to row while it stays whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import pytest

from hil.broker import Broker
from hil.processes import RigSpec, StageSpec
from hil.processes.forms import FormRig
from tests.realtime.failures import FAULTS, FROM_AFAR, STAGE_FAULTS

SMALL_RING: Final = 65_536
STAGE: Final = StageSpec(
    start_um=(50.0, 50.0, 50.005),
    settings={"lift_m": 50e-9, "settle_s": 0.05, "lift_unverified": True},
)


def remote(text: str) -> str:
    """A rig that is stopped from afar has to know by whom."""
    return f'{text}\n[remote]\nusers = {{ {FROM_AFAR} = ["stop"] }}\n'


def small_ring(text: str) -> str:
    return remote(text).replace("\n[runtime]\n", f"\n[runtime]\nring_bytes = {SMALL_RING}\n")


OHMIC: Final = RigSpec(load="ohmic:1e6", config_text=remote)
SPECS: Final = {
    "ohmic": OHMIC,
    "oe": replace(OHMIC, oe=True),
    "cable": OHMIC,
    "oe-cable": replace(OHMIC, oe=True),
    "broker": OHMIC,
    "ring": replace(OHMIC, config_text=small_ring),
    "stage": RigSpec(seed=3, series_ohm=10_000.0, stage=STAGE, config_text=remote),
}
WITH_BROKER: Final = ("broker", "ring")
WITH_CABLE: Final = ("cable", "oe-cable")


class Benches:
    """Gives out one rig after the other. A rig on which a row failed is not used again."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._stack = contextlib.ExitStack()
        self._kept: tuple[type[FormRig], str] | None = None
        self._rig: FormRig | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def _drop(self) -> None:
        self._kept = self._rig = None
        self._stack.close()

    @contextlib.contextmanager
    def rig(self, form: type[FormRig], bench: str) -> Iterator[FormRig]:
        # A stage keeps where the last row left the tip.
        if self._kept != (form, bench) or bench == "stage":
            self._drop()
            self._rig = self._start(form, bench)
            self._kept = form, bench
        assert self._rig is not None
        try:
            yield self._rig
        except BaseException:
            print(f"\n{self._rig.controller.output()}")
            self._drop()
            raise

    def _start(self, form: type[FormRig], bench: str) -> FormRig:
        directory = self._folders.mktemp("rig")
        faults = directory / "faults.toml"
        faults.write_text(STAGE_FAULTS if bench == "stage" else FAULTS, encoding="utf-8")
        words = ("--faults", str(faults), "--control", str(directory / "control"))
        broker = self._stack.enter_context(Broker()) if bench in WITH_BROKER else None
        rig = form(directory, replace(SPECS[bench], smu_words=words), broker=broker)
        self._stack.callback(rig.close)
        if bench in WITH_CABLE:
            rig.start_cabled()
        else:
            rig.start()
        return rig
