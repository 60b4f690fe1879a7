"""The bill's rows: what the API writes is read exactly, and adds up by instance and day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from runbook.cost import bill, bill_row
from runbook.cost.bill import Bill
from runbook.cost.bill_row import Kind
from runbook.eci.charges import CHINA
from runbook.errors import BillError
from tests.cost.bill_rows import api_row, billed


def test_a_row_of_the_api_is_read_exactly() -> None:
    """Amounts keep every digit that the API wrote, and no binary fraction."""
    row = bill_row.from_api(api_row(PretaxAmount=0.1, PretaxGrossAmount=0.30000001))
    assert (row.pretax_amount, row.list_amount) == (Decimal("0.1"), Decimal("0.30000001"))
    assert (row.instance_id, row.item, row.day, row.month) == ("eci-1", "cpu", date(2026, 11, 3), date(2026, 11, 1))
    assert (row.usage, row.unit, row.service_seconds, row.account) == (1200, "vCPU*s", 600, "1000000000000001")
    assert row.tags == {"PodName": "runner-1", "NameSpace": "gitlab"}


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("PayAsYouGoBill", Kind.USAGE),
        ("云资源按量费用", Kind.USAGE),
        ("后付费", Kind.USAGE),
        ("Refund", Kind.REFUND),
        ("subscription refund fee", Kind.REFUND),
        ("退款", Kind.REFUND),
        ("Adjustment", Kind.ADJUSTMENT),
        ("抹零", Kind.ADJUSTMENT),
        ("Rounding adjustment", Kind.ADJUSTMENT),
        ("SubscriptionOrder", Kind.SUBSCRIPTION),
        ("订阅预付费用", Kind.SUBSCRIPTION),
        ("", Kind.OTHER),
    ],
)
def test_kinds_are_known_by_their_words(word: str, kind: Kind) -> None:
    """What a row is about is told from the vendor's own word, in English or Chinese; an unknown word is `other`."""
    assert bill_row.kind_of(word) is kind


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("key:PodName value:a; key:ack.aliyun.com value:c1", {"PodName": "a", "ack.aliyun.com": "c1"}),
        ("PodName:a;ack.aliyun.com:c1", {"PodName": "a", "ack.aliyun.com": "c1"}),
        ("key:empty value:", {"empty": ""}),
        ("", {}),
    ],
)
def test_tags_are_read_in_both_forms(text: str, tags: dict[str, str]) -> None:
    """The API and the subscribed file write tags differently; both give the same pairs."""
    assert bill_row.tags_of(text) == tags


def test_a_row_without_an_amount_is_refused() -> None:
    """A missing amount is an error that names the instance, never zero."""
    with pytest.raises(BillError, match="has not an amount") as caught:
        bill_row.from_api(api_row(PretaxAmount=None, PretaxGrossAmount=None))
    assert "eci-1" in str(caught.value)


def test_a_monthly_row_needs_the_month_that_was_asked_for() -> None:
    """Rows of a monthly bill do not name their month: it is that of the question."""
    row = bill_row.from_api(api_row(day=None), cycle="2026-11")
    assert (row.day, row.month) == (None, date(2026, 11, 1))
    with pytest.raises(BillError, match="has not a month"):
        bill_row.from_api(api_row(day=None))


def test_the_older_call_names_items_only_in_words() -> None:
    """QueryInstanceBill has no item codes: `Memory` and 内存 are the item mem."""
    for word in ("Memory", "内存"):
        assert bill_row.from_api(api_row(BillingItemCode=None, BillingItem=word)).item == "mem"


def test_items_and_hours_of_an_instance_add_up_by_day() -> None:
    """Money adds up over items and hours; seconds over hours only, for items run side by side."""
    rows = billed(
        api_row(item="cpu", ServicePeriod="600", PretaxAmount=0.05),
        api_row(item="cpu", ServicePeriod="1205", PretaxAmount=0.10),
        api_row(item="mem", ServicePeriod="600", PretaxAmount=0.01),
        api_row(item="mem", ServicePeriod="1205", PretaxAmount=0.02),
        api_row(day="2026-11-04", PretaxAmount=1),
    )
    first, second = Bill.of(rows).by_instance("CNY").sort_by("day").to_pylist()
    assert first["billed"] == pytest.approx(0.18, abs=1e-12)
    assert (first["seconds"], first["fees"], first["by_ecs_type"], first["namespace"]) == (1805, 4, 0, "gitlab")
    assert (second["day"], second["billed"]) == (date(2026, 11, 4), 1)


@pytest.mark.parametrize("amount", [1.2345678901234567e-05, 1e-30, 123456789.12345678, "1E+3", -0.5, "0.10"])
def test_any_amount_fits_the_table(amount: float | str) -> None:
    """However many digits a double of the API has, its row is kept and read back with eighteen of them."""
    row = bill_row.from_api(api_row(PretaxAmount=amount, PretaxGrossAmount=amount))
    (back,) = Bill.of([row]).rows
    assert back == row
    assert back.pretax_amount == pytest.approx(Decimal(str(amount)), abs=Decimal("1e-18"))


def test_only_usage_of_eci_in_one_currency_is_added_up() -> None:
    """Other products, refunds and other currencies stay out of the instances, and are named by their sums."""
    found = Bill.of(
        billed(
            api_row(PretaxAmount=2),
            api_row(PretaxAmount=3, ProductCode="slb", ProductName="SLB"),
            api_row(PretaxAmount=-1, Item="Refund"),
            api_row(PretaxAmount=5, Currency="USD"),
        )
    )
    assert found.by_instance("CNY").column("billed").to_pylist() == [2]
    assert [(one.product, one.kind, one.currency, one.amount) for one in found.sums()] == [
        ("eci", Kind.USAGE, "USD", 5), ("slb", Kind.USAGE, "CNY", 3), ("eci", Kind.USAGE, "CNY", 2), ("eci", Kind.REFUND, "CNY", -1),
    ]  # fmt: skip


def test_days_that_two_sources_have_are_counted_once() -> None:
    """A file completes what the API gave by the days that it lacked, and says how many rows were there already."""
    fetched = Bill.of(billed(api_row(PretaxAmount=1)))
    exported = Bill.of(billed(api_row(PretaxAmount=1), api_row(day="2026-11-04", PretaxAmount=2)), source="file.csv")
    both = fetched.with_(exported)
    assert both.by_instance("CNY").sort_by("day").column("billed").to_pylist() == [1, 2]
    assert (both.repeated, both.sources) == (1, ("DescribeInstanceBill", "file.csv"))


def test_a_bill_is_cut_to_days() -> None:
    """Rows outside the period are left out, and a monthly row counts where its month touches it."""
    found = Bill.of(
        [*billed(api_row(), api_row(day="2026-11-05")), bill_row.from_api(api_row(day=None), cycle="2026-11")]
    )
    assert [row.day for row in found.within(date(2026, 11, 4), date(2026, 11, 30)).rows] == [date(2026, 11, 5), None]
    assert (found.daily, found.last_day) == (False, date(2026, 11, 5))


def test_a_month_is_final_at_noon_of_the_third() -> None:
    """November's bill is final on 3 December 12:00 in China, not a second before."""
    noon = datetime(2026, 12, 3, 12, tzinfo=CHINA)
    assert bill.month_is_final(date(2026, 11, 30)) == noon
    assert bill.final_until(noon) == date(2026, 11, 30)
    assert bill.final_until(noon.astimezone(UTC) - timedelta(seconds=1)) == date(2026, 10, 31)
