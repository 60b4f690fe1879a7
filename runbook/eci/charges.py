"""The one formula for what a pod is charged: its billed spec times the list price of a second, settled by the hour.

    list_price(match)                      what a spec costs by the list, for a quote
    lines(shape, start, end, book, terms)  one instance's charge as Alibaba bills it: a line each settled piece and item

List price of a second = vCPU × price of a vCPU + GiB × price of a GiB + GiB of ephemeral storage above 30 × its price; an
instance billed by its ECS type costs that type's hour ÷ 3600. What was *requested* or *used* plays no part
(https://help.aliyun.com/zh/eci/product-overview/elastic-container-instances). A charge is cut at every full hour
(https://help.aliyun.com/zh/eci/product-overview/billing-overview). A spot instance pays its first hour at the market price
of its start and afterwards the market's (https://help.aliyun.com/zh/eci/user-guide/create-a-preemptible-elastic-container-instance-1).

What no page says is in `ASSUMPTIONS`; reports print it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

from runbook.eci import prices
from runbook.eci.prices import PriceRow
from runbook.eci.specs import Mode, SpecMatch

if TYPE_CHECKING:
    from runbook.eci.prices import PriceBook, SpotChange
    from runbook.settings import Cost

SECONDS_PER_HOUR = 3600
HOUR = timedelta(hours=1)
CHINA = timezone(timedelta(hours=8))
"""The bill's days, and the days on which prices become valid."""
CENT = Decimal("0.01")

ASSUMPTIONS: Mapping[str, str] = {
    "same price everywhere": "List prices hold in every region: the vendor's pages give one price without naming regions.",
    "first hour of spot": "A spot instance has the default protection of one hour: the first hour at the price of its start.",
    "market price": "After its first hour a spot instance pays each second at the market price of that second.",
    "failed pulls": "A pod whose images cannot be pulled is charged from Pending on: one page says that a start that fails is free, "
    "another that Pending is charged.",
    "rounding": "Amounts are not rounded to 0.01 unless the card says so (cost.bill_rounding): the page does not say whether "
    "an hour's row or the whole instance is meant.",
    "savings plan": "A savings plan covers the same part of every eligible vCPU and GiB of an hour; its price is a percentage "
    "off the list, not off a contracted discount.",
    "ecs type shares": "vCPU and memory share the price of an ECS type as they would share ECI's list price.",
}
"""What the model takes for granted, because no page of the vendor says it; by a short name."""


class Item(StrEnum):
    """What a charge is for, in the words of the bill (BillingItemCode)."""

    CPU = "cpu"
    MEM = "mem"
    INSTANCE_TYPE = "instance_type"
    SYSTEM_DISK = "systemdisk"


UNITS = {
    Item.CPU: "vCPU-Seconds",
    Item.MEM: "GiB-Seconds",
    Item.INSTANCE_TYPE: "Seconds",
    Item.SYSTEM_DISK: "GiB-Seconds",
}
"""What one unit of an item is."""

_PRICED_AS = {Item.CPU: prices.VCPU, Item.MEM: prices.MEMORY, Item.SYSTEM_DISK: prices.EPHEMERAL}


@dataclass(frozen=True)
class ListPrice:
    """What a spec costs by the list, exactly; None, with the `reason`, where the list cannot say.

    `price_date` is the day from which every price that went in was valid; `sources` are the pages they were read from.
    """

    per_second: Decimal | None
    currency: str
    price_date: date | None = None
    reason: str | None = None
    sources: tuple[str, ...] = ()

    @property
    def per_hour(self) -> Decimal | None:
        return None if self.per_second is None else self.per_second * SECONDS_PER_HOUR


def list_price(
    found: SpecMatch, rows: Sequence[PriceRow] | None = None, *, site: str, on: date | None = None
) -> ListPrice:
    """The list price of a matched spec on a site, by the newest prices or by those of the day `on`.

    `rows` is the price list (None: the one in `data/prices`). Raises SettingsError for an unknown site.
    """
    currency = prices.currency(site)
    if found.mode is Mode.SPOT:
        return ListPrice(
            None,
            currency,
            reason="A spot instance costs the market price of the ECS type that ECI picks for it, "
            "not a price by vCPU and memory.",
        )
    if found.mode is Mode.ECS_TYPE or found.vcpu is None or found.memory_gib is None:
        return ListPrice(
            None,
            currency,
            reason=f"The instance is billed by its ECS type ({found.instance_type or 'picked by ECI'}), "
            "whose price this list does not hold.",
        )

    def price_of(item: str) -> PriceRow | None:
        known = prices.shipped() if rows is None else rows
        return prices.find(known, item, site=site, region=found.region, category=found.compute_category, on=on)

    rates = by_size(found.vcpu, found.memory_gib, found.extra_ephemeral_gib, price_of)
    if isinstance(rates, Item):
        day = f" on {on}" if on else ""
        reason = f"The price list of the site {site} has no price for {_PRICED_AS[rates]}{day}."
        return ListPrice(None, currency, reason=reason)
    return ListPrice(
        sum((rate.per_second for rate in rates), Decimal(0)),
        currency,
        max(rate.valid_from for rate in rates if rate.valid_from),
        sources=tuple(dict.fromkeys(rate.source for rate in rates)),
    )


