"""The pod history's store: a durable segment, base and tail, compaction; beside each the naive way."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from bench import sample_records
from bench.figures import Figure, peak_mib, ratio, seconds
from runbook.clients import connect
from runbook.clients.storage import DiskFolder
from runbook.history import segments
from runbook.history.record import from_table
from runbook.history.store import Store

PODS = 200
SEGMENTS = 10_000
MILLIONS = int(os.environ.get("BENCH_MILLIONS", "10"))
"""Millions of rows that are compacted."""
ROWS_A_SEGMENT = 5_000
TAIL = 60

ALL_COLUMNS = "sum(hash(COLUMNS(*)))"
"""Reads and decodes every column: a count alone would be answered from the footers."""


def measure() -> Iterator[Figure]:
    """The figures; about ten minutes on two cores, 3 GB of scratch."""
    yield from durable_segment()
    yield from base_and_tail()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk that var/ is on: a temporary one may be memory, where fsync costs nothing."""
    var = Path(__file__).resolve().parent.parent / "var" / "bench"
    var.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=var))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def store_in(folder: Path) -> Store:
    return Store(DiskFolder(folder), clock=connect.clock())


def durable_segment() -> Iterator[Figure]:
    """200 pods, durable; ten thousand times; against the same bytes written bare, and against one growing file."""
    with scratch() as folder:
        store = store_in(folder / "history")
        table = sample_records.table(0, PODS)
        records = from_table(table)
        data = segments.encoded(table)
        bare = folder / "bare"
        bare.mkdir()
        count = iter(range(10**9))

        def write_bare() -> None:
            temporary, final = bare / ".new", bare / f"{next(count)}.parquet"
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(final)

        store.append(table)
        yield Figure(
            "durable segment of 200 pods: write + fsync + rename of its bytes",
            ratio(lambda: store.append(table), write_bare, rounds=400),
            "times",
            4,
        )
        yield Figure(
            "... from records, their conversion to Arrow included",
            ratio(lambda: store.append(records), write_bare, rounds=200),
            "times",
        )
        times = [seconds(lambda: store.append(table)) for _ in range(SEGMENTS)]
        yield Figure(
            f"... the last 500 of {SEGMENTS:,} segments: the first 500",
            statistics.median(times[-500:]) / statistics.median(times[:500]),
            "times",
            1.5,
        )
        growing = folder / "growing.parquet"
        pq.write_table(table, growing)

        def rewrite() -> None:
            pq.write_table(pa.concat_tables([pq.read_table(growing), table]), growing)

        for _ in range(300):
            rewrite()
        yield Figure(
            "naive: one file read, extended and written again, after 300 segments: a segment",
            ratio(rewrite, lambda: store.append(table), rounds=11),
            "times",
        )


def base_and_tail() -> Iterator[Figure]:
    """Ten million observations, one in ten of a pod seen before: compacted, read with a tail, and naively."""
    rows = MILLIONS * 1_000_000
    with scratch() as folder:
        store = store_in(folder / "history")
        pods = rows * 9 // 10
        for first in range(0, pods, ROWS_A_SEGMENT):
            store.append(sample_records.table(first, ROWS_A_SEGMENT))
        again = rows - pods
        for part in range(0, again, ROWS_A_SEGMENT):  # as a collector sees pods again: those of the neighbourhood
            store.append(sample_records.table(part * (pods // again), ROWS_A_SEGMENT, later=60))
        tail = sorted((folder / "history" / "segments").rglob("*.parquet"))

        def naive() -> None:
            _every_column(
                f"SELECT * FROM read_parquet('{folder}/history/segments/**/*.parquet', hive_partitioning = false) QUALIFY"
                " row_number() OVER (PARTITION BY cluster, pod_uid ORDER BY final DESC, observed_at DESC) = 1"
            )

        uncompacted = seconds(naive)
        yield Figure(
            f"{MILLIONS} million rows in {len(tail):,} segments, compacted: memory",
            peak_mib(lambda: store_in(folder / "history").compact()),
            "MiB",
            1024,
        )
        if store.state().pods != pods:
            raise RuntimeError(f"{store.state().pods} pods of {pods}")
        base_only = _files(folder, "days")
        for number in range(TAIL):
            store.append(sample_records.table(pods - ROWS_A_SEGMENT + number * PODS, PODS, later=120))
        compacted = f"SELECT * FROM read_parquet([{base_only}], hive_partitioning = false)"
        yield Figure(
            f"base + tail of {TAIL} segments, every column: the compacted base",
            ratio(lambda: store.scan().aggregate(ALL_COLUMNS).fetchall(), lambda: _every_column(compacted), rounds=5),
            "times",
            2,
        )
        few = ["project_path", "billed_vcpu", "running_at"]
        yield Figure(
            "... three columns",
            ratio(
                lambda: store.scan(few).aggregate(ALL_COLUMNS).fetchall(),
                lambda: _every_column(compacted.replace("*", ", ".join(few), 1)),
                rounds=5,
            ),
            "times",
            2,
        )
        yield Figure(
            "naive: a window over all segments at every read: the compacted base",
            uncompacted / seconds(lambda: _every_column(compacted)),
            "times",
        )


def _files(folder: Path, under: str) -> str:
    return ", ".join(f"'{path}'" for path in (folder / "history" / under).rglob("*.parquet"))


def _every_column(query: str) -> object:
    with duckdb.connect() as connection:
        return connection.sql(query).aggregate(ALL_COLUMNS).fetchall()
