"""The price archive keeps what was said, adds and never rewrites, and says how far a spot price is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runbook.clients.storage import DiskFolder
from runbook.eci.prices import EcsPrice, PriceBook, PriceRow, SpotChange
from runbook.errors import HistoryError
from runbook.history import price_archive
from runbook.history.price_archive import SCHEMA, Archive, Asked, Rows
from runbook.settings import ROOT, Settings

T0 = datetime(2026, 11, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
ITEM = PriceRow("cn", "cn-hangzhou", "CNY", "economy", "vcpu", Decimal("0.000027123456"), date(2026, 11, 1), "eci:X")
TYPE = EcsPrice(
    "cn", "cn-hangzhou", "CNY", "ecs.c6.large", Decimal(2), Decimal("0.5"), Decimal("10"), date(2026, 11, 1), "ecs:X"
)
CHANGE = SpotChange("cn", "cn-hangzhou", "cn-hangzhou-i", "CNY", "ecs.c6.large", Decimal("0.1"), T0, "ecs:Y")
ASKED = Asked("cn", "cn-hangzhou", "ecs.c6.large", T0 - HOUR, T0 + 5 * HOUR, "ecs:Y")
ROWS = Rows((ITEM,), (TYPE,), (CHANGE,), (ASKED,))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(DiskFolder(tmp_path / "prices"))


def test_what_is_kept_comes_back_as_it_was(archive: Archive) -> None:
    """Every price comes back equal: decimals to the last digit, days, moments in UTC, sources."""
    name = archive.append(ROWS, T0)
    assert name.startswith("prices-20261101T080000Z-") and name.endswith(".parquet")
    found = archive.rows()
    assert found == ROWS
    assert [str(row.price) for row in found.ecs] == ["10"]


def test_an_archive_that_is_not_there_yet_is_empty(archive: Archive) -> None:
    """Before the first run there is no folder, no price and no fault."""
    assert archive.rows() == Rows()
    assert (archive.state().files, archive.state().newest) == (0, None)
    assert "none yet" in str(archive.state())


def test_a_run_adds_a_file_and_touches_no_other(archive: Archive, tmp_path: Path) -> None:
    """The bytes of an older file stay; the rows of all files are there."""
    first = tmp_path / "prices" / archive.append(ROWS, T0)
    before = first.read_bytes()
    archive.append(Rows(items=(replace(ITEM, valid_from=date(2026, 11, 2)),)), T0 + HOUR)
    assert first.read_bytes() == before
    assert len(archive.rows().items) == 2
    assert archive.state().files == 2


def test_files_are_read_by_any_program(archive: Archive, tmp_path: Path) -> None:
    """The columns of a file are those that data/prices/ARCHIVE.md names."""
    path = tmp_path / "prices" / archive.append(ROWS, T0)
    assert pq.read_schema(path).names == SCHEMA.names
    page = (ROOT / "data" / "prices" / "ARCHIVE.md").read_text(encoding="utf-8")
    assert [name for name in SCHEMA.names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("content", [b"", b"no Parquet", b"PAR1"])
def test_a_damaged_file_is_named(archive: Archive, tmp_path: Path, content: bytes) -> None:
    """A file that cannot be read stops the reading with its name: half an archive would price pods wrongly."""
    archive.append(ROWS, T0)
    (tmp_path / "prices" / "torn.parquet").write_bytes(content)
    with pytest.raises(HistoryError) as caught:
        archive.rows()
    assert str(caught.value.where).endswith("/torn.parquet")
    assert caught.value.page == "notebooks/troubleshooting.md#prices-archived"


def test_a_file_of_another_kind_is_named(archive: Archive, tmp_path: Path) -> None:
    """A Parquet file with other columns is none of the archive's, and is named too."""
    archive.append(ROWS, T0)
    other = pq.read_table(tmp_path / "prices" / archive.append(ROWS, T0)).drop_columns(["price"])
    pq.write_table(other, tmp_path / "prices" / "other.parquet")
    with pytest.raises(HistoryError, match=r"other\.parquet"):
        archive.rows()


def test_files_that_are_no_parquet_are_left_alone(archive: Archive, tmp_path: Path) -> None:
    """A note that somebody laid into the folder disturbs nobody."""
    archive.append(ROWS, T0)
    (tmp_path / "prices" / "README.txt").write_text("ours")
    assert archive.rows() == ROWS


SPANS = [
    ("inside", [(-1, 5)], 5),
    ("touching", [(-1, 2), (2, 6)], 6),
    ("overlapping, in any order", [(1, 6), (-1, 2)], 6),
    ("one inside the other", [(-1, 9), (1, 2)], 9),
    ("a pause between", [(-1, 2), (3, 6)], 2),
    ("asked about later only", [(3, 6)], 0),
]


@pytest.mark.parametrize(("spans", "hours"), [row[1:] for row in SPANS], ids=[row[0] for row in SPANS])
def test_a_spot_price_is_known_as_far_as_was_asked(spans: list[tuple[int, int]], hours: int) -> None:
    """The newest price of a market holds to the end of the stretch that was asked about without a pause."""
    asked = tuple(replace(ASKED, first=T0 + first * HOUR, last=T0 + last * HOUR) for first, last in spans)
    book = Rows(spot=(CHANGE,), asked=asked).added_to(PriceBook("cn", ()))
    (change,) = book.spot_changes("cn-hangzhou", "cn-hangzhou-i", "ecs.c6.large")
    assert change.until == T0 + hours * HOUR


def test_two_runs_are_one_market() -> None:
    """A price of the first run holds until the change that the second run brings, if no time was left out between."""
    rows = Rows(
        spot=(CHANGE, replace(CHANGE, at=T0 + 7 * HOUR, price=Decimal("0.2"))),
        asked=(ASKED, replace(ASKED, first=ASKED.last, last=T0 + 9 * HOUR)),
    )
    book = rows.added_to(PriceBook("cn", ()))
    moments = [
        (hour, book.spot_price("cn-hangzhou", "cn-hangzhou-i", "ecs.c6.large", T0 + hour * HOUR)) for hour in (6, 8, 9)
    ]
    assert [(hour, found.price if found else None) for hour, found in moments] == [
        (6, Decimal("0.1")),
        (8, Decimal("0.2")),
        (9, None),
    ]


def test_until_when_a_market_is_known() -> None:
    """The newest end of all stretches of a type counts; a type that was never asked about has none."""
    rows = Rows(asked=(ASKED, replace(ASKED, last=T0 + HOUR)))
    assert rows.asked_until("cn-hangzhou", "ecs.c6.large") == ASKED.last
    assert rows.asked_until("cn-hangzhou", "ecs.c7.large") is None
    assert rows.asked_until("cn-beijing", "ecs.c6.large") is None


def test_the_card_names_the_place(tmp_path: Path) -> None:
    """The archive lies where the card says, and with the shipped list it makes the price book of the card's site."""
    card = {
        "name": "t",
        "region": "cn-hangzhou",
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "runner": {},
        "pods": {},
        "smoke": {"project": "a/b"},
        "cost": {"prices": str(tmp_path / "here")},
    }
    settings = Settings.parse(card, where="card.yaml")
    price_archive.open_archive(settings).append(ROWS, T0)
    assert len(list((tmp_path / "here").glob("*.parquet"))) == 1
    book = price_archive.book(settings)
    assert book.item("vcpu", "cn-hangzhou", "economy", date(2026, 11, 1)) == ITEM
    assert book.item("vcpu", "cn-beijing", "economy", date(2026, 11, 1)) in PriceBook.shipped("cn").items
