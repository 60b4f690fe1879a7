"""What happens to a team's pipelines, jobs and pods, drawn from a seed: one row a pod, as arrays.

The same arrays are played through the API server and written as records. All moments are whole seconds after the
beginning, as Kubernetes writes whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sandbox.traffic.team import JobKind, Project, Team
from sandbox.traffic.usage import draw_usage

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]


class Ending(IntEnum):
    """How a pod's life ends; the names are those of eci-node's scripts, in lower case."""

    DELETED = 0
    EXIT = 1
    OOM = 2
    RECLAIM = 3
    IMAGE_PULL = 4
    NO_STOCK = 5


class Verdict(IntEnum):
    """What GitLab says of a job."""

    SUCCESS = 0
    SCRIPT_FAILURE = 1
    SYSTEM_FAILURE = 2


STATUS = ("success", "failed", "failed")
FAILURE_REASON = (None, "script_failure", "runner_system_failure")

PROTECTION = 3600
"""Seconds after the start of billing in which ECI reclaims no spot instance."""
NOTICE = 180
"""Seconds between SpotToBeReleased and the release."""
SHORTEST = 6
"""Seconds that any script takes."""
RECLAIMS_AN_HOUR = 0.3
FALSE_GREEN = 0.2
"""The part of reclaimed jobs whose stream closes without a word, so that GitLab says success."""
CACHED = 0.6
EXITS, PULL_FAILS, PULL_FAILS_ONCE, NO_STOCK = 0.002, 0.002, 0.004, 0.003
POLL_TIMEOUT = 180
"""Seconds after which the runner gives a pod up that does not start."""

FIELDS = (
    "project", "kind", "ref", "pipeline", "job", "retry_of", "verdict", "last_pod",
    "job_created", "job_started", "job_finished",
    "ending", "exit_code", "spot", "cached", "created", "scheduled", "instance", "pulled", "running", "end", "deleted",
)  # fmt: skip
"""The columns. `project`, `kind` and `ref` count in the team's tables (`kind` through all projects); `job`, `pipeline`
and `retry_of` (-1 is none) count the rows of this draw; -1 is also a moment that never came. What the pods use
(`usage.FIELDS`) stands beside these columns."""


@dataclass(frozen=True)
class Lives:
    """One row a pod, in the order of creation; see FIELDS."""

    columns: Columns

    def __len__(self) -> int:
        return len(self.columns["job"])

    def __getattr__(self, name: str) -> npt.NDArray[Any]:
        try:
            return cast(npt.NDArray[Any], self.__dict__["columns"][name])
        except KeyError:
            raise AttributeError(name) from None

    def head(self, count: int) -> Lives:
        """The first pods."""
        return Lives({name: values[:count] for name, values in self.columns.items()})


def draw(team: Team, *, seed: int | np.random.SeedSequence, begin: datetime, days: float, times: float = 1) -> Lives:
    """The pods of `days` from `begin` (UTC) on; `times` makes the team so many times as busy."""
    rng = np.random.default_rng(seed)
    arrivals = _arrivals(team, rng, begin, days, times)
    weights = np.array([project.weight for project in team.projects], float)
    whose = rng.choice(len(team.projects), len(arrivals), p=weights / weights.sum())
    rows: list[Columns] = []
    first_kind = first_job = 0
    for number, project in enumerate(team.projects):
        chosen = np.flatnonzero(whose == number)
        for row in list(_pipelines(project, rng, chosen, arrivals[chosen])):
            row["project"] = np.full(len(row["pipeline"]), number)
            row["kind"] += first_kind
            known = row["retry_of"] >= 0
            row["job"] += first_job
            row["retry_of"][known] += first_job
            rows.append(row)
        first_kind += len(project.jobs)
        first_job = max((int(row["job"].max()) + 1 for row in rows if len(row["job"])), default=0)
    joined = {name: np.concatenate([row[name] for row in rows]) for name in FIELDS}
    order = np.lexsort((joined["job"], joined["created"]))
    columns = _numbered({name: values[order] for name, values in joined.items()})
    ran, out_of_memory = columns["running"] >= 0, columns["ending"] == Ending.OOM
    jobs = [kind for _, kind in kinds(team)]
    return Lives(columns | draw_usage(jobs, columns["kind"], ran=ran, out_of_memory=out_of_memory, seed=seed))


def kinds(team: Team) -> tuple[tuple[Project, JobKind], ...]:
    """Every job of every project, in the order in which `kind` counts."""
    return tuple((project, kind) for project in team.projects for kind in project.jobs)


def _numbered(columns: Columns) -> Columns:
    """Jobs numbered in the order of their first pod."""
    found, first, inverse = np.unique(columns["job"], return_index=True, return_inverse=True)
    rank = np.empty(len(found), np.int64)
    rank[np.argsort(first)] = np.arange(len(found))
    retried = columns["retry_of"] >= 0
    earlier = np.searchsorted(found, columns["retry_of"][retried])
    columns["retry_of"][retried] = rank[earlier]
    columns["job"] = rank[inverse]
    return columns


def _arrivals(team: Team, rng: np.random.Generator, begin: datetime, days: float, times: float) -> Whole:
    """Seconds at which pipelines begin: busy hours, quiet nights, quieter weekends."""
    hours = [begin + timedelta(hours=n) for n in range(int(np.ceil(days * 24)))]
    weight = np.array([team.hours[at.hour] * (team.weekend if at.weekday() >= 5 else 1) for at in hours])
    weight[-1] *= days * 24 - (len(hours) - 1)
    counts = rng.poisson(weight * (team.pipelines_a_workday * times / sum(team.hours)))
    within = rng.random(counts.sum()) * np.repeat(np.minimum(1.0, days * 24 - np.arange(len(hours))), counts)
    return np.sort(((np.repeat(np.arange(len(hours)), counts) + within) * 3600).astype(np.int64))


def _pipelines(project: Project, rng: np.random.Generator, pipeline: Whole, begun: Whole) -> Iterator[Columns]:
    """The pods of a project's pipelines: a stage begins when all jobs of the one before have succeeded."""
    ref = rng.integers(0, len(project.refs), len(pipeline))
    ready, green = begun + 2, np.ones(len(pipeline), bool)
    job = kind_number = 0
    for stage in project.stages:
        stage_end, stage_green = ready.copy(), green.copy()
        for kind in stage:
            taking = np.flatnonzero(green & (rng.random(len(pipeline)) < kind.share))
            at, retry_of = ready[taking], np.full(len(taking), -1)
            for attempt in range(kind.retries + 1):
                rows = _job(kind, rng, at, job + np.arange(len(taking)))
                job += len(taking)
                rows |= {"pipeline": pipeline[taking], "ref": ref[taking], "retry_of": retry_of}
                rows |= {"kind": np.full(len(taking), kind_number)}
                yield from _with_pull_retries(rng, {name: rows[name] for name in FIELDS if name in rows})
                stage_end[taking] = np.maximum(stage_end[taking], rows["job_finished"])
                failed = rows["verdict"] != Verdict.SUCCESS
                if attempt == kind.retries:
                    stage_green[taking[failed]] = False
                taking, at, retry_of = taking[failed], rows["job_finished"][failed] + 2, rows["job"][failed]
            kind_number += 1
        ready, green = stage_end + 1, stage_green


