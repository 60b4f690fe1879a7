"""The runs of each job, counted: how often which peak of memory, which peak of CPU, which duration, which size.

A *run* is a pod whose job ran to an end of its own; what was taken away, lost or is still running tells of no whole run. Peaks are
counted in steps of 1/64 vCPU and GiB, rounded up, so that "more than a rung has" is counted exactly for every rung of the ladder.
Everything is added up by the engine: a result has as many rows as there are different values, not as there are pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import numpy.typing as npt

from runbook.answer import Scope
from runbook.cost import quantiles
from runbook.cost.build_size import AskedBy
from runbook.cost.collected import collected, count
from runbook.eci.endings import End

if TYPE_CHECKING:
    import pandas as pd

STEPS = 64
"""Steps of a vCPU or GiB in which peaks are counted; every rung is a whole number of them."""

JOB = ("project_path", "job_name", "job_stage")
"""What makes runs comparable: they are runs of one job."""
SIZE = (
    "region", "compute_category", "is_spot", "ecs_type", "requested_vcpu", "requested_memory_gib", "billed_vcpu",
    "billed_memory_gib", "build_vcpu", "build_memory_gib", "asked_by",
)  # fmt: skip
FEW_SAMPLES = 4
"""Samples below which a run's real peak may well lie between two of them."""
CUT_SHORT = (End.RECLAIMED.value, End.LOST.value, End.EVICTED.value, End.LIVE.value)
"""Ends of pods that tell of no whole run."""


@dataclass(frozen=True)
class Runs:
    """Counts by job, each a table with the columns JOB and `runs`.

    `sizes`: also SIZE and `image`, with `measured`, `out_of_memory`, `few_samples`, `cost`, `cost_squared`, `seconds`, `unpriced`, `first_at`
    and `last_at`. `memory`: `late` (in the second half of the window) and `steps`. `vcpu`: `steps`. `durations`: `late` and
    `seconds`, of whole seconds from the first container's start to the end. `left_out` counts pods that are no runs, by why.
    """

    sizes: pd.DataFrame
    memory: pd.DataFrame
    vcpu: pd.DataFrame
    durations: pd.DataFrame
    left_out: pd.Series


@dataclass(frozen=True)
class Counts:
    """How many runs had each value; `late` says which half of the window they are of."""

    values: npt.NDArray[Any]
    runs: npt.NDArray[Any]
    late: npt.NDArray[np.bool_]

    @property
    def total(self) -> int:
        return int(self.runs.sum())

    def above(self, value: float) -> int:
        """Runs with more than that."""
        return int(self.runs[self.values > value].sum())

    def quantile(self, q: float) -> float:
        """NaN where there are no runs."""
        return quantiles.of_counts(self.values, self.runs, q)

    def half(self, late: bool) -> Counts:
        chosen = self.late == late
        return Counts(self.values[chosen], self.runs[chosen], self.late[chosen])


@dataclass(frozen=True)
class Job:
    """The runs of one job: its sizes as rows of `Runs.sizes` (None where missing), and its peaks in vCPU and GiB.

    `key` is project, name and stage, empty where missing.
    """

    key: tuple[str, str, str]
    sizes: tuple[dict[str, Any], ...]
    memory: Counts
    vcpu: Counts
    durations: Counts


