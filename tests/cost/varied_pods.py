"""Priced pods of all sorts, by the thousand, the same for the same number: several projects, weeks, endings, prices, gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from runbook.cost import priced
from runbook.cost.priced import Problem
from tests.cost.priced_pods import pod

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
SIZES = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))
PROJECTS = ("grp/demo", "grp/web", "tools/build", "data/etl", None)
JOBS = ("unit tests", "build", "deploy", "lint")


def varied(number: int, *, seed: int = 5) -> pa.Table:
    """That many rows by `priced.schema()`, in November 2026."""
    rng = np.random.default_rng(seed)
    return pa.Table.from_pylist([_one(rng, one) for one in range(number)], schema=priced.schema())


def _one(rng: np.random.Generator, number: int) -> dict[str, Any]:
    start = BEGIN + timedelta(seconds=int(rng.integers(0, 29 * 86400)))
    vcpu, memory = SIZES[rng.integers(len(SIZES))]
    spot, cached = bool(rng.random() < 0.3), bool(rng.random() < 0.6)
    pull, run = int(rng.integers(1, 8) if cached else rng.integers(20, 90)), int(rng.lognormal(5, 1))
    seconds = float(pull + 2 + run)
    on_demand = seconds * (vcpu * 0.000049 + memory * 0.00000613)
    cost = on_demand * (0.4 if spot else 1)
    used = rng.random(4)
    values: dict[str, Any] = {
        "billing_start_at": start, "seconds": seconds, "effective_cost": cost, "on_demand_cost": on_demand,
        "spot": spot, "image_cache_hit": cached, "billed_vcpu": vcpu, "billed_memory_gib": memory,
        "requested_vcpu": vcpu * float(rng.choice([0.5, 0.8, 1])), "requested_memory_gib": memory * float(rng.choice([0.4, 0.9, 1])),
        "project_path": PROJECTS[rng.integers(len(PROJECTS))], "job_name": JOBS[rng.integers(len(JOBS))],
        "zone": f"cn-hangzhou-{'ijk'[rng.integers(3)]}", "pipeline_id": number // 3, "job_queued_seconds": float(rng.integers(0, 60)),
        "pulled_at": start + timedelta(seconds=pull), "running_at": start + timedelta(seconds=pull + 2),
        "job_status": "failed" if rng.random() < 0.1 else "success", "retry_of": number - 1 if rng.random() < 0.05 else None,
        "ecs_type": "ecs.c6.large" if spot and rng.random() < 0.5 else None,
    }  # fmt: skip
    values |= {
        "build_vcpu": values["requested_vcpu"] * 0.75, "build_memory_gib": values["requested_memory_gib"] * 0.75,
        "asked_by": "limit" if number % 2 else "request",
    }  # fmt: skip
    project = values["project_path"]
    values["project_namespace"] = project and project.split("/")[0]
    if rng.random() < 0.5:
        values |= {
            "used_vcpu_mean": vcpu * used[0] / 2, "used_vcpu_peak": vcpu * used[1],
            "used_memory_mean_gib": memory * used[2] / 2, "used_memory_peak_gib": memory * used[3], "used_samples": 20,
            "used_source": "eci" if number % 3 else "job",
        }  # fmt: skip
    return pod(number, **values) | _odd(rng, values)


def _odd(rng: np.random.Generator, values: dict[str, Any]) -> dict[str, Any]:
    """What is not as usual about one pod in ten."""
    unknown = dict.fromkeys(
        ("effective_cost", "list_cost", "contracted_cost", "billed_cost", "on_demand_cost", "cost_low", "cost_high")
    )
    none = dict.fromkeys(unknown, 0.0)
    start: datetime = values["billing_start_at"]
    match rng.integers(60):
        case 0:
            return unknown | {"problem": Problem.NO_PRICE.value}
        case 1:
            open_end = dict.fromkeys(("seconds", "finished_at", "deleted_at", "run_seconds"))
            return unknown | open_end | {"problem": Problem.NO_END.value}
        case 2:
            backwards = {"finished_at": start - timedelta(seconds=9), "run_seconds": -40.0, "seconds": None}
            return unknown | backwards | {"problem": Problem.NEGATIVE_DURATION.value}
        case 3:
            moments = ("billing_start_at", "pulled_at", "running_at", "finished_at")
            billed = ("hour", "instance_id", "billed_vcpu", "billed_memory_gib")
            never = dict.fromkeys((*moments, *priced.PHASES, *billed))
            return never | none | {"problem": Problem.NO_INSTANCE.value, "seconds": 0.0, "ended": "no_stock"}
        case 4:
            return {"ended": "reclaimed", "spot": True, "false_green": values["job_status"] == "success"}
        case 5:
            unseen = ("image_cache_hit", "pulled_at", "pull_seconds", "prepare_seconds", "job_queued_seconds")
            return dict.fromkeys(unseen)
        case _:
            return {}
