"""A full site that stays under the tip: what ``hil smu --twin full`` serves."""

from __future__ import annotations

from hil.twin.circuit import Circuit
from hil.twin.contact import Contact
from hil.twin.live import LiveLoad
from hil.twin.site import kind_of
from hil.twin.spot import Spot, SpotState
from hil.twin.terminals import LIMIT_A
from hil.twin.truth import TruthRecord


class Site(LiveLoad):
    """What :class:`hil.twin.site.SwitchingSite` is, with all of the physics of :mod:`hil.twin.live`.

    The same ``kind``, ``u_median_v`` and ``seed`` give the same first threshold and the same first filament as there.
    ``stuck_on``: a filament of 100 ohm that no reset opens. ``open_tip``: no contact, whatever the deflection says.
    """

    def __init__(
        self,
        kind: str = "gb",
        *,
        u_median_v: float | None = None,
        v_star: float | None = None,
        series_ohm: float = 0.0,
        seed: int = 0,
        truth: TruthRecord | None = None,
        circuit: Circuit | None = None,
        contact: Contact | None = None,
        stuck_on: bool = False,
        open_tip: bool = False,
        limit_a: float = LIMIT_A,
    ) -> None:
        """Draw the site; raises BenchOptionError for an unknown kind or a number out of range."""
        self.kind = kind_of(kind)
        state = SpotState.OPEN if open_tip else SpotState.STUCK_ON if stuck_on else SpotState.HRS
        spot = Spot(
            self.kind.u_median_v if u_median_v is None else u_median_v,
            self.kind.v_star if v_star is None else v_star,
            seed=seed,
            contact=contact,
            state=state,
        )
        self.site = spot
        super().__init__(spot, series_ohm=series_ohm, circuit=circuit, truth=truth, limit_a=limit_a)

    @property
    def u_median_v(self) -> float:
        """Median trigger drive in V at 0.1 V/s."""
        return self.site.hazard.u_median_v

    @property
    def state(self) -> SpotState:
        """What the site is now."""
        return self.site.state

    @property
    def r_on_ohm(self) -> float:
        """Resistance in ohm of the filament at bridging: the present one, or the next."""
        return self.site.r_on_ohm
