"""The frame that every question about cost reads: one row a pod, as the history has it, with what it cost.

`COLUMNS` is the one list of its columns. Money is in the scope's currency, before tax, in double precision (sums of ten million
pods are exact to the cent); null where a price is not known, never zero. Moments are UTC; `day`, `week` and `hour` are local.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Problem(StrEnum):
    """Why a pod's cost is not known, or not exactly; of several the first."""

    NO_INSTANCE = "no instance"
    NO_START = "no start"
    NO_END = "no end"
    NEGATIVE_DURATION = "negative duration"
    ZERO_DURATION = "zero duration"
    UNKNOWN_SPEC = "unknown spec"
    NO_PRICE = "no price"
    NO_SPOT_PRICE = "no spot price"
    UNKNOWN_ECS_TYPE = "unknown ECS type"
    STILL_RUNNING = "still running"
    ASSUMED_SPEC = "assumed spec"
    BOUNDED = "bounded"


MEANING = {
    Problem.NO_INSTANCE: "no ECI instance was made: nothing is billed",
    Problem.NO_START: "nobody knows when billing began",
    Problem.NO_END: "it is gone, and nobody knows when billing ended",
    Problem.NEGATIVE_DURATION: "it ended before it began: a clock was wrong",
    Problem.ZERO_DURATION: "it ended at the moment at which it began: nothing is billed",
    Problem.UNKNOWN_SPEC: "the billed spec is not known, nor what was requested, or no spec is that large",
    Problem.NO_PRICE: "the price list has no price for its spec or its ECS type on that day",
    Problem.NO_SPOT_PRICE: "the archive has no market price for its ECS type, zone and time: it cost at most the list price",
    Problem.UNKNOWN_ECS_TYPE: "a spot instance whose ECS type nobody wrote down: its cost is an interval",
    Problem.STILL_RUNNING: "it had not ended when it was last seen: its cost until then",
    Problem.ASSUMED_SPEC: "nobody wrote down what was billed: the spec that ECI takes for what was requested",
    Problem.BOUNDED: "its start or end is a bound, not an observation: the most that it can have cost",
}
"""What each Problem says."""

COSTLESS = (Problem.NO_START, Problem.NO_END, Problem.NEGATIVE_DURATION, Problem.UNKNOWN_SPEC, Problem.NO_PRICE,
            Problem.NO_SPOT_PRICE, Problem.UNKNOWN_ECS_TYPE)  # fmt: skip
"""Those with which `effective_cost` is null."""


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, and meaning. `recorded` ones are the pod record's own."""

    name: str
    type: str
    meaning: str
    recorded: bool = False


def _recorded(*names: str, type: str = "string") -> list[Column]:
    return [Column(name, type, "see data/history/RECORD.md", True) for name in names]


COLUMNS: tuple[Column, ...] = (
    *_recorded("cluster", "pod_uid", "instance_id"),
    *_recorded("project_path", "project_namespace", "job_name", "job_stage", "job_ref", "image", "job_status"),
    *_recorded("job_failure_reason", "runner_name", "region", "zone", "compute_category", "ecs_type", "ended"),
    *_recorded("pipeline_id", "job_id", "retry_of", type="int64"),
    *_recorded("spot", "spot_requested", "image_cache_hit", "false_green", "final", type="bool"),
    *_recorded("requested_vcpu", "requested_memory_gib", "billed_vcpu", "billed_memory_gib", type="double"),
    *_recorded("extra_ephemeral_gib", "job_queued_seconds", type="double"),
    *_recorded("created_at", "scheduled_at", "billing_start_at", "pulled_at", "running_at", type="timestamp"),
    *_recorded("finished_at", "deleted_at", type="timestamp"),
    Column("day", "date", "local day on which billing began; of creation where nothing was billed"),
    Column("week", "date", "the Monday on or before `day`"),
    Column("hour", "int64", "local hour of `billing_start_at`, 0 to 23"),
    Column("seconds", "double", "seconds from the start of billing to its end; null where not known"),
    Column(
        "schedule_seconds", "double", "seconds from the pod's creation to the start of billing; null where not known"
    ),
    Column("pull_seconds", "double", "from there until the last image was there"),
    Column("prepare_seconds", "double", "from there until the first container ran"),
    Column(
        "run_seconds", "double", "from there to the end of billing. Where a clock was wrong, all four may be negative"
    ),
    Column("list_cost", "double", "FOCUS ListCost: by the list price of what is billed (spot: of its ECS type)"),
    Column(
        "contracted_cost", "double", "FOCUS ContractedCost: after contracted discounts, at the market price for spot"
    ),
    Column(
        "effective_cost",
        "double",
        "FOCUS EffectiveCost: what it really cost; savings plans are spread over what they cover",
    ),
    Column(
        "billed_cost",
        "double",
        "FOCUS BilledCost: what the invoice charges for it; what a savings plan covers is 0 here",
    ),
    Column(
        "on_demand_cost",
        "double",
        "the same vCPU, GiB and seconds by ECI's vCPU and memory price, after contracted discounts",
    ),
    Column(
        "vcpu_cost",
        "double",
        "the part of `effective_cost` that is for vCPU (ECS type: shared as the list price would be)",
    ),
    Column("memory_cost", "double", "the part for memory; the rest is ephemeral storage"),
    Column("cost_low", "double", "the least it can have cost; equals `effective_cost` where that is known"),
    Column("cost_high", "double", "the most it can have cost"),
    Column("problem", "string", "a Problem, where the cost is not exact or not known; null for most pods"),
    Column(
        "build_vcpu",
        "double",
        "vCPU that the build container asks for: the part of `requested_vcpu` that is the job's own",
    ),
    Column("build_memory_gib", "double", "GiB of memory that the build container asks for"),
    Column(
        "asked_by", "string", "`limit` or `request`: what of its containers ECI adds up; null where they name neither"
    ),
    Column("used_vcpu_mean", "double", "vCPU used, mean over its samples; null where nobody measured"),
    Column("used_vcpu_peak", "double", "vCPU used, the highest sample"),
    Column("used_memory_mean_gib", "double", "GiB of memory used, mean over its samples"),
    Column("used_memory_peak_gib", "double", "GiB of memory used, the highest sample or the cgroup's own peak"),
    Column("used_samples", "int64", "how many samples the used columns rest on"),
    Column(
        "used_source", "string", "who measured: `eci` and `prometheus` the whole pod, `job` its build container alone"
    ),
)


@functools.cache
def schema() -> pa.Schema:
    """The Arrow schema of the frame."""
    import pyarrow as pa

    types = {
        "string": pa.string(), "int64": pa.int64(), "bool": pa.bool_(), "double": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"), "date": pa.date32(),
    }  # fmt: skip
    return pa.schema([(column.name, types[column.type]) for column in COLUMNS])


PHASES = {
    "schedule_seconds": ("created_at", "billing_start_at"),
    "pull_seconds": ("billing_start_at", "pulled_at"),
    "prepare_seconds": ("pulled_at", "running_at"),
    "run_seconds": ("running_at", "finished_at"),
}
"""The moments that a phase lies between: engines do not agree on how moments are subtracted, so it is done once."""

RECORDED = tuple(column.name for column in COLUMNS if column.recorded)
"""Columns of the pod record that the frame takes over."""
