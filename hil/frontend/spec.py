"""What a command line says of an emulated front end: checked, and plugged in between the source and the tip."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hil.errors import BenchOptionError
from hil.faults.served import FrontendPlug
from hil.frontend.device import ServedFrontend
from hil.frontend.feed import FULL_SCALE, Feed
from hil.frontend.firmware import CODE_PA, MAX_LATE_MS, QEMU_SAMPLE_HZ, Firmware, firmware
from hil.options import check_baud
from hil.protocols import Load
from hil.serving import Plugged
from hil.twin.terminals import SourcedLoad

BAUDS: Final = (0, 115_200, 230_400, 460_800, 921_600, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000)
"""A UART's usual rates in bit/s, and 0 for USB: bytes take no time, and what has no room waits in the device."""
SAMPLE_HZ: Final = 100_000
LEAST_HZ: Final = 1_000
MOST_LATE_MS: Final = 4_000
KEY: Final = "frontend"
"""Of its line, and in the ready line."""


class FrontendWords(Protocol):
    """What the verbs of a 2400 say of a front end in series with its sample."""

    @property
    def frontend(self) -> Path | None:
        """Where the link to its pseudo-terminal appears; None: there is none."""

    @property
    def frontend_baud(self) -> int:
        """Line rate in bit/s."""

    @property
    def frontend_hz(self) -> int | None:
        """Samples per second; None: what the port does."""

    @property
    def frontend_noise_a(self) -> float:
        """Peak of the converter's noise in A."""

    @property
    def frontend_late_ms(self) -> int:
        """How far a native firmware may fall behind before it trips, in ms."""

    @property
    def frontend_qemu(self) -> bool:
        """On a Cortex-M3 under QEMU."""


@dataclass(frozen=True, slots=True)
class FrontendSpec:
    """A front end that can be built. ``sample_hz`` in Hz; ``noise_a``, peak, in A; ``late_ms`` as NativeFirmware."""

    link: Path
    baud: int = 0
    sample_hz: int = SAMPLE_HZ
    noise_a: float = 0.0
    late_ms: int = MAX_LATE_MS
    qemu: bool = False

    def open(self, load: Load, *, seed: int, stack: contextlib.ExitStack) -> OpenFrontend:
        """Start it in series with ``load`` for as long as ``stack`` lives; raises BenchOptionError."""
        if not isinstance(load, SourcedLoad):
            raise BenchOptionError("--frontend: this load has no path to be opened")
        chosen = firmware(qemu=self.qemu, sample_hz=self.sample_hz, seed=seed, late_ms=self.late_ms)
        running = stack.enter_context(chosen)
        running.memory.noise(round(self.noise_a * 1e12 / CODE_PA), seed)
        feed = Feed(load, running.memory, code_pa=CODE_PA, same_clock=running.same_clock)
        return OpenFrontend(self, running, ServedFrontend(running, feed))


@dataclass(frozen=True, slots=True)
class OpenFrontend:
    """A front end that runs."""

    spec: FrontendSpec
    firmware: Firmware
    device: ServedFrontend

    @property
    def plugged(self) -> Plugged:
        """Its line."""
        spec = self.spec
        return Plugged(self.device, spec.link, spec.baud, chunk="frame", lossless=spec.baud == 0)

    @property
    def plug(self) -> FrontendPlug:
        """What its faults need."""
        return FrontendPlug(KEY, self.device)

    def ready(self) -> dict[str, object]:
        """Return what the ready line tells of it."""
        return {
            "firmware_pid": self.firmware.pid,
            "board": self.firmware.board,
            "sample_hz": self.spec.sample_hz,
            "code_pa": CODE_PA,
        }


def checked(
    link: Path, *, baud: int, sample_hz: int | None, noise_a: float, late_ms: int, qemu: bool, prefix: str = "--"
) -> FrontendSpec:
    """Return the front end that is asked for; raises BenchOptionError. The options' names begin with ``prefix``."""
    check_baud(f"{prefix}baud", baud, BAUDS, "a front end knows")
    if sample_hz is None:
        sample_hz = QEMU_SAMPLE_HZ if qemu else SAMPLE_HZ
    if qemu and sample_hz != QEMU_SAMPLE_HZ:
        raise BenchOptionError(f"{prefix}hz {sample_hz}: under QEMU the board samples at {QEMU_SAMPLE_HZ} Hz")
    if not LEAST_HZ <= sample_hz <= SAMPLE_HZ:
        raise BenchOptionError(f"{prefix}hz {sample_hz}: want samples per second from {LEAST_HZ} to {SAMPLE_HZ}")
    if not 1 <= late_ms <= MOST_LATE_MS:
        raise BenchOptionError(f"{prefix}late-ms {late_ms}: want a time in ms from 1 to {MOST_LATE_MS}")
    most_a = FULL_SCALE * CODE_PA * 1e-12
    if not 0 <= noise_a <= most_a:
        raise BenchOptionError(f"{prefix}noise-a {noise_a}: want a current in A from 0 to {most_a:g}")
    return FrontendSpec(link, baud, sample_hz, noise_a, late_ms, qemu)


def frontend_spec(options: FrontendWords) -> FrontendSpec | None:
    """Return the front end that a 2400's verb is to have, None for none; raises BenchOptionError."""
    if options.frontend is None:
        said = (options.frontend_baud, options.frontend_hz, options.frontend_noise_a, options.frontend_qemu)
        if any(said) or options.frontend_late_ms != MAX_LATE_MS:
            raise BenchOptionError("--frontend-baud and the like: there is no front end without --frontend")
        return None
    return checked(
        options.frontend,
        baud=options.frontend_baud,
        sample_hz=options.frontend_hz,
        noise_a=options.frontend_noise_a,
        late_ms=options.frontend_late_ms,
        qemu=options.frontend_qemu,
        prefix="--frontend-",
    )
