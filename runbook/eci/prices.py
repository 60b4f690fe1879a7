"""ECI's list prices as dated rows: which price an item has on a site, in a region, in a compute category, on a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

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

_COLUMNS = frozenset({"site", "region", "currency", "compute_category", "item", "price", "valid_from", "source"})


@dataclass(frozen=True)
class PriceRow:
    """The price of one unit of one item for a second, from `valid_from` on, until a newer row of the same kind."""

    site: str
    region: str
    currency: str
    compute_category: str
    item: str
    price: Decimal
    valid_from: date
    source: str


def load(path: Path = tables.DATA / "prices" / "eci-list-prices.csv") -> tuple[PriceRow, ...]:
    """The rows of a price list. Raises SettingsError where the file is missing or lacks a column."""
    return tuple(
        PriceRow(
            row["site"],
            row["region"],
            row["currency"],
            row["compute_category"],
            row["item"],
            Decimal(row["price"]),
            date.fromisoformat(row["valid_from"]),
            row["source"],
        )
        for row in tables.rows(path, _COLUMNS)
    )


@cache
def shipped() -> tuple[PriceRow, ...]:
    """The price list of `data/prices`, read once."""
    return load()


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
    rows: Sequence[PriceRow],
    item: str,
    *,
    site: str,
    region: str,
    category: str | None = None,
    on: date | None = None,
) -> PriceRow | None:
    """The row that holds for an item: of this region before any region, then the newest not after `on` (None: newest).

    None where no row holds: the price is unknown, not zero.
    """
    holding = [
        row
        for row in rows
        if (row.site, row.item) == (site, item)
        and row.region in (region, ANY)
        and row.compute_category in (category or DEFAULT_CATEGORY, ANY)
        and (on is None or row.valid_from <= on)
    ]
    return max(holding, key=lambda row: (row.region != ANY, row.compute_category != ANY, row.valid_from), default=None)
