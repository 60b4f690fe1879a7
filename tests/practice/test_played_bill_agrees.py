"""A played day, from the API server to the bill: what was collected, completed and priced is what the practice cloud bills."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.clients import connect
from runbook.cost import pricing
from runbook.eci.charges import CHINA
from runbook.history import imports, price_archive, price_news, vendor_prices
from runbook.history.store import Store, open_store
from runbook.history.watch import Collector, Place
from runbook.settings import Settings
from sandbox.practice import PracticeCluster
from sandbox.traffic.play import play
from sandbox.traffic.team import TEAM, JobKind, Project, Team

NAMESPACE = "billed-ci"
LONG = Project(
    299,
    "practice/night-shift",
    2.0,
    (
        JobKind("builds", "test", "ubuntu:24.04", "2", "4Gi", 5000, 0.3),
        JobKind("simulates", "test", "ubuntu:24.04", "8", "16Gi", 15000, 0.3, spot=True),
    ),
)
SMALL = Team((replace(TEAM.projects[0], weight=1.0), LONG), pipelines_a_workday=16, weekend=1.0)


@dataclass(frozen=True)
class Day:
    """The priced pods of the played day, and the bill's rows of its instances."""

    priced: list[dict[str, Any]]
    bill: list[dict[str, Any]]


@pytest.fixture(scope="module")
def day(practice: PracticeCluster, tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("billed")
    practice.kubectl("create", "namespace", NAMESPACE)
    settings = _own(Settings.load(practice.card), folder)
    history = open_store(settings)
    _collected(practice, settings, history, folder)
    cloud, now = connect.alibaba(settings), datetime.now(UTC)
    imports.eci(cloud, history, settings, now=now + timedelta(days=3))
    archive = price_archive.open_archive(settings)
    wanted = vendor_prices.types_wanted(history, settings, now=now)
    said = vendor_prices.look(cloud, archive.rows(), wanted, settings, now=now)
    report = price_news.keep(
        price_news.compare(said, price_archive.book(settings), archive.rows()), archive, dry_run=False
    )
    assert report.ok, str(report)
    records = history.table()
    priced = pricing.priced(records, price_archive.book(settings), settings.cost).to_pylist()
    days = sorted({day for row in priced if row["billing_start_at"] for day in _days(row)})
    ours = {row["instance_id"] for row in priced}
    bill = [row for day in days for row in cloud.daily_bill(day) if row["InstanceID"] in ours]
    return Day(priced, bill)


def _own(settings: Settings, folder: Path) -> Settings:
    """The practice card with a namespace, a history and an archive of its own."""
    return settings.model_copy(
        update={
            "kubernetes": settings.kubernetes.model_copy(update={"namespace": NAMESPACE}),
            "history": settings.history.model_copy(update={"url": str(folder / "history")}),
            "cost": settings.cost.model_copy(update={"prices": str(folder / "prices")}),
        }
    )


def _collected(practice: PracticeCluster, settings: Settings, history: Store, folder: Path) -> None:
    """Play the day while a collector watches it."""
    client, stop = connect.kubernetes(settings), threading.Event()
    collector = Collector(
        client,
        history,
        name=settings.name,
        namespace=NAMESPACE,
        place=Place(folder / "place.json", client.server),
        clock=connect.clock(),
        flush_seconds=0.5,
    )
    watching = threading.Thread(target=collector.run, args=(None, stop))
    watching.start()
    try:
        play(practice, days=1, seed=5, factor=7200, namespace=NAMESPACE, team=SMALL, tell_gitlab=False)
        stop.wait(2)
    finally:
        stop.set()
        watching.join(30)


def _days(row: dict[str, Any]) -> set[date]:
    """The days of China on which an instance may be on the bill."""
    first = row["billing_start_at"].astimezone(CHINA).date()
    last = (row["finished_at"] or row["billing_start_at"]).astimezone(CHINA).date()
    return {first + timedelta(days=number) for number in range((last - first).days + 1)}


def test_the_day_has_what_is_hard_to_bill(day: Day) -> None:
    """Among the played pods are spot instances beyond their first hour, and some that are charged over a midnight of China."""
    billed = [row for row in day.priced if row["billing_start_at"]]
    assert len(billed) > 30
    assert any(row["spot"] and row["finished_at"] - row["billing_start_at"] > timedelta(hours=1) for row in billed)
    assert any(len(_days(row)) > 1 for row in billed)


def test_every_pod_costs_what_its_instance_is_billed(day: Day) -> None:
    """Each instance of the day has on the bill, to the cent, what its pod costs by our model; nobody is on one side only."""
    billed: dict[str, float] = {}
    for row in day.bill:
        billed[row["InstanceID"]] = billed.get(row["InstanceID"], 0.0) + row["PretaxAmount"]
    ours = {row["instance_id"]: row for row in day.priced if row["billed_cost"]}
    assert {row["problem"] for row in ours.values()} == {None}
    assert set(billed) == set(ours)
    for instance, row in ours.items():
        assert row["billed_cost"] == pytest.approx(billed[instance], abs=5e-6), row


def test_the_day_costs_what_is_billed(day: Day) -> None:
    """The whole day is the same amount on both sides, to the cent."""
    billed = sum(row["PretaxAmount"] for row in day.bill)
    assert round(sum(row["billed_cost"] or 0 for row in day.priced), 2) == pytest.approx(round(billed, 2), abs=1e-9)