def _job(kind: JobKind, rng: np.random.Generator, at: Whole, job: Whole) -> Columns:
    """One run of a job for each moment in `at`: its last pod, its moments, its verdict."""
    n = len(at)
    started = at + rng.exponential(4.0, n).astype(np.int64)
    created = started + 1
    cached = rng.random(n) < CACHED
    instance = created + 1 + rng.integers(1, 5, n)
    pulled = instance + np.where(cached, rng.integers(1, 4, n), _lognormal(rng, 26, 0.5, n))
    running = pulled + rng.integers(1, 3, n)
    end = running + np.maximum(SHORTEST, _lognormal(rng, kind.median, kind.sigma, n))
    ending, verdict = np.full(n, Ending.DELETED, np.int64), np.full(n, Verdict.SUCCESS, np.int64)
    exit_code = np.full(n, -1)

    def happens(chance: float) -> Flags:
        free: Flags = (ending == Ending.DELETED) & (verdict == Verdict.SUCCESS)
        return free & (rng.random(n) < chance)

    verdict[happens(kind.fails)] = Verdict.SCRIPT_FAILURE
    for how, chance, code in (
        (Ending.NO_STOCK, NO_STOCK, -1), (Ending.IMAGE_PULL, PULL_FAILS, -1),
        (Ending.EXIT, EXITS, 1), (Ending.OOM, kind.runs_out_of_memory, 137),
    ):  # fmt: skip
        struck = happens(chance)
        ending[struck], exit_code[struck] = how, code
        verdict[struck] = Verdict.SYSTEM_FAILURE
    if kind.spot:
        taken_at = instance + PROTECTION + NOTICE + rng.exponential(3600 / RECLAIMS_AN_HOUR, n).astype(np.int64)
        struck = (taken_at < end) & np.isin(ending, (Ending.DELETED, Ending.OOM, Ending.EXIT))
        ending[struck], exit_code[struck], end[struck] = Ending.RECLAIM, -1, taken_at[struck]
        verdict[struck] = np.where(rng.random(struck.sum()) < FALSE_GREEN, Verdict.SUCCESS, Verdict.SYSTEM_FAILURE)
    deleted = np.where(ending == Ending.DELETED, end, end + 2)
    stuck = (ending == Ending.NO_STOCK) | (ending == Ending.IMAGE_PULL)
    deleted[stuck] = np.maximum(created + POLL_TIMEOUT, pulled + 3)[stuck]
    return {
        "job": job, "verdict": verdict, "last_pod": np.ones(n, bool),
        "job_created": at, "job_started": started, "job_finished": deleted + 1,
        "ending": ending, "exit_code": exit_code, "spot": np.full(n, kind.spot), "cached": cached & ~stuck,
        "created": created, "scheduled": created + 1,
        "instance": np.where(ending == Ending.NO_STOCK, -1, instance),
        "pulled": np.where(stuck, -1, pulled), "running": np.where(stuck, -1, running),
        "end": np.where(stuck, deleted, end), "deleted": deleted,
    }  # fmt: skip


