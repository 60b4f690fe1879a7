"""What pods really used of CPU and memory: one row a pod, from whoever measured it.

    used.open_store(settings).append(table)          # durable when it returns
    measured = used.read(settings, first=date(2026, 11, 1))
    columns_for(records, measured)                   # the used columns of `runbook.cost.priced`, a row each record

Who measures: the job itself (`used_from_jobs`), ECI's metric API (`used_from_eci`), Prometheus (`used_from_prometheus`).
Files lie as the history's segments do, `segments/day=2026-11-24/….parquet`, the day being that of `observed_at`; nothing is
rewritten, and of several rows of a pod the newest holds. *Requested* and *billed* are never in these columns.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runbook.clients import connect, storage
from runbook.clients.secrets import SecretStore
from runbook.clients.storage import Folder, StoredFile
from runbook.errors import HistoryError
from runbook.history import segments
from runbook.history.job_records import STAND_IN
from runbook.moments import Clock
from runbook.settings import Settings

Source = Literal["job", "eci", "prometheus"]
"""Who measured: the job's own cgroup, ECI's metric API, or Prometheus."""

GIB = 2**30
FORMAT_KEY, FORMAT_VERSION = b"runbook.used.version", 1


@dataclass(frozen=True)
class Spread:
    """How samples of one quantity lie. `p50` to `p99` are the smallest samples that so many percent do not exceed."""

    mean: float
    p50: float
    p95: float
    p99: float
    peak: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Of at least one sample."""
        ordered = sorted(samples)

        def at(percent: int) -> float:
            return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

        return cls(math.fsum(ordered) / len(ordered), at(50), at(95), at(99), ordered[-1])


@dataclass(frozen=True)
class UsedRecord:
    """What one pod used. `vcpu` is in vCPU, `memory` in GiB; None where the source could not say."""

    cluster: str
    pod_uid: str
    source: Source
    observed_at: datetime
    samples: int
    vcpu: Spread | None = None
    memory: Spread | None = None
    instance_id: str | None = None
    job_id: int | None = None


@dataclass(frozen=True)
class Life:
    """One pod that ran and ended, as far as measuring it needs."""

    cluster: str
    pod_uid: str
    pod_name: str
    namespace: str
    running_at: datetime
    finished_at: datetime
    instance_id: str | None = None
    project_id: int | None = None
    job_id: int | None = None

    def measured(
        self,
        source: Source,
        observed_at: datetime,
        *,
        samples: int,
        vcpu: Spread | None = None,
        memory: Spread | None = None,
    ) -> UsedRecord:
        """What it used, by one source."""
        return UsedRecord(
            self.cluster, self.pod_uid, source, observed_at, samples, vcpu, memory, self.instance_id, self.job_id
        )


@dataclass(frozen=True)
class Measures:
    """What a source told of some pods; `without` counts the pods of which it told nothing, by the reason."""

    records: tuple[UsedRecord, ...]
    without: Mapping[str, int]


def _column(name: str, type: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, type, nullable=nullable, metadata={"meaning": meaning})


def _spread_columns(prefix: str, unit: str, what: str) -> list[pa.Field]:
    suffix = "_gib" if unit == "GiB" else ""
    meanings = {
        "mean": f"{what}, {unit}, mean over the samples",
        "p50": f"{what}, {unit}: half of the samples do not exceed it",
        "p95": f"{what}, {unit}: 95 % of the samples do not exceed it",
        "p99": f"{what}, {unit}: 99 % of the samples do not exceed it",
        "peak": f"{what}, {unit}, the highest sample",
    }
    return [_column(f"{prefix}_{name}{suffix}", pa.float64(), meaning) for name, meaning in meanings.items()]


@functools.cache
def schema() -> pa.Schema:
    """The columns with their meanings, in the fields' metadata."""
    return pa.schema(
        [
            _column("cluster", pa.string(), "name of the cluster's card", nullable=False),
            _column("pod_uid", pa.string(), "the pod, as in the history", nullable=False),
            _column("instance_id", pa.string(), "its ECI instance"),
            _column("job_id", pa.int64(), "its job"),
            _column("source", pa.string(), "who measured: job, eci or prometheus", nullable=False),
            _column("observed_at", pa.timestamp("us", tz="UTC"), "when the source was asked, UTC", nullable=False),
            _column("samples", pa.int64(), "how many samples the row rests on", nullable=False),
            *_spread_columns("vcpu", "vCPU", "CPU used"),
            *_spread_columns("memory", "GiB", "memory that could not be given back: the working set"),
        ],
        metadata={FORMAT_KEY: str(FORMAT_VERSION).encode()},
    )


def to_table(records: Iterable[UsedRecord]) -> pa.Table:
    """Rows by `schema()`."""
    return pa.Table.from_pylist([_row(one) for one in records], schema=schema())


def _row(record: UsedRecord) -> dict[str, object]:
    row: dict[str, object] = {
        name: getattr(record, name)
        for name in ("cluster", "pod_uid", "instance_id", "job_id", "source", "observed_at", "samples")
    }
    for prefix, suffix, spread in (("vcpu", "", record.vcpu), ("memory", "_gib", record.memory)):
        if spread is not None:
            row |= {f"{prefix}_{name}{suffix}": value for name, value in asdict(spread).items()}
    return row


# -- beside the records -----------------------------------------------------------------------------------------------

COLUMNS = {
    "used_vcpu_mean": "vcpu_mean",
    "used_vcpu_peak": "vcpu_peak",
    "used_memory_mean_gib": "memory_mean_gib",
    "used_memory_peak_gib": "memory_peak_gib",
    "used_samples": "samples",
    "used_source": "source",
}
"""Used columns of the priced frame, and the columns here that they are."""


