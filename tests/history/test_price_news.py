"""What the APIs said beside the price book: what is fresh, what differs, and what the report says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runbook.clients.storage import DiskFolder
from runbook.eci.prices import EcsPrice, PriceBook, PriceRow, SpotChange
from runbook.history import price_news
from runbook.history.price_archive import Archive, Asked, Rows
from runbook.history.price_news import News
from runbook.history.vendor_prices import Refused, Said
from runbook.report import Report, Status

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
TODAY = date(2026, 11, 24)
HOUR = timedelta(hours=1)
LISTED = PriceRow("cn", "*", "CNY", "general", "vcpu", Decimal("0.000049"), date(2024, 11, 27), "https://page")
SAID = replace(LISTED, region="cn-hangzhou", valid_from=TODAY, source="eci:X")
DEARER = replace(SAID, price=Decimal("0.00005"))
TYPE = EcsPrice(
    "cn",
    "cn-hangzhou",
    "CNY",
    "ecs.c6.large",
    Decimal(2),
    Decimal(4),
    Decimal("0.39"),
    date(2024, 12, 31),
    "https://list",
)
NEW_TYPE = replace(TYPE, instance_type="ecs.c9.large", valid_from=TODAY)
CHANGE = SpotChange(
    "cn", "cn-hangzhou", "cn-hangzhou-i", "CNY", "ecs.c6.large", Decimal("0.1"), NOW - 2 * HOUR, "ecs:Y"
)
ASKED = Asked("cn", "cn-hangzhou", "ecs.c6.large", NOW - timedelta(days=30), NOW, "ecs:Y")
BOOK = PriceBook("cn", (LISTED,), (TYPE,))


def news_of(rows: Rows, *, archived: Rows | None = None, **said: object) -> News:
    """What is new of an answer, beside BOOK and what was archived before."""
    before = archived or Rows()
    return price_news.compare(Said(NOW, rows, **said), before.added_to(BOOK), before)  # type: ignore[arg-type]


def report_of(tmp_path: Path, rows: Rows, *, dry_run: bool = True, **more: object) -> Report:
    return price_news.keep(news_of(rows, **more), Archive(DiskFolder(tmp_path / "prices")), dry_run=dry_run)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "fresh"),
    [
        (Rows(items=(SAID,)), Rows()),
        (Rows(items=(DEARER,)), Rows(items=(DEARER,))),
        (Rows(items=(replace(SAID, price=Decimal("0.00004902")),)), Rows()),
        (Rows(items=(replace(SAID, item="memory"),)), Rows(items=(replace(SAID, item="memory"),))),
        (Rows(ecs=(replace(TYPE, valid_from=TODAY),)), Rows()),
        (Rows(ecs=(NEW_TYPE,)), Rows(ecs=(NEW_TYPE,))),
        (Rows(spot=(CHANGE,), asked=(ASKED,)), Rows(spot=(CHANGE,), asked=(ASKED,))),
        (Rows(items=(replace(DEARER, currency="USD"),), ecs=(replace(NEW_TYPE, currency="USD"),)), Rows()),
    ],
    ids=["same", "dearer", "rounded", "unknown item", "same type", "new type", "spot", "another currency"],
)
def test_what_is_fresh(rows: Rows, fresh: Rows) -> None:
    """Archived is what the price book does not hold for that day, or holds otherwise by more than rounding."""
    assert news_of(rows).fresh == fresh


def test_what_was_archived_is_not_fresh_again() -> None:
    """The same answer a minute later brings nothing new: every price is kept once."""
    rows = Rows((DEARER,), (NEW_TYPE,), (CHANGE,), (ASKED,))
    again = news_of(replace(rows, asked=(replace(ASKED, last=NOW + timedelta(minutes=1)),)), archived=rows)
    assert again.fresh == Rows()
    assert not again.extends


def test_that_prices_held_is_news_after_a_while() -> None:
    """Ten minutes without a change are worth a file: they say that the last price still held."""
    later = replace(ASKED, first=NOW, last=NOW + timedelta(minutes=10))
    news = news_of(Rows(asked=(later,)), archived=Rows(spot=(CHANGE,), asked=(ASKED,)))
    assert (news.fresh, news.extends) == (Rows(asked=(later,)), True)


def test_a_price_that_went_up_and_came_back_is_kept_each_time() -> None:
    """A list price that returns to what it was is a new row: without it the price in between would hold on."""
    up = replace(TYPE, price=Decimal("0.5"), valid_from=date(2026, 11, 1))
    back = replace(TYPE, valid_from=date(2026, 11, 10))
    assert news_of(Rows(ecs=(up, back))).fresh.ecs == (up, back)


def test_the_dry_run_writes_nothing(tmp_path: Path) -> None:
    """A dry run says what would be archived, and leaves no file and no folder."""
    report = report_of(tmp_path, Rows(items=(DEARER,)))
    assert report["prices-archived"].status is Status.SKIP
    assert "1 price would be archived" in report["prices-archived"].observed
    assert not (tmp_path / "prices").exists()


def test_what_is_fresh_is_written_once(tmp_path: Path) -> None:
    """An applied run leaves one file with what is fresh; with nothing fresh there is no file."""
    assert report_of(tmp_path, Rows(items=(DEARER, SAID)), dry_run=False).outcome == "1 price archived"
    assert Archive(DiskFolder(tmp_path / "prices")).rows() == Rows(items=(DEARER,))
    assert report_of(tmp_path, Rows(items=(SAID,)), dry_run=False).outcome == "nothing new"
    assert len(list((tmp_path / "prices").iterdir())) == 1


def test_a_price_that_differs_is_told_with_both_numbers(tmp_path: Path) -> None:
    """Where API and price book disagree, the warning has both prices and since when the book has its own."""
    check = report_of(tmp_path, Rows(items=(DEARER,)))["list-prices"]
    assert check.status is Status.WARN
    assert check.observed == (
        "vcpu (general) a second: 0.00005 CNY says the API, 0.000049 the price book (since 2024-11-27)"
    )


REPORTS: list[tuple[str, Rows, dict[str, object], str, Status]] = [
    ("same price", Rows(items=(SAID,)), {}, "list-prices", Status.PASS),
    ("no item answered", Rows(), {}, "list-prices", Status.SKIP),
    ("new type", Rows(ecs=(NEW_TYPE,)), {}, "ecs-prices", Status.PASS),
    (
        "other price of a type",
        Rows(ecs=(replace(TYPE, price=Decimal(1), valid_from=TODAY),)),
        {},
        "ecs-prices",
        Status.WARN,
    ),
    ("all answered", Rows(items=(SAID,)), {}, "prices-asked", Status.PASS),
    ("a type refused", Rows(), {"refused": (Refused("q", "unknown type."),)}, "prices-asked", Status.WARN),
    ("no rights", Rows(), {"refused": (Refused("q", "RAM.", "grant", always=True),)}, "prices-asked", Status.FAIL),
    ("no market", Rows(), {}, "spot-prices", Status.SKIP),
    ("market", Rows(spot=(CHANGE,), asked=(ASKED,)), {}, "spot-prices", Status.PASS),
    ("asked too late", Rows(asked=(ASKED,)), {"forgotten": ("ecs.c6.large",)}, "spot-prices", Status.WARN),
    ("currency", Rows(items=(SAID,)), {}, "price-currency", Status.PASS),
    ("another account's currency", Rows(items=(replace(SAID, currency="USD"),)), {}, "price-currency", Status.FAIL),
    ("nothing answered", Rows(), {}, "price-currency", Status.SKIP),
    ("whole book", Rows(items=(SAID,)), {}, "cost-prices", Status.PASS),
    ("price known from today on only", Rows(items=(replace(SAID, item="memory"),)), {}, "cost-prices", Status.WARN),
]


@pytest.mark.parametrize(
    ("rows", "said", "id", "status"), [row[1:] for row in REPORTS], ids=[row[0] for row in REPORTS]
)
def test_the_verdict(tmp_path: Path, rows: Rows, said: dict[str, object], id: str, status: Status) -> None:
    """Each question about an answer has its check: pass, warn, fail, or skip with a reason."""
    check = report_of(tmp_path, rows, **said)[id]
    assert check.status is status
    assert check.observed
    if status in (Status.WARN, Status.FAIL):
        assert check.remedy and check.expected


def test_faces() -> None:
    """What is new is shown as text and as HTML, with every price beside its state."""
    news = news_of(Rows((DEARER,), (NEW_TYPE, replace(TYPE, valid_from=TODAY)), (CHANGE,), (ASKED,)))
    face = news._repr_html_()
    assert [face.count(mark) for mark in ("! differs", "+ new", "= same")] == [1, 1, 1]
    assert "1 change in cn-hangzhou-i: 0.1 to 0.1 CNY an hour" in face and "0.00005" in str(news)
