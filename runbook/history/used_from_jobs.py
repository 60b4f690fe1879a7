"""What jobs say that they used: the line `runbook-used {…}` that data/snippets/used.gitlab-ci.yml writes into a trace.

A trace is whatever a job printed, so a line is read as a stranger's: by its types and bounds, the last one of a trace, and one that is not
understood counts as none. It tells of the build container alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from runbook.errors import GitLabNotFound
from runbook.history.used import GIB, Life, Measures, Spread, UsedRecord
from runbook.runner import trace as job_trace

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient

VERSION = 1
NO_JOB = "no job in the history"
NO_TRACE = "GitLab has no trace of the job"
NO_LINE = "the trace has no line runbook-used: add data/snippets/used.gitlab-ci.yml"
ODD_LINE = "the line runbook-used in the trace cannot be understood"
OTHER_POD = "the line in the trace is another pod's of the same job"

_LINE = re.compile(r"\brunbook-used (\{.*\})\s*$")
_Amount = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_Five = tuple[_Amount, _Amount, _Amount, _Amount, _Amount]


class Reported(msgspec.Struct, frozen=True):
    """The line. The fives are mean, p50, p95, p99 and peak, in thousandths of a vCPU and in bytes."""

    version: int
    pod: str
    samples: _Amount
    vcpu_milli: _Five | None = None
    memory_bytes: _Five | None = None
    kernel_peak_bytes: _Amount | None = None
    """The kernel's own peak, with file cache: more than what was needed, and all there is where nobody took samples."""

    @property
    def vcpu(self) -> Spread | None:
        return Spread(*(value / 1000 for value in self.vcpu_milli)) if self.vcpu_milli else None

    @property
    def memory(self) -> Spread | None:
        if self.memory_bytes:
            return Spread(*(value / GIB for value in self.memory_bytes))
        return Spread.of([self.kernel_peak_bytes / GIB]) if self.kernel_peak_bytes else None


def reported(trace: str) -> Reported | str:
    """The last report in a job's trace, or why there is none."""
    found = [match[1] for line in job_trace.lines(trace) if (match := _LINE.search(line))]
    if not found:
        return NO_LINE
    try:
        told = msgspec.json.decode(found[-1], type=Reported)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return ODD_LINE
    return told if told.version == VERSION and (told.vcpu or told.memory) else ODD_LINE


def measures(client: GitLabClient, lives: Iterable[Life], *, now: datetime) -> Measures:
    """What the traces of these pods' jobs tell; one request a job. Raises GitLabError."""
    records: list[UsedRecord] = []
    without: Counter[str] = Counter()
    jobs: dict[tuple[int, int], list[Life]] = {}
    for life in lives:
        if life.project_id is None or life.job_id is None:
            without[NO_JOB] += 1
        else:
            jobs.setdefault((life.project_id, life.job_id), []).append(life)
    for (project, job), pods in jobs.items():
        told = _read(client, project, job)
        if isinstance(told, str):
            without[told] += len(pods)
            continue
        whose = _whose(told, pods)
        if len(pods) > 1:
            without[OTHER_POD] += len(pods) - 1
        samples = max(1, told.samples)
        records.append(whose.measured("job", now, samples=samples, vcpu=told.vcpu, memory=told.memory))
    return Measures(tuple(records), without)


def _read(client: GitLabClient, project: int, job: int) -> Reported | str:
    try:
        with client.reading(f"the trace of job {job}", scope="read_api"):
            answer = client.api.http_request("get", f"/projects/{project}/jobs/{job}/trace")
    except GitLabNotFound:
        return NO_TRACE
    return reported(answer.content.decode(errors="replace"))


def _whose(told: Reported, pods: list[Life]) -> Life:
    """The pod that the line names, else the one that ran last."""
    named = [life for life in pods if life.pod_name == told.pod]
    return max(named or pods, key=lambda life: life.running_at)
