"""What pods used: kept for good, the newest of each pod read once, and given to the records that it belongs to."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest

from runbook.clients.storage import DiskFolder
from runbook.errors import HistoryError
from runbook.history import used
from runbook.history.used import Spread, UsedRecord, UsedStore, columns_for
from runbook.settings import ROOT

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def measured(number: int, peak: float = 1.0, **values: Any) -> UsedRecord:
    """What pod `number` used, as ECI told at noon."""
    given: dict[str, Any] = {
        "cluster": "practice", "pod_uid": f"uid-{number}", "source": "eci", "observed_at": NOON, "samples": 3,
        "vcpu": Spread.of([0.5, 0.5, peak]), "memory": Spread.of([1.0, 2.0, 3.0]), "instance_id": f"eci-{number}",
        "job_id": number,
    }  # fmt: skip
    return UsedRecord(**(given | values))


def records(*rows: dict[str, Any]) -> pa.Table:
    """Rows of the history, as far as they matter here."""
    types = pa.schema(
        [("cluster", pa.string()), ("pod_uid", pa.string()), ("instance_id", pa.string()), ("job_id", pa.int64()),
         ("running_at", pa.timestamp("us", tz="UTC"))]
    )  # fmt: skip
    return pa.Table.from_pylist([{"cluster": "practice"} | row for row in rows], schema=types)


@pytest.fixture
def store(tmp_path: Path) -> UsedStore:
    return UsedStore(DiskFolder(tmp_path / "used"))


def test_percentiles_are_samples_by_nearest_rank() -> None:
    """Of the samples 1 to 100, half do not exceed 50, and 95 % do not exceed 95."""
    assert Spread.of(list(range(100, 0, -1))) == Spread(50.5, 50, 95, 99, 100)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 2.0, 2.0)


def test_what_is_kept_comes_back(store: UsedStore) -> None:
    """A row comes back from the store as it was kept, in the documented schema."""
    assert store.append([measured(1)]) == 1
    table = store.table()
    assert table.schema.equals(used.schema(), check_metadata=True)
    row = table.to_pylist()[0]
    assert (row["vcpu_peak"], row["memory_mean_gib"], row["samples"]) == (1.0, 2.0, 3)


def test_every_column_has_a_meaning() -> None:
    """A reader of the Parquet file finds what each column means in its own schema."""
    assert all(one.metadata[b"meaning"] for one in used.schema())


def test_the_newest_row_of_a_pod_holds(store: UsedStore) -> None:
    """Of several measures of one pod the one that was observed last is read, in whichever order they came."""
    late = measured(1, peak=4.0, observed_at=NOON + timedelta(hours=1))
    store.append([late])
    store.append([measured(1, peak=2.0), measured(2, peak=3.0)])
    held = {row["pod_uid"]: row["vcpu_peak"] for row in store.table().to_pylist()}
    assert held == {"uid-1": 4.0, "uid-2": 3.0}


def test_days_before_are_not_read(store: UsedStore) -> None:
    """Who asks for measures of a day and later gets none of the days before."""
    store.append([measured(1, observed_at=NOON - timedelta(days=3)), measured(2)])
    assert store.table(first=date(2026, 11, 24))["pod_uid"].to_pylist() == ["uid-2"]


def test_nothing_kept_is_an_empty_table(store: UsedStore) -> None:
    """An empty store answers a table without rows, and every record is then unmeasured."""
    table = store.table()
    assert table.num_rows == 0
    beside = columns_for(records({"pod_uid": "uid-1", "instance_id": "eci-1", "job_id": 1}), table)
    assert beside.to_pylist() == [dict.fromkeys(used.COLUMNS) | {"used_samples": 0}]


def test_a_foreign_file_is_refused(store: UsedStore, tmp_path: Path) -> None:
    """A file that is no Parquet stops the reader with its path, and is never taken for no data."""
    folder = tmp_path / "used" / "segments" / "day=2026-11-24"
    folder.mkdir(parents=True)
    (folder / "torn.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(HistoryError, match=r"torn\.parquet"):
        store.table()


def test_records_get_their_measures_in_their_own_order() -> None:
    """Columns stand beside the records row for row: by UID, else by instance; null where nobody measured."""
    rows = records(
        {"pod_uid": "uid-2", "instance_id": "eci-2", "job_id": 2},
        {"pod_uid": "uid-9", "instance_id": "eci-9", "job_id": 9},
        {"pod_uid": "uid-new", "instance_id": "eci-1", "job_id": 1},
        {"pod_uid": "uid-none", "instance_id": None, "job_id": None},
    )
    table = columns_for(rows, used.to_table([measured(1, peak=1.5), measured(2, peak=2.5)]))
    assert table.column_names == list(used.COLUMNS)
    assert table["used_vcpu_peak"].to_pylist() == [2.5, None, 1.5, None]
    assert table["used_samples"].to_pylist() == [3, 0, 3, 0]


def test_a_jobs_measure_goes_to_its_last_pod() -> None:
    """What was kept under a pod that the records do not have goes to the pod of the same job that ran last, and only to it."""
    rows = records(
        {"pod_uid": "first", "job_id": 7, "running_at": None},
        {"pod_uid": "second", "job_id": 7, "running_at": NOON},
        {"pod_uid": "third", "job_id": 7, "running_at": NOON + timedelta(minutes=1)},
    )
    table = columns_for(rows, used.to_table([measured(7, pod_uid="job:gitlab.example.com/7", instance_id=None)]))
    assert table["used_samples"].to_pylist() == [0, 0, 3]


def test_a_measure_without_cpu_is_kept() -> None:
    """A source that knows memory alone leaves CPU null, not zero."""
    row = used.to_table([measured(1, vcpu=None)]).to_pylist()[0]
    assert row["vcpu_mean"] is None and row["memory_peak_gib"] == 3.0


def test_the_page_names_every_column() -> None:
    """data/history/USED.md says what each column of the rows is, and names each source."""
    page = (ROOT / "data" / "history" / "USED.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert set(used.schema().names) <= named
    assert set(get_args(used.Source)) <= named
