"""What Alibaba Cloud's own APIs say of prices today: of ECI's items, of ECS types, and of their spot markets.

    wanted = types_wanted(history, settings, now=now)   # which ECS types the pods and the card name
    said = look(cloud, archive.rows(), wanted, settings, now=now)

ECI's price of a vCPU and of a GiB is worked out from two sizes with the same vCPU. A type's market is asked about from where the
archive ends, at most 30 days back; each answer also names the list price, which so is known for those days.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from runbook import html, moments
from runbook.eci import prices
from runbook.eci.charges import CHINA
from runbook.eci.prices import EcsPrice, PriceRow, SpotChange
from runbook.errors import AlibabaError
from runbook.history.price_archive import Asked, Rows
from runbook.quantities import GIB, Size
from runbook.report import text_pairs
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.alibaba import AlibabaCloud
    from runbook.history.store import Store

REMEMBERED = timedelta(days=30)
"""How far back Alibaba Cloud tells spot prices."""

FREE_EPHEMERAL_GIB = 30
_MORE_EPHEMERAL_GIB = 100
_SIZES = {prices.DEFAULT_CATEGORY: (16, 64, 128), "economy": (8, 16, 64)}
"""By category: the vCPU, and two sizes of memory (GiB) that it is sold with; large ones, so that rounding matters least."""
_SOURCES = {
    "eci": "eci:DescribeContainerGroupPrice",
    "ecs": "ecs:DescribePrice",
    "spot": "ecs:DescribeSpotPriceHistory",
}
_DIGITS = Decimal("1e-12")
_NO_ACCESS = ("Forbidden", "NotAuthorized", "InvalidAccessKey", "SignatureDoesNotMatch", "InvalidSecurityToken")


@dataclass(frozen=True, repr=False)
class Wanted:
    """ECS types by name, and the sizes of spot instances whose type nobody has named.

    `until` is now, or the newest end of a pod where that is later: a practice cluster's clock runs ahead.
    """

    until: datetime
    types: tuple[str, ...] = ()
    spot_sizes: tuple[Size, ...] = ()

    def summary(self) -> dict[str, str]:
        """The lines that a notebook shows."""
        sizes = ", ".join(map(str, self.spot_sizes))
        return {
            "ECI": "a vCPU, a GiB, an economy vCPU and GiB, a GiB of ephemeral storage",
            "ECS types": ", ".join(self.types) or "none: no pod and no line of the card names one",
            "spot sizes": f"{sizes}: whatever ECS types ECI matches them to" if sizes else "none",
            "spot prices until": f"{self.until:%Y-%m-%d %H:%M} UTC",
        }

    def __str__(self) -> str:
        return text_pairs("What is asked about", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()), title="What is asked about")


def types_wanted(history: Store, settings: Settings, *, now: datetime, further: Collection[str] = ()) -> Wanted:
    """The ECS types of the last 30 days' pods, of the card (`pods.specs`, `cost.always_on`), and further ones."""
    pods = history.scan(
        ["ecs_type", "spot", "billed_vcpu", "billed_memory_gib", "finished_at"], first=(now - REMEMBERED).date()
    )
    found = pods.filter("ecs_type IS NOT NULL OR spot").project("* EXCLUDE (finished_at)").distinct().fetchall()
    newest = pods.aggregate("max(finished_at)").fetchall()[0][0]
    of_card = [one for one in (*settings.pods.specs, settings.cost.always_on.instance_type) if one.startswith("ecs.")]
    named = {kind for kind, *_ in found if kind} | set(of_card) | set(further)
    sizes = {
        Size(Decimal(str(vcpu)), int(memory * GIB))
        for kind, spot, vcpu, memory in found
        if spot and not kind and vcpu and memory
    }
    return Wanted(
        max(now, newest.astimezone(UTC)) if newest else now,
        tuple(sorted(named)),
        tuple(sorted(sizes, key=lambda size: (size.cpu, size.memory))),
    )


@dataclass(frozen=True)
class Refused:
    """A question that Alibaba Cloud did not answer, and why. `always`: it will not answer it to this AccessKey."""

    question: str
    problem: str
    remedy: str = ""
    always: bool = False

    def __str__(self) -> str:
        return f"{self.question}: {self.problem}"


