"""The stand-in's own prices: what one second or one hour costs, and how a spot market moves.

Pay-as-you-go prices are the vendor's list of 2024-11-27 (product-overview/elastic-container-instances) and 2023-04-27
(product-overview/temporary-storage-space). ECS and spot prices are invented in the size of the vendor's examples, and
follow from the zone, the type and the hour alone, so that the same question has the same answer.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal


@dataclass(frozen=True)
class PriceList:
    """Prices of one site: a second of a vCPU, of a GiB, of an ephemeral GiB above the free ones; the ECS hour of a vCPU."""

    currency: str
    vcpu_second: Decimal
    economy_vcpu_second: Decimal
    gib_second: Decimal
    ephemeral_gib_second: Decimal
    ecs_vcpu_hour: Decimal


SITES = {
    "cn": PriceList(
        "CNY", Decimal("0.000049"), Decimal("0.000027"), Decimal("0.00000613"), Decimal("0.00000059"), Decimal("0.311")
    ),
    "intl": PriceList(
        "USD",
        Decimal("0.0000077"),
        Decimal("0.00000424"),
        Decimal("0.00000096"),
        Decimal("0.000000092"),
        Decimal("0.0489"),
    ),
}
FREE_EPHEMERAL_GIB = 30
_SIZES = {"large": 2, "xlarge": 4}
_TYPE = re.compile(r"ecs\.(?P<family>[a-z]+\d+[a-z]*)\.(?P<size>large|(?P<times>\d*)xlarge)")
_FAMILY_FACTOR = {"c": Decimal("1"), "g": Decimal("1.25"), "r": Decimal("1.6"), "u": Decimal("0.8")}
_MEMORY_PER_VCPU = {"c": 2, "g": 4, "r": 8, "u": 4}


@dataclass(frozen=True)
class EcsType:
    name: str
    family: str
    vcpu: int
    memory_gib: int

    @classmethod
    def parse(cls, name: str) -> EcsType | None:
        """A type such as `ecs.c6.2xlarge`; None for what this stand-in does not sell."""
        match = _TYPE.fullmatch(name)
        if match is None or match["family"][0] not in _FAMILY_FACTOR:
            return None
        vcpu = _SIZES["large"] if match["size"] == "large" else 4 * int(match["times"] or 1)
        return cls(name, match["family"], vcpu, vcpu * _MEMORY_PER_VCPU[match["family"][0]])

    @classmethod
    def holding(cls, vcpu: float, memory_gib: float) -> EcsType:
        """The type that a spot order of this size is matched to."""
        letter = next((one for one in "cgr" if memory_gib <= vcpu * _MEMORY_PER_VCPU[one]), "r")
        count = max(2, math.ceil(vcpu))
        size = "large" if count <= 2 else "xlarge" if count <= 4 else f"{math.ceil(count / 4)}xlarge"
        found = cls.parse(f"ecs.{letter}6.{size}")
        if found is None:
            raise ValueError(f"no type holds {vcpu} vCPU and {memory_gib} GiB")
        return found

    def hour(self, prices: PriceList) -> Decimal:
        """Its pay-as-you-go price of an hour."""
        return (prices.ecs_vcpu_hour * self.vcpu * _FAMILY_FACTOR[self.family[0]]).quantize(Decimal("0.001"))


def spot_hour(kind: EcsType, zone: str, at: datetime, prices: PriceList) -> Decimal:
    """The market price of an hour: 10 to 60 % of the list, changing with the hour, dearer by day."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    drawn = int.from_bytes(hashlib.sha256(f"{kind.name} {zone} {hour.isoformat()}".encode()).digest()[:4]) / 2**32
    daily = 0.5 + 0.5 * math.sin((hour.hour - 2) / 24 * 2 * math.pi)
    share = Decimal(str(round(0.10 + 0.30 * daily + 0.20 * drawn, 4)))
    return (kind.hour(prices) * share).quantize(Decimal("0.001"))


def spot_history(
    kind: EcsType, zone: str, start: datetime, end: datetime, prices: PriceList
) -> list[tuple[datetime, Decimal]]:
    """The changes of a market price from `start` to `end`: when, and to what an hour."""
    hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows: list[tuple[datetime, Decimal]] = []
    while hour <= end:
        price = spot_hour(kind, zone, hour, prices)
        if hour >= start and (not rows or rows[-1][1] != price):
            rows.append((hour, price))
        hour += timedelta(hours=1)
    return rows


def eci_second(prices: PriceList, vcpu: float, memory_gib: float, *, economy: bool) -> dict[str, Decimal]:
    """What a second of an instance costs, an item each: `cpu` and `mem`."""
    vcpu_second = prices.economy_vcpu_second if economy else prices.vcpu_second
    return {"cpu": vcpu_second * Decimal(str(vcpu)), "mem": prices.gib_second * Decimal(str(memory_gib))}
