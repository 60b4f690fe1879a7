"""The kept bill: days are fetched until they are final, kept exactly, and completed by exported files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runbook.clients.storage import DiskFolder
from runbook.errors import BillError, SettingsError
from runbook.history.bills import Bills
from runbook.history.bills import days as asked_days
from runbook.report import Status
from tests.cost.bill_rows import api_row, billed

FIRST, LAST = date(2026, 11, 2), date(2026, 11, 5)
SOON = datetime(2026, 11, 5, 4, tzinfo=UTC)
LATER = datetime(2026, 12, 4, tzinfo=UTC)


@pytest.fixture
def bills(tmp_path: Path) -> Bills:
    return Bills(DiskFolder(tmp_path), "practice", "CNY")


def vendor(asked: list[date], *, empty: Sequence[date] = ()) -> Callable[[date], list[dict[str, Any]]]:
    """Answers every day with one row, and writes down which days it was asked for."""

    def ask(day: date) -> list[dict[str, Any]]:
        asked.append(day)
        return [] if day in empty else [api_row(day=day.isoformat(), PretaxAmount=0.1 * day.day)]

    return ask


def test_days_that_are_over_are_fetched_and_kept_exactly(bills: Bills) -> None:
    """Each day that is over in China is asked for once, and what is read back is what was fetched, to the last digit."""
    asked: list[date] = []
    report = bills.fetch(vendor(asked), FIRST, LAST, now=SOON)
    assert asked == [date(2026, 11, 2), date(2026, 11, 3), date(2026, 11, 4)]
    kept = bills.load(FIRST, LAST)
    assert kept.bill.rows == tuple(billed(*(api_row(day=f"2026-11-0{n}", PretaxAmount=0.1 * n) for n in (2, 3, 4))))
    assert kept.bill.rows[1].pretax_amount == Decimal(str(0.1 * 3))
    assert kept.report.ok and report["bill"].status is Status.WARN
    assert "2026-11-05 and later: not over yet" in report["bill"].observed


def test_days_are_fetched_again_until_their_month_is_final(bills: Bills) -> None:
    """What was fetched before its month was final is fetched anew, and afterwards never again."""
    bills.fetch(vendor([]), FIRST, FIRST, now=SOON)
    again: list[date] = []
    bills.fetch(vendor(again), FIRST, FIRST, now=LATER)
    bills.fetch(vendor(again), FIRST, FIRST, now=LATER)
    assert again == [FIRST]


def test_a_day_without_rows_is_not_kept(bills: Bills) -> None:
    """An empty answer may mean that the bill is late: the day is named, and asked for again."""
    report = bills.fetch(vendor([], empty=[FIRST]), FIRST, FIRST, now=LATER)
    assert "2026-11-02: no row" in report["bill"].observed
    again: list[date] = []
    bills.fetch(vendor(again), FIRST, FIRST, now=LATER)
    assert again == [FIRST]


def test_only_the_days_asked_for_are_loaded(bills: Bills) -> None:
    """Days outside the period stay out."""
    bills.fetch(vendor([]), FIRST, LAST, now=LATER)
    assert [row.day for row in bills.load(date(2026, 11, 3), date(2026, 11, 4)).bill.rows] == [
        date(2026, 11, 3),
        date(2026, 11, 4),
    ]


def test_exported_files_complete_what_is_missing(bills: Bills, tmp_path: Path) -> None:
    """A CSV file in the folder gives the days that were not fetched; days that were are not counted twice."""
    bills.fetch(vendor([]), FIRST, FIRST, now=LATER)
    exported = "\n".join(
        ["BillingCycle,InstanceID,UsageStartTime,Item,ProductCode,PretaxAmount,Currency"]
        + [
            f"2026-11,eci-1,2026-11-{day} 10:00:00,PayAsYouGoBill,eci,{amount},CNY"
            for day, amount in (("02", 9), ("03", 7))
        ]
    )
    (tmp_path / "practice" / "november.csv").write_text(exported)
    bill = bills.load(FIRST, LAST).bill
    assert [(row.day, row.pretax_amount) for row in bill.rows] == [(FIRST, Decimal("0.2")), (date(2026, 11, 3), 7)]
    assert (bill.repeated, bill.sources) == (1, ("DescribeInstanceBill", "november.csv"))


def test_an_exported_file_is_kept_once_it_was_read(bills: Bills, tmp_path: Path) -> None:
    """A file that is a bill is kept under its own name and loaded from then on; one that is none is refused and not kept."""
    november, budget = tmp_path / "november", tmp_path / "budget.csv"
    header = "BillingCycle,InstanceID,UsageStartTime,Item,ProductCode,PretaxAmount\n"
    november.write_text(f"{header}2026-11,eci-1,2026-11-03 10:00:00,PayAsYouGoBill,eci,7\n")
    budget.write_text("month,money\n")
    bills.add(november, dry_run=True)
    assert bills.load(FIRST, LAST).bill.rows == ()
    report = bills.add(november)
    assert report.facts["rows"] == "1" and report.facts["file"].endswith("/practice/november.csv")
    with pytest.raises(BillError, match="no bill that is known"):
        bills.add(budget)
    with pytest.raises(BillError, match="cannot be read"):
        bills.add(tmp_path / "nowhere.csv")
    kept = bills.load(FIRST, LAST)
    assert kept.report.ok and [row.pretax_amount for row in kept.bill.rows] == [7]


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (None, None, (date(2026, 11, 1), date(2026, 11, 4))),
        ("2026-10-01", "2026-10-31", (date(2026, 10, 1), date(2026, 10, 31))),
        (None, "2026-10-15", (date(2026, 10, 1), date(2026, 10, 15))),
    ],
)
def test_days_to_fetch(first: str | None, last: str | None, days: tuple[date, date]) -> None:
    """Without days it is this month until yesterday in China; with a last day, its month until then."""
    assert asked_days(first, last, now=SOON) == days


@pytest.mark.parametrize(("first", "last"), [("2026-11-31", None), ("2026-11-04", "2026-11-03"), (None, "now")])
def test_days_that_are_none(first: str | None, last: str | None) -> None:
    """A day that does not exist, or a first after the last, is refused with the option's name."""
    with pytest.raises(SettingsError) as caught:
        asked_days(first, last, now=SOON)
    assert (caught.value.where or "").startswith("--")


