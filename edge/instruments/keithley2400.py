"""The Keithley 2400 as an :class:`edge.instruments.smu.Smu`.

Never ``MEAS?`` or ``CONF`` (they switch the output on and reset limits, manual 17-2), never more than one reading per
acquisition (while the trigger model runs, ``:OUTP OFF`` is only queued, manual 11-11).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

from edge.config import Config
from edge.errors import InstrumentError, LimitReadbackError
from edge.instruments.link import Link
from edge.instruments.smu import CheckResult, Setup, SmuIdentity
from edge.samples import Flag, Sample
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import commands, replies
from firmware_proto.keithley2400.status import OVERRANGE, ErrorCode, OutputOff, StatusWord

T = TypeVar("T")

REPLY_TIMEOUT_S: Final = 1.0
"""For queries with the output off; the slowest legal baud rate and the longest reply need a tenth of it."""
LEVEL_PROCESSING_S: Final = 0.010
"""``:SOUR:VOLT``: at most 7 ms with autorange off, 10 ms with it on (specifications, Rev. L)."""
READ_PROCESSING_S: Final = 0.004
"""A single reading at 0.01 PLC, display and autozero off: 256 readings/s on the bus (specifications, Rev. L)."""
SOURCE_DELAY_S: Final = 0.0005
"""Between level and aperture, for the cable's charging current to pass; comes on top of the processing."""
QUERY_PROCESSING_S: Final = 0.007
_READ_REPLY_BYTES: Final = 28
_CHECK_REPLY_BYTES: Final = 34
_BATCH: Final = 6
_MAX_ERRORS: Final = 10
_COMPLIANCE: Final = int(StatusWord.COMPLIANCE)
_RANGE_COMPLIANCE: Final = int(StatusWord.RANGE_COMPLIANCE)
_ANY_COMPLIANCE: Final = _COMPLIANCE | _RANGE_COMPLIANCE
_F_NONE: Final = 0
_F_OVERFLOW: Final = int(Flag.OVERFLOW)
_F_NOT_MEASURED: Final = int(Flag.NOT_MEASURED)
_F_UNPARSABLE: Final = int(Flag.UNPARSABLE)
_F_COMPLIANCE: Final = int(Flag.COMPLIANCE | Flag.BIAS_NOT_HELD)
_F_RANGE_COMPLIANCE: Final = int(Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD)


