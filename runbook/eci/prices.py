"""Dated prices: of ECI's items by the second, of ECS types by the hour, and of the spot market.

Which price an item or a type has on a site, in a region, on a day. A price that no row gives is unknown, never zero.
`PriceBook` holds all rows of one site; those of `data/prices` are shipped, those that the official APIs said are added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache, cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from runbook import moments
from runbook.eci import tables
from runbook.errors import SettingsError

SITES = {"cn": "CNY", "intl": "USD"}
"""Whose price list, and its currency: aliyun.com, or alibabacloud.com."""

ANY = "*"
"""In a row: any region, or any compute category."""

VCPU, MEMORY, EPHEMERAL = "vcpu", "memory", "ephemeral-storage"
"""Items of a price list, priced by the second for one vCPU, one GiB, and one GiB above the free 30."""

DEFAULT_CATEGORY = "general"
"""The category whose prices hold where a pod names none."""

PRICES = tables.DATA / "prices"


@dataclass(frozen=True)
class PriceRow:
    """The price of one unit of one item for a second, from `valid_from` on, until a newer row of the same kind.

    `valid_to` is its last day where the list names one: from the day after, the price is unknown, not the older one's.
    """

    site: str
    region: str
    currency: str
    compute_category: str
    item: str
    price: Decimal
    valid_from: date
    source: str
    valid_to: date | None = None


@dataclass(frozen=True)
class EcsPrice:
    """The pay-as-you-go price of an hour of one ECS type, without disks, from `valid_from` on, until a newer row."""

    site: str
    region: str
    currency: str
    instance_type: str
    vcpu: Decimal
    memory_gib: Decimal
    price: Decimal
    valid_from: date
    source: str
    valid_to: date | None = None


@dataclass(frozen=True)
class SpotChange:
    """The market price of an hour of one ECS type in one zone, from `at` on, until the next change.

    `until` is how far it was seen to hold, where nobody asked the market after that. None: it is not known to have ended.
    """

    site: str
    region: str
    zone: str
    currency: str
    instance_type: str
    price: Decimal
    at: datetime
    source: str
    until: datetime | None = None


@dataclass(frozen=True)
class PriceProblem:
    """What is wrong with the prices of one item or type in the days from `first` to `last`: a sentence in `detail`."""

    kind: Literal["gap", "overlap", "duplicate", "currency", "not positive", "dates"]
    of: str
    first: date
    last: date
    detail: str

    def __str__(self) -> str:
        return f"{self.of}: {self.detail}"


Priced = TypeVar("Priced", PriceRow, EcsPrice)
AnyRow = TypeVar("AnyRow", PriceRow, EcsPrice, SpotChange)


def load(path: Path = PRICES / "eci-list-prices.csv") -> tuple[PriceRow, ...]:
    """The rows of a price list of ECI's items. Raises SettingsError where the file is missing, or a row cannot be read."""
    return _load(PriceRow, path)


def load_ecs(path: Path = PRICES / "ecs-list-prices.csv") -> tuple[EcsPrice, ...]:
    """The rows of a price list of ECS types. Raises SettingsError where the file is missing, or a row cannot be read."""
    return _load(EcsPrice, path)


def load_spot(path: Path = PRICES / "spot-prices.csv") -> tuple[SpotChange, ...]:
    """The rows of a list of spot prices. Raises SettingsError where the file is missing, or a row cannot be read."""
    return _load(SpotChange, path)


def _load(kind: type[AnyRow], path: Path) -> tuple[AnyRow, ...]:
    """Rows of a file whose columns have the names of the fields; those with a default may be missing or empty."""
    needed = frozenset(one.name for one in fields(kind) if one.default is MISSING)
    found = []
    for line, row in enumerate(tables.rows(path, needed), start=2):
        cells: dict[str, Any] = {
            one.name: _read(one.name, row[one.name], f"{path.name}, line {line}")
            for one in fields(kind)
            if one.name in needed or row.get(one.name)
        }
        found.append(kind(**cells))
    return tuple(found)