def test_files_that_cannot_be_read_are_named_and_the_rest_is_there(bills: Bills, tmp_path: Path) -> None:
    """A torn day and a foreign CSV fail the check with their names; other days are loaded all the same."""
    bills.fetch(vendor([]), FIRST, LAST, now=LATER)
    (tmp_path / "practice" / "2026-11-03.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "practice" / "budget.csv").write_text("month,money\n2026-11,5000\n")
    kept = bills.load(FIRST, LAST)
    assert [row.day for row in kept.bill.rows] == [date(2026, 11, 2), date(2026, 11, 4), date(2026, 11, 5)]
    assert kept.report["bill"].status is Status.FAIL
    assert "2026-11-03.parquet" in kept.report["bill"].observed and "budget.csv" in kept.report["bill"].observed


def test_nothing_kept_is_skipped(bills: Bills) -> None:
    """Without a kept bill the check is skipped, and says how to get one."""
    kept = bills.load(FIRST, LAST)
    assert kept.bill.rows == ()
    assert kept.report["bill"].status is Status.SKIP and "runbook import bill" in kept.report["bill"].observed


def test_a_period_that_is_not_over_asks_nothing(bills: Bills) -> None:
    """Days to come are not asked for."""
    asked: list[date] = []
    bills.fetch(vendor(asked), date(2026, 11, 20), date(2026, 11, 30), now=SOON)
    assert asked == []
