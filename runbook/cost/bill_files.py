"""Bills that were exported as CSV files, of three families of headers: bytes in, a Bill out.

    bill = parse(path.read_bytes(), name=path.name, currency="CNY")

The console's bill file names its columns `组/列` in Chinese, its English twin `Group/Column`, and the older file that OSS
receives by subscription plainly (https://www.alibabacloud.com/help/en/user-center/v2-version-bill-field-description-1,
https://help.aliyun.com/document_detail/89133.html). Files may begin with a byte order mark and blank lines.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runbook.cost.bill import Bill
from runbook.cost.bill_row import PAGE, BillRow, read
from runbook.errors import BillError


@dataclass(frozen=True)
class Family:
    """One family of headers: the column of each cell that `bill_row.read` takes, the first that is there; `marks` are in every file of it."""

    name: str
    marks: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]
    taxed: tuple[str, ...] = ()
    """Columns of the amount to be paid that include tax."""

    def among(self, header: Sequence[str]) -> bool:
        return set(self.marks) <= set(header) and any(name in header for name in self.columns["pretax"])


CONSOLE_CHINESE = Family(
    "console, Chinese",
    ("账单信息/账单月份", "资源信息/实例ID（出账粒度）"),
    {
        "line_id": ("标识信息/账单明细ID",),
        "account": ("身份信息/资源归属账号ID", "身份信息/资源购买账号ID"),
        "month": ("账单信息/账单月份",),
        "day": ("账单信息/账单日期",),
        "kind": ("账单信息/费用类型",),
        "start": ("账单信息/服务开始时间",),
        "end": ("账单信息/服务结束时间",),
        "product_code": ("产品信息/产品Code",),
        "product_name": ("产品信息/产品名称",),
        "commodity_code": ("产品信息/商品Code",),
        "item_code": ("产品信息/计费项Code",),
        "item_name": ("产品信息/计费项名称",),
        "instance": ("资源信息/实例ID（出账粒度）",),
        "tags": ("资源信息/资源标签",),
        "usage": ("用量信息/抵扣前用量", "用量信息/用量"),
        "unit": ("用量信息/用量单位",),
        "currency": ("定价信息/定价币种",),
        "listed": ("费用信息/目录总价",),
        "after_discount": ("优惠信息/优惠后金额",),
        "pretax": ("应付信息/应付金额（不含税）", "应付信息/应付金额（含税）"),
    },
    taxed=("应付信息/应付金额（含税）",),
)

CONSOLE_ENGLISH = Family(
    "console, English",
    ("BillingDetails/BillingMonth", "ResourceDetails/InstanceId"),
    {
        "line_id": ("LineItemDetails/BillingDetailsId", "LineItemDetails/LineItemId"),
        "account": ("IdentityDetails/ResourceOwnerAccountId", "IdentityDetails/ResourcePurchaseAccountId"),
        "month": ("BillingDetails/BillingMonth",),
        "day": ("BillingDetails/BillingDate",),
        "kind": ("BillingDetails/LineItemType",),
        "start": ("BillingDetails/ServiceStartTime",),
        "end": ("BillingDetails/ServiceEndTime",),
        "product_code": ("ProductDetails/ProductCode",),
        "product_name": ("ProductDetails/ProductName",),
        "commodity_code": ("ProductDetails/CommodityCode",),
        "item_code": ("ProductDetails/BillingItemCode",),
        "item_name": ("ProductDetails/BillingItemName", "ProductDetails/BillingItem"),
        "instance": ("ResourceDetails/InstanceId",),
        "tags": ("ResourceDetails/ResourceTag",),
        "usage": ("UsageDetails/UsageBeforeDeduction", "UsageDetails/Usage"),
        "unit": ("UsageDetails/UsageUnit",),
        "currency": ("PricingDetails/Currency",),
        "listed": ("FeeDetails/GrossAmount",),
        "after_discount": ("DiscountDetails/AmountAfterDiscount",),
        "pretax": ("PayableDetails/TaxExclusivePayableAmount", "PayableDetails/TaxInclusivePayableAmount"),
    },
    taxed=("PayableDetails/TaxInclusivePayableAmount",),
)

SUBSCRIBED = Family(
    "subscribed to OSS",
    ("BillingCycle", "InstanceID", "UsageStartTime"),
    {
        "line_id": ("RecordID",),
        "account": ("OwnerID", "AccountID"),
        "month": ("BillingCycle",),
        "day": ("BillingDate",),
        "kind": ("Item",),
        "start": ("UsageStartTime",),
        "end": ("UsageEndTime",),
        "product_code": ("ProductCode",),
        "product_name": ("ProductName",),
        "commodity_code": ("CommodityCode",),
        "item_code": ("BillingItemCode",),
        "item_name": ("BillingItem",),
        "instance": ("InstanceID",),
        "tags": ("Tag",),
        "usage": ("Usage",),
        "unit": ("UsageUnit",),
        "currency": ("Currency",),
        "listed": ("PretaxGrossAmount",),
        "after_discount": ("AfterDiscountAmount",),
        "pretax": ("PretaxAmount",),
    },
)

FAMILIES = (CONSOLE_CHINESE, CONSOLE_ENGLISH, SUBSCRIBED)

_HEADER_WITHIN = 20
"""Lines in which a header is looked for: exports begin with blank lines, some with a line about the account."""
_ENCODINGS = ("utf-8-sig", "utf-16", "gb18030")
_CELL = 16 * 1024 * 1024


def parse(data: bytes, *, name: str, currency: str) -> Bill:
    """The rows of one exported file; `currency` is that of rows that name none. Raises BillError, before any row is taken, for a
    file of no known family and for a row that cannot be read.
    """
    lines = _lines(data, name)
    numbered = enumerate(lines, start=1)
    header, family = _header(numbered, name)
    rows = (_row(family, header, cells, f"{name}, line {number}", currency) for number, cells in numbered if any(cells))
    return Bill.of(rows, source=name)


def _lines(data: bytes, name: str) -> Iterator[list[str]]:
    for encoding in _ENCODINGS:
        if encoding == "utf-16" and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        csv.field_size_limit(_CELL)
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = "\t" if first.count("\t") > first.count(",") else ","
        return (
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        )
    raise BillError(
        "The file is no text.",
        where=name,
        allowed="CSV in UTF-8 (with or without a byte order mark), UTF-16 or GB 18030",
        remedy="Export the bill as CSV; a ZIP or XLSX file has to be unpacked or saved as CSV first.",
        page=PAGE,
    )


def _header(numbered: Iterator[tuple[int, list[str]]], name: str) -> tuple[list[str], Family]:
    seen: list[str] = []
    for number, cells in numbered:
        family = next((one for one in FAMILIES if one.among(cells)), None)
        if family is not None:
            return cells, family
        seen = max(seen, [cell for cell in cells if cell], key=len)
        if number > _HEADER_WITHIN:
            break
    known = "\n".join(f"{one.name}: {', '.join((*one.marks, one.columns['pretax'][-1]))} …" for one in FAMILIES)
    raise BillError(
        "The file has the header of no bill that is known.",
        where=name,
        value=", ".join(seen[:8]) + (" …" if len(seen) > 8 else "") if seen else "an empty file",
        allowed=known,
        remedy="Export the bill's details from the console's Expenses and Costs, as CSV with all columns.",
        page=PAGE,
    )


def _row(family: Family, header: Sequence[str], cells: Sequence[str], where: str, currency: str) -> BillRow:
    while len(cells) > len(header) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(header):
        raise BillError(
            "A row of the bill has not the columns of its header.",
            where=where,
            value=f"{len(cells)} cells",
            allowed=f"{len(header)}",
            remedy="Is the file cut off, or was it saved by another program? Export it again.",
            page=PAGE,
        )
    named = dict(zip(header, cells, strict=True))
    filled = {
        cell: next(((column, named[column]) for column in columns if named.get(column)), ("", ""))
        for cell, columns in family.columns.items()
    }
    values = {cell: value for cell, (_, value) in filled.items()}
    return read(values, where=where, with_tax=filled["pretax"][0] in family.taxed, currency=currency)
