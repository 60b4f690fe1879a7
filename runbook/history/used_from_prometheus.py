"""What pods used, by Prometheus: the kubelet's cAdvisor series, a point each 30 seconds.

CPU is the rate of `container_cpu_usage_seconds_total` over a minute, so the scrape interval must be 30 seconds or shorter; a pod that
ran for less than a minute has no CPU. Memory is `container_memory_working_set_bytes`. Both are sums over a pod's containers.
On a virtual node ECI serves these series itself; a Prometheus that scrapes it has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runbook.clients.prometheus import MOST_POINTS
from runbook.history.used import GIB, Life, Measures, Spread, UsedRecord

if TYPE_CHECKING:
    from runbook.clients.prometheus import Prometheus

STEP = 30
PODS_A_QUERY = 50
CPU = "sum by (pod) (rate(container_cpu_usage_seconds_total{%s}[1m]))"
MEMORY = "sum by (pod) (container_memory_working_set_bytes{%s})"
NO_SERIES = "Prometheus has no samples of it"


def measures(client: Prometheus, lives: Iterable[Life], *, now: datetime) -> Measures:
    """What Prometheus tells of these pods: samples between their start and end only. Raises PrometheusError."""
    records: list[UsedRecord] = []
    missing = 0
    for some in batches(lives):
        cpu, memory = (_samples(client, query, some) for query in (CPU, MEMORY))
        for life in some:
            vcpu, used = (_within(life, found.get(life.pod_name, ())) for found in (cpu, memory))
            if not vcpu and not used:
                missing += 1
                continue
            records.append(
                life.measured(
                    "prometheus",
                    now,
                    samples=max(len(vcpu), len(used)),
                    vcpu=Spread.of(vcpu) if vcpu else None,
                    memory=Spread.of([value / GIB for value in used]) if used else None,
                )
            )
    return Measures(tuple(records), {NO_SERIES: missing} if missing else {})


def batches(lives: Iterable[Life]) -> Iterator[list[Life]]:
    """Pods that one query can answer: of one namespace, so many and so near in time that no series gets too long."""
    batch: list[Life] = []
    for life in sorted(lives, key=lambda one: (one.namespace, one.running_at)):
        full = len(batch) == PODS_A_QUERY or (
            batch
            and (
                life.namespace != batch[0].namespace
                or max(life.finished_at, *(one.finished_at for one in batch)) - batch[0].running_at
                > timedelta(seconds=STEP * (MOST_POINTS - 1))
            )
        )
        if full:
            yield batch
            batch = []
        batch.append(life)
    if batch:
        yield batch


def selector(lives: Sequence[Life]) -> str:
    """The labels that these pods' containers have; without the sums that cAdvisor also reports (`container=""`)."""
    names = "|".join(life.pod_name.replace(".", "[.]") for life in lives)
    return f'namespace="{lives[0].namespace}",pod=~"{names}",container!="",container!="POD"'


def _samples(client: Prometheus, query: str, lives: Sequence[Life]) -> dict[str, tuple[tuple[datetime, float], ...]]:
    start, end = min(life.running_at for life in lives), max(life.finished_at for life in lives)
    series = client.query_range(query % selector(lives), start=start, end=end, step=STEP)
    return {one.labels.get("pod", ""): one.samples for one in series}


def _within(life: Life, samples: Sequence[tuple[datetime, float]]) -> list[float]:
    """Prometheus repeats a last sample for minutes, and a name may come again: only what lies in the pod's life is its own."""
    return [value for at, value in samples if life.running_at <= at <= life.finished_at]
