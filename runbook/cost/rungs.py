"""The rungs that a job could stand on, cheapest first, and the cheapest that what its runs needed fits on.

Every rung is a spec that ECI sells in the job's region, priced by the list. A spot job's rungs are those of the spot table, put in
order by the vCPU and memory price: its market moves, and larger types cost more there too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from runbook.answer import Scope
from runbook.cost import proportion
from runbook.eci import charges, prices, specs
from runbook.eci.prices import PriceRow
from runbook.eci.specs import Ladder, Mode, SpecMatch
from runbook.errors import SettingsError, SpecError
from runbook.quantities import GIB, Size


@dataclass(frozen=True)
class Rung:
    """One size that is sold, and its list price."""

    vcpu: float
    memory_gib: float
    per_second: Decimal


@dataclass(frozen=True)
class Rule:
    """What a recommended size must hold.

    So much of the runs' peaks of memory, with a margin on top, and so much of their peaks of CPU: too little memory kills a run, too
    little CPU makes it slower. A run is at risk where its peak of memory is more than the rung has: the highest share of runs that
    the replay still allows (Clopper and Pearson, at `confidence`) must not exceed `risk`.
    """

    memory_quantile: float = 0.99
    memory_margin: float = 0.15
    vcpu_quantile: float = 0.95
    vcpu_margin: float = 0.0
    risk: float = 0.15
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Raises SettingsError for a share that is none, or a negative margin."""
        for name in ("memory_quantile", "vcpu_quantile", "risk", "confidence"):
            value = getattr(self, name)
            if not 0 < value <= 1 or (name == "confidence" and value == 1):
                raise SettingsError(
                    "This is no share of runs.", where=name, value=value, allowed="more than 0, at most 1: 0.15 is 15 %"
                )
        for name in ("memory_margin", "vcpu_margin"):
            if not 0 <= getattr(self, name) < 10:
                raise SettingsError(
                    "This is no margin.", where=name, value=getattr(self, name), allowed="0 or more: 0.15 is 15 %"
                )

    @property
    def runs_needed(self) -> int:
        """How many runs without a hit it takes until the risk is small enough."""
        if self.risk == 1:
            return 1
        return math.ceil(math.log((1 - self.confidence) / 2) / math.log(1 - self.risk) - 1e-9)

    def allows(self, hits: int, runs: int) -> bool:
        """Whether so many hits in so many runs leave the risk small enough."""
        return proportion.interval(hits, runs, self.confidence)[1] <= self.risk


class Market:
    """What is on sale: the rungs of each region, looked up once. `rows` is the price list, `offered` the ladder (None: `data/`)."""

    def __init__(self, scope: Scope, rows: Sequence[PriceRow] | None = None, offered: Ladder | None = None) -> None:
        self._scope, self._rows, self._ladder = scope, rows, offered or specs.shipped()
        self._known: dict[tuple[str, str | None, bool], tuple[Rung, ...]] = {}

    def rungs(self, region: str, category: str | None, *, spot: bool = False) -> tuple[Rung, ...]:
        """The rungs of a region that have a price, the cheapest first; none where region or category is not known."""
        asked = region, category, spot
        if asked not in self._known:
            self._known[asked] = tuple(self._found(*asked))
        return self._known[asked]

    def _found(self, region: str, category: str | None, spot: bool) -> list[Rung]:
        site = next((site for site, currency in prices.SITES.items() if currency == self._scope.currency), None)
        try:
            listed = self._ladder.offered(region, spot=spot, category=None if spot else category)
        except SpecError:
            return []
        found = set()
        for row in listed if site else ():
            for memory in row.memory_gib:
                spec = SpecMatch(
                    Size(row.vcpu, int(memory * GIB)),
                    region,
                    row.vcpu,
                    memory,
                    "",
                    str(row),
                    Mode.VCPU_MEMORY,
                    category,
                )
                price = charges.list_price(spec, self._rows, site=str(site), on=self._scope.last).per_second
                if price is not None:
                    found.add(Rung(float(row.vcpu), float(memory), price))
        return sorted(found, key=lambda rung: (rung.per_second, rung.vcpu, rung.memory_gib))