def _with_pull_retries(rng: np.random.Generator, rows: Columns) -> Iterator[Columns]:
    """The rows, and before some of them the pod whose images could not be pulled: the runner took a new one."""
    again = (rng.random(len(rows["job"])) < PULL_FAILS_ONCE) & (rows["ending"] == Ending.DELETED)
    first = {name: values[again].copy() for name, values in rows.items()}
    delay = 20
    deleted = first["instance"] + delay
    n = len(deleted)
    first |= {
        "ending": np.full(n, Ending.IMAGE_PULL, np.int64),
        "last_pod": np.zeros(n, bool),
        "exit_code": np.full(n, -1),
    }
    first |= {"pulled": np.full(n, -1), "running": np.full(n, -1), "end": deleted, "deleted": deleted}
    first["cached"] = np.zeros(n, bool)
    later = deleted - rows["created"][again] + 1
    for name in ("created", "scheduled", "instance", "pulled", "running", "end", "deleted", "job_finished"):
        rows[name][again] += later
    first["job_finished"] = rows["job_finished"][again].copy()
    yield first
    yield rows


def _lognormal(rng: np.random.Generator, median: float, sigma: float, n: int) -> Whole:
    return np.maximum(1, rng.lognormal(np.log(median), sigma, n)).astype(np.int64)