def jobs_of(found: Runs) -> Iterator[Job]:
    """Each job with its counts, by its key."""
    sizes = found.sizes.astype(object).where(found.sizes.notna(), None).to_dict("records")
    memory, vcpu = (_by_job(table, "steps", 1 / STEPS) for table in (found.memory, found.vcpu))
    durations = _by_job(found.durations, "seconds", 1.0)
    nothing = Counts(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    for key, places in _places(found.sizes).items():
        rows = tuple({str(name): value for name, value in sizes[place].items()} for place in places)
        yield Job(key, rows, *(counts.get(key, nothing) for counts in (memory, vcpu, durations)))


def _by_job(table: pd.DataFrame, value: str, unit: float) -> dict[tuple[str, str, str], Counts]:
    values, runs = table[value].to_numpy() * unit, table["runs"].to_numpy()
    late = table["late"].to_numpy(bool) if "late" in table else np.zeros(len(table), np.bool_)
    return {key: Counts(values[places], runs[places], late[places]) for key, places in _places(table).items()}


def _places(table: pd.DataFrame) -> dict[tuple[str, str, str], list[int]]:
    """The rows of each job."""
    places: dict[tuple[str, str, str], list[int]] = {}
    named = table[list(JOB)].astype(object).where(table[list(JOB)].notna(), "")
    for place, (project, name, stage) in enumerate(named.itertuples(index=False, name=None)):
        places.setdefault((project, name, stage), []).append(place)
    return places


def counted(pods: nw.LazyFrame[Any], scope: Scope) -> Runs:
    """The runs of every job that has a name."""
    ran = ~nw.col("running_at").is_null()
    short = nw.col("ended").fill_null("").is_in(CUT_SHORT)
    named = ~nw.col("job_name").is_null()
    runs = _with_needs(pods.filter(named & ran & ~short), scope)
    measured = runs.filter(nw.col("is_measured"))
    return Runs(
        sizes=_sizes(runs),
        memory=_steps(measured.filter(~nw.col("memory").is_null()), ("late",), nw.col("memory")),
        vcpu=_steps(measured.filter(~nw.col("vcpu").is_null()), (), nw.col("vcpu")),
        durations=_durations(runs),
        left_out=collected(
            pods.select(
                count(~named).alias("without_job"),
                count(named & ~ran).alias("never_ran"),
                count(named & ran & short).alias("cut_short"),
            )
        )
        .fillna(0)
        .astype("int64")
        .iloc[0],
    )


def _with_needs(runs: nw.LazyFrame[Any], scope: Scope) -> nw.LazyFrame[Any]:
    """With `memory` and `vcpu`, what a run needed at its peak, and `late`.

    Who ran out of memory needed more than was asked for, by one step at least; how much more nobody knows. What a job itself
    measured leaves helper and services out: they are taken to need what they asked for.
    """
    died = (nw.col("ended").fill_null("") == End.OUT_OF_MEMORY.value) & ~nw.col("requested_memory_gib").is_null()
    by_job = nw.col("used_source").fill_null("") == "job"
    middle = scope.first + timedelta(days=(scope.days - 1) // 2)

    def peak(name: str, suffix: str) -> nw.Expr:
        beside = (nw.col(f"requested_{name}{suffix}") - nw.col(f"build_{name}{suffix}")).fill_null(0.0)
        used = nw.col(f"used_{name}_peak{suffix}")
        return nw.when(by_job).then(used + beside).otherwise(used)

    more_than_asked = nw.col("requested_memory_gib") + nw.lit(1.0 / STEPS)
    memory = peak("memory", "_gib")
    return runs.with_columns(
        nw.when(died).then(nw.max_horizontal(memory.fill_null(0.0), more_than_asked)).otherwise(memory).alias("memory"),
        peak("vcpu", "").alias("vcpu"),
        died.alias("died"),
        (nw.col("day") > nw.lit(middle)).alias("late"),
        nw.col("spot").fill_null(False).alias("is_spot"),
    ).with_columns((~nw.col("memory").is_null()).alias("is_measured"))


def _sizes(runs: nw.LazyFrame[Any]) -> pd.DataFrame:
    cost, began = nw.col("effective_cost"), nw.coalesce(nw.col("billing_start_at"), nw.col("running_at"))
    by = [*JOB, *SIZE, "image"]
    return collected(
        runs.group_by(by).agg(
            nw.len().alias("runs"),
            count(nw.col("is_measured")).alias("measured"),
            count(nw.col("died")).alias("out_of_memory"),
            count(nw.col("is_measured") & ~nw.col("died") & (nw.col("used_samples") < FEW_SAMPLES)).alias(
                "few_samples"
            ),
            cost.fill_null(0.0).sum().alias("cost"),
            (cost * cost).fill_null(0.0).sum().alias("cost_squared"),
            nw.col("seconds").fill_null(0.0).sum().alias("seconds"),
            count(cost.is_null()).alias("unpriced"),
            began.min().alias("first_at"),
            began.max().alias("last_at"),
        ),
        by=by,
    )


def _steps(runs: nw.LazyFrame[Any], by: tuple[str, ...], amount: nw.Expr) -> pd.DataFrame:
    steps = (amount * STEPS).ceil().cast(nw.Int64).alias("steps")
    keys = [*JOB, *by, "steps"]
    return collected(runs.with_columns(steps).group_by(keys).agg(nw.len().alias("runs")), by=keys)


def _durations(runs: nw.LazyFrame[Any]) -> pd.DataFrame:
    keys = [*JOB, "late", "took"]
    whole = runs.filter(nw.col("run_seconds") >= 0).with_columns(
        nw.col("run_seconds").floor().cast(nw.Int64).alias("took")
    )
    return collected(whole.group_by(keys).agg(nw.len().alias("runs")), by=keys).rename(columns={"took": "seconds"})


def asked_by(word: object) -> AskedBy:
    """How a job's pods ask: by requests where nobody knows."""
    return AskedBy.LIMIT if word == AskedBy.LIMIT.value else AskedBy.REQUEST
