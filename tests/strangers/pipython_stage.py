"""PI's own PIPython on a stage, as its samples use it: a program of its own, which knows nothing of tipguard.

    python pipython_stage.py LINK piezo|motor|rig

The connection is PIPython's pyserial gateway, so no library of PI's is needed. What was seen goes to stdout as one
JSON object; whoever started this judges it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from pipython import GCSDevice, GCSError, pitools
from pipython.pidevice.interfaces.piserial import PISerial

BAUD = 115200


def error_of(action: Callable[[], object]) -> int:
    """Return the number of the GCS error that ``action`` raises, 0 for none."""
    try:
        action()
    except GCSError as error:
        return int(error.val)
    return 0


def whoever(device: GCSDevice) -> dict[str, Any]:
    """Ask what a user asks first."""
    return {
        "idn": device.qIDN().strip(),
        "devname": device.devname,
        "class": type(device.gcsdevice).__name__,
        "axes": device.axes,
        "allaxes": device.allaxes,
        "hlp": device.qHLP(),
        "csv": float(device.qCSV()),
        "ver": device.qVER(),
        "cst": device.qCST(),
        "pun": device.qPUN(),
        "tmn": device.qTMN(),
        "tmx": device.qTMX(),
        "vel": device.qVEL(),
        "svo": device.qSVO(),
        "hpa": len(device.qHPA().splitlines()),
        "running_macro": device.IsRunningMacro(),
        "status": device.GetStatus(),
        "err": device.qERR(),
    }


def moves(device: GCSDevice, low: float, high: float) -> dict[str, Any]:
    """Move between ``low`` and ``high``, wait in every way there is, and stop in every way there is."""
    axis, *others = device.axes
    seen: dict[str, Any] = {}
    device.MOV(axis, low)
    pitools.waitontarget(device, axis, timeout=20)
    seen["low"] = device.qPOS(axis)[axis]
    device.MVR(axis, 0.1 * (high - low))
    pitools.waitontarget(device, timeout=20)
    seen["relative"] = device.qPOS(axis)[axis]
    seen["target"] = device.qMOV(axis)[axis]
    pitools.moveandwait(device, dict.fromkeys(device.axes, high), timeout=20)
    seen["all"] = list(device.qPOS().values())
    seen["ontarget"] = list(device.qONT().values())
    seen["still"] = list(device.IsMoving().values())
    # Slowly, so that it is under way for certain.
    fast = device.qVEL()[axis]
    device.VEL(axis, 0.01 * (high - low))
    seen["vel"] = device.qVEL(axis)[axis]
    stops = {
        "stopall": device.StopAll,
        "stp": device.STP,
        "hlt": device.HLT,
        "hlt_axis": lambda: device.HLT(axis),
        "embedded": device.StopAll,
    }
    seen["stops"] = {}
    for name, stop in stops.items():
        device.embederr = name == "embedded"
        device.MOV(axis, low)
        moving = device.IsMoving(axis)[axis]
        # Under way by more than noise and creep: a thousandth of the way takes a tenth of a second.
        began = device.qPOS(axis)[axis]
        while device.IsMoving(axis)[axis] and began - device.qPOS(axis)[axis] < 1e-3 * (high - low):
            pass
        rest = [device.IsMoving(other)[other] for other in others]
        number = error_of(stop)
        after, there = device.IsMoving(axis)[axis], device.qPOS(axis)[axis]
        seen["stops"][name] = {
            "moving": moving,
            "rest": rest,
            "error": number,
            "after": after,
            "between": low < there < high,
            "target_is_there": abs(device.qMOV(axis)[axis] - there) < 0.01 * (high - low),
            "err": device.qERR(),
        }
    device.embederr = False
    device.MOV(axis, low)
    pitools.stopall(device)
    seen["stopall_masked"] = device.qERR()
    device.VEL(axis, fast)
    pitools.moveandwait(device, axis, high, timeout=20)
    return seen


def refusals(device: GCSDevice) -> dict[str, Any]:
    """Do what a controller refuses; after each, the error is told once and the position is what it was."""
    axis = device.axes[0]
    before = device.qMOV()
    beyond = 1.5 * device.qTMX(axis)[axis]
    numbers = {
        "beyond": error_of(lambda: device.MOV(axis, beyond)),
        "below": error_of(lambda: device.MOV(axis, device.qTMN(axis)[axis] - 1.0)),
        "relative": error_of(lambda: device.MVR(axis, beyond)),
        "velocity": error_of(lambda: device.VEL(axis, 1e9)),
        "axis": error_of(lambda: device.MOV("Q", 1.0)),
        "unknown": error_of(lambda: device.send("XYZ 1 2")),
        "number": error_of(lambda: device.send(f"MOV {axis} twelve")),
        "missing": error_of(lambda: device.send(f"MOV {axis}")),
        "parameter": error_of(lambda: device.SPA(axis, 0x99, 1)),
    }
    device.SVO(axis, False)
    numbers["servo off"] = error_of(lambda: device.MOV(axis, before[axis]))
    off = device.qONT(axis)[axis], device.qSVO(axis)[axis]
    device.SVO(axis, True)
    pitools.waitontarget(device, axis, timeout=20)
    return {"numbers": numbers, "off": off, "unchanged": device.qMOV() == before, "err": device.qERR()}


def piezo(device: GCSDevice) -> dict[str, Any]:
    """Start an E-727 with an autozero procedure and use it."""
    seen: dict[str, Any] = {"before": whoever(device), "zeroed": list(device.qATZ().values())}
    seen["no servo"] = error_of(lambda: device.MOV(device.axes[0], 10.0))
    pitools.startup(device, refmodes="ATZ", servostates=True)
    seen["servo"] = list(device.qSVO().values())
    seen["zeroed after"] = list(device.qATZ().values())
    seen["at zero"] = list(device.qPOS().values())
    seen["moves"] = moves(device, 20.0, 80.0)
    seen["refusals"] = refusals(device)
    seen["analog"] = device.qTAV()
    seen["sensor"] = device.qTSP()
    seen["normalized"] = device.qTNS()
    seen["overflow"] = list(device.qOVF().values())
    seen["changed"] = changed(device)
    seen["open loop"] = open_loop(device)
    seen["serial"] = device.qSSN().strip()
    seen["status"] = device.GetStatus()
    seen["wave"] = device.IsGeneratorRunning()
    window = 0x07000900
    axis = device.axes[0]
    seen["window"] = device.qSPA(axis, window)[axis][window]
    seen["protected"] = error_of(lambda: device.SPA(axis, window, 0.02))
    seen["password"] = error_of(lambda: device.CCL(1, "wrong"))
    device.CCL(1, "advanced")
    device.SPA(axis, window, 0.02)
    seen["window after"] = device.qSPA(axis, window)[axis][window]
    seen["level"] = device.qCCL()
    device.SAI(axis, "NEW")
    seen["renamed"] = device.qSAI(), device.qPOS("NEW")["NEW"]
    device.RBT()
    time.sleep(0.7)
    pitools.waitonready(device, timeout=10)
    device.resetaxes()
    seen["rebooted"] = device.qSAI(), list(device.qSVO().values()), device.qSPA(axis, window)[axis][window]
    return seen


def changed(device: GCSDevice) -> list[list[bool]]:
    """Ask #6 before a move, after it, and after the position was asked for."""
    axis = device.axes[0]
    device.qPOS()
    told = [list(device.HasPosChanged().values())]
    pitools.moveandwait(device, axis, 50.0, timeout=20)
    told.append(list(device.HasPosChanged().values()))
    device.qPOS()
    told.append(list(device.HasPosChanged().values()))
    return told


