"""Priced pods for tests: a few words each, the rest plain."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import narwhals as nw
import pyarrow as pa

from runbook.answer import Scope
from runbook.cost import priced

SCOPE = Scope("practice", date(2026, 11, 1), date(2026, 11, 30), "CNY", date(2024, 11, 27), timezone="UTC")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def pod(number: int = 1, **values: Any) -> dict[str, Any]:
    """One row: a 2 vCPU, 4 GiB pod of ten minutes that cost CNY 0.0735. Values that follow from others follow."""
    start = values.get("billing_start_at", NOON)
    seconds = values.get("seconds", 600.0)
    cost = values.get("effective_cost", 0.0735)
    day = start.date()
    row = dict.fromkeys(priced.schema().names)
    row |= {
        "cluster": "practice", "pod_uid": f"uid-{number}", "instance_id": f"eci-{number}", "project_path": "grp/demo",
        "project_namespace": "grp", "job_name": "unit tests", "job_stage": "test", "job_ref": "main", "image": "alpine:3",
        "job_status": "success", "runner_name": "eci", "region": "cn-hangzhou", "zone": "cn-hangzhou-j", "ended": "deleted",
        "pipeline_id": number, "job_id": number, "spot": False, "image_cache_hit": True, "false_green": False, "final": True,
        "requested_vcpu": 2.0, "requested_memory_gib": 4.0, "billed_vcpu": 2.0, "billed_memory_gib": 4.0,
        "job_queued_seconds": 3.0, "created_at": start - timedelta(seconds=4), "scheduled_at": start - timedelta(seconds=3),
        "billing_start_at": start, "pulled_at": start + timedelta(seconds=10), "running_at": start + timedelta(seconds=12),
        "finished_at": start + timedelta(seconds=seconds or 0), "deleted_at": start + timedelta(seconds=(seconds or 0) + 1),
        "day": day, "week": day - timedelta(days=day.weekday()), "hour": start.hour, "seconds": seconds,
        "list_cost": cost, "contracted_cost": cost, "effective_cost": cost, "billed_cost": cost, "on_demand_cost": cost,
        "vcpu_cost": None if cost is None else cost * 0.8, "memory_cost": None if cost is None else cost * 0.2,
        "cost_low": cost, "cost_high": cost, "used_samples": 0,
    }  # fmt: skip
    row |= values
    for phase, (begin, end) in priced.PHASES.items():
        if row[begin] is not None and row[end] is not None:
            row[phase] = (row[end] - row[begin]).total_seconds()
    return row | values


def frame(*pods: dict[str, Any]) -> nw.LazyFrame[Any]:
    """The rows as the lazy frame that questions take, on DuckDB."""
    table = pa.Table.from_pylist(list(pods), schema=priced.schema())
    return nw.from_native(duckdb.connect().from_arrow(table))
