"""The practice cloud's bill, worked out by the sandbox's own prices and rules, beside our model: they agree, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runbook.clients import connect
from runbook.clients.alibaba import AccessKey, AlibabaCloud, Endpoints
from runbook.cost import pricing
from runbook.eci.billing_window import Known
from runbook.eci.charges import CHINA
from runbook.eci.prices import SITES, PriceBook
from runbook.history import price_news, vendor_prices
from runbook.history.from_eci import from_eci
from runbook.history.price_archive import Rows
from runbook.history.record import PodRecord, to_table
from runbook.history.vendor_prices import Wanted
from runbook.settings import Cost, Settings
from sandbox.alibaba.process import Alibaba
from tests.sandbox.alibaba_journal import JournalWriter

HOUR = 3600
Key = tuple[str, date, str]
"""An instance, a day of China, an item of the bill."""


@dataclass(frozen=True)
class Played:
    """An instance: when its charge begins (seconds from 20:00 in China), for how many seconds, and what it is."""

    name: str
    begin: float
    seconds: float
    made: dict[str, Any] = field(default_factory=dict)


def disk(gib: int) -> dict[str, Any]:
    return {"annotations": {"k8s.aliyun.com/eci-extra-ephemeral-storage": f"{gib}Gi"}}


PLAYED = [
    Played("second", 60, 1),
    Played("example", 49 * 60 + 30, 630 + 1205),  # the vendor's: 10:49:30 to 11:20:05, as two fees
    Played("whole-hours", HOUR, 2 * HOUR),
    Played("large", 1800, 5400, {"vcpu": 64, "memory_gib": 512}),
    Played("over-midnight", 4 * HOUR - 600, 1500, {"vcpu": 4, "memory_gib": 8}),
    Played("to-midnight", 4 * HOUR - 600, 600),
    Played("economy", 30, 4000, {"vcpu": 0.5, "memory_gib": 1, "category": "economy"}),
    Played("odd-size", 100, 777, {"vcpu": 6, "memory_gib": 46}),
    Played("disk", 200, 4321, disk(70)),
    Played("fractions", 300.25, 99.5),
    Played("ecs-type", 400, 5000, {"ecs_type": "ecs.c6.xlarge", "vcpu": 4, "memory_gib": 8}),
    Played("ecs-type-and-disk", 400, 5000, {"ecs_type": "ecs.g7.large", "memory_gib": 8, **disk(20)}),
    Played("spot-second", 10, 1, {"spot": True}),
    Played("spot", 500, 1200, {"spot": True}),
    Played("spot-whole-hour", HOUR, HOUR, {"spot": True}),
    Played("spot-beyond-its-protection", 1800, HOUR + 600, {"spot": True, "vcpu": 8, "memory_gib": 64}),
    Played("spot-over-midnight", 2 * HOUR + 1234, 5 * HOUR, {"spot": True, "vcpu": 16, "memory_gib": 32}),
    Played("spot-by-type", 900, 3 * HOUR, {"spot": True, "ecs_type": "ecs.r6.large", "memory_gib": 16, **disk(10)}),
]


@pytest.fixture(scope="module")
def evening() -> datetime:
    """20:00 in China, so long ago that all that was played is over."""
    now = datetime.now(CHINA)
    today = now.replace(hour=20, minute=0, second=0, microsecond=0)
    return (today - timedelta(days=1 if (now - today) < timedelta(0) else 0) - timedelta(days=1)).astimezone(UTC)


@dataclass(frozen=True)
class Account:
    """Whose prices hold, which fees are rounded, and what is played."""

    site: str
    rounding: str
    played: tuple[Played, ...]


IN_USD = tuple(one for one in PLAYED if "category" not in one.made and "annotations" not in one.made)
"""What the international site has a dated price for: neither economy nor ephemeral storage."""
ACCOUNTS = [
    *(Account("cn", rounding, tuple(PLAYED)) for rounding in ("none", "hour", "instance")),
    Account("intl", "none", IN_USD),
]


@pytest.fixture(scope="module", params=ACCOUNTS, ids=lambda one: f"{one.site}-{one.rounding}")
def account(request: pytest.FixtureRequest) -> Account:
    found: Account = request.param
    return found


@pytest.fixture(scope="module")
def journal(account: Account, evening: datetime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    writer = JournalWriter(tmp_path_factory.mktemp("journal") / "journal.jsonl", evening)
    for one in account.played:
        writer.made(one.begin, one.name, **one.made)
        writer.ended(one.begin + one.seconds, one.name, started=one.begin)
    return writer.path


@pytest.fixture(scope="module")
def cloud(journal: Path, account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlibabaCloud]:
    folder = tmp_path_factory.mktemp("alibaba")
    options = {"site": account.site, "bill_rounding": account.rounding}
    with Alibaba(folder, journal=journal, bill_delay_hours=-24, **options) as alibaba:
        endpoints = Endpoints(alibaba.url, alibaba.url, alibaba.url)
        yield AlibabaCloud("cn-hangzhou", endpoints, clock=connect.clock(), key=AccessKey(*alibaba.access_key()))


@pytest.fixture(scope="module")
def records(cloud: AlibabaCloud, account: Account, evening: datetime) -> list[PodRecord]:
    """What a collector saw of the pods, to the second as Kubernetes tells it, completed by what ECI says of the instances."""
    seen = []
    for one in account.played:
        start = (evening + timedelta(seconds=one.begin)).replace(microsecond=0)
        end = (evening + timedelta(seconds=one.begin + one.seconds)).replace(microsecond=0)
        gib = int(one.made.get("annotations", {}).get("k8s.aliyun.com/eci-extra-ephemeral-storage", "0Gi")[:-2])
        seen.append(
            PodRecord(
                cluster="practice",
                pod_uid=f"uid-{one.name}",
                namespace="gitlab-ci",
                pod_name=one.name,
                region="cn-hangzhou",
                zone="cn-hangzhou-i",
                final=True,
                observed_at=end,
                instance_id=f"eci-bp1{one.name}",
                billed_vcpu=float(one.made.get("vcpu", 2)),
                billed_memory_gib=float(one.made.get("memory_gib", 4)),
                ecs_type=one.made.get("ecs_type"),
                spot=bool(one.made.get("spot")),
                compute_category=one.made.get("category"),
                extra_ephemeral_gib=float(gib),
                created_at=start - timedelta(seconds=2),
                created_known=Known.OBSERVED,
                billing_start_at=start,
                billing_start_known=Known.OBSERVED,
                finished_at=end,
                finished_known=Known.OBSERVED,
            )
        )
    completed = from_eci(cloud.container_groups(), seen, cluster="practice", observed_at=datetime.now(UTC))
    return completed.records


@pytest.fixture(scope="module")
def book(cloud: AlibabaCloud, account: Account, records: list[PodRecord]) -> PriceBook:
    """The shipped price list, and what the archive notebook would keep of the practice cloud's prices."""
    card = {
        "name": "practice",
        "region": "cn-hangzhou",
        "site": account.site,
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "runner": {},
        "pods": {},
        "smoke": {"project": "ops/smoke"},
    }
    now, shipped = datetime.now(UTC), PriceBook.shipped(account.site)
    types = sorted({one.ecs_type for one in records if one.ecs_type})
    said = vendor_prices.look(
        cloud, Rows(), Wanted(now, tuple(types)), Settings.parse(card, where="card.yaml"), now=now
    )
    assert said.refused == ()
    return price_news.compare(said, shipped, Rows()).fresh.added_to(shipped)


