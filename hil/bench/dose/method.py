"""What the bench says of itself: how it was measured, what differs between the arms, what it does not show."""

from __future__ import annotations

from typing import Final

from hil.bench.dose.figures import Raw
from hil.bench.dose.served import PRIORITY, SERIES_OHM
from hil.bench.dose.trials import LOADED_TIMES, THRESHOLD_A, USUAL
from hil.bench.dose.virtual import HARD_A, LEVEL_N, NOISE_CODES


def method(raw: Raw, n: int, no_fifo: str | None) -> str:
    """Return it as one text; ``no_fifo``: why the instruments ran at ordinary priority, None where they did not."""
    instruments = (
        f"ran at ordinary priority: {no_fifo}"
        if no_fifo
        else f"ran at SCHED_FIFO {PRIORITY}, so that an instrument never waits for the host"
    )
    parts = [*_TEXT.split(), f"The instruments' process {instruments}."]
    return " ".join(parts).format(
        n=n,
        times=LOADED_TIMES,
        series=SERIES_OHM,
        changed=changed(raw),
        hard=HARD_A * 1e6,
        level=THRESHOLD_A * 1e6,
        level_n=LEVEL_N,
        noise=NOISE_CODES,
    )


def changed(raw: Raw) -> str:
    """Return what the usual script's own commands had made of its instrument by the time of the onset."""
    for row in raw:
        if row["arm"] == USUAL and (found := row.get("at_onset")):
            return (
                f"NPLC {found['nplc']:g}, autozero {'on' if found['autozero'] else 'off'}, current range "
                f"{found['range_a']:g} A, autorange {'on' if found['autorange'] else 'off'}, limit "
                f"{found['protection_a']:g} A, elements {','.join(found['elements'])}"
            )
    return "not seen, no site was set"


_TEXT: Final = """\
{n} grain-boundary sites of the full twin, {series:g} ohm in series at the tip, each under every arm with the same
seed and the same levels: 0 to -0.3 V and back, step 5.8 to 15 mV by site, one reading a level, 57600 baud paced on
pseudo-terminals in real time.
Arms are interleaved in blocks of four sites, in turning order; clamp and usual run on four lines each at once, as
their times are tenths of a second.
All are started with NPLC 0.01, 100 uA range, 100 uA limit, VOLT,CURR,STAT.
clamp: the competent script without its comparison, to the end of the sweep.
usual: PyMeasure's Keithley2400 through pyvisa-py (hil/bench/dose/usual_script.py): smu.current sends
:MEASURE:CURRENT?, so that at the onset its instrument stood at {changed}; shutdown() ramps to 0 V in 30 steps of 20
ms and more before it switches off.
competent: hil/bench/dose/competent_script.py. Scripts stay between sweeps and are scheduled as any program.
serial and gpio: tipguard controller as shipped (FIFO where permitted) with its uplink and a broker, plan iv over
control.sock.
What differs between competent and serial: the controller asks for limit, range or off mode after every 5th reading
(a gap of some 6 ms, in which an onset waits), and cuts with :SOUR:VOLT 0, 13 bytes, where the script ends with
:OUTP OFF, 10 bytes. As one period is longer, the same site may give way on the other side of a reading: single ratios
then differ by a whole period, either way.
gpio: a set in a search is a planned cut, serial by design, which leaves the line alone; this arm shows that the
heartbeat costs nothing, not what it is for.
frontend and frontend_10k: the same sites, seeds, levels and plan in virtual time, the controller as shipped with the
real firmware core (100 and 10 kS/s) in series with the tip, each sample at its own time. Virtual, because the native
port wakes every millisecond and shares two cores with all instruments: in real time it would measure this host's
scheduler. It trips at {hard:g} uA, or at the scripts' {level:g} uA in {level_n} samples running; noise of {noise}
codes; the path opens one sample and 0.3 us after the decision, as on the slowest board that the envelope allows.
Where the tunnel current of a closing gap was enough for a trip, no filament formed: opened_before_bridging; such a
site is in no ratio.
serial is in virtual time too, for the ratio, and charge_p50_over_p50_to_idle says how far the two times agree.
Charge, energy, peak and time at the limit (above 99 uA) are the twin's truth record, from the onset to the end of the
trial.
reset_ok: one sweep as the memristor plan's (0 to +1 V, 2 V/s, limit 1 mA) on the same site in the twin's own time
after the trial, the current at 0.1 V down by 1e3; the same judge for all.
reaction: from the system call that hands the reading's last byte to the kernel at the pseudo-terminal's master to the
return of the one that reads the cut's first; it includes the wake-up of that process.
p50 ratios are medians of per-site ratios; p50_over_p50, mean and p99 ratios compare the two distributions; {n} sites
have few values beyond p99, see intervals_95 (sites resampled).
loaded: {times} times as many sites, with a busy loop per core and a writer that waits for the disk; uplink and broker
run in both conditions.
Not shown: a real 2400 and its adapter's latency, sites other than grain boundaries, a first level that sets.
"""
