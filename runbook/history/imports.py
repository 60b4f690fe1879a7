"""Other sources into the history: what is read is matched with what is there, and only what is new or changed is written.

report = pods(path, store, settings, …)              # runbook import pods
report = eci(client, store, settings, …)             # runbook import eci
report = gitlab_jobs(client, store, settings, …)     # runbook import gitlab-jobs
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import moments
from runbook.errors import SettingsError
from runbook.history import from_eci, from_files, from_gitlab
from runbook.history.from_files import Columns
from runbook.history.gitlab_jobs import LOOKBACK, pods_named_by_traces, read_jobs, runners_of
from runbook.history.job_records import is_stand_in
from runbook.history.record import PodRecord, differs, from_table, identity, precedence
from runbook.report import Report
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.alibaba import AlibabaCloud
    from runbook.clients.gitlab import GitLabClient
    from runbook.history.store import Store

_SPAN = re.compile(r"(?P<number>\d{1,4})(?P<unit>[hd])")

SETTLED = timedelta(minutes=10)
"""How long after a job's end its pod may still be on its way into the history."""


def moment(text: str, now: datetime, *, where: str) -> datetime:
    """`7d` and `12h` before now, or a moment as RFC 3339. Raises SettingsError."""
    span = _SPAN.fullmatch(text)
    if span:
        hours = int(span["number"]) * (24 if span["unit"] == "d" else 1)
        return now - timedelta(hours=hours)
    try:
        return moments.parse(text)
    except ValueError:
        raise SettingsError(
            "This is no moment.", where=where, value=text, allowed="7d, 12h, or RFC 3339 such as 2026-11-24T00:00:00Z"
        ) from None


def pods(
    path: Path, store: Store, settings: Settings, *, columns: Columns, observed_at: datetime, dry_run: bool = False
) -> Report:
    """Import a file of pods: CSV by its name (`.csv`, `.tsv`), else what kubectl printed. Raises SettingsError.

    `observed_at` is when the file was written. Records that the history holds already, or knows better, are not written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"The file of pods cannot be read: {error.strerror}.", where=str(path), page=from_files.PAGE
        ) from None
    known = {"cluster": settings.name, "region": settings.region}
    if path.suffix.lower() in (".csv", ".tsv"):
        imported = from_files.from_trace(data, columns, source=path.stem, observed_at=observed_at, **known)
    else:
        imported = from_files.from_dump(data, observed_at=observed_at, where=str(path), **known)
    fresh = _fresh(imported.records, store)
    report = imported.report(f"Pods of {path.name}")
    return _written(report, fresh, store, dry_run)


def eci(
    client: AlibabaCloud,
    store: Store,
    settings: Settings,
    *,
    now: datetime,
    all_namespaces: bool = False,
    dry_run: bool = False,
) -> Report:
    """Import what ECI still knows of instances: their ends as they are charged, ECS types, pods that nobody watched.

    Instances of other namespaces than the card's are left out, unless all are meant. Raises AlibabaError.
    """
    groups = client.container_groups()
    ordered = [moments.parse(one["CreationTime"]) for one in groups if one.get("CreationTime")]
    first = (min(ordered, default=now) - from_eci.LOOKBACK).date()
    held = from_table(store.table(first=first))
    completed = from_eci.from_eci(
        groups,
        held,
        cluster=settings.name,
        observed_at=now,
        uids=from_eci.uids_of(client.container_group_events()) if groups else {},
        namespaces=() if all_namespaces else (settings.kubernetes.namespace,),
    )
    before = {identity(one): one for one in held}
    changed = [one for one in completed.records if differs(one, before.get(identity(one)))]
    return _written(completed.report(), changed, store, dry_run)


def gitlab_jobs(
    client: GitLabClient,
    store: Store,
    settings: Settings,
    *,
    since: datetime,
    now: datetime,
    runners: Sequence[int] = (),
    projects: Sequence[str] = (),
    groups: Sequence[str] = (),
    with_traces: bool = False,
    dry_run: bool = False,
) -> Report:
    """Import the jobs that ended since then, of these runners (default: the card's), projects and groups.

    `with_traces` also asks for the trace of each job that no pod names. Raises GitLabError.
    """
    ours = tuple(runners) or runners_of(client, settings)
    # A token of a project's maintainer may not list a runner's jobs: where projects are named, they are all that is asked.
    asked = () if (projects or groups) and not runners else ours
    jobs = read_jobs(client, since=since, runners=asked, projects=projects, groups=groups)
    held = from_table(store.table(first=(since - LOOKBACK).date()))
    named = {}
    if with_traces:
        known = {(one.gitlab_host, one.job_id) for one in held if not is_stand_in(one)}
        ran = [job for job in jobs if job.key not in known and job.started_at and job.runner_id in ours]
        named = pods_named_by_traces(client, ran)
    matched = from_gitlab.match(
        held,
        jobs,
        cluster=settings.name,
        region=settings.region,
        observed_at=now,
        runners=ours,
        named_by_traces=named,
        settled_until=now - SETTLED,
    )
    return _written(matched.report.report(), matched.to_write, store, dry_run)


def _fresh(records: Sequence[PodRecord], store: Store) -> list[PodRecord]:
    """Those that the history does not hold yet, or knows less well."""
    columns = ["cluster", "pod_uid", "final", "observed_at", "resource_version"]
    held = {(row[0], row[1]): tuple(row[2:]) for row in zip(*store.table(columns).to_pydict().values(), strict=True)}
    return [one for one in records if identity(one) not in held or precedence(one) > held[identity(one)]]


def _written(report: Report, records: Sequence[PodRecord], store: Store, dry_run: bool) -> Report:
    if not records:
        return replace(report, outcome="nothing to write")
    if dry_run:
        return replace(report, outcome=f"{len(records)} records would be written")
    store.append(records)
    return replace(report, outcome=f"{len(records)} records written")
