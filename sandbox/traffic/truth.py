"""What really happened, kept aside from what Kubernetes shows: one row a pod, as JSON lines.

Histories are compared with it; nothing but tests and reports may read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sandbox.traffic.lives import FAILURE_REASON, STATUS, Ending, Verdict, kinds
from sandbox.traffic.team import Team
from sandbox.traffic.usage import used

if TYPE_CHECKING:
    from sandbox.traffic.lives import Lives


class PodTruth(msgspec.Struct, frozen=True, kw_only=True):
    """One pod. Moments are played, in UTC; None is one that never came. The job's columns are what GitLab says."""

    uid: str = ""
    pod_name: str = ""
    namespace: str = ""
    job_id: int
    retry_of: int | None
    pipeline_id: int
    project_id: int
    project_path: str
    job_name: str
    job_stage: str
    ref: str
    last_pod: bool
    """The job's last pod: false for one that the runner gave up because its images could not be pulled."""
    ending: str
    exit_code: int | None
    spot: bool
    image_cache_hit: bool
    scheduled_at: datetime
    """It came to its node. What the API server itself stamps (creation, binding, deletion) is real time, not this."""
    billing_start_at: datetime | None
    pulled_at: datetime | None
    running_at: datetime | None
    finished_at: datetime | None
    """Billing ended."""
    job_status: str
    job_failure_reason: str | None
    job_created_at: datetime
    job_started_at: datetime
    job_finished_at: datetime
    false_green: bool
    used_vcpu_mean: float | None = None
    used_vcpu_peak: float | None = None
    used_memory_mean_gib: float | None = None
    used_memory_peak_gib: float | None = None
    """What it used of CPU and memory; None where it never ran."""


@dataclass(frozen=True)
class Truth:
    """The pods that were played to their end, in the order of their ends, and how it went."""

    pods: tuple[PodTruth, ...]
    seconds: float = 0.0
    """Real time that it took."""

    @property
    def pods_a_second(self) -> float:
        return len(self.pods) / self.seconds if self.seconds else 0.0

    @classmethod
    def read(cls, path: Path) -> Truth:
        """The truth of an earlier play. Raises OSError, msgspec.DecodeError."""
        return cls(tuple(msgspec.json.decode(line, type=PodTruth) for line in path.read_bytes().splitlines()))


@dataclass(frozen=True)
class Numbers:
    """From where jobs and pipelines are numbered: beyond all that a practice GitLab counts up itself."""

    first_job: int = 1_000_000
    first_pipeline: int = 500_000


NUMBERS = Numbers()


def planned(team: Team, lives: Lives, begin: datetime, numbers: Numbers = NUMBERS) -> Iterator[PodTruth]:
    """What will be true of each pod once it has been played; uid and name are known only then."""
    jobs = kinds(team)

    def at(second: int) -> datetime | None:
        return begin + timedelta(seconds=second) if second >= 0 else None

    for row in rows(lives):
        project, kind = jobs[row["kind"]]
        scheduled, created, started, finished = (
            begin + timedelta(seconds=row[name]) for name in ("scheduled", "job_created", "job_started", "job_finished")
        )
        ending = Ending(row["ending"])
        yield PodTruth(
            job_id=numbers.first_job + row["job"],
            retry_of=numbers.first_job + row["retry_of"] if row["retry_of"] >= 0 else None,
            pipeline_id=numbers.first_pipeline + row["pipeline"],
            project_id=project.id,
            project_path=project.path,
            job_name=kind.name,
            job_stage=kind.stage,
            ref=project.refs[row["ref"]],
            last_pod=bool(row["last_pod"]),
            ending=ending.name.lower(),
            exit_code=row["exit_code"] if row["exit_code"] >= 0 else None,
            spot=bool(row["spot"]),
            image_cache_hit=bool(row["cached"]),
            scheduled_at=scheduled,
            billing_start_at=at(row["instance"]),
            pulled_at=at(row["pulled"]),
            running_at=at(row["running"]),
            finished_at=None
            if ending is Ending.NO_STOCK
            else at(row["end" if ending is Ending.RECLAIM else "deleted"]),
            job_status=STATUS[row["verdict"]],
            job_failure_reason=FAILURE_REASON[row["verdict"]],
            job_created_at=created,
            job_started_at=started,
            job_finished_at=finished,
            false_green=ending is Ending.RECLAIM and row["verdict"] == Verdict.SUCCESS,
            **{f"used_{name}": value for name, value in (used(row) or {}).items()},
        )


def rows(lives: Lives) -> Iterator[dict[str, int]]:
    names: Sequence[str] = tuple(lives.columns)
    for values in zip(*(lives.columns[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