@dataclass(frozen=True)
class Rate:
    """What one item of an instance costs by the list: `quantity` units, each at `unit_price` a second."""

    item: Item
    quantity: Decimal
    unit_price: Decimal
    valid_from: date | None = None
    source: str = ""

    @property
    def per_second(self) -> Decimal:
        return self.quantity * self.unit_price


def by_size(
    vcpu: Decimal, memory_gib: Decimal, extra_ephemeral_gib: Decimal, price_of: Callable[[str], PriceRow | None]
) -> tuple[Rate, ...] | Item:
    """The rates of an instance that is billed by vCPU and memory; or the item that has no price."""
    rates = []
    for item, quantity in ((Item.CPU, vcpu), (Item.MEM, memory_gib), (Item.SYSTEM_DISK, extra_ephemeral_gib)):
        if not quantity:
            continue
        row = price_of(_PRICED_AS[item])
        if row is None:
            return item
        rates.append(Rate(item, quantity, row.price, row.valid_from, row.source))
    return tuple(rates)


# -- one instance -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What an instance is billed by. With an `ecs_type` it is billed by that type, else by vCPU and memory."""

    region: str
    vcpu: Decimal | None = None
    memory_gib: Decimal | None = None
    ecs_type: str | None = None
    spot: bool = False
    compute_category: str | None = None
    extra_ephemeral_gib: Decimal = Decimal(0)
    zone: str | None = None


class Unpriced(StrEnum):
    """Why a shape has no exact charge."""

    UNKNOWN_SPEC = "unknown spec"
    UNKNOWN_ECS_TYPE = "unknown ECS type"
    NO_PRICE = "no price"
    NO_SPOT_PRICE = "no spot price"


@dataclass(frozen=True)
class Line:
    """One line of a charge: an item of an instance, for one settled piece of time.

    `list_cost` is by the list price of what is billed, `contracted_cost` after the card's discounts (for spot: at the market price).
    What a savings plan covers depends on all instances of an hour: `runbook.cost.pricing` adds it.
    """

    item: Item
    start: datetime
    end: datetime
    quantity: Decimal
    """Units times seconds."""
    list_unit_price: Decimal
    contracted_unit_price: Decimal
    list_cost: Decimal
    contracted_cost: Decimal


def rates(shape: Shape, book: PriceBook, on: date) -> tuple[Rate, ...] | Unpriced:
    """The list rates of a shape on a day, or why there are none."""

    def price_of(item: str) -> PriceRow | None:
        return book.item(item, shape.region, shape.compute_category, on)

    if shape.spot and shape.ecs_type is None:
        return Unpriced.UNKNOWN_ECS_TYPE
    if shape.ecs_type is None:
        if not shape.vcpu or not shape.memory_gib:
            return Unpriced.UNKNOWN_SPEC
        found = by_size(shape.vcpu, shape.memory_gib, shape.extra_ephemeral_gib, price_of)
        return Unpriced.NO_PRICE if isinstance(found, Item) else found
    hour = book.ecs_hour(shape.region, shape.ecs_type, on)
    disk = by_size(Decimal(0), Decimal(0), shape.extra_ephemeral_gib, price_of)
    if hour is None or isinstance(disk, Item):
        return Unpriced.NO_PRICE
    by_type = Rate(Item.INSTANCE_TYPE, Decimal(1), hour.price / SECONDS_PER_HOUR, hour.valid_from, hour.source)
    return by_type, *disk


def discount(terms: Cost, item: Item, on: date) -> Decimal:
    """The part of the list price that is left after the card's discount for an item on a day: 0.9 for 10 percent off."""
    holding = [
        one
        for one in terms.discounts
        if one.item in ("all", item.value) and (one.first or on) <= on <= (one.last or on)
    ]
    best = min(holding, key=lambda one: one.item == "all", default=None)
    return 1 - best.percent / 100 if best else Decimal(1)


