"""One row of Alibaba Cloud's bill: what was billed for one item of one instance, on one day as a rule.

    rows = [from_api(row) for row in client.daily_bill(day)]        # DescribeInstanceBill, QueryInstanceBill

Amounts are exact. Exported files are read by `runbook.cost.bill_files`; what rows add up to is `runbook.cost.bill`.
Fields of the API: https://help.aliyun.com/zh/user-center/developer-reference/api-bssopenapi-2017-12-14-describeinstancebill
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from runbook.eci.charges import CHINA
from runbook.errors import BillError

ECI = "eci"
PAGE = "#bill"
DIGITS = 18
"""Digits after the point that amounts are kept with: more than any bill writes, but a double from JSON may have more of them."""


class Kind(StrEnum):
    """What a row of a bill is about."""

    USAGE = "usage"
    SUBSCRIPTION = "subscription"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    OTHER = "other"


_KINDS = (
    (Kind.REFUND, ("refund", "退")),
    (Kind.ADJUSTMENT, ("adjust", "rounding", "调账", "调整", "抹零", "补偿")),
    (Kind.SUBSCRIPTION, ("subscription", "订阅", "预付", "包年包月")),
    (Kind.USAGE, ("payasyougo", "pay-as-you-go", "按量", "后付", "免费额度")),
)
"""Words that a kind is known by, in the order they are looked for: `subscription refund fee` is a refund."""

ITEMS = {
    "cpu": ("vcpu", "cpu"),
    "mem": ("memory", "mem", "内存"),
    "instance_type": ("instance type", "instance_type", "实例规格"),
    "systemdisk": ("ephemeral", "systemdisk", "system disk", "临时存储", "系统盘"),
}
"""Code of each billing item of ECI, and how the item is called where a row has no code."""

_ECI_NAMES = ("elastic container instance", "弹性容器实例")
_PAIRS = re.compile(r"key:(.*?)\s+value:(.*?)\s*(?:;|$)")
_GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")
_SECONDS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "秒": 1, "min": 60, "minute": 60, "minutes": 60, "分钟": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "小时": 3600, "day": 86400, "days": 86400, "天": 86400,
}  # fmt: skip


class BillRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of a bill. Amounts are before tax unless `with_tax`, with at most DIGITS digits after the point;
    None is unknown.

    `month` is its first day; `day` is None on monthly bills. `list_amount` is before any discount, `pretax_amount` what is to be
    paid, `after_discount` what is left before coupons. `item` is one of ITEMS, or None where a row adds several up.
    `usage` is in `unit`, whose words are the vendor's; `line_id` is the same only for the same row of two exports.
    """

    product: str
    kind: Kind
    currency: str
    month: date
    pretax_amount: Decimal
    day: date | None = None
    list_amount: Decimal | None = None
    after_discount: Decimal | None = None
    with_tax: bool = False
    account: str | None = None
    instance_id: str | None = None
    item: str | None = None
    usage: Decimal | None = None
    unit: str | None = None
    service_seconds: Decimal | None = None
    usage_start: datetime | None = None
    usage_end: datetime | None = None
    tags: dict[str, str] = {}
    line_id: str | None = None


def from_api(row: Mapping[str, Any], *, cycle: str | None = None) -> BillRow:
    """One row of DescribeInstanceBill or QueryInstanceBill. `cycle` is the month that was asked for (`2026-11`): rows of a
    monthly bill do not say. Raises BillError for a row without an amount or a month.
    """
    return read(
        {
            "product_code": row.get("ProductCode"),
            "product_name": row.get("ProductName"),
            "kind": row.get("Item") or row.get("SubscriptionType"),
            "currency": row.get("Currency"),
            "month": row.get("BillingDate") or row.get("BillingCycle") or cycle,
            "day": row.get("BillingDate"),
            "pretax": row.get("PretaxAmount"),
            "listed": row.get("PretaxGrossAmount"),
            "after_discount": row.get("AfterDiscountAmount"),
            "account": row.get("OwnerID") or row.get("BillAccountID"),
            "instance": row.get("InstanceID"),
            "item_code": row.get("BillingItemCode"),
            "item_name": row.get("BillingItem"),
            "usage": row.get("Usage"),
            "unit": row.get("UsageUnit"),
            "period": row.get("ServicePeriod"),
            "period_unit": row.get("ServicePeriodUnit"),
            "tags": row.get("Tag"),
        },
        where=f"a row of DescribeInstanceBill, instance {row.get('InstanceID') or 'unknown'}",
    )


