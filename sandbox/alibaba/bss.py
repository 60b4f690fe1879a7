"""BSS 2017-12-14: the bill, a row a day, instance and item, as this stand-in reads the vendor's pages.

Billed is the time from an instance's making to the end of its charge, by the second and settled by the hour; days are
China's. A spot instance pays its first hour at the price of its start, and afterwards the market's. Units of `Usage`
and `ServicePeriod` of ECI rows are not documented: they are vCPU-seconds, GiB-seconds and seconds here.
https://help.aliyun.com/zh/eci/product-overview/billing-overview
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal

from sandbox.alibaba.cloud import Answer, Cloud, Query, need, page, whole
from sandbox.alibaba.eci import extra_ephemeral_gib, spot_type
from sandbox.alibaba.errors import invalid
from sandbox.alibaba.journal import ContainerGroup
from sandbox.alibaba.prices import EcsType, eci_second, spot_hour

VERSION = "2017-12-14"
CHINA = timezone(timedelta(hours=8))
HOUR = timedelta(hours=1)
_CENT = Decimal("0.01")
_ITEM_NAMES = {"cpu": "vCPU", "mem": "Memory", "instance_type": "Instance type", "systemdisk": "Ephemeral storage"}
_USAGE_UNITS = {"cpu": "vCPU*s", "mem": "GiB*s", "instance_type": "s", "systemdisk": "GiB*s"}
_EMPTY_AMOUNTS = (
    "DeductedByResourcePackage", "DeductedByCoupons", "DeductedByCashCoupons", "DeductedByPrepaidCard", "AdjustAmount",
    "OutstandingAmount", "CashAmount",
)  # fmt: skip


@dataclass
class _Sum:
    """What one item of one instance adds up to."""

    usage: Decimal = Decimal(0)
    seconds: Decimal = Decimal(0)
    gross: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    list_price: Decimal = Decimal(0)


@dataclass(frozen=True)
class _Charge:
    """One hour of one item: `amount` units, at a list and a paid price for each unit and second."""

    item: str
    amount: Decimal
    listed: Decimal
    paid: Decimal


def describe_instance_bill(cloud: Cloud, query: Query) -> Answer:
    """Paged by token, 20 to 300 rows at a time."""
    rows = _rows(cloud, query)
    limit = whole(query, "MaxResults", 20, 300)
    numbered = list(enumerate(rows))
    shown, token = page(numbered, query.get("NextToken"), limit, lambda row: str(row[0]))
    data = _account(query) | {"Items": [row for _, row in shown], "TotalCount": len(rows), "MaxResults": limit}
    return _success(data | ({"NextToken": token} if token else {}))


def query_instance_bill(cloud: Cloud, query: Query) -> Answer:
    """The older call, paged by number."""
    rows = _rows(cloud, query)
    number, size = whole(query, "PageNum", 1, 10_000), whole(query, "PageSize", 20, 300)
    shown = rows[(number - 1) * size : number * size]
    lacking = ("BillingItemCode", "ItemName", "BizType", "AfterDiscountAmount", "BillAccountID", "BillAccountName")
    items = [{key: value for key, value in row.items() if key not in lacking} for row in shown]
    return _success(
        _account(query) | {"Items": {"Item": items}, "TotalCount": len(rows), "PageNum": number, "PageSize": size}
    )


def _account(query: Query) -> Answer:
    return {"AccountID": "1000000000000001", "AccountName": "practice", "BillingCycle": query["BillingCycle"]}


def _success(data: Answer) -> Answer:
    return {"Code": "Success", "Message": "Successful!", "Success": True, "Data": data}


def _rows(cloud: Cloud, query: Query) -> list[Answer]:
    days = _days(query)
    if query.get("ProductCode", "eci") != "eci":
        return []
    items = query.get("IsBillingItem", "").lower() == "true"
    daily = query.get("Granularity") == "DAILY"
    finished = (cloud.now() - cloud.options.bill_delay).astimezone(CHINA).date()
    billed = tuple(day for day in days if day < finished)
    key = (billed, items, daily, cloud.journal.position)
    if key not in cloud.bills:
        cloud.bills.clear()  # the journal has grown, or another day is asked for: one bill is kept for paging
        cloud.bills[key] = list(_bill(cloud, set(billed), items=items, daily=daily))
    wanted = query.get("InstanceID")
    rows: list[Answer] = [row for row in cloud.bills[key] if wanted in (None, row["InstanceID"])]
    if query.get("IsHideZeroCharge", "").lower() == "true":
        rows = [row for row in rows if row["PretaxAmount"]]
    return rows


def _days(query: Query) -> list[date]:
    (cycle,) = need(query, "BillingCycle")
    granularity = query.get("Granularity", "MONTHLY")
    if granularity not in ("MONTHLY", "DAILY"):
        raise invalid("Granularity", "Granularity must be MONTHLY or DAILY.")
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", cycle):
        raise invalid("BillingCycle", "BillingCycle must look like 2026-11.")
    first = date.fromisoformat(f"{cycle}-01")
    month = [first + timedelta(days=day) for day in range(31) if (first + timedelta(days=day)).month == first.month]
    if granularity == "MONTHLY":
        return month
    (text,) = need(query, "BillingDate")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise invalid("BillingDate", "BillingDate must look like 2026-11-24.") from None
    if day not in month:
        raise invalid("BillingDate", "BillingDate must lie in BillingCycle.")
    return [day]


def _bill(cloud: Cloud, days: set[date], *, items: bool, daily: bool) -> Iterator[Answer]:
    for group in cloud.journal.groups.values():
        sums: dict[tuple[date | None, str], _Sum] = defaultdict(_Sum)
        for begin, end in _hours(group.charged_from, group.charged_until or cloud.now()):
            day = begin.astimezone(CHINA).date()
            if day not in days:
                continue
            seconds = Decimal(str((end - begin).total_seconds()))
            for charge in _charges(cloud, group, begin):
                entry = sums[day if daily else None, charge.item if items else ""]
                entry.usage += charge.amount * seconds
                entry.seconds += seconds
                entry.gross += _rounded(cloud, charge.amount * charge.listed * seconds)
                entry.paid += _rounded(cloud, charge.amount * charge.paid * seconds)
                entry.list_price = charge.listed
        for (day_, item), entry in sums.items():
            yield _row(cloud, group, day_, item, entry)


def _hours(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The settled pieces of a charge: it is cut at every full hour."""
    while start < end:
        following = min(start.replace(minute=0, second=0, microsecond=0) + HOUR, end)
        yield start, following
        start = following