def open_loop(device: GCSDevice) -> list[float]:
    """Drive a piezo by its voltage, as one does without a servo."""
    axis = device.axes[0]
    told: list[float] = [error_of(lambda: device.SVA(axis, 40.0))]
    device.SVO(axis, False)
    told.append(error_of(lambda: device.SVA(axis, 1e3)))
    device.SVA(axis, 40.0)
    device.SVR(axis, 2.0)
    told += [device.qSVA(axis)[axis], device.qVOL(1)[1]]
    device.SVO(axis, True)
    pitools.moveandwait(device, axis, 50.0, timeout=20)
    return told


def motor(device: GCSDevice) -> dict[str, Any]:
    """Start a C-863 with a reference move and use it."""
    axis = device.axes[0]
    seen: dict[str, Any] = {"before": whoever(device), "referenced": list(device.qFRF().values())}
    device.SVO(axis, True)
    seen["unreferenced"] = error_of(lambda: device.MOV(axis, 0.01)), device.qPOS(axis)[axis]
    device.SVO(axis, False)
    # With the servo off a reference move is error 5, which startup answers by closing it.
    pitools.startup(device, refmodes="FRF", servostates=True)
    seen["referenced after"] = list(device.qFRF().values())
    seen["servo"] = list(device.qSVO().values())
    high = device.qTMX(axis)[axis]
    seen["at reference"] = device.qPOS(axis)[axis] / high
    seen["moves"] = moves(device, 0.2 * high, 0.8 * high)
    seen["refusals"] = refusals(device)
    seen["has"] = {"ref": bool(device.hasref(axis)), "lim": device.haslim(axis), "frf": device.canfrf(axis)}
    seen["settling"] = device.qSPA(axis, 0x3F)[axis][0x3F]
    device.SPA(axis, 0x3F, 0.05)
    seen["settling after"] = device.qSPA(axis, 0x3F)[axis][0x3F]
    seen["acc"] = device.qACC(axis)[axis]
    for name, place in (("FNL", 0.0), ("FPL", 1.0)):
        getattr(device, name)(axis)
        pitools.waitonreferencing(device, axis, timeout=20)
        seen[name] = device.qPOS(axis)[axis] / high - place
    device.FRF(axis)
    busy = device.IsControllerReady()
    number = error_of(device.StopAll)
    seen["stopped reference"] = busy, number, device.qFRF(axis)[axis]
    pitools.startup(device, refmodes="POS", servostates=True)
    seen["set"] = device.qPOS(axis)[axis], device.qFRF(axis)[axis], device.qRON(axis)[axis]
    seen["register"] = device.qSRG(axis, 1)[axis][1]
    return seen


