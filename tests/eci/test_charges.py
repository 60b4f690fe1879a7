"""The one formula: vCPU and memory of the billed spec times the list price, exactly."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from runbook.eci import charges, specs
from runbook.eci.charges import ListPrice
from runbook.errors import SettingsError
from runbook.quantities import Size


def price(text: str, *, site: str = "cn", category: str | None = None, region: str = "cn-hangzhou") -> ListPrice:
    return charges.list_price(specs.match(Size.parse(text), region=region, compute_category=category), site=site)


# spec; an hour in CNY general, CNY economy, USD general, USD economy, as calculated from the vendor's pages by hand
HOURLY = [
    ("0.25/0.5Gi", None, "0.035334", None, "0.005544"),
    ("0.5/1Gi", None, "0.070668", None, "0.011088"),
    ("1/2Gi", "0.220536", "0.141336", "0.034632", "0.022176"),
    ("2/4Gi", "0.441072", "0.282672", "0.069264", "0.044352"),
    ("2/8Gi", "0.529344", "0.370944", "0.083088", "0.058176"),
    ("4/6Gi", "0.838008", "0.521208", "0.131616", "0.081792"),
    ("4/8Gi", "0.882144", "0.565344", "0.138528", "0.088704"),
    ("4/16Gi", "1.058688", "0.741888", "0.166176", "0.116352"),
    ("8/16Gi", "1.764288", "1.130688", "0.277056", "0.177408"),
    ("16/32Gi", "3.528576", None, "0.554112", None),
]
MODES = [("cn", "general"), ("cn", "economy"), ("intl", "general"), ("intl", "economy")]
ROWS = [
    (row[0], site, category, amount)
    for row in HOURLY
    for (site, category), amount in zip(MODES, row[1:], strict=True)
    if amount
]


@pytest.mark.parametrize(("spec", "site", "category", "amount"), ROWS)
def test_price_of_an_hour(spec: str, site: str, category: str, amount: str) -> None:
    """The list price of an hour is exact on both sites and in both categories."""
    answer = price(spec, site=site, category=category)
    assert answer.per_hour == Decimal(amount)
    assert answer.currency == {"cn": "CNY", "intl": "USD"}[site]


def test_small_specs_without_a_category_cost_like_general() -> None:
    """Below one vCPU there is no general category, but its prices hold where none is named."""
    assert price("0.25/0.5Gi").per_hour == Decimal("0.055134")


def test_vendor_example_of_a_second() -> None:
    """2 vCPU and 4 GiB cost 0.00012252 a second, the figure of the price API's own example."""
    assert price("2/4Gi").per_second == Decimal("0.00012252")


def test_price_carries_its_date_and_page() -> None:
    """A price says since when it is valid and where it was read."""
    answer = price("4/8Gi")
    assert answer.price_date == date(2024, 11, 27)
    assert answer.sources == ("https://help.aliyun.com/zh/eci/product-overview/elastic-container-instances",)
    assert answer.reason is None


def test_extra_ephemeral_storage_is_charged() -> None:
    """Twenty GiB above the free thirty add their price; on the international site none is known, so nothing is."""
    found = replace(specs.match(Size.parse("2/4Gi"), region="cn-hangzhou"), extra_ephemeral_gib=Decimal(20))
    assert charges.list_price(found, site="cn").per_hour == Decimal("0.441072") + 20 * Decimal("0.002124")
    abroad = charges.list_price(found, site="intl")
    assert abroad.per_hour is None
    assert "no price for ephemeral-storage" in str(abroad.reason)


def test_spot_has_no_list_price() -> None:
    """A spot instance costs what its ECS type costs: no number, but the reason and the currency."""
    answer = charges.list_price(specs.match(Size.parse("2/4Gi"), region="cn-hangzhou", spot=True), site="intl")
    assert (answer.per_second, answer.per_hour, answer.price_date, answer.currency) == (None, None, None, "USD")
    assert "market price of the ECS type" in str(answer.reason)


def test_ecs_type_has_no_list_price() -> None:
    """An ECS type is named in the reason why there is no price."""
    found = specs.match(Size(), region="cn-hangzhou", use_specs=["ecs.c6.large"])
    answer = charges.list_price(found, site="cn")
    assert answer.per_hour is None
    assert "ecs.c6.large" in str(answer.reason)


def test_price_of_a_day_before_the_list() -> None:
    """Before the first known price there is none, and the reason names the day."""
    found = specs.match(Size(), region="cn-hangzhou")
    answer = charges.list_price(found, site="cn", on=date(2019, 1, 1))
    assert answer.per_hour is None
    assert "on 2019-01-01" in str(answer.reason)


def test_unknown_site_is_refused() -> None:
    """A misspelt site is an error, not an unknown price."""
    with pytest.raises(SettingsError):
        price("2/4Gi", site="china")
