"""Jobs that GitLab calls a success although their pod was taken away.

A runner that follows a job through exec takes a stream that closes without a word for success: when a spot instance is
reclaimed, or its node is lost, the job may turn green in the middle of its script. So GitLab's verdict is compared with
how the job's *last* pod ended; earlier pods of a job are tries that the runner gave up itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from runbook.eci.endings import End
from runbook.history.record import PodRecord
from runbook.report import Check

CHECK = "false-green"
TITLE = "Every job that GitLab calls a success had its pod to the end"
TAKEN_AWAY = frozenset({End.RECLAIMED, End.LOST, End.EVICTED})
"""Ends after which a success is no proof that the script ran to its end."""

SUCCESS = "success"
_REMEDY = """Run these jobs again: their script may have stopped in the middle.
In config.toml take attach in place of exec (FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY = false, the default since 14.0),
or keep jobs that must not be cut off away from spot instances."""
_SHOWN = 20


@dataclass(frozen=True)
class Verdict:
    """What GitLab says of a job: `success`, `failed`, `canceled`, …"""

    gitlab_host: str
    job_id: int
    status: str
    web_url: str = ""


JobKey = tuple[str, int]


def mark(records: Iterable[PodRecord], verdicts: Iterable[Verdict]) -> list[PodRecord]:
    """The records with GitLab's verdict where there is one, and `false_green` on a job's last pod where it is doubtful."""
    said = {(one.gitlab_host, one.job_id): one for one in verdicts}
    held = list(records)
    last = _last_pods(held)
    marked = []
    for record in held:
        verdict = said.get(_key(record)) if record.job_id else None
        if verdict is None:
            marked.append(record)
            continue
        doubtful = verdict.status == SUCCESS and record.ended in TAKEN_AWAY and last[_key(record)] is record
        marked.append(msgspec.structs.replace(record, job_status=verdict.status, false_green=doubtful))
    return marked


def check(records: Iterable[PodRecord], verdicts: Iterable[Verdict]) -> Check:
    """Names the jobs that GitLab calls a success and whose last pod was reclaimed, lost or evicted.

    Fails where there are some, warns where nobody saw how the pod of a success ended, skips where no success has a pod.
    """
    said = {(one.gitlab_host, one.job_id): one for one in verdicts}
    last = _last_pods(mark(records, said.values()))
    green = [record for key, record in last.items() if key in said and said[key].status == SUCCESS]
    if not green:
        return Check.skipped(CHECK, TITLE, "no record of a pod belongs to a job that GitLab calls a success")
    doubtful = sorted((one for one in green if one.false_green), key=_begun)
    compared = f"{len(green)} job{'s' * (len(green) != 1)} compared"
    if doubtful:
        lines = [_line(one, said[_key(one)]) for one in doubtful[:_SHOWN]]
        more = [f"… and {len(doubtful) - _SHOWN} more"] if len(doubtful) > _SHOWN else []
        observed = "\n".join([f"{len(doubtful)} of {compared}", *lines, *more])
        return Check.failed(CHECK, TITLE, observed, expected="a pod that the runner deleted itself", remedy=_REMEDY)
    unseen = [one for one in green if one.ended in (End.UNKNOWN, End.LIVE)]
    if unseen:
        numbers = ", ".join(str(one.job_id) for one in sorted(unseen, key=_begun)[:_SHOWN])
        return Check.warned(
            CHECK,
            TITLE,
            f"{compared}; of {len(unseen)} nobody saw how the pod ended: {numbers}",
            expected="a collector that watches all the time",
            remedy="Let the next collector start before the last one stops.",
        )
    return Check.passed(CHECK, TITLE, compared)


def _key(record: PodRecord) -> JobKey:
    return record.gitlab_host or "", record.job_id or 0


def _begun(record: PodRecord) -> datetime:
    return record.created_at or datetime.min.replace(tzinfo=UTC)


def _last_pods(records: Iterable[PodRecord]) -> Mapping[JobKey, PodRecord]:
    """The pod of each job that was created last."""
    last: dict[JobKey, PodRecord] = {}
    for record in records:
        if record.job_id and (_key(record) not in last or _begun(record) >= _begun(last[_key(record)])):
            last[_key(record)] = record
    return last


def _line(record: PodRecord, verdict: Verdict) -> str:
    where = verdict.web_url or f"{record.project_path or f'project {record.project_id}'} job {record.job_id}"
    return (
        f"{where} ({record.job_name or 'unnamed'}): pod {record.pod_name} {record.ended.value}, {record.ended_evidence}"
    )
