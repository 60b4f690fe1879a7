"""The practice cloud's bill by the vendor's rules: whole seconds, settled hours, a spot hour that is protected, small fees."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from sandbox.alibaba import bss
from sandbox.alibaba.cloud import Cloud, Options
from sandbox.alibaba.errors import ApiError
from sandbox.alibaba.journal import Journal
from sandbox.alibaba.prices import SITES, EcsType, spot_hour
from tests.sandbox.alibaba_journal import JournalWriter

START = datetime(2026, 11, 10, 2, 49, 30, tzinfo=UTC)  # 10:49:30 in China
QUESTION = {"BillingCycle": "2026-11", "BillingDate": "2026-11-10", "Granularity": "DAILY", "IsBillingItem": "true"}
C6 = EcsType.holding(2, 4)


def cloud_of(writer: JournalWriter, rounding: Literal["none", "hour", "instance"] = "none") -> Cloud:
    journal = Journal(writer.path, "cn-hangzhou")
    journal.read()
    return Cloud(journal, Options(bill_rounding=rounding), {}, lambda: START + timedelta(days=3))


def rows_of(cloud: Cloud, **question: str) -> dict[str, Mapping[str, Any]]:
    """The day's rows by their item."""
    rows = bss.describe_instance_bill(cloud, QUESTION | question)["Data"]["Items"]
    return {row.get("BillingItemCode", ""): row for row in rows}


@pytest.fixture
def writer(tmp_path: Path) -> JournalWriter:
    return JournalWriter(tmp_path / "journal.jsonl", START)


def test_the_vendors_example_of_a_settlement(writer: JournalWriter) -> None:
    """An instance from 10:49:30 to 11:20:05 is charged 630 and 1205 seconds of its vCPU and its memory."""
    writer.made(0, "example")
    writer.ended(630 + 1205, "example")
    rows = rows_of(cloud_of(writer))
    assert {item: row["ServicePeriod"] for item, row in rows.items()} == {"cpu": "1835", "mem": "1835"}
    assert rows["cpu"]["PretaxAmount"] == round(1835 * 2 * 0.000049, 6)
    assert rows["mem"]["PretaxAmount"] == round(1835 * 4 * 0.00000613, 6)


def test_seconds_are_whole(writer: JournalWriter) -> None:
    """Between the moments that a pod shows lie whole seconds, and these are charged: parts of a second are not."""
    writer.made(10.7, "parts")
    writer.ended(20.2, "parts")
    assert rows_of(cloud_of(writer))["cpu"]["ServicePeriod"] == "10"


def test_a_spot_instance_pays_the_market_once_its_first_hour_is_over(writer: JournalWriter) -> None:
    """The first hour is at the price of its start, across the full hour; the second after it is at the market's."""
    writer.made(0, "spot", spot=True)
    writer.ended(3 * 3600, "spot")
    prices = SITES["cn"]

    def market(at: datetime) -> Decimal:
        return spot_hour(C6, "cn-hangzhou-i", at, prices)

    over = START + timedelta(hours=1)
    full = [over.replace(minute=0, second=0) + timedelta(hours=number) for number in (1, 2)]
    expected = market(START) * 3600 + market(over) * (full[0] - over).seconds
    expected += market(full[0]) * 3600 + market(full[1]) * (START + timedelta(hours=3) - full[1]).seconds
    row = rows_of(cloud_of(writer))["instance_type"]
    assert row["PretaxAmount"] == pytest.approx(float(expected / 3600), abs=1e-6)
    assert row["PretaxGrossAmount"] == pytest.approx(float(3 * C6.hour(prices)), abs=1e-6)


SMALL = [
    ("none", 1835, 1835 * 0.00012252),
    ("hour", 30, 0.0),  # 0.0037
    ("hour", 60, 0.01),  # 0.0074
    ("hour", 660, 630 * 0.00012252),  # 0.0772 and 0.0037: of two hours, the second is nothing
    ("instance", 60, 0.01),
    ("instance", 660, 660 * 0.00012252),
]


@pytest.mark.parametrize(("rounding", "seconds", "amount"), SMALL)
def test_fees_below_a_cent(
    writer: JournalWriter, rounding: Literal["none", "hour", "instance"], seconds: int, amount: float
) -> None:
    """A fee below 0.01 becomes 0.01 or nothing, of an hour or of the whole instance; a larger one stays to its last digit."""
    writer.made(0, "small")
    writer.ended(seconds, "small")
    rows = rows_of(cloud_of(writer, rounding))
    assert sum(row["PretaxAmount"] for row in rows.values()) == pytest.approx(amount, abs=2e-6)


def test_without_items_an_instance_is_one_row(writer: JournalWriter) -> None:
    """Added up, the items are one row with the seconds of the instance, not of its items."""
    writer.made(0, "whole", annotations={"k8s.aliyun.com/eci-extra-ephemeral-storage": "20Gi"})
    writer.ended(100, "whole")
    (row,) = rows_of(cloud_of(writer), IsBillingItem="false").values()
    assert row["ServicePeriod"] == "100"
    assert row["PretaxAmount"] == pytest.approx(100 * (0.00012252 + 20 * 0.00000059), abs=1e-6)


def test_a_day_of_many_instances_is_paged_in_order(writer: JournalWriter) -> None:
    """Pages of a day's bill hold each row once, in the same order as all rows; a token of another bill is refused."""
    for number in range(250):
        writer.made(number, f"job{number:03}")
        writer.ended(number + 60, f"job{number:03}")
    cloud, found, token = cloud_of(writer), [], ""
    while True:
        data = bss.describe_instance_bill(cloud, QUESTION | {"MaxResults": "300", "NextToken": token})["Data"]
        found += [(row["InstanceID"], row["BillingItemCode"]) for row in data["Items"]]
        token = data.get("NextToken", "")
        if not token:
            break
    assert len(found) == len(set(found)) == data["TotalCount"] == 500
    for wrong in (
        "bm9uc2Vuc2U=",
        "%%%",
        bss.describe_instance_bill(cloud, QUESTION | {"MaxResults": "20"})["Data"]["NextToken"],
    ):
        with pytest.raises(ApiError):
            bss.describe_instance_bill(cloud, QUESTION | {"NextToken": wrong, "InstanceID": "eci-bp1job000"})


def test_days_that_have_not_come_are_not_billed(writer: JournalWriter) -> None:
    """A day is on the bill a day after its end, by the newest moment that was played."""
    writer.made(0, "early")
    writer.ended(60, "early")
    cloud = cloud_of(writer)
    cloud.clock = lambda: START
    assert rows_of(cloud) == {}
    writer.made(2 * 86400, "late")
    cloud.journal.read()
    assert set(rows_of(cloud)) == {"cpu", "mem"}