@dataclass(frozen=True, repr=False)
class Said:
    """What the APIs said: prices, the stretches of markets that were asked about, and what they did not answer."""

    now: datetime
    rows: Rows
    refused: tuple[Refused, ...] = ()
    forgotten: tuple[str, ...] = ()
    """ECS types whose last archived spot price is older than what Alibaba Cloud remembers: changes in between are lost."""

    def summary(self) -> dict[str, str]:
        """The lines that a notebook shows."""
        kinds = len({one.instance_type for one in self.rows.asked})
        return {
            "prices of ECI's items": str(len(self.rows.items)),
            "prices of ECS types": str(len(self.rows.ecs)),
            "spot prices": f"{len(self.rows.spot):,} of {kinds} types",
            "not answered": "\n".join(map(str, self.refused)) or "nothing",
        }

    def __str__(self) -> str:
        return text_pairs("What the APIs say", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()), title="What the APIs say")


Answer = TypeVar("Answer")


class _Asker:
    """Asks, and keeps what was refused; after one call that met nobody, a service is not asked again."""

    def __init__(self, cloud: AlibabaCloud, settings: Settings, now: datetime) -> None:
        self.cloud, self.now = cloud, now
        self.site, self.region = settings.site, settings.region
        self.refused: list[Refused] = []
        self._silent: set[str] = set()

    def __call__(self, service: str, question: str, call: Callable[[], Answer]) -> Answer | None:
        if service in self._silent:
            return None
        try:
            return call()
        except AlibabaError as error:
            always = error.status is None or error.code.startswith(_NO_ACCESS)
            self.refused.append(Refused(question, error.problem, error.remedy or "", always))
            if always:
                self._silent.add(service)
            return None

    @property
    def today(self) -> date:
        return self.now.astimezone(CHINA).date()


def look(cloud: AlibabaCloud, archived: Rows, wanted: Wanted, settings: Settings, *, now: datetime) -> Said:
    """Ask ECI for its list prices, and ECS for those of types and for their spot markets. What is refused is told in the answer."""
    ask = _Asker(cloud, settings, now)
    items = tuple(_items(ask))
    types = sorted({*wanted.types, *_matched(ask, wanted.spot_sizes)})
    since = {kind: archived.asked_until(settings.region, kind) for kind in types}
    markets = [market for kind in types if (market := _market(ask, kind, since[kind], wanted.until))]
    ecs = tuple(_ecs_prices(ask, types, markets))
    oldest = wanted.until - REMEMBERED
    return Said(
        now,
        Rows(
            items,
            ecs,
            tuple(change for market in markets for change in market.changes),
            tuple(market.asked for market in markets),
        ),
        tuple(ask.refused),
        tuple(kind for kind, last in since.items() if last and last < oldest),
    )


def _items(ask: _Asker) -> Iterator[PriceRow]:
    """ECI's list prices, worked out from the prices of sizes."""

    def price(**size: Any) -> tuple[Decimal, str] | None:
        said = ask("eci", "ECI's list prices", lambda: ask.cloud.container_group_price(**size))
        return _list_price(said) if said else None

    for category, (vcpu, memory, more) in _SIZES.items():
        economy = category == "economy"
        small = price(vcpu=vcpu, memory_gib=memory, economy=economy)
        large = price(vcpu=vcpu, memory_gib=more, economy=economy)
        if not small or not large:
            continue
        gib = (large[0] - small[0]) / (more - memory)
        yield _item(ask, category, prices.VCPU, (small[0] - gib * memory) / vcpu, small[1])
        yield _item(ask, category, prices.MEMORY, gib, small[1])
        if not economy:
            roomy = price(vcpu=vcpu, memory_gib=memory, ephemeral_gib=FREE_EPHEMERAL_GIB + _MORE_EPHEMERAL_GIB)
            if roomy and roomy[0] > small[0]:
                yield _item(ask, prices.ANY, prices.EPHEMERAL, (roomy[0] - small[0]) / _MORE_EPHEMERAL_GIB, roomy[1])


