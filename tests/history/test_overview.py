"""The history as one table: how each moment is known, counted once a pod."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.clients import connect
from runbook.clients.storage import DiskFolder
from runbook.history import overview
from runbook.history.record import MOMENTS, End, Known, PodRecord, Source
from runbook.history.store import Store

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def pod(uid: str, **more: Any) -> PodRecord:
    """A pod that was watched to its end, but for what the test says."""
    known = {f"{moment}_known": Known.OBSERVED for moment in MOMENTS}
    values: dict[str, Any] = {"created_at": NOON, "observed_at": NOON, "sources": (Source.WATCH,), "job_id": 1}
    values |= {"ended": End.DELETED}
    return PodRecord(cluster="c", pod_uid=uid, final=True, **known | values | more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A history of four pods of three jobs, one of them seen twice."""
    store = Store(DiskFolder(tmp_path / "history"), clock=connect.clock())
    store.append(
        [
            pod("u1", finished_known=Known.BOUNDED),
            pod("u2", spot=True, ended=End.RECLAIMED, false_green=True),
            pod("u3", job_id=2, running_known=Known.NEVER, created_at=NOON + timedelta(days=1)),
            pod("job:h/3", job_id=3, finished_known=Known.BOUNDED, sources=(Source.GITLAB,), ended=End.UNKNOWN),
        ]
    )
    later = NOON + timedelta(minutes=1)
    store.append([pod("u1", finished_known=Known.BILLED, observed_at=later, sources=(Source.WATCH, Source.ECI))])
    return store


def test_every_pod_counts_once_in_every_row(store: Store) -> None:
    """Each moment's counts sum up to the number of pods, and of a pod's observations the newest counts."""
    seen = overview.of(store)
    assert (seen.pods, seen.jobs) == (4, 3)
    assert all(sum(counts) == 4 for _, counts in seen.rows)
    finished = {Known.OBSERVED: 2, Known.BILLED: 1, Known.BOUNDED: 1, Known.NEVER: 0, Known.UNKNOWN: 0}
    assert seen.known["finished"] == finished
    assert (seen.known["running"][Known.NEVER], seen.false_greens) == (1, 1)
    assert (seen.spot, seen.spot_without_type) == (1, 1)
    assert seen.sources == {Source.WATCH: 3, Source.GITLAB: 1, Source.ECI: 1, Source.FILE: 0}
    assert seen.ended == {"deleted": 2, "reclaimed": 1, "unknown": 1}


def test_days_are_those_of_creation(store: Store) -> None:
    """Asked for some days, only pods that were created on them count."""
    seen = overview.of(store, first=date(2026, 11, 25))
    assert (seen.pods, seen.first, seen.last) == (1, NOON + timedelta(days=1), NOON + timedelta(days=1))


def test_text_and_page_show_the_same_table(store: Store) -> None:
    """The table in a terminal and that in JupyterLab have every moment and every way of knowing."""
    seen = overview.of(store)
    for shown in (str(seen), seen._repr_html_()):
        assert all(word in shown for word in (*overview.TITLES.values(), *(state.value for state in overview.STATES)))
        assert "4 pods of 3 jobs" in shown and "1 reclaimed" in shown


def test_an_empty_history_is_no_pods(tmp_path: Path) -> None:
    """Nothing collected yet is a table of zeros, not an error."""
    seen = overview.of(Store(DiskFolder(tmp_path / "none"), clock=connect.clock()))
    assert (seen.pods, seen.first, seen.ended) == (0, None, {})
    assert str(seen).startswith("0 pods of 0 jobs")
