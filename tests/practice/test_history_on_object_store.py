"""The pod history in a bucket: the same store, over S3, against a server process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bench.sample_records import table
from runbook.clients import connect
from runbook.clients.storage import BucketFolder
from runbook.errors import HistoryError
from runbook.history.store import Store
from sandbox.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("object-store")) as server:
        server.make_bucket("history")
        yield server


def store_at(server: ObjectStore, path: str) -> Store:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    return Store(BucketFolder("s3", path, endpoint=server.endpoint, region="us-east-1", **keys), clock=connect.clock())


def test_append_read_and_compact_in_a_bucket(server: ObjectStore) -> None:
    """Base and tail in a bucket give every pod once, as on a disk; merged segments are removed after the grace."""
    store = store_at(server, "history/pods")
    assert store.table().num_rows == 0
    store.append(table(0, 200))
    store.append(table(100, 200, later=60))
    assert sorted(store.table(["job_id"])["job_id"].to_pylist()) == list(range(300))
    assert [day.rows for day in store.compact().days] == [300]
    store.append(table(299, 2))
    assert sorted(store.table(["job_id"])["job_id"].to_pylist()) == list(range(301))
    assert store.compact(grace=timedelta(minutes=10)).days
    assert store.compact(grace=timedelta(0)).removed == 3
    assert (store.state().segments, store.state().pods) == (0, 301)
    assert [one.path for one in store.folder.files("")] == ["days/day=2026-08-01/pods.parquet"]


def test_a_segment_is_one_object_under_its_final_name(server: ObjectStore) -> None:
    """Nothing with a temporary name is ever in the bucket: an object is there whole, or not."""
    store = store_at(server, "history/names")
    acknowledged = store.append(table(0, 200))
    assert [one.path for one in store.folder.files("")] == list(acknowledged.files)


def test_a_bucket_that_is_missing_or_gone_is_an_error(server: ObjectStore, tmp_path: Path) -> None:
    """A missing bucket, and a server that does not answer, are pages that name the place and no key."""
    with pytest.raises(HistoryError, match="no such bucket") as caught:
        store_at(server, "elsewhere/pods").append(table(0, 5))
    assert "s3://elsewhere/pods" in str(caught.value)
    assert SECRET_KEY not in str(caught.value)
    with ObjectStore(tmp_path) as gone:
        gone.make_bucket("history")
        store = store_at(gone, "history/pods")
        store.append(table(0, 5))
    with pytest.raises(HistoryError, match="cannot be reached|did not answer"):
        store.append(table(5, 5))
