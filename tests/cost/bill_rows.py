"""Rows of the bill for tests, as Alibaba Cloud's API writes them: a few words each, the rest plain."""

from __future__ import annotations

from typing import Any

from runbook.cost.bill_row import BillRow, from_api


def api_row(
    instance: str = "eci-1", day: str | None = "2026-11-03", item: str = "cpu", **values: Any
) -> dict[str, Any]:
    """One row of DescribeInstanceBill with DAILY granularity, by billing item."""
    row = {
        "InstanceID": instance, "BillingDate": day, "ProductCode": "eci", "ProductName": "弹性容器实例",
        "Item": "PayAsYouGoBill", "BillingItemCode": item, "Currency": "CNY", "OwnerID": "1000000000000001",
        "PretaxGrossAmount": 0.0588, "PretaxAmount": 0.0588, "AfterDiscountAmount": 0.0588, "Usage": "1200",
        "UsageUnit": "vCPU*s", "ServicePeriod": "600", "ServicePeriodUnit": "s",
        "Tag": "key:PodName value:runner-1; key:NameSpace value:gitlab",
    }  # fmt: skip
    row |= {"PretaxGrossAmount": values.get("PretaxAmount", 0.0588)} | values
    return {key: value for key, value in row.items() if value is not None}


def billed(*rows: dict[str, Any]) -> list[BillRow]:
    """The rows, read."""
    return [from_api(row) for row in rows]