@pytest.fixture(scope="module")
def bill(cloud: AlibabaCloud, evening: datetime) -> dict[Key, dict[str, Any]]:
    """The rows of the practice cloud's bill of the evening and the day after."""
    first = evening.astimezone(CHINA).date()
    rows = [row for day in (first, first + timedelta(days=1)) for row in cloud.daily_bill(day)]
    return {(row["InstanceID"], date.fromisoformat(row["BillingDate"]), row["BillingItemCode"]): row for row in rows}


@pytest.fixture(scope="module")
def model(records: list[PodRecord], book: PriceBook, account: Account) -> dict[Key, tuple[float, float, float]]:
    """Our charges by the same keys: units, list cost, billed cost."""
    sums: dict[Key, tuple[float, float, float]] = {}
    lines = pricing.charge_lines(to_table(records), book, Cost.model_validate({"bill_rounding": account.rounding}))
    for row in lines.to_pylist():
        key = row["instance_id"], row["day"], row["item"]
        units, listed, billed = sums.get(key, (0.0, 0.0, 0.0))
        sums[key] = units + row["pricing_quantity"], listed + row["list_cost"], billed + row["billed_cost"]
    return sums


def test_both_have_the_same_rows(bill: dict[Key, Any], model: dict[Key, Any], account: Account) -> None:
    """Each instance has the same items on the same days of China in both, and none is on one side only."""
    assert set(bill) == set(model)
    assert {instance for instance, _, _ in bill} == {f"eci-bp1{one.name}" for one in account.played}
    assert len({day for _, day, _ in bill}) == 2


def test_every_row_agrees(bill: dict[Key, Any], model: dict[Key, Any]) -> None:
    """Units, list amount and billed amount of every row are the same, to the six decimals that the bill has."""
    for key, row in bill.items():
        units, listed, billed = model[key]
        assert float(row["Usage"]) == pytest.approx(units, abs=1e-6), key
        assert row["PretaxGrossAmount"] == pytest.approx(listed, abs=6e-7), key
        assert row["PretaxAmount"] == pytest.approx(billed, abs=6e-7), key


def test_the_sum_agrees_to_the_cent(bill: dict[Key, Any], model: dict[Key, Any], account: Account) -> None:
    """All of it, added up, is the same amount on both sides, and it is no small one."""
    total = sum(Decimal(str(row["PretaxAmount"])) for row in bill.values())
    ours = sum(billed for _, _, billed in model.values())
    assert round(total, 2) == round(Decimal(str(ours)), 2) > 5
    assert {row["Currency"] for row in bill.values()} == {SITES[account.site]}


def test_pods_cost_what_their_instances_were_billed(
    records: list[PodRecord], book: PriceBook, bill: dict[Key, Any], account: Account
) -> None:
    """The frame that every question reads has, for each pod, the amount of its instance on the bill."""
    billed: dict[str, float] = {}
    for (instance, _, _), row in bill.items():
        billed[instance] = billed.get(instance, 0.0) + row["PretaxAmount"]
    priced = pricing.priced(
        to_table(records), book, Cost.model_validate({"bill_rounding": account.rounding})
    ).to_pylist()
    assert {row["problem"] for row in priced} == {None}
    for row in priced:
        assert row["billed_cost"] == pytest.approx(billed[row["instance_id"]], abs=3e-6), row["instance_id"]
