"""Notebook operations/30 against the practice cloud: prices are asked, compared, and kept once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from runbook.clients import connect
from runbook.eci.prices import PriceBook
from runbook.history import price_archive, price_news, vendor_prices
from runbook.history.price_archive import Rows
from runbook.history.record import PodRecord
from runbook.history.store import open_store
from runbook.history.vendor_prices import Said, Wanted
from runbook.report import Status
from runbook.settings import Settings
from sandbox.alibaba.process import Alibaba
from tests.practice.conftest import Executed
from tests.sandbox.alibaba_journal import JournalWriter


class Account:
    """A card for one practice Alibaba Cloud, with an archive and a history of its own."""

    def __init__(self, alibaba: Alibaba, folder: Path, *, site: str = "cn", key: str = "reader") -> None:
        identity, secret = alibaba.access_key(key)
        for name, text in (("id", identity), ("secret", secret), ("url", alibaba.url)):
            (folder / name).write_text(text)
        endpoints = {f"{service}_endpoint": f"file:{folder}/url" for service in ("eci", "ecs", "bss")}
        self.card = {
            "name": "prices",
            "region": "cn-hangzhou",
            "site": site,
            "cache": {"enabled": False},
            "gitlab": {"url": "https://gitlab.example.com"},
            "runner": {},
            "pods": {"specs": ["4-8Gi", "ecs.g6.large"]},
            "smoke": {"project": "ops/smoke"},
            "history": {"url": str(folder / "history")},
            "alibaba": {
                "access_key_id": f"file:{folder}/id",
                "access_key_secret": f"file:{folder}/secret",
                **endpoints,
            },
            "cost": {"prices": str(folder / "prices")},
        }
        self.path = folder / "card.yaml"
        self.path.write_text(yaml.safe_dump(self.card))
        self.settings = Settings.load(self.path)

    def ask(self, wanted: Wanted) -> Said:
        archived = price_archive.open_archive(self.settings).rows()
        return vendor_prices.look(connect.alibaba(self.settings), archived, wanted, self.settings, now=wanted.until)


@pytest.fixture(scope="module")
def alibaba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alibaba]:
    folder = tmp_path_factory.mktemp("alibaba")
    journal = JournalWriter(folder / "journal.jsonl", datetime.now(UTC))
    with Alibaba(folder / "server", journal=journal.path) as started:
        yield started


@pytest.fixture
def account(alibaba: Alibaba, tmp_path: Path) -> Iterator[Account]:
    yield Account(alibaba, tmp_path)
    alibaba.heal()


def now() -> datetime:
    return datetime.now(UTC)


def test_the_notebook_archives_once(account: Account, run_notebook: Callable[..., Executed]) -> None:
    """A dry run shows what is new and writes nothing; applied, it is one file; run again, nothing is new."""
    place = Path(account.settings.cost.prices)
    rehearsed = run_notebook("operations/30-archive-prices", cluster=account.path)
    assert rehearsed.exit_code == 0, rehearsed.last_lines
    assert "ecs.g6.large" in rehearsed.text and not place.exists()
    for _ in range(2):
        applied = run_notebook("operations/30-archive-prices", cluster=account.path, dry_run=False)
        assert applied.exit_code == 0, applied.last_lines
    assert "nothing new: no file was written" in applied.text
    assert len(list(place.glob("*.parquet"))) == 1
    book = price_archive.book(account.settings)
    assert book.spot_price("cn-hangzhou", "cn-hangzhou-j", "ecs.g6.large", now() - timedelta(hours=12)) is not None


def test_the_api_agrees_with_the_shipped_list(account: Account) -> None:
    """ECI's prices of a vCPU, a GiB and ephemeral storage, worked out from its API, are those that data/prices has, to the digit."""
    said = account.ask(Wanted(now()))
    news = price_news.compare(said, PriceBook.shipped("cn"), Rows())
    assert {(line.what, line.said) for line in news.items} == {
        ("vcpu (general) a second", Decimal("0.000049")),
        ("memory (general) a second", Decimal("0.00000613")),
        ("vcpu (economy) a second", Decimal("0.000027")),
        ("memory (economy) a second", Decimal("0.00000613")),
        ("ephemeral-storage a second", Decimal("0.00000059")),
    }
    assert all(line.same and line.said == line.booked for line in news.items)