def _item(ask: _Asker, category: str, item: str, price: Decimal, currency: str) -> PriceRow:
    return PriceRow(
        ask.site, ask.region, currency, category, item, price.quantize(_DIGITS).normalize(), ask.today, _SOURCES["eci"]
    )


def _list_price(said: Mapping[str, Any]) -> tuple[Decimal, str]:
    """The list price of an answer, before discounts, and its currency."""
    price = said["Price"]
    return Decimal(str(price["OriginalPrice"])), str(price["Currency"])


def _matched(ask: _Asker, sizes: Iterable[Size]) -> Iterator[str]:
    """The ECS types that ECI would match spot instances of these sizes to."""
    for size in sizes:
        said = ask(
            "eci",
            f"ECI's match of a spot instance of {size}",
            lambda size=size: ask.cloud.container_group_price(  # type: ignore[misc]
                vcpu=float(size.cpu), memory_gib=float(size.memory_gib), spot_strategy="SpotAsPriceGo"
            ),
        )
        for one in ((said or {}).get("SpotPrices") or {}).get("SpotPrice") or []:
            yield str(one["InstanceType"])


@dataclass(frozen=True)
class _Market:
    """What was said of a type's spot market: its changes, the stretch that was asked about, its list price by day."""

    asked: Asked
    changes: tuple[SpotChange, ...]
    listed: Mapping[date, tuple[Decimal, str]]


def _market(ask: _Asker, kind: str, since: datetime | None, until: datetime) -> _Market | None:
    start = max(since, until - REMEMBERED) if since else until - REMEMBERED
    said = ask("ecs", f"spot prices of {kind}", lambda: ask.cloud.spot_price_history(kind, start=start, end=until))
    if said is None:
        return None
    changes: list[SpotChange] = []
    listed: dict[date, tuple[Decimal, str]] = {}
    for row in sorted(said, key=lambda row: (row["Timestamp"], row["ZoneId"])):
        at, currency = moments.parse(row["Timestamp"]), str(row["Currency"])
        price = Decimal(str(row["SpotPrice"]))
        changes.append(SpotChange(ask.site, ask.region, row["ZoneId"], currency, kind, price, at, _SOURCES["spot"]))
        if row.get("OriginPrice"):
            listed.setdefault(at.astimezone(CHINA).date(), (Decimal(str(row["OriginPrice"])), currency))
    return _Market(Asked(ask.site, ask.region, kind, start, until, _SOURCES["spot"]), tuple(changes), listed)


def _ecs_prices(ask: _Asker, types: Sequence[str], markets: Sequence[_Market]) -> Iterator[EcsPrice]:
    """The list prices of types: of today, and of the days for which their markets name one; a row each change."""
    rows = ask("ecs", "what the ECS types are", lambda: ask.cloud.instance_types(types)) if types else None
    sizes = {
        row["InstanceTypeId"]: (Decimal(str(row["CpuCoreCount"])), Decimal(str(row["MemorySize"])))
        for row in rows or ()
    }
    listed = {market.asked.instance_type: dict(market.listed) for market in markets}
    for kind in types:
        if kind not in sizes:
            if rows is not None:
                ask.refused.append(Refused(f"the list price of {kind}", "ECS does not know this type."))
            continue
        by_day = listed.get(kind, {})
        said = ask("ecs", f"the list price of {kind}", lambda kind=kind: ask.cloud.instance_price(kind))  # type: ignore[misc]
        if said:
            by_day[ask.today] = _type_price(said)
        before: tuple[Decimal, str] | None = None
        for day, price in sorted(by_day.items()):
            if price != before:
                yield EcsPrice(ask.site, ask.region, price[1], kind, *sizes[kind], price[0], day, _SOURCES["ecs"])
            before = price


def _type_price(said: Mapping[str, Any]) -> tuple[Decimal, str]:
    """The hour of a type without its disk, before discounts, and its currency."""
    price = said["Price"]
    details = (price.get("DetailInfos") or {}).get("DetailInfo") or []
    whole = next((one for one in details if one.get("Resource") == "instanceType"), price)
    return Decimal(str(whole["OriginalPrice"])), str(price["Currency"])
