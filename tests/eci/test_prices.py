"""Prices are dated rows, and a price that no row gives is unknown, never zero."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runbook.eci import prices, tables
from runbook.eci.prices import EcsPrice, PriceBook, PriceRow, SpotChange
from runbook.errors import SettingsError

OLD = PriceRow("cn", "*", "CNY", "general", "vcpu", Decimal("0.00005"), date(2022, 1, 1), "https://old")
NEW = replace(OLD, price=Decimal("0.00004"), valid_from=date(2024, 1, 1), source="https://new")
REGIONAL = replace(OLD, region="cn-hongkong", price=Decimal("0.00006"))
ECONOMY = replace(OLD, compute_category="economy", price=Decimal("0.00002"))
ANY_CATEGORY = replace(OLD, item="ephemeral-storage", compute_category="*", price=Decimal("0.0000006"))
ROWS = (NEW, OLD, REGIONAL, ECONOMY, ANY_CATEGORY)


def test_the_newest_row_holds() -> None:
    """Without a day the newest price is taken."""
    assert prices.find(ROWS, "vcpu", site="cn", region="cn-hangzhou") == NEW


@pytest.mark.parametrize(("day", "row"), [((2023, 12, 31), OLD), ((2024, 1, 1), NEW), ((2021, 12, 31), None)])
def test_the_row_of_a_day(day: tuple[int, int, int], row: PriceRow | None) -> None:
    """On a day holds the newest price that was valid then, and before the first one none is known."""
    assert prices.find(ROWS, "vcpu", site="cn", region="cn-hangzhou", on=date(*day)) == row


def test_a_regional_price_wins() -> None:
    """A row of the region itself goes before a row for any region, even a newer one."""
    assert prices.find(ROWS, "vcpu", site="cn", region="cn-hongkong") == REGIONAL


def test_prices_by_compute_category() -> None:
    """A category has its own row, an item without categories the row for any, and no category costs like general."""
    assert prices.find(ROWS, "vcpu", site="cn", region="x", category="economy") == ECONOMY
    assert prices.find(ROWS, "vcpu", site="cn", region="x", category="general") == NEW
    assert prices.find(ROWS, "ephemeral-storage", site="cn", region="x", category="economy") == ANY_CATEGORY


@pytest.mark.parametrize(("item", "site"), [("vcpu", "intl"), ("memory", "cn")])
def test_no_row_no_price(item: str, site: str) -> None:
    """Where no row holds, there is no price."""
    assert prices.find(ROWS, item, site=site, region="cn-hangzhou") is None


def test_the_shipped_rows() -> None:
    """Every shipped row has a known site and its currency, a positive price, a page, and is there once."""
    rows = prices.shipped()
    assert all(row.currency == prices.SITES[row.site] for row in rows)
    assert all(row.price > 0 and row.source.startswith("https://") for row in rows)
    assert len({replace(row, price=Decimal(0), source="") for row in rows}) == len(rows)


def test_unknown_site() -> None:
    """A site that does not exist is refused with the two that do."""
    with pytest.raises(SettingsError) as caught:
        prices.currency("eu")
    assert "cn (aliyun.com, CNY)" in str(caught.value.allowed)


def test_price_list_that_is_not_there(tmp_path: Path) -> None:
    """A missing price list is a clear error that names the file."""
    with pytest.raises(SettingsError) as caught:
        prices.load(tmp_path / "prices.csv")
    assert "prices.csv" in str(caught.value.where)


@pytest.mark.parametrize(
    ("day", "price"),
    [((2024, 3, 31), "0.00004"), ((2024, 4, 1), None), ((2024, 3, 1), "0.00004"), ((2023, 1, 1), "0.00005")],
)
def test_a_price_that_ends(day: tuple[int, int, int], price: str | None) -> None:
    """After its last day a price is unknown, however old the one before it is; on that day it still holds."""
    ending = (replace(OLD, valid_to=date(2023, 12, 31)), replace(NEW, valid_to=date(2024, 3, 31)))
    found = prices.find(ending, "vcpu", site="cn", region="x", on=date(*day))
    assert (found.price if found else None) == (Decimal(price) if price else None)


LARGE = EcsPrice(
    "cn", "cn-hangzhou", "CNY", "ecs.c6.large", Decimal(2), Decimal(4), Decimal("0.4"), date(2024, 1, 1), "https://a"
)
DEARER = replace(LARGE, price=Decimal("0.5"), valid_from=date(2025, 1, 1))
SISTER = replace(LARGE, instance_type="ecs.c7.large", price=Decimal("0.45"))
XLARGE = replace(LARGE, instance_type="ecs.c6.xlarge", vcpu=Decimal(4), memory_gib=Decimal(8))
T0 = datetime(2026, 11, 1, 8, tzinfo=UTC)
CALM = SpotChange("cn", "cn-hangzhou", "cn-hangzhou-i", "CNY", "ecs.c6.large", Decimal("0.1"), T0, "api")
RISEN = replace(CALM, price=Decimal("0.3"), at=T0 + timedelta(hours=2), until=T0 + timedelta(hours=5))
LATER = replace(CALM, price=Decimal("0.2"), at=T0 + timedelta(hours=9), until=T0 + timedelta(hours=10))
BOOK = PriceBook("cn", ROWS, (DEARER, LARGE, SISTER, XLARGE), (LATER, CALM, RISEN))


@pytest.mark.parametrize(
    ("kind", "day", "row"),
    [
        ("ecs.c6.large", date(2024, 12, 31), LARGE),
        ("ecs.c6.large", date(2025, 1, 1), DEARER),
        ("ecs.c6.large", date(2023, 12, 31), None),
        ("ecs.c9.large", date(2025, 1, 1), None),
    ],
)
def test_the_hour_of_an_ecs_type(kind: str, day: date, row: EcsPrice | None) -> None:
    """An ECS type costs what its newest row of the day says; an unknown type, or a day before the first row, is unknown."""
    assert BOOK.ecs_hour("cn-hangzhou", kind, day) == row
    assert BOOK.ecs_hour("cn-beijing", kind, day) is None


def test_types_of_a_size() -> None:
    """The types of exactly a size are listed by name, each with its newest price."""
    assert BOOK.types_holding("cn-hangzhou", Decimal("2.0"), Decimal(4)) == (DEARER, SISTER)
    assert BOOK.types_holding("cn-hangzhou", Decimal(2), Decimal(6)) == ()


def test_spot_changes_end_at_the_next_one_or_where_nobody_looked() -> None:
    """Spot prices come by time, each with its end: the next change, or the last moment that was asked about."""
    found = BOOK.spot_changes("cn-hangzhou", "cn-hangzhou-i", "ecs.c6.large")
    assert [(one.price, one.until) for one in found] == [
        (Decimal("0.1"), RISEN.at),
        (Decimal("0.3"), RISEN.until),
        (Decimal("0.2"), LATER.until),
    ]
    assert BOOK.spot_changes("cn-hangzhou", "cn-hangzhou-j", "ecs.c6.large") == ()


@pytest.mark.parametrize(
    ("hours", "price"),
    [(-1, None), (0, "0.1"), (1.99, "0.1"), (2, "0.3"), (4.9, "0.3"), (5, None), (9, "0.2"), (10, None)],
)
def test_the_spot_price_of_a_moment(hours: float, price: str | None) -> None:
    """The market price of a moment is that of the last change, and unknown before the first and where nobody looked."""
    found = BOOK.spot_price("cn-hangzhou", "cn-hangzhou-i", "ecs.c6.large", T0 + timedelta(hours=hours))
    assert (found.price if found else None) == (Decimal(price) if price else None)


def test_a_book_with_more_rows() -> None:
    """Rows are added once: what the book holds already changes nothing, and the first book stays as it was."""
    book = PriceBook("cn", ROWS)
    more = book.with_(items=[NEW], ecs=[LARGE, LARGE], spot=[CALM]).with_(spot=[CALM])
    assert (more.items, more.ecs, more.spot) == (ROWS, (LARGE,), (CALM,))
    assert book.ecs == ()


def test_rows_that_price_nothing() -> None:
    """Rows of another currency, of another site, and those not above zero give no price: it is unknown, never zero."""
    for wrong in ({"currency": "USD"}, {"site": "intl"}, {"price": Decimal(0)}, {"price": Decimal(-1)}):
        book = PriceBook("cn", (replace(NEW, **wrong),), (replace(LARGE, **wrong),), (replace(CALM, **wrong),))  # type: ignore[arg-type]
        assert book.item("vcpu", "cn-hangzhou", None, date(2026, 1, 1)) is None
        assert book.ecs_hour("cn-hangzhou", "ecs.c6.large", date(2026, 1, 1)) is None
        assert book.types_holding("cn-hangzhou", Decimal(2), Decimal(4)) == ()
        assert book.spot_changes("cn-hangzhou", "cn-hangzhou-i", "ecs.c6.large") == ()


FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
ENDED = replace(NEW, valid_to=date(2026, 11, 9))
AGAIN = replace(NEW, valid_from=date(2026, 11, 20), price=Decimal("0.00003"))

PROBLEMS: list[tuple[str, PriceBook, list[tuple[str, str, date, date]]]] = [
    ("whole", PriceBook("cn", (NEW,)), []),
    ("older row behind it", PriceBook("cn", (OLD, NEW)), []),
    ("no rows", PriceBook("cn", ()), []),
    (
        "begins later",
        PriceBook("cn", (replace(NEW, valid_from=date(2026, 11, 11)),)),
        [("gap", "vcpu, general, any region", FIRST, date(2026, 11, 10))],
    ),
    ("begins after", PriceBook("cn", (replace(NEW, valid_from=date(2027, 1, 1)),)), [("gap", "vcpu", FIRST, LAST)]),
    ("ends", PriceBook("cn", (ENDED,)), [("gap", "vcpu", date(2026, 11, 10), LAST)]),
    (
        "ends and begins again",
        PriceBook("cn", (ENDED, AGAIN)),
        [("gap", "vcpu", date(2026, 11, 10), date(2026, 11, 19))],
    ),
    ("regional hole with a price for all", PriceBook("cn", (NEW, replace(ENDED, region="cn-hangzhou"))), []),
    (
        "regional price only",
        PriceBook("cn", (replace(ENDED, region="cn-hangzhou"),)),
        [("gap", "vcpu, general, cn-hangzhou", date(2026, 11, 10), LAST)],
    ),
    (
        "two prices of one day",
        PriceBook("cn", (NEW, replace(NEW, price=Decimal("0.00005")))),
        [("overlap", "vcpu", NEW.valid_from, LAST)],
    ),
    (
        "one price twice",
        PriceBook("cn", (NEW, replace(NEW, source="b"))),
        [("duplicate", "vcpu", NEW.valid_from, LAST)],
    ),
    (
        "a price that ends after the next began",
        PriceBook("cn", (replace(NEW, valid_to=date(2026, 11, 25)), AGAIN)),
        [("overlap", "vcpu", date(2026, 11, 20), date(2026, 11, 25))],
    ),
    (
        "ends before it begins",
        PriceBook("cn", (NEW, replace(NEW, valid_from=date(2026, 11, 5), valid_to=date(2026, 11, 4)))),
        [("dates", "vcpu", FIRST, LAST)],
    ),
    (
        "another currency",
        PriceBook("cn", (NEW, replace(NEW, currency="USD", region="cn-beijing"))),
        [("currency", "vcpu, cn-beijing", FIRST, LAST)],
    ),
    ("another site", PriceBook("cn", (NEW, replace(NEW, currency="USD", site="intl"))), []),
    (
        "a price of zero",
        PriceBook("cn", (NEW, replace(NEW, price=Decimal(0)))),
        [("not positive", "vcpu, *", FIRST, LAST)],
    ),
    (
        "a negative one",
        PriceBook("cn", (), (replace(LARGE, price=Decimal(-1)),)),
        [("not positive", "ecs.c6.large", FIRST, LAST)],
    ),
    ("a type that is new", PriceBook("cn", (), (replace(LARGE, valid_from=date(2026, 11, 20)),)), []),
    (
        "a type whose price ends",
        PriceBook("cn", (), (replace(LARGE, valid_to=date(2026, 11, 20)),)),
        [("gap", "ecs.c6.large, cn-hangzhou", date(2026, 11, 21), LAST)],
    ),
    (
        "two prices of a type",
        PriceBook("cn", (), (LARGE, replace(LARGE, price=Decimal(9)))),
        [("overlap", "ecs.c6.large", LARGE.valid_from, LAST)],
    ),
    (
        "spot in another currency",
        PriceBook("cn", (), (), (replace(CALM, currency="USD"),)),
        [("currency", "ecs.c6.large", FIRST, LAST)],
    ),
]


@pytest.mark.parametrize(("book", "expected"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_what_is_wrong_with_a_price_list(book: PriceBook, expected: list[tuple[str, str, date, date]]) -> None:
    """A gap, an overlap, a row twice, a wrong currency, a price not above zero: each is named with its item and days."""
    found = book.problems(FIRST, LAST)
    assert [(one.kind, one.first, one.last) for one in found] == [
        (kind, first, last) for kind, _, first, last in expected
    ]
    assert all(
        one.of.startswith(of) and str(one).startswith(of) for one, (_, of, _, _) in zip(found, expected, strict=True)
    )


def test_an_overlap_names_both_prices() -> None:
    """Who must repair the list sees both prices of the day, and which of them is taken."""
    (problem,) = PriceBook("cn", (NEW, replace(NEW, price=Decimal("0.00005")))).problems(FIRST, LAST)
    assert problem.detail == "0.00004 and 0.00005 hold from 2024-01-01; 0.00004 is taken."


@pytest.mark.parametrize("site", sorted(prices.SITES))
def test_the_shipped_book_has_no_problem_today(site: str) -> None:
    """From the day it was read on, the shipped list has a price for every item it names, and one only."""
    book = PriceBook.shipped(site).with_(spot=prices.load_spot())
    assert book.problems(date(2026, 11, 24), date(2027, 11, 24)) == ()
    assert book.item("vcpu", "cn-hangzhou", "economy", date(2026, 11, 24)) is not None


def test_the_shipped_ecs_and_spot_rows() -> None:
    """Shipped rows of ECS types have a region that ECI has, a size, a price above zero, and a page; none is there twice."""
    regions = {row["region"] for row in tables.rows(tables.DATA / "specs" / "regions.csv", frozenset({"region"}))}
    rows = prices.shipped_ecs()
    assert all(row.region in regions and row.currency == "CNY" and row.price > 0 for row in rows)
    assert all(row.source.startswith("https://") and 0 < row.vcpu <= 64 and row.memory_gib > 0 for row in rows)
    assert len({(row.region, row.instance_type, row.valid_from) for row in rows}) == len(rows)
    spot = prices.load_spot()
    assert all(one.zone.startswith(one.region) and one.price > 0 and one.until is not None for one in spot)
    assert len({(one.zone, one.instance_type, one.at) for one in spot}) == len(spot)


def test_the_vendors_example_of_an_ecs_type() -> None:
    """The vendor's page prices ecs.c5.large in Hangzhou at 0.62 an hour in CNY; so does the list, whose source names no currency."""
    row = PriceBook.shipped("cn").ecs_hour("cn-hangzhou", "ecs.c5.large", date(2026, 11, 24))
    assert row is not None
    assert (row.price, row.currency) == (Decimal("0.62"), "CNY")