def test_types_come_from_pods_and_card(account: Account) -> None:
    """Asked about are the types that pods were billed by, those of the card, and those that ECI matches spot sizes to."""
    billed = {"ecs_type": "ecs.r6.xlarge", "spot": False}
    matched = {"spot": True, "billed_vcpu": 8.0, "billed_memory_gib": 16.0}
    plain = {"spot": False, "billed_vcpu": 2.0, "billed_memory_gib": 4.0}
    open_store(account.settings).append(
        [
            PodRecord(cluster="prices", pod_uid=str(number), created_at=now(), observed_at=now(), **values)  # type: ignore[arg-type]
            for number, values in enumerate((billed, matched, plain))
        ]
    )
    wanted = vendor_prices.types_wanted(
        open_store(account.settings), account.settings, now=now(), further=["ecs.c7.large"]
    )
    assert wanted.types == ("ecs.c6.4xlarge", "ecs.c7.large", "ecs.g6.large", "ecs.r6.xlarge")
    assert [str(size) for size in wanted.spot_sizes] == ["8/16Gi"]
    said = account.ask(wanted)
    assert {one.instance_type for one in said.rows.asked} == {*wanted.types, "ecs.c6.2xlarge"}
    assert said.refused == ()


def test_a_spot_market_is_known_without_a_gap(account: Account) -> None:
    """Two runs, an hour apart, leave a price for every hour of 30 days, and the list price of the first of them."""
    archive = price_archive.open_archive(account.settings)
    for at in (now() - timedelta(hours=1), now()):
        said = account.ask(Wanted(at, ("ecs.c6.large",)))
        archive.append(price_news.compare(said, price_archive.book(account.settings), archive.rows()).fresh, at)
    rows = archive.rows()
    changes = [(one.zone, one.at) for one in rows.spot]
    assert len(changes) == len(set(changes)) > 1000
    book = price_archive.book(account.settings)
    hours = [now() - timedelta(hours=number) for number in range(1, 30 * 24 - 2)]
    assert all(book.spot_price("cn-hangzhou", "cn-hangzhou-i", "ecs.c6.large", hour) for hour in hours)
    listed = book.ecs_hour("cn-hangzhou", "ecs.c6.large", (now() - timedelta(days=28)).date())
    assert listed is not None and listed.source == "ecs:DescribePrice"


def test_a_type_that_does_not_exist_stops_nothing(account: Account) -> None:
    """One misspelt type is told; the prices of all others are there."""
    said = account.ask(Wanted(now(), ("ecs.c6.large", "ecs.nope.large")))
    assert {one.instance_type for one in said.rows.ecs} == {"ecs.c6.large"}
    assert len(said.rows.items) == 5
    report = price_news.keep(
        price_news.compare(said, PriceBook.shipped("cn"), Rows()),
        price_archive.open_archive(account.settings),
        dry_run=True,
    )
    assert report["prices-asked"].status is Status.WARN and "ecs.nope.large" in report["prices-asked"].observed


def test_without_rights_the_run_fails_with_what_to_grant(alibaba: Alibaba, tmp_path: Path) -> None:
    """An AccessKey without rights is refused once a service, and the report says which policies to grant."""
    account = Account(alibaba, tmp_path, key="without-rights")
    said = account.ask(Wanted(now(), ("ecs.c6.large", "ecs.g6.large")))
    report = price_news.keep(
        price_news.compare(said, PriceBook.shipped("cn"), Rows()),
        price_archive.open_archive(account.settings),
        dry_run=True,
    )
    assert len(said.refused) == 2
    assert report["prices-asked"].status is Status.FAIL
    assert "AliyunECSReadOnlyAccess" in report["prices-asked"].remedy


def test_an_account_of_another_site_is_told(alibaba: Alibaba, tmp_path: Path) -> None:
    """A card that says intl for an account with prices in CNY fails, and keeps none of these prices."""
    account = Account(alibaba, tmp_path, site="intl")
    said = account.ask(Wanted(now(), ("ecs.c6.large",)))
    news = price_news.compare(said, PriceBook.shipped("intl"), Rows())
    report = price_news.keep(news, price_archive.open_archive(account.settings), dry_run=False)
    assert report["price-currency"].status is Status.FAIL
    assert not news.extends