def _read(column: str, cell: str, where: str) -> object:
    reader = _READERS.get(column)
    if reader is None:
        return cell
    try:
        return reader.parse(cell)
    except (ValueError, InvalidOperation):
        raise SettingsError(
            f"A price list holds something else where {reader.what} belongs.",
            where=f"{where}, column {column}",
            value=cell,
            allowed=f"{reader.what} such as {reader.example}",
        ) from None


def _finite(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


@dataclass(frozen=True)
class _Reader:
    """How a cell is read, and what it is called to somebody who must correct it."""

    parse: Callable[[str], object]
    what: str
    example: str


_NUMBER = _Reader(_finite, "a number", "0.000049")
_DAY = _Reader(date.fromisoformat, "a day", "2026-11-24")
_MOMENT = _Reader(moments.parse, "a moment", "2026-11-24T09:30:00Z")
_READERS = {
    **dict.fromkeys(("price", "vcpu", "memory_gib"), _NUMBER),
    **dict.fromkeys(("valid_from", "valid_to"), _DAY),
    **dict.fromkeys(("at", "until"), _MOMENT),
}
"""By column; the others are text."""


@cache
def shipped() -> tuple[PriceRow, ...]:
    """The price list of ECI's items in `data/prices`, read once."""
    return load()


@cache
def shipped_ecs() -> tuple[EcsPrice, ...]:
    """The price list of ECS types in `data/prices`, read once."""
    return load_ecs()


def currency(site: str) -> str:
    """The currency of a site. Raises SettingsError for an unknown one."""
    if site not in SITES:
        raise SettingsError(
            "The site is not one that sells ECI.",
            where="site",
            value=site,
            allowed="cn (aliyun.com, CNY) or intl (alibabacloud.com, USD)",
        )
    return SITES[site]


def find(
    rows: Iterable[PriceRow],
    item: str,
    *,
    site: str,
    region: str,
    category: str | None = None,
    on: date | None = None,
) -> PriceRow | None:
    """The row that holds for an item: of this region before any region, then the newest of the day `on` (None: newest).

    None where no row holds: the price is unknown, not zero.
    """
    holding = [
        row
        for row in rows
        if (row.site, row.item) == (site, item)
        and row.region in (region, ANY)
        and row.compute_category in (category or DEFAULT_CATEGORY, ANY)
        and _holds(row, on)
    ]
    return max(holding, key=lambda row: (row.region != ANY, row.compute_category != ANY, row.valid_from), default=None)


def _holds(row: PriceRow | EcsPrice, on: date | None) -> bool:
    return on is None or row.valid_from <= on <= (row.valid_to or on)


@dataclass(frozen=True)
class PriceBook:
    """All that is known of one site's prices. Rows of another site or currency, and those that are not above zero, price nothing."""

    site: str
    items: tuple[PriceRow, ...]
    ecs: tuple[EcsPrice, ...] = ()
    spot: tuple[SpotChange, ...] = ()

    @classmethod
    def shipped(cls, site: str) -> PriceBook:
        """What `data/prices` holds of a site. Raises SettingsError for an unknown one."""
        currency(site)
        return cls(
            site,
            tuple(row for row in shipped() if row.site == site),
            tuple(row for row in shipped_ecs() if row.site == site),
        )

    def with_(
        self, *, items: Iterable[PriceRow] = (), ecs: Iterable[EcsPrice] = (), spot: Iterable[SpotChange] = ()
    ) -> PriceBook:
        """The same book with more rows. A row that is there already changes nothing."""
        return replace(
            self,
            items=tuple(dict.fromkeys((*self.items, *items))),
            ecs=tuple(dict.fromkeys((*self.ecs, *ecs))),
            spot=tuple(dict.fromkeys((*self.spot, *spot))),
        )

    def __repr__(self) -> str:
        return (
            f"PriceBook({self.site}: {len(self.items)} prices of items, {len(self.ecs)} of ECS types, "
            f"{len(self.spot)} spot prices)"
        )

    @property
    def currency(self) -> str:
        return currency(self.site)

    def item(self, item: str, region: str, category: str | None, on: date) -> PriceRow | None:
        """The row that holds for an item on a day (see `find`)."""
        return find(self._usable_items, item, site=self.site, region=region, category=category, on=on)

    def ecs_hour(self, region: str, instance_type: str, on: date) -> EcsPrice | None:
        """The list price of an ECS type on a day; None where no row holds."""
        holding = [row for row in self._ecs_by_type.get((region, instance_type), ()) if _holds(row, on)]
        return max(holding, key=lambda row: row.valid_from, default=None)

    def spot_changes(self, region: str, zone: str, instance_type: str) -> tuple[SpotChange, ...]:
        """The known market prices of a type in a zone, by time. Each holds from `at` to `until`, or to the next change."""
        return self._spot_by_type.get((region, zone, instance_type), ())

    def spot_price(self, region: str, zone: str, instance_type: str, at: datetime) -> SpotChange | None:
        """The market price that held at a moment; None before the first one, and where nobody asked the market."""
        changes = self.spot_changes(region, zone, instance_type)
        place = bisect_right(changes, at, key=lambda change: change.at)
        if not place:
            return None
        found = changes[place - 1]
        return found if found.until is None or at < found.until else None

    def types_holding(self, region: str, vcpu: Decimal, memory_gib: Decimal) -> tuple[EcsPrice, ...]:
        """The newest row of each ECS type of exactly this size, by name: what a spot order of it may have been matched to."""
        return self._ecs_by_size.get((region, vcpu, memory_gib), ())

    def problems(self, first: date, last: date) -> tuple[PriceProblem, ...]:
        """What is wrong with these prices from `first` to `last`: unusable rows, then each item and type in turn.

        A gap is a day on which an item has no price, or a type has none although it had one before. Where two prices hold
        from the same day, the first is taken; where one begins before another has ended, the newer: overlaps.
        """
        found = [*_unusable((*self.items, *self.ecs, *self.spot), self.site, first, last)]
        usable = self._usable_items
        for (region, category, item), rows in sorted(
            _grouped(usable, lambda row: (row.region, row.compute_category, row.item)).items()
        ):
            of = f"{item}, {'any category' if category == ANY else category}, {'any region' if region == ANY else region}"
            also = [
                r
                for r in usable
                if r.item == item and r.region in (region, ANY) and r.compute_category in (category, ANY)
            ]
            found += [*_gaps(of, also, first, last), *_clashes(of, rows, first, last)]
        for (region, instance_type), priced in sorted(self._ecs_by_type.items()):
            of = f"{instance_type}, {region}"
            since = max(first, min(row.valid_from for row in priced))
            found += [*_gaps(of, priced, since, last), *_clashes(of, priced, first, last)]
        return tuple(found)

    @cached_property
    def _usable_items(self) -> tuple[PriceRow, ...]:
        return self._usable(self.items)

    def _usable(self, rows: Iterable[AnyRow]) -> tuple[AnyRow, ...]:
        return tuple(row for row in rows if row.site == self.site and row.currency == self.currency and row.price > 0)

    @cached_property
    def _ecs_by_type(self) -> dict[tuple[str, str], list[EcsPrice]]:
        return _grouped(self._usable(self.ecs), lambda row: (row.region, row.instance_type))

    @cached_property
    def _ecs_by_size(self) -> dict[tuple[str, Decimal, Decimal], tuple[EcsPrice, ...]]:
        newest = [max(rows, key=lambda row: row.valid_from) for rows in self._ecs_by_type.values()]
        by_size = _grouped(newest, lambda row: (row.region, row.vcpu, row.memory_gib))
        return {size: tuple(sorted(rows, key=lambda row: row.instance_type)) for size, rows in by_size.items()}

    @cached_property
    def _spot_by_type(self) -> dict[tuple[str, str, str], tuple[SpotChange, ...]]:
        by_type = _grouped(self._usable(self.spot), lambda row: (row.region, row.zone, row.instance_type))
        return {kind: _in_order(rows) for kind, rows in by_type.items()}


Key = TypeVar("Key")


def _grouped(rows: Iterable[AnyRow], key: Callable[[AnyRow], Key]) -> dict[Key, list[AnyRow]]:
    groups: dict[Key, list[AnyRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _in_order(changes: Iterable[SpotChange]) -> tuple[SpotChange, ...]:
    """Changes by time, one a moment, each ending at the next one where it is not known to have ended before."""
    by_time = {change.at: change for change in sorted(changes, key=lambda change: (change.at, change.price))}
    ordered = list(by_time.values())
    ending = [
        replace(change, until=min(change.until or following.at, following.at))
        for change, following in pairwise(ordered)
    ]
    return (*ending, *ordered[-1:])


def _unusable(
    rows: Iterable[PriceRow | EcsPrice | SpotChange], site: str, first: date, last: date
) -> Iterator[PriceProblem]:
    """Rows that price nothing, told together by what is wrong with them and what they are of."""
    own = SITES[site]
    told: Counter[tuple[Literal["currency", "not positive"], str, str]] = Counter()
    for row in rows:
        since = row.at.date() if isinstance(row, SpotChange) else row.valid_from
        if row.site != site or since > last:
            continue
        of = f"{row.item if isinstance(row, PriceRow) else row.instance_type}, {row.region}"
        if row.currency != own:
            told["currency", of, f"in {row.currency}, and the prices of the site {site} are in {own}"] += 1
        elif row.price <= 0:
            told["not positive", of, "not above zero"] += 1
    for (kind, of, wrong), count in told.items():
        yield PriceProblem(kind, of, first, last, f"{count} row{'s are' if count > 1 else ' is'} {wrong}; left out.")


def _gaps(of: str, rows: Iterable[PriceRow | EcsPrice], first: date, last: date) -> Iterator[PriceProblem]:
    """The days from `first` to `last` on which none of the rows holds."""
    day = first
    for row in sorted(rows, key=lambda row: row.valid_from):
        if row.valid_from > last or day > last:
            break
        if row.valid_from > day:
            yield _gap(of, day, row.valid_from - timedelta(days=1))
        day = max(day, row.valid_to + timedelta(days=1) if row.valid_to else date.max)
    if day <= last:
        yield _gap(of, day, last)


def _gap(of: str, first: date, last: date) -> PriceProblem:
    return PriceProblem("gap", of, first, last, f"no price from {first} to {last}.")


def _clashes(of: str, rows: Iterable[PriceRow | EcsPrice], first: date, last: date) -> Iterator[PriceProblem]:
    """Rows of one item or type that are there twice, that contradict each other, or that end before they begin."""
    ordered = sorted(rows, key=lambda row: row.valid_from)
    for row in ordered:
        if row.valid_to and row.valid_to < row.valid_from:
            yield PriceProblem(
                "dates", of, first, last, f"a price is valid from {row.valid_from} to {row.valid_to}, which is before."
            )
    for since, twins in groupby(ordered, key=lambda row: row.valid_from):
        same = list(twins)
        if len(same) < 2 or since > last:
            continue
        amounts = list(dict.fromkeys(row.price for row in same))
        if len(amounts) == 1:
            yield PriceProblem("duplicate", of, since, last, f"{len(same)} rows say {amounts[0]:f} from {since}.")
        else:
            several = " and ".join(f"{amount:f}" for amount in amounts)
            yield PriceProblem("overlap", of, since, last, f"{several} hold from {since}; {amounts[0]:f} is taken.")
    for row, following in pairwise(ordered):
        if not row.valid_to or row.valid_from == following.valid_from or row.price == following.price:
            continue
        if row.valid_to >= following.valid_from and row.valid_to >= first and following.valid_from <= last:
            yield PriceProblem(
                "overlap",
                of,
                following.valid_from,
                row.valid_to,
                f"{row.price:f} holds to {row.valid_to}, and {following.price:f} from {following.valid_from}; the newer is taken.",
            )