class Keithley2400:
    """Driver. Bias is always tip against Li/Li+; ``wiring.hi = "sample"`` flips volts and amperes together."""

    read_message = commands.READ
    output_on_message = commands.OUTPUT_ON
    check_message = commands.CHECK
    release_message = commands.RELEASE_PANEL

    def __init__(self, link: Link, config: Config) -> None:
        """Bind to a link; sends nothing."""
        self.link = link
        self._smu = config.smu
        self._output_off = OutputOff.HIGH_IMPEDANCE if config.rig.kind == "cell" else OutputOff.NORMAL
        self._sign = 1.0 if config.wiring.hi == "tip" else -1.0
        self._setup: Setup | None = None
        self._check_protection_a = math.nan
        self._check_range_a = math.nan
        self._byte_s = 10 / link.transport.baud if link.transport.baud else 0.0
        self._aperture_s = 0.0
        self._to_middle_ns = 0
        self._t_unc_ns = 0

    async def identify(self) -> SmuIdentity:
        """See Smu."""
        line = await self.link.query(commands.IDENTIFY, REPLY_TIMEOUT_S)
        identity = self._parse(replies.parse_identity, line, "*IDN?")
        return SmuIdentity(identity.model, identity.serial_number, identity.firmware)

    async def output_on(self) -> bool:
        """See Smu."""
        line = await self.link.query(commands.OUTPUT_QUERY, REPLY_TIMEOUT_S)
        return self._parse(replies.parse_bool, line, ":OUTP?")

    def _parse(self, parser: Callable[[bytes], T], line: bytes, asked: str) -> T:
        try:
            return parser(line)
        except RemoteProtocolError as error:
            raise InstrumentError(f"{self.link.transport.name}: the reply to {asked} is {error}") from error

    async def configure(self, setup: Setup) -> None:
        """See Smu."""
        self._setup = None
        messages = commands.configure(
            source_range_v=setup.source_range_v,
            sense_range_a=setup.range_a,
            protection_a=setup.protection_a,
            nplc=setup.nplc,
            autozero=setup.autozero,
            output_off=self._output_off,
            source_delay_s=SOURCE_DELAY_S,
            rear_terminals=self._smu.terminals == "rear",
        )
        # In batches, each ended by a question: the size of the input buffer is not documented, and a refused command
        # is found near where it was sent.
        for start in range(0, len(messages), _BATCH):
            for message in messages[start : start + _BATCH]:
                self.link.write(message)
            await self._refuse_errors(messages[start : start + _BATCH])
        await self._read_back(setup)
        self._setup = setup
        self._time_map(setup)

    async def _refuse_errors(self, sent: tuple[bytes, ...]) -> None:
        refused: list[str] = []
        for _ in range(_MAX_ERRORS + 1):
            line = await self.link.query(commands.ERROR_QUERY, REPLY_TIMEOUT_S)
            entry = self._parse(replies.parse_error, line, ":SYST:ERR?")
            if entry.code == ErrorCode.NO_ERROR:
                break
            # Positive codes up to 199 report events, not refusals.
            if not 0 < entry.code < 200:
                refused.append(f'{entry.code},"{entry.text}"')
        if refused:
            among = b" ".join(message.strip() for message in sent).decode("ascii")
            raise InstrumentError(
                f"{self.link.transport.name}: the instrument refused part of the set-up ({'; '.join(refused)}) among: "
                f"{among}. Nothing was energised; compare its model and firmware with `tipguard check`"
            )

    async def _read_back(self, setup: Setup) -> None:
        volts = setup.source_range_v * OVERRANGE
        wanted: tuple[tuple[str, Callable[[bytes], bool], str], ...] = (
            ("SENS:CURR:PROT", self._near(setup.protection_a, 1e-3), f"{setup.protection_a:g} A"),
            ("SENS:CURR:RANG", self._near(setup.range_a * OVERRANGE, 0.06), f"{setup.range_a:g} A"),
            ("SENS:CURR:RANG:AUTO", _equals(b"0"), "0"),
            ("OUTP:SMOD", _equals(self._output_off.value.encode()), self._output_off.value),
            ("SOUR:FUNC", _equals(b"VOLT"), "VOLT"),
            ("SOUR:VOLT", self._near(0.0, 0.0), "0 V"),
            ("SOUR:VOLT:RANG", self._near(volts, 0.06), f"{setup.source_range_v:g} V"),
            ("SENS:CURR:NPLC", self._near(setup.nplc, 1e-3), f"{setup.nplc:g}"),
            ("FORM:ELEM", _equals(b"CURR,STAT"), "CURR,STAT"),
            ("ARM:COUN", self._near(1.0, 0.0), "1"),
            ("TRIG:COUN", self._near(1.0, 0.0), "1"),
            ("OUTP", _equals(b"0"), "0 (off)"),
        )
        for query, (name, holds, expected) in zip(commands.READBACKS, wanted, strict=True):
            line = await self.link.query(query, REPLY_TIMEOUT_S)
            if not holds(line):
                got = line[:60].decode("ascii", "replace")
                raise LimitReadbackError(
                    f"{self.link.transport.name}: {name} reads back {got!r}, expected {expected}; nothing was "
                    "energised. Look at the instrument: was it changed at the panel, or is another model behind the "
                    "port?"
                )
            if name == "SENS:CURR:PROT":
                self._check_protection_a = float(line)
            if name == "SENS:CURR:RANG":
                self._check_range_a = float(line)

    def _near(self, value: float, relative: float) -> Callable[[bytes], bool]:
        def holds(line: bytes) -> bool:
            try:
                got = replies.parse_float(line)
            except RemoteProtocolError:
                return False
            return abs(got - value) <= abs(value) * relative + 1e-12

        return holds

    def _time_map(self, setup: Setup) -> None:
        """Set the way back from a reading's last byte to the middle of its aperture.

        Where in the unit's ~4 ms of processing the aperture lies is not documented, so the uncertainty covers all of
        it; a commissioned rig profile will narrow this.
        """
        self._aperture_s = setup.nplc / self._smu.line_frequency_hz * (3 if setup.autozero else 1)
        inside_s = READ_PROCESSING_S + SOURCE_DELAY_S + self._aperture_s
        self._to_middle_ns = int((_READ_REPLY_BYTES * self._byte_s + inside_s / 2) * 1e9)
        self._t_unc_ns = int((inside_s / 2 + self._byte_s) * 1e9)

    def level_message(self, bias_v: float) -> bytes:
        """See Smu."""
        return commands.level_and_read(bias_v * self._sign)

    def programmed_v(self, bias_v: float) -> float:
        """See Smu: steps of 0.1 mV, rounded towards zero."""
        return float(commands.level(bias_v)) + 0.0

    def sample(self, line: bytes, t_rx_ns: int, bias_v: float, phase: int) -> Sample:
        """See Smu."""
        try:
            current_a, status, overflow, not_measured = replies.parse_reading(line)
        except RemoteProtocolError:
            return Sample(t_rx_ns - self._to_middle_ns, self._t_unc_ns, t_rx_ns, bias_v, math.nan, _F_UNPARSABLE, phase)
        flags = _F_NONE
        if overflow:
            flags = _F_OVERFLOW
        elif not_measured:
            flags = _F_NOT_MEASURED
        if status & _ANY_COMPLIANCE:
            flags |= _F_COMPLIANCE if status & _COMPLIANCE else _F_RANGE_COMPLIANCE
        return Sample(
            t_rx_ns - self._to_middle_ns,
            self._t_unc_ns,
            t_rx_ns,
            bias_v,
            current_a * self._sign,
            flags,
            phase,
        )

    def judge_check(self, line: bytes) -> CheckResult:
        """See Smu."""
        try:
            reply = replies.parse_check(line)
        except RemoteProtocolError:
            return CheckResult.UNPARSABLE
        same = (
            reply.protection_a == self._check_protection_a
            and reply.range_a == self._check_range_a
            and reply.output_off == self._output_off.value
        )
        return CheckResult.UNCHANGED if same else CheckResult.LIMIT_CHANGED

    def exchange_s(self, message: bytes) -> float:
        """See Smu."""
        if message == self.check_message:
            return (len(message) + _CHECK_REPLY_BYTES) * self._byte_s + QUERY_PROCESSING_S
        if message == self.output_on_message:
            # After HIMP the relay settles ~15 ms on the next ON (manual 13-10).
            return (len(message) + 2) * self._byte_s + QUERY_PROCESSING_S + 0.020
        level_s = 0.0 if message == self.read_message else LEVEL_PROCESSING_S
        reading_s = READ_PROCESSING_S + SOURCE_DELAY_S + self._aperture_s
        return (len(message) + _READ_REPLY_BYTES) * self._byte_s + level_s + reading_s


def _equals(expected: bytes) -> Callable[[bytes], bool]:
    return lambda line: line.strip() == expected
