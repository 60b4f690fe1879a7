"""The one formula for what a pod is charged: its billed spec times the list price of a second.

List price of a second = vCPU × price of a vCPU + GiB × price of a GiB + GiB of ephemeral storage above 30 × its price.
What was *requested* or *used* plays no part (https://help.aliyun.com/zh/eci/product-overview/elastic-container-instances).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from runbook.eci import prices
from runbook.eci.prices import PriceRow
from runbook.eci.specs import Mode, SpecMatch

SECONDS_PER_HOUR = 3600


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
    amounts = {
        prices.VCPU: found.vcpu,
        prices.MEMORY: found.memory_gib,
        prices.EPHEMERAL: found.extra_ephemeral_gib,
    }
    priced: list[tuple[Decimal, PriceRow]] = []
    for item, amount in amounts.items():
        if not amount:
            continue
        row = prices.find(
            prices.shipped() if rows is None else rows,
            item,
            site=site,
            region=found.region,
            category=found.compute_category,
            on=on,
        )
        if row is None:
            day = f" on {on}" if on else ""
            return ListPrice(None, currency, reason=f"The price list of the site {site} has no price for {item}{day}.")
        priced.append((amount, row))
    return ListPrice(
        sum((amount * row.price for amount, row in priced), Decimal(0)),
        currency,
        max(row.valid_from for _, row in priced),
        sources=tuple(dict.fromkeys(row.source for _, row in priced)),
    )
