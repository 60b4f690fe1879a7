"""Prices are dated rows, and a price that no row gives is unknown, never zero."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from runbook.eci import prices
from runbook.eci.prices import PriceRow
from runbook.errors import SettingsError

OLD = PriceRow("cn", "*", "CNY", "general", "vcpu", Decimal("0.00005"), date(2022, 1, 1), "https://old")
NEW = replace(OLD, price=Decimal("0.00004"), valid_from=date(2024, 1, 1), source="https://new")
REGIONAL = replace(OLD, region="cn-hongkong", price=Decimal("0.00006"))
ECONOMY = replace(OLD, compute_category="economy", price=Decimal("0.00002"))
ANY_CATEGORY = replace(OLD, item="ephemeral-storage", compute_category="*", price=Decimal("0.0000006"))
ROWS = (NEW, OLD, REGIONAL, ECONOMY, ANY_CATEGORY)


def test_the_newest_row_holds() -> None:
    """Without a day the newest price is taken."""
    assert prices.find(ROWS, "vcpu", site="cn", region="cn-hangzhou") == NEW


@pytest.mark.parametrize(("day", "row"), [((2023, 12, 31), OLD), ((2024, 1, 1), NEW), ((2021, 12, 31), None)])
def test_the_row_of_a_day(day: tuple[int, int, int], row: PriceRow | None) -> None:
    """On a day holds the newest price that was valid then, and before the first one none is known."""
    assert prices.find(ROWS, "vcpu", site="cn", region="cn-hangzhou", on=date(*day)) == row


def test_a_regional_price_wins() -> None:
    """A row of the region itself goes before a row for any region, even a newer one."""
    assert prices.find(ROWS, "vcpu", site="cn", region="cn-hongkong") == REGIONAL


def test_prices_by_compute_category() -> None:
    """A category has its own row, an item without categories the row for any, and no category costs like general."""
    assert prices.find(ROWS, "vcpu", site="cn", region="x", category="economy") == ECONOMY
    assert prices.find(ROWS, "vcpu", site="cn", region="x", category="general") == NEW
    assert prices.find(ROWS, "ephemeral-storage", site="cn", region="x", category="economy") == ANY_CATEGORY


@pytest.mark.parametrize(("item", "site"), [("vcpu", "intl"), ("memory", "cn")])
def test_no_row_no_price(item: str, site: str) -> None:
    """Where no row holds, there is no price."""
    assert prices.find(ROWS, item, site=site, region="cn-hangzhou") is None


def test_the_shipped_rows() -> None:
    """Every shipped row has a known site and its currency, a positive price, a page, and is there once."""
    rows = prices.shipped()
    assert all(row.currency == prices.SITES[row.site] for row in rows)
    assert all(row.price > 0 and row.source.startswith("https://") for row in rows)
    assert len({replace(row, price=Decimal(0), source="") for row in rows}) == len(rows)


def test_unknown_site() -> None:
    """A site that does not exist is refused with the two that do."""
    with pytest.raises(SettingsError) as caught:
        prices.currency("eu")
    assert "cn (aliyun.com, CNY)" in str(caught.value.allowed)


def test_price_list_that_is_not_there(tmp_path: Path) -> None:
    """A missing price list is a clear error that names the file."""
    with pytest.raises(SettingsError) as caught:
        prices.load(tmp_path / "prices.csv")
    assert "prices.csv" in str(caught.value.where)