def columns_for(records: pa.Table, used: pa.Table) -> pa.Table:
    """The used columns, a row for each row of `records`, in its order; null where nobody measured, and `used_samples` 0.

    `records` has `cluster`, `pod_uid` and `instance_id`; `job_id` and `running_at` where a job may have been measured before its
    pod was known. A pod is found by its UID, else by its instance, else by its job: the pod of it that ran last.
    """
    found = _positions(records, used, "pod_uid")
    if "instance_id" in records.column_names:
        found = pc.coalesce(found, _positions(records, used, "instance_id"))
    if {"job_id", "running_at"} <= set(records.column_names):
        found = pc.coalesce(found, _by_job(records, used))
    taken = {name: used[column].take(found) for name, column in COLUMNS.items()}
    taken["used_samples"] = pc.fill_null(taken["used_samples"], 0)
    return pa.table(taken)


def _positions(records: pa.Table, used: pa.Table, key: str) -> pa.ChunkedArray:
    """For each record the row of `used` that has its cluster and key; null where there is none."""
    return pc.index_in(_joined(records, key), value_set=_joined(used, key), skip_nulls=True)


def _joined(table: pa.Table, key: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["cluster"], table[key].cast(pa.string()), "\n")


def _by_job(records: pa.Table, used: pa.Table) -> pa.Array:
    """Measures of jobs whose pod nobody had seen then, given to the pod of the job that began to run last."""
    jobs = pc.indices_nonzero(pc.starts_with(used["pod_uid"], STAND_IN))
    found: list[int | None] = [None] * records.num_rows
    if len(jobs):
        ran = records.select(["cluster", "job_id", "running_at"]).append_column("place", _count(records))
        ran = ran.filter(pc.is_valid(ran["running_at"])).sort_by(
            [("running_at", "descending"), ("place", "descending")]
        )
        latest = pc.index_in(_joined(used.take(jobs), "job_id"), value_set=_joined(ran, "job_id"), skip_nulls=True)
        for row, place in zip(jobs.to_pylist(), ran["place"].take(latest).to_pylist(), strict=True):
            if place is not None:
                found[place] = row
    return pa.array(found, pa.int32())


def _count(table: pa.Table) -> pa.Array:
    return pa.array(range(table.num_rows), pa.int64())


# -- the store --------------------------------------------------------------------------------------------------------


def open_store(settings: Settings, client: SecretStore | None = None) -> UsedStore:
    """Where `cost.used.url` of the card says; a bucket is opened with the keys of the card's history."""
    place = settings.history.model_copy(update={"url": settings.cost.used.url})
    return UsedStore(storage.open_folder(place, client), clock=connect.clock())


def read(settings: Settings, client: SecretStore | None = None, *, first: date | None = None) -> pa.Table:
    """The newest row of each pod that was measured on `first` (UTC) or later; without it, of all. Raises HistoryError."""
    return open_store(settings, client).table(first=first)


@dataclass
class UsedStore:
    """Measures in one folder. Any number of processes may append and read at the same time."""

    folder: Folder
    clock: Clock = field(default_factory=connect.clock)

    def append(self, records: Sequence[UsedRecord] | pa.Table) -> int:
        """Keep rows; when this returns, they are durable. Returns how many. Raises HistoryError."""
        table = records.cast(schema()) if isinstance(records, pa.Table) else to_table(records)
        days = pc.cast(table["observed_at"], pa.date32())
        for day in pc.unique(days).to_pylist():
            part = table.filter(pc.equal(days, pa.scalar(day, pa.date32())))
            name = f"{self.clock.now().astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}.parquet"
            self.folder.put(f"{segments.TAIL}/{segments.folder_of(day)}/{name}", segments.encoded(part))
        return int(table.num_rows)

    def table(self, *, first: date | None = None) -> pa.Table:
        """The newest row of each pod, by `schema()`; of rows observed on `first` (UTC) or later. Raises HistoryError."""
        files = [
            one
            for one in self.folder.files(segments.TAIL)
            if segments.is_ours(one) and (first is None or (segments.day_of(one.path) or date.min) >= first)
        ]
        return newest(pa.concat_tables([self._load(one) for one in files] or [schema().empty_table()]))

    def _load(self, file: StoredFile) -> pa.Table:
        where = f"{self.folder.url}/{file.path}"
        try:
            with self.folder.filesystem.open_input_file(f"{self.folder.root}/{file.path}") as source:
                table = pq.read_table(source)
        except (OSError, pa.ArrowInvalid) as error:
            raise HistoryError(
                "A file of used CPU and memory is torn, or is no Parquet file.",
                where=where,
                value=type(error).__name__,
                remedy="Move it away and import again: runbook import used",
                page=storage.PAGE,
            ) from None
        version = (table.schema.metadata or {}).get(FORMAT_KEY, b"").decode()
        if version != str(FORMAT_VERSION) or table.column_names != schema().names:
            raise HistoryError(
                "A file among used CPU and memory is none of its own, or of a newer version of the runbooks.",
                where=where,
                value=f"format {version or 'unknown'}",
                allowed=f"format {FORMAT_VERSION}",
                remedy="Move it elsewhere, or install the version that wrote it.",
                page=storage.PAGE,
            )
        return table.cast(schema())


def newest(table: pa.Table) -> pa.Table:
    """Of several rows of a pod the one that was observed last."""
    if not table.num_rows:
        return table
    ordered = table.sort_by("observed_at").combine_chunks()
    rows = ordered.select(["cluster", "pod_uid"]).append_column("row", _count(ordered))
    return ordered.take(rows.group_by(["cluster", "pod_uid"]).aggregate([("row", "max")])["row_max"])
