"""Pod records for measurements, many and quickly: a table of 365 days' shapes whose identities and moments are made from a row number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runbook.eci.billing_window import Known
from runbook.history.record import ContainerRecord, PodRecord, Source, arrow_schema, to_table

BEGIN = datetime(2026, 8, 1, tzinfo=UTC)
MOMENTS = {
    "created_at": 0,
    "scheduled_at": 1,
    "billing_start_at": 8,
    "pulled_at": 30,
    "running_at": 32,
    "finished_at": 0,
    "deleted_at": 2,
    "observed_at": 3,
}
"""Seconds after creation; those from `finished_at` on count from the pod's end."""


def record(number: int, *, created_at: datetime | None = None, **changes: object) -> PodRecord:
    """One pod's final record; all that differs between pods follows from `number`."""
    start = created_at or BEGIN + timedelta(seconds=number)
    end = start + timedelta(seconds=60 + number * 7919 % 1800)
    values: dict[str, object] = {
        "cluster": "bench",
        "pod_uid": f"{number:08x}-e2b5-4628-9088-{number * 2654435761 % 2**48:012x}",
        "namespace": "gitlab-ci",
        "pod_name": f"runner-feastok-project-{number % 40}-concurrent-{number % 9}-{number % 46656:x}",
        "sources": (Source.WATCH,),
        "final": True,
        "resource_version": number * 9,
        "gitlab_host": "gitlab.example.com",
        "project_id": number % 40,
        "project_path": f"group-{number % 5}/project-{number % 40}",
        "job_id": number,
        "job_name": ("unit tests", "build", "lint", "deploy")[number % 4],
        "runner_version": "17.9.2",
        "image": "alpine:3.20",
        "containers": tuple(
            ContainerRecord(name=name, kind=name, image="alpine:3.20", request_vcpu=1.0, started_at=start)
            for name in ("build", "helper")
        ),
        "requested_vcpu": 2.0 + number % 3,
        "requested_memory_gib": 4.0 + number % 5,
        "billed_vcpu": 4.0,
        "billed_memory_gib": 8.0,
        "instance_id": f"eci-{number:020x}",
        "spot": number % 3 == 0,
    }
    for name, after in MOMENTS.items():
        early = after and name not in ("deleted_at", "observed_at") or name == "created_at"
        values[name] = (start if early else end) + timedelta(seconds=after)
        if f"{name.removesuffix('_at')}_known" in PodRecord.__struct_fields__:
            values[f"{name.removesuffix('_at')}_known"] = Known.OBSERVED
    return PodRecord(**(values | changes))  # type: ignore[arg-type]


def table(first: int, rows: int, *, pods_a_day: int = 111_000, later: int = 0) -> pa.Table:
    """Records `first` … `first + rows - 1` as a table, spread over days; `later` seconds are added to when they were observed."""
    shape = to_table([record(number) for number in range(512)])
    numbers = np.arange(first, first + rows, dtype=np.int64)
    found = shape.take(pa.array(numbers % 512))
    begin = int(BEGIN.timestamp() * 1_000_000)
    created = begin + (numbers * (86_400_000_000 // pods_a_day))
    ended = created + (60 + numbers * 7919 % 1800) * 1_000_000
    replaced: dict[str, pa.Array] = {
        "pod_uid": pc.binary_join_element_wise("1b5b30b5-e2b5-4628-9088", pa.array(numbers).cast(pa.string()), "-"),
        "instance_id": pc.binary_join_element_wise("eci", pa.array(numbers * 48271).cast(pa.string()), "-"),
        "job_id": pa.array(numbers),
        "resource_version": pa.array(numbers * 9),
    }
    kind = pa.timestamp("us", tz="UTC")
    for name, after in MOMENTS.items():
        early = after and name not in ("deleted_at", "observed_at") or name == "created_at"
        extra = later if name == "observed_at" else 0
        replaced[name] = pa.array((created if early else ended) + (after + extra) * 1_000_000).cast(kind)
    for name, values in replaced.items():
        found = found.set_column(found.schema.get_field_index(name), found.schema.field(name), values)
    return found.cast(arrow_schema())