def _charges(cloud: Cloud, group: ContainerGroup, begin: datetime) -> Iterator[_Charge]:
    made, prices = group.made, cloud.prices
    named = EcsType.parse(made["ecs_type"]) if made["ecs_type"] else None
    if made["spot"] or named is not None:
        kind = spot_type(group) if made["spot"] else named
        listed = kind.hour(prices) / 3600 if kind else Decimal(0)
        paid = listed
        if kind is not None and made["spot"]:
            protected = begin < group.charged_from + HOUR
            paid = spot_hour(kind, made["zone"], group.charged_from if protected else begin, prices) / 3600
        yield _Charge("instance_type", Decimal(1), listed, paid)
    else:
        economy = made["category"] == "economy"
        unit = eci_second(prices, 1, 1, economy=economy)
        sizes = {"cpu": made["vcpu"], "mem": made["memory_gib"]}
        for item, price in unit.items():
            yield _Charge(item, Decimal(str(sizes[item])), price, price)
    extra = extra_ephemeral_gib(group)
    if extra:
        yield _Charge("systemdisk", Decimal(extra), prices.ephemeral_gib_second, prices.ephemeral_gib_second)


def _rounded(cloud: Cloud, amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP) if cloud.options.bill_rounding == "hour" else amount


def _row(cloud: Cloud, group: ContainerGroup, day: date | None, item: str, entry: _Sum) -> Answer:
    made = group.made
    gross, paid = (float(round(value, 6)) for value in (entry.gross, entry.paid))
    row: Answer = {
        "InstanceID": group.id, "NickName": made["pod"], "InstanceSpec": made["spec"], "Region": group.region,
        "InstanceConfig": f"vCPU:{made['vcpu']};Memory:{made['memory_gib']}GiB", "Zone": made["zone"],
        "IntranetIP": made["address"], "InternetIP": "", "ResourceGroup": "practice", "CostUnit": "",
        "Tag": f"key:PodName value:{made['pod']}; key:NameSpace value:{made['namespace']}",
        "ProductCode": "eci", "ProductName": "Elastic Container Instance", "ProductType": "eci", "PipCode": "eci",
        "ProductDetail": "Elastic Container Instance (pay-as-you-go)", "CommodityCode": "eci",
        "Item": "PayAsYouGoBill", "BillingType": "Other", "BizType": "", "SubscriptionType": "PayAsYouGo",
        "Currency": cloud.prices.currency, "ServicePeriod": f"{entry.seconds.normalize():f}", "ServicePeriodUnit": "s",
        "PretaxGrossAmount": gross, "InvoiceDiscount": round(gross - paid, 6), "PretaxAmount": paid,
        "AfterDiscountAmount": paid, "PaymentAmount": paid, "OwnerID": "1000000000000001",
        "BillAccountID": "1000000000000001", "BillAccountName": "practice", "ItemName": "",
        **dict.fromkeys(_EMPTY_AMOUNTS, 0.0),
    }  # fmt: skip
    if day is not None:
        row["BillingDate"] = day.isoformat()
    if item:
        row |= {
            "BillingItem": _ITEM_NAMES[item], "BillingItemCode": item, "ListPrice": f"{entry.list_price:f}",
            "ListPriceUnit": f"{cloud.prices.currency}/{_USAGE_UNITS[item]}", "Usage": f"{entry.usage.normalize():f}",
            "UsageUnit": _USAGE_UNITS[item],
        }  # fmt: skip
    return row


CALLS: dict[str, Callable[[Cloud, Query], Answer]] = {
    "DescribeInstanceBill": describe_instance_bill,
    "QueryInstanceBill": query_instance_bill,
}
LIMITS = {"DescribeInstanceBill": 600}
"""Documented: 10 calls a second."""
