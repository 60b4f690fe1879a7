"""What pods used, by ECI's metric API: DescribeContainerGroupMetric, one instance a question.

ECI keeps metrics for 30 days and answers at most 50 records at once, each of 15, 30, 60 or 600 seconds; what happened within the last
five minutes it does not answer together with what came before. A pod shorter than a period has no record.
https://help.aliyun.com/zh/eci/developer-reference/api-eci-2018-08-08-describecontainergroupmetric
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from runbook.clients.alibaba import METRICS_A_CALL
from runbook.errors import AlibabaError
from runbook.history.used import GIB, Life, Measures, Spread, UsedRecord
from runbook.moments import Clock

if TYPE_CHECKING:
    from runbook.clients.alibaba import AlibabaCloud

KEPT = timedelta(days=30)
RECENT = timedelta(minutes=5)
PERIODS = ((timedelta(minutes=12), 15), (timedelta(hours=8), 60))
"""Pods up to this long are asked for with this period in seconds: at most ten questions a pod."""
LONGEST_PERIOD = 600

QUESTIONS_A_MINUTE = 1800
"""ECI refuses more than 2000 of an account; others may ask too."""
WORKERS = 8
"""Questions under way at once: each waits for the network most of its time."""

NO_INSTANCE = "no instance id in the history"
TOO_OLD = "ended more than 30 days ago: ECI keeps no metrics for longer"
TOO_RECENT = "ended within the last 5 minutes: ask again later"
UNKNOWN = "ECI does not know the instance"
NO_SAMPLES = "no samples: shorter than a period"


def measures(client: AlibabaCloud, lives: Iterable[Life], *, now: datetime, clock: Clock) -> Measures:
    """What ECI tells of these pods. Raises AlibabaError where it refuses more than one instance."""
    records: list[UsedRecord] = []
    without: Counter[str] = Counter()
    minutes = list(_by_minute(lives))
    with ThreadPoolExecutor(WORKERS) as workers:
        for number, some in enumerate(minutes):
            begun = clock.now()
            for told in workers.map(lambda life: _measure(client, life, now), some):
                if isinstance(told, str):
                    without[told] += 1
                else:
                    records.append(told)
            if number + 1 < len(minutes):
                clock.sleep(max(0.0, 60 - (clock.now() - begun).total_seconds()))
    return Measures(tuple(records), without)


def _by_minute(lives: Iterable[Life]) -> Iterator[list[Life]]:
    """Pods of which ECI may be asked within one minute."""
    some: list[Life] = []
    questions = 0
    for life in lives:
        takes = sum(1 for _ in windows(life.running_at, life.finished_at))
        if some and questions + takes > QUESTIONS_A_MINUTE:
            yield some
            some, questions = [], 0
        some.append(life)
        questions += takes
    if some:
        yield some


def _measure(client: AlibabaCloud, life: Life, now: datetime) -> UsedRecord | str:
    """The measure of a pod, or why there is none."""
    if life.instance_id is None:
        return NO_INSTANCE
    if life.running_at < now - KEPT:
        return TOO_OLD
    if timedelta(0) <= now - life.finished_at < RECENT:
        return TOO_RECENT
    try:
        rows = [
            row
            for start, end, period in windows(life.running_at, life.finished_at)
            for row in client.container_group_metrics(life.instance_id, start=start, end=end, period=period)
        ]
    except AlibabaError as error:
        if error.status == 404 or error.code.startswith("InvalidParameter.ContainerGroupId"):
            return UNKNOWN
        raise
    if not rows:
        return NO_SAMPLES
    vcpu = Spread.of([float(_amount(row, "CPU", "UsageNanoCores")) / 1e9 for row in rows])
    memory = Spread.of([float(_amount(row, "Memory", "WorkingSet")) / GIB for row in rows])
    return life.measured("eci", now, samples=len(rows), vcpu=vcpu, memory=memory)


def windows(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, int]]:
    """The questions that a span takes: start, end and period, each of at most 50 records."""
    period = next((seconds for longest, seconds in PERIODS if end - start <= longest), LONGEST_PERIOD)
    while start <= end:
        until = start + timedelta(seconds=period * (METRICS_A_CALL - 1))
        yield start, min(until, end), period
        start = until + timedelta(seconds=period)


def _amount(row: Mapping[str, Any], part: str, name: str) -> int:
    """An amount of the whole instance, which is that of its containers together where ECI leaves it out."""
    whole = (row.get(part) or {}).get(name)
    if whole is not None:
        return int(whole)
    return sum(int((one.get(part) or {}).get(name) or 0) for one in row.get("Containers") or [])
