"""Exported bills: three families of headers give the same rows, and what is no bill is refused with a page."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from runbook.cost.bill_files import FAMILIES, parse
from runbook.cost.bill_row import Kind
from runbook.errors import BillError

CHINESE = {
    "标识信息/账单明细ID": "d-1", "身份信息/资源购买账号ID": "1000000000000001\t", "账单信息/账单月份": "202611",
    "账单信息/账单日期": "20261103", "账单信息/费用类型": "云资源按量费用", "账单信息/消费时间": "2026-11-03 12:00:00",
    "账单信息/服务开始时间": "2026-11-03 10:49:30", "账单信息/服务结束时间": "2026-11-03 11:00:00",
    "产品信息/产品Code": "eci", "产品信息/产品名称": "弹性容器实例", "产品信息/商品Code": "eci", "产品信息/计费项Code": "cpu",
    "产品信息/计费项名称": "vCPU", "资源信息/实例ID（出账粒度）": "cn-hangzhou;eci-bp1gvcwdkv4r89rcsgds;0",
    "资源信息/资源标签": "key:PodName value:runner-1; key:NameSpace value:gitlab", "用量信息/抵扣前用量": "1260",
    "用量信息/用量": "1260", "用量信息/用量单位": "核*秒", "定价信息/定价币种": "CNY", "费用信息/目录总价": "0.061740",
    "优惠信息/优惠后金额": "0.055566", "应付信息/应付金额（含税）": "0.055566",
}  # fmt: skip
ENGLISH = {
    "LineItemDetails/OrderId": "", "IdentityDetails/ResourcePurchaseAccountId": "1000000000000001",
    "BillingDetails/BillingMonth": "202611", "BillingDetails/BillingDate": "20261103",
    "BillingDetails/LineItemType": "PayAsYouGo", "BillingDetails/ServiceStartTime": "2026-11-03 10:49:30",
    "BillingDetails/ServiceEndTime": "2026-11-03 11:00:00", "ProductDetails/ProductCode": "eci",
    "ProductDetails/BillingItemCode": "cpu", "ResourceDetails/InstanceId": "eci-bp1gvcwdkv4r89rcsgds",
    "ResourceDetails/ResourceTag": "key:PodName value:runner-1; key:NameSpace value:gitlab",
    "UsageDetails/Usage": "1260", "UsageDetails/UsageUnit": "core*s", "FeeDetails/GrossAmount": "0.061740",
    "DiscountDetails/AmountAfterDiscount": "0.055566", "PayableDetails/TaxExclusivePayableAmount": "0.055566",
    "PricingDetails/Currency": "CNY",
}  # fmt: skip
SUBSCRIBED = {
    "BillingCycle": "2026-11", "CostUnit": "", "AccountID": "1000000000000001", "AccountName": "practice",
    "OwnerID": "1000000000000001", "SubscriptionType": "PayAsYouGo", "ProductCode": "eci", "ProductName": "弹性容器实例",
    "ProductType": "eci", "ProductDetail": "弹性容器实例", "PaymentTime": "2026-11-03 12:10:00",
    "UsageStartTime": "2026-11-03 10:49:30", "UsageEndTime": "2026-11-03 11:00:00", "ServicePeriod": "630",
    "RecordID": "r-1", "Item": "PayAsYouGoBill", "InstanceID": "eci-bp1gvcwdkv4r89rcsgds",
    "Tag": "PodName:runner-1;NameSpace:gitlab", "PretaxGrossAmount": "0.061740", "InvoiceDiscount": "0.006174",
    "PretaxAmount": "0.055566", "PaymentAmount": "0.055566",
}  # fmt: skip
FILES = {"console, Chinese": CHINESE, "console, English": ENGLISH, "subscribed to OSS": SUBSCRIBED}


def exported(*rows: dict[str, str], delimiter: str = ",") -> str:
    """The text of a file with these rows."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("family", FILES)
