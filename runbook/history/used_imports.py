"""Which pods of the history nobody has measured yet, and what a source tells of them: `runbook import used`.

report = used_imports.measure(store, used_store, source, since=…, now=…)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from runbook.clients import connect, secrets
from runbook.clients.secrets import SecretStore
from runbook.errors import SettingsError
from runbook.history import used_from_eci, used_from_jobs, used_from_prometheus
from runbook.history.used import Life, Measures, Source, UsedStore
from runbook.report import Check, Report
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.history.store import Store

Ask = Callable[[Sequence[Life]], Measures]

COLUMNS = (
    "cluster", "pod_uid", "pod_name", "namespace", "running_at", "finished_at", "instance_id", "project_id", "job_id",
)  # fmt: skip


def unmeasured(store: Store, used: UsedStore, *, since: datetime) -> list[Life]:
    """Pods that ran, ended after `since`, and have no row yet, the oldest first. Raises HistoryError."""
    measured = used.table().select(["cluster", "pod_uid"])
    known = set(zip(*(measured[name].to_pylist() for name in ("cluster", "pod_uid")), strict=True))
    rows = store.table(COLUMNS).to_pylist()
    lives = [Life(**row) for row in rows if row["running_at"] and row["finished_at"] and row["finished_at"] >= since]
    return sorted((one for one in lives if (one.cluster, one.pod_uid) not in known), key=lambda one: one.running_at)


def source_of(settings: Settings, name: Source, *, now: datetime, client: SecretStore | None = None) -> Ask:
    """How a source is asked, as the card says. Raises SettingsError, SecretError; sends nothing yet."""
    if name == "eci":
        cloud = connect.alibaba(settings)
        return lambda lives: used_from_eci.measures(cloud, lives, now=now, clock=connect.clock())
    if name == "job":
        gitlab = connect.gitlab(settings)
        return lambda lives: used_from_jobs.measures(gitlab, lives, now=now)
    from runbook.clients.prometheus import Prometheus

    card = settings.cost.used
    if card.prometheus_url is None:
        raise SettingsError(
            "The card does not say where Prometheus is.",
            where=f"{settings.card}: cost.used.prometheus_url",
            allowed="its address, such as https://prometheus.example.com",
            page="#prometheus",
        )
    token = secrets.resolve(card.prometheus_token, client) if card.prometheus_token else None
    prometheus = Prometheus(secrets.resolve(card.prometheus_url, client), token=token)
    return lambda lives: used_from_prometheus.measures(prometheus, lives, now=now)


def measure(store: Store, used: UsedStore, ask: Ask, *, source: Source, since: datetime, dry_run: bool) -> Report:
    """Ask about each pod that nobody has measured yet, and keep the answers."""
    lives = unmeasured(store, used, since=since)
    told = ask(lives)
    report = Report("What pods used", [_check(lives, told)], {"source": source, "pods": f"{len(lives):,}"})
    if not told.records:
        return replace(report, outcome="nothing to write")
    if dry_run:
        return replace(report, outcome=f"{len(told.records)} rows would be written")
    used.append(told.records)
    return replace(report, outcome=f"{len(told.records)} rows written")


def _check(lives: Sequence[Life], told: Measures) -> Check:
    title = "What every pod used is known"
    measured = f"{len(told.records):,} of {len(lives):,} pods"
    if not lives:
        return Check.passed("used-measured", title, "no pod that ended since then is without a measure")
    if not any(told.without.values()):
        return Check.passed("used-measured", title, measured)
    reasons = "\n".join(f"{count:,}: {reason}" for reason, count in sorted(told.without.items()) if count)
    return Check.warned(
        "used-measured",
        title,
        f"{measured}\n{reasons}",
        expected="a measure of each pod that ran",
        remedy="A job without a measure gets no advice on its size; see the reasons above.",
    )