HEADER = "site,region,currency,compute_category,item,price,valid_from,valid_to,source\n"


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ("cn,*,CNY,general,vcpu,dear,2024-01-01,,x", "price"),
        ("cn,*,CNY,general,vcpu,NaN,2024-01-01,,x", "price"),
        ("cn,*,CNY,general,vcpu,1,1.1.2024,,x", "valid_from"),
        ("cn,*,CNY,general,vcpu,1,2024-01-01,never,x", "valid_to"),
    ],
)
def test_a_row_that_cannot_be_read(tmp_path: Path, cells: str, column: str) -> None:
    """A word where a number or a day belongs is named with file, line and column."""
    path = tmp_path / "prices.csv"
    path.write_text(f"{HEADER}cn,*,CNY,general,memory,1,2024-01-01,,x\n{cells}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        prices.load(path)
    assert caught.value.where == f"prices.csv, line 3, column {column}"


def test_a_list_with_last_days(tmp_path: Path) -> None:
    """A row may name its last day; an empty cell is none."""
    path = tmp_path / "prices.csv"
    path.write_text(f"{HEADER}cn,*,CNY,general,vcpu,1,2024-01-01,2024-02-01,x\ncn,*,CNY,general,vcpu,2,2024-02-02,,x\n")
    assert [row.valid_to for row in prices.load(path)] == [date(2024, 2, 1), None]


def test_the_carried_over_rows_are_those_of_their_source() -> None:
    """Each shipped price of an ECS type is the one in the public list that its row names, but for binary noise."""
    if "RUNBOOK_TRACES" not in os.environ:
        pytest.skip("RUNBOOK_TRACES does not name the folder with the public price lists")
    folder = Path(os.environ["RUNBOOK_TRACES"]) / "prices"
    first = json.loads((folder / "priceserver-2024-10-09-60cef47.json").read_text())
    second = json.loads((folder / "karpenter-provider-alibabacloud-2024-12-31-5d2e077.json").read_text())
    for row in prices.shipped_ecs():
        if row.valid_from == date(2024, 10, 9):
            listed = first[row.region]["instanceTypePrices"][row.instance_type]
            assert (listed["vcpu"], listed["memory"]) == (row.vcpu, row.memory_gib)
            assert listed["onDemandPricePerHour"] == pytest.approx(float(row.price), abs=1e-6)
        else:
            assert second[row.region][row.instance_type] == pytest.approx(float(row.price), abs=1e-6)