def read(cells: Mapping[str, Any], *, where: str, with_tax: bool = False, currency: str = "") -> BillRow:
    """A row from cells that are named as `from_api` names them. `where` tells of its place in errors, `currency` is taken
    where the row names none. Raises BillError.
    """
    start, end = _moment(cells.get("start"), where), _moment(cells.get("end"), where)
    day = _day(cells.get("day"), where) or (start.astimezone(CHINA).date() if start else None)
    month = _day(cells.get("month"), where) or day
    pretax = _amount(cells.get("pretax"), where)
    if pretax is None or month is None:
        lacking = "an amount" if pretax is None else "a month"
        raise BillError(
            f"A row of the bill has not {lacking}.", where=where, remedy="Export the bill again.", page=PAGE
        )
    return BillRow(
        product=_product(cells.get("product_code"), cells.get("commodity_code"), cells.get("product_name")),
        kind=kind_of(_text(cells.get("kind")) or ""),
        currency=(_text(cells.get("currency")) or currency).upper(),
        month=month.replace(day=1),
        day=day,
        pretax_amount=pretax,
        list_amount=_amount(cells.get("listed"), where),
        after_discount=_amount(cells.get("after_discount"), where),
        with_tax=with_tax,
        account=_text(cells.get("account")),
        instance_id=_instance(_text(cells.get("instance"))),
        item=_item(_text(cells.get("item_code")), _text(cells.get("item_name"))),
        usage=_amount(cells.get("usage"), where),
        unit=_text(cells.get("unit")),
        service_seconds=_span(cells, where, start, end),
        usage_start=start,
        usage_end=end,
        tags=tags_of(_text(cells.get("tags")) or ""),
        line_id=_text(cells.get("line_id")),
    )


@lru_cache(4096)
def kind_of(word: str) -> Kind:
    """What a bill's own word for the kind of a row means, in English or Chinese."""
    lower = word.lower()
    return next((kind for kind, signs in _KINDS if any(sign in lower for sign in signs)), Kind.OTHER)


def tags_of(text: str) -> dict[str, str]:
    """Tags as the API writes them (`key:k value:v; …`) or as the subscribed file does (`k:v;k:v`)."""
    pairs = _PAIRS.findall(text)
    if not pairs:
        pairs = [part.split(":", 1) for part in text.split(";") if ":" in part]
    return {key.strip(): value.strip() for key, value in pairs}


def _text(cell: Any) -> str | None:
    """A cell without the blanks and tabs that exports put around numbers; None where it is empty."""
    text = str(cell).strip() if cell is not None else ""
    return text or None


def _amount(cell: Any, where: str) -> Decimal | None:
    text = _text(cell)
    if text is None or text == "-":
        return None
    try:
        number = Decimal(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise BillError(
            "A cell of the bill is no number.", where=where, value=text, allowed="digits such as 1234.56", page=PAGE
        )
    return round(number, DIGITS)


def _day(cell: Any, where: str) -> date | None:
    """`20261103`, `2026-11-03`, `2026/11/3`, with or without a time; a month's first day for `202611` and `2026-11`."""
    text = _text(cell)
    if text is None:
        return None
    try:
        return _parsed_day(text)
    except ValueError:
        raise BillError(
            "A cell of the bill is no day.", where=where, value=text, allowed="such as 20261103", page=PAGE
        ) from None


@lru_cache(4096)
def _parsed_day(text: str) -> date:
    found = re.match(r"(\d{4})[-/年]?(\d{1,2})(?:[-/月]?(\d{1,2}))?", text)
    if found is None:
        raise ValueError(text)
    return date(int(found[1]), int(found[2]), int(found[3] or 1))


def _moment(cell: Any, where: str) -> datetime | None:
    """`2026-11-03 10:49:30`, in China's time where it names no zone."""
    text = _text(cell)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise BillError(
            "A cell of the bill is no moment.",
            where=where,
            value=text,
            allowed="such as 2026-11-03 10:49:30",
            page=PAGE,
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=CHINA)


def _span(cells: Mapping[str, Any], where: str, start: datetime | None, end: datetime | None) -> Decimal | None:
    """Seconds of service: what the row states, else what lies between its start and end."""
    unit = (_text(cells.get("period_unit")) or "s").lower()
    stated = _amount(cells.get("period"), where)
    if stated is not None and unit in _SECONDS:
        return round(stated * _SECONDS[unit], DIGITS)
    return Decimal(str((end - start).total_seconds())) if start and end else None


def _product(code: Any, commodity: Any, name: Any) -> str:
    """The product's code; `eci` also where only its name says so."""
    codes, called = [_text(code), _text(commodity)], _text(name) or ""
    if ECI in (one.lower() for one in codes if one) or any(sign in called.lower() for sign in _ECI_NAMES):
        return ECI
    return codes[0] or called or codes[1] or "unknown"


def _instance(cell: str | None) -> str | None:
    """The ECI id in a cell that may hold more (`region;id;…`); the cell as it is where it holds none."""
    parts = [part.strip() for part in (cell or "").split(";")]
    return next((part for part in parts if part.startswith("eci-")), cell)


def _item(code: str | None, name: str | None) -> str | None:
    if code and code.lower() in ITEMS:
        return code.lower()
    called = (name or code or "").lower()
    return next((item for item, signs in ITEMS.items() if any(sign in called for sign in signs)), None)
