"""BSS 2017-12-14: the bill, a row a day, instance and item, as this stand-in reads the vendor's pages.

Billed is the time from an instance's making to the end of its charge, in whole seconds and settled by the hour; days are
China's. A spot instance pays its first hour at the price of its start, and from the second that this hour is over the
market's. Units of `Usage` and `ServicePeriod` of ECI rows are not documented: they are vCPU-seconds, GiB-seconds and
seconds here.
https://help.aliyun.com/zh/eci/product-overview/billing-overview
https://help.aliyun.com/zh/eci/user-guide/create-a-preemptible-elastic-container-instance-1
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal

from sandbox.alibaba.cloud import Answer, Cloud, Query, need, whole
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
_ONE_EACH = ("cpu", "instance_type")
"""Of these items an instance has one: its seconds are counted once where items are added up."""
_EMPTY_AMOUNTS = (
    "DeductedByResourcePackage", "DeductedByCoupons", "DeductedByCashCoupons", "DeductedByPrepaidCard", "AdjustAmount",
    "OutstandingAmount", "CashAmount",
)  # fmt: skip


@dataclass
class _Sum:
    """What one item of one instance adds up to."""

    usage: Decimal = Decimal(0)
    seconds: int = 0
    gross: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    list_price: Decimal = Decimal(0)


@dataclass(frozen=True)
class _Charge:
    """`amount` units of an item, at a list and a paid price for each unit and second."""

    item: str
    amount: Decimal
    listed: Decimal
    paid: Decimal


@dataclass(frozen=True)
class _Fee:
    """What one item costs in one piece of a settled hour."""

    begin: datetime
    seconds: int
    charge: _Charge

    @property
    def gross(self) -> Decimal:
        return self.charge.amount * self.charge.listed * self.seconds

    @property
    def paid(self) -> Decimal:
        return self.charge.amount * self.charge.paid * self.seconds

    @property
    def hour(self) -> datetime:
        return self.begin.replace(minute=0, second=0)


def describe_instance_bill(cloud: Cloud, query: Query) -> Answer:
    """Paged by token, 20 to 300 rows at a time; the token is the number of the next row."""
    rows = _rows(cloud, query)
    limit = whole(query, "MaxResults", 20, 300)
    start = _row_number(query.get("NextToken"), len(rows))
    data = _account(query) | {"Items": rows[start : start + limit], "TotalCount": len(rows), "MaxResults": limit}
    following = {"NextToken": _token(start + limit)} if start + limit < len(rows) else {}
    return _success(data | following)


def _token(number: int) -> str:
    return base64.urlsafe_b64encode(f"row {number}".encode()).decode()


def _row_number(token: str | None, count: int) -> int:
    """The row that a token names; the first one without a token."""
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition(" ")
    except (binascii.Error, UnicodeDecodeError):
        raise invalid("NextToken") from None
    if word != "row" or not number.isdecimal() or int(number) >= count:
        raise invalid("NextToken", "The specified NextToken is not valid or has expired.")
    return int(number)


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
    finished = (cloud.latest() - cloud.options.bill_delay).astimezone(CHINA).date()
    billed = tuple(day for day in days if day < finished)
    key = (billed, items, daily, cloud.journal.position)
    if key not in cloud.bills:
        cloud.bills.clear()  # the journal has grown, or another day is asked for: one bill is kept for paging
        cloud.bills[key] = list(_bill(cloud, set(billed), items=items, daily=daily))
    rows: list[Answer] = cloud.bills[key]
    if wanted := query.get("InstanceID"):
        rows = [row for row in rows if row["InstanceID"] == wanted]
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
    if not days:
        return
    first = datetime.combine(min(days), time(), CHINA)
    last = datetime.combine(max(days), time(), CHINA) + timedelta(days=1)
    for group in cloud.journal.groups.values():
        start, end = _charged(cloud, group)
        if end <= first or start >= last:
            continue
        sums: dict[tuple[date | None, str], _Sum] = defaultdict(_Sum)
        for fee, gross, paid in _rounded(cloud, _fees(cloud, group, start, end)):
            day = fee.begin.astimezone(CHINA).date()
            if day not in days:
                continue
            entry = sums[day if daily else None, fee.charge.item if items else ""]
            entry.usage += fee.charge.amount * fee.seconds
            if items or fee.charge.item in _ONE_EACH:
                entry.seconds += fee.seconds
            entry.gross += gross
            entry.paid += paid
            entry.list_price = fee.charge.listed
        for (day_, item), entry in sums.items():
            yield _row(cloud, group, day_, item, entry)


def _charged(cloud: Cloud, group: ContainerGroup) -> tuple[datetime, datetime]:
    """From when to when an instance is charged, in whole seconds: the moments that its pod shows."""
    until = group.charged_until or cloud.now()
    return group.charged_from.replace(microsecond=0), until.replace(microsecond=0)


def _fees(cloud: Cloud, group: ContainerGroup, start: datetime, end: datetime) -> Iterator[_Fee]:
    """The settled pieces of a charge: it is cut at every full hour, and a spot instance's where its protection ends."""
    protected = min(start + HOUR, end) if group.made["spot"] else start
    for begin, until in (*_hours(start, protected), *_hours(protected, end)):
        for charge in _charges(cloud, group, start if begin < protected else begin):
            yield _Fee(begin, int((until - begin).total_seconds()), charge)


def _hours(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        following = min(start.replace(minute=0, second=0) + HOUR, end)
        yield start, following
        start = following


def _charges(cloud: Cloud, group: ContainerGroup, priced_at: datetime) -> Iterator[_Charge]:
    """The items of an instance; a spot instance pays the market price of `priced_at`."""
    made, prices = group.made, cloud.prices
    named = EcsType.parse(made["ecs_type"]) if made["ecs_type"] else None
    if made["spot"] or named is not None:
        kind = spot_type(group) if made["spot"] else named
        listed = kind.hour(prices) / 3600 if kind else Decimal(0)
        paid = spot_hour(kind, made["zone"], priced_at, prices) / 3600 if kind and made["spot"] else listed
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


def _rounded(cloud: Cloud, fees: Iterable[_Fee]) -> Iterator[tuple[_Fee, Decimal, Decimal]]:
    """Each fee with its list and its paid amount, after rounding.

    Below 0.01 an instance's fee becomes 0.01 or 0; larger ones stay as they are. Its items keep their shares of it.
    """
    rounding = cloud.options.bill_rounding
    if rounding == "none":
        for fee in fees:
            yield fee, fee.gross, fee.paid
        return
    settled: dict[datetime | None, list[_Fee]] = defaultdict(list)
    for fee in fees:
        settled[fee.hour if rounding == "hour" else None].append(fee)
    for together in settled.values():
        gross = _factor(sum((fee.gross for fee in together), Decimal(0)))
        paid = _factor(sum((fee.paid for fee in together), Decimal(0)))
        for fee in together:
            yield fee, fee.gross * gross, fee.paid * paid


def _factor(amount: Decimal) -> Decimal:
    small = 0 < amount < _CENT
    return amount.quantize(_CENT, ROUND_HALF_UP) / amount if small else Decimal(1)


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
        "Currency": cloud.prices.currency, "ServicePeriod": str(entry.seconds), "ServicePeriodUnit": "s",
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