def test_each_family_gives_the_same_row(family: str) -> None:
    """Whichever file the console or OSS gave, the instance, day, amounts, seconds and tags are the same."""
    (row,) = parse(exported(FILES[family]).encode(), name="bill.csv", currency="CNY").rows
    assert (row.product, row.kind, row.instance_id) == ("eci", Kind.USAGE, "eci-bp1gvcwdkv4r89rcsgds")
    assert (row.day, row.month, row.account) == (date(2026, 11, 3), date(2026, 11, 1), "1000000000000001")
    assert (row.list_amount, row.pretax_amount, row.currency) == (Decimal("0.061740"), Decimal("0.055566"), "CNY")
    assert row.service_seconds == 630
    assert row.usage_start == datetime(2026, 11, 3, 2, 49, 30, tzinfo=UTC)
    assert row.tags == {"PodName": "runner-1", "NameSpace": "gitlab"}


def test_every_family_has_a_file_here() -> None:
    """No family of headers goes untested."""
    assert [one.name for one in FAMILIES] == list(FILES)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_encodings_and_blank_lines_before_the_header(encoding: str) -> None:
    """A byte order mark, blank first lines and the encodings of Chinese spreadsheets change nothing."""
    text = "\r\n\r\n" + exported(CHINESE)
    (row,) = parse(text.encode(encoding), name="bill.csv", currency="CNY").rows
    assert row.instance_id == "eci-bp1gvcwdkv4r89rcsgds"


def test_tabs_between_columns() -> None:
    """A file whose columns are parted by tabs is read like one with commas."""
    (row,) = parse(exported(ENGLISH, delimiter="\t").encode(), name="bill.tsv", currency="CNY").rows
    assert row.pretax_amount == Decimal("0.055566")


def test_thousands_are_grouped_by_commas() -> None:
    """`1,234.56` is one thousand two hundred and thirty-four, never one."""
    (row,) = parse(
        exported(ENGLISH | {"PayableDetails/TaxExclusivePayableAmount": "1,234.56"}).encode(), name="b", currency="CNY"
    ).rows
    assert row.pretax_amount == Decimal("1234.56")


def test_amounts_with_tax_are_known_as_such() -> None:
    """The Chinese console's amount includes tax and says so; the English one's does not."""
    assert parse(exported(CHINESE).encode(), name="b", currency="CNY").with_tax
    assert not parse(exported(ENGLISH).encode(), name="b", currency="CNY").with_tax


def test_the_same_detail_is_counted_once() -> None:
    """A row that a file holds twice, by its own id, is counted once and told of."""
    bill = parse(
        exported(CHINESE, CHINESE, CHINESE | {"标识信息/账单明细ID": "d-2"}).encode(), name="b", currency="CNY"
    )
    assert (len(bill.rows), bill.repeated) == (2, 1)


def test_a_currency_is_taken_where_a_file_names_none() -> None:
    """The subscribed file may lack a currency: it is the site's."""
    assert parse(exported(SUBSCRIBED).encode(), name="b", currency="USD").rows[0].currency == "USD"


def test_an_unknown_header_names_those_that_are_known() -> None:
    """A file of another kind is refused with the headers that would be read, in the words of the files."""
    with pytest.raises(BillError) as caught:
        parse(b"Date,Service,Cost\n2026-11-03,ECI,1\n", name="aws.csv", currency="CNY")
    page = str(caught.value)
    assert "Date, Service, Cost" in page
    for word in ("账单信息/账单月份", "BillingDetails/BillingMonth", "UsageStartTime"):
        assert word in page


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no bill that is known"),
        (b"PK\x03\x04\xff\xfe\xff\xff\x81", "no text"),
        (exported(ENGLISH).encode()[:-40], "has not the columns"),
        (exported(ENGLISH | {"FeeDetails/GrossAmount": "0,06"}).encode(), "no number"),
        (exported(ENGLISH | {"FeeDetails/GrossAmount": "abc"}).encode(), "no number"),
        (exported(ENGLISH | {"BillingDetails/BillingDate": "20261340"}).encode(), "no day"),
        (exported(ENGLISH | {"BillingDetails/ServiceStartTime": "yesterday"}).encode(), "no moment"),
        (exported(ENGLISH | {"PayableDetails/TaxExclusivePayableAmount": ""}).encode(), "not an amount"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(data: bytes, problem: str) -> None:
    """What cannot be read is refused whole, with file, line and value; no row of it is taken."""
    with pytest.raises(BillError, match=problem) as caught:
        parse(data, name="bill.csv", currency="CNY")
    assert "bill.csv" in str(caught.value)