def rig(device: GCSDevice) -> dict[str, Any]:
    """Move the tip of a rig down and up by its analog input."""
    x, _, z = device.axes
    pitools.startup(device, servostates=True)
    pitools.moveandwait(device, x, 40.0, timeout=20)
    in_air = device.qTAV(1)[1]
    start = device.qPOS(z)[z]
    device.VEL(z, 5.0)
    device.MOV(z, start + 1.0)
    while device.IsMoving(z)[z] and device.qTAV(1)[1] < in_air + 0.5:
        pass
    device.StopAll(noraise=True)
    touched, at = device.qTAV(1)[1], device.qPOS(z)[z]
    pitools.moveandwait(device, z, start, timeout=20)
    return {"in air": in_air, "touched": touched, "down by": at - start, "lifted": device.qTAV(1)[1]}


def main() -> None:
    """Run one of the sessions and print what it has seen."""
    link, name = sys.argv[1:]
    sessions = {"piezo": piezo, "motor": motor, "rig": rig}
    # PISerial connects by itself; GCSDevice finds out from CSV? which version of GCS it talks to.
    with PISerial(port=link, baudrate=BAUD) as gateway, GCSDevice(gateway=gateway) as device:
        seen = sessions[name](device)
    print(json.dumps(seen, default=str))


if __name__ == "__main__":
    main()