def settled(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The pieces of a charge: cut at every full hour."""
    while start < end:
        following = min(start.replace(minute=0, second=0, microsecond=0) + HOUR, end)
        yield start, following
        start = following


def market_steps(changes: Sequence[SpotChange]) -> list[tuple[datetime, Decimal | None]]:
    """When the market price became which, in the order of time; None from where on nobody asked the market."""
    steps: list[tuple[datetime, Decimal | None]] = []
    for change, following in zip_longest(changes, changes[1:]):
        steps.append((change.at, change.price))
        if change.until and (following is None or change.until < following.at):
            steps.append((change.until, None))
    return steps


def market_pieces(
    start: datetime, end: datetime, changes: Sequence[SpotChange]
) -> list[tuple[datetime, datetime, Decimal]] | None:
    """The pieces of a spot charge with the hour's price that holds in each; None where it is not known for all of them.

    `changes` are those of its type and zone, in the order of time.
    """
    steps = market_steps(changes)
    times = [at for at, _ in steps]

    def price_at(moment: datetime) -> Decimal | None:
        place = bisect_right(times, moment)
        return steps[place - 1][1] if place else None

    protected = min(start + HOUR, end)
    pieces = [(begin, until, price_at(start)) for begin, until in settled(start, protected)]
    for begin, until in settled(protected, end):
        inside = times[bisect_right(times, begin) : bisect_left(times, until)]
        pieces += [(one, two, price_at(one)) for one, two in pairwise((begin, *inside, until))]
    known = [(begin, until, price) for begin, until, price in pieces if price is not None]
    return known if len(known) == len(pieces) else None


def lines(shape: Shape, start: datetime, end: datetime, book: PriceBook, terms: Cost) -> tuple[Line, ...] | Unpriced:
    """The charge of one instance from `start` to `end` (UTC), before savings plans, exactly; or why it is not known."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    market: Mapping[datetime, Decimal] = {}
    pieces = list(settled(start, end))
    if shape.spot and shape.ecs_type is not None:
        found = market_pieces(start, end, book.spot_changes(shape.region, shape.zone or "", shape.ecs_type))
        if found is None:
            return Unpriced.NO_SPOT_PRICE
        pieces = [(begin, until) for begin, until, _ in found]
        market = {begin: price for begin, _, price in found}
    made: list[Line] = []
    for begin, until in pieces:
        day = begin.astimezone(CHINA).date()
        known = rates(shape, book, day)
        if isinstance(known, Unpriced):
            return known
        seconds = Decimal((until - begin) // timedelta(microseconds=1)) / 1_000_000
        for rate in known:
            paid = rate.unit_price * discount(terms, rate.item, day)
            if rate.item is Item.INSTANCE_TYPE and shape.spot:
                paid = market[begin] / SECONDS_PER_HOUR
            quantity = rate.quantity * seconds
            costs = (quantity * rate.unit_price, quantity * paid)
            made.append(Line(rate.item, begin, until, quantity, rate.unit_price, paid, *costs))
    return _rounded(made, terms.bill_rounding)


def _rounded(made: Sequence[Line], rounding: str) -> tuple[Line, ...]:
    """The lines with the amounts of each settled hour, or of the instance, rounded where their sum is below 0.01.

    The items of a rounded sum keep their shares of it.
    """
    if rounding == "none":
        return tuple(made)

    def group(line: Line) -> datetime | None:
        return line.start.replace(minute=0, second=0, microsecond=0) if rounding == "hour" else None

    sums: dict[tuple[str, datetime | None], Decimal] = {}
    for line in made:
        for name in ("list_cost", "contracted_cost"):
            key = name, group(line)
            sums[key] = sums.get(key, Decimal(0)) + getattr(line, name)
    factors = {key: small_sum(total) / total if total else Decimal(1) for key, total in sums.items()}
    return tuple(
        replace(
            line,
            **{name: getattr(line, name) * factors[name, group(line)] for name in ("list_cost", "contracted_cost")},
        )
        for line in made
    )


def small_sum(amount: Decimal) -> Decimal:
    """A fee below 0.01 becomes 0.01 from 0.005 on, else 0; larger ones stay."""
    return amount.quantize(CENT, ROUND_HALF_UP) if amount < CENT else amount
