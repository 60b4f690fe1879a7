"""How much ran at once, and what would have waited under a lower limit.

Both sweep once over the seconds of the window: a pod adds its vCPU in the second its billing begins and takes them away where it
ends, so that one running sum is the load of every second. Pods need no order, and the memory is that of the window (a month has
2.6 million seconds) however many pods there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw
import numpy as np
import numpy.typing as npt

from runbook.answer import Answer, Scope
from runbook.cost.collected import batches
from runbook.moments import duration

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Real = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

HOUR, SECOND = 3600, 1_000_000
"""Seconds, and microseconds."""
BEARABLE = 60
"""Seconds of delay at p95 up to which a limit counts as low enough to be named."""
LIMITS = (0.25, 0.5, 0.75, 0.9)
"""Limits that are tried where none are asked for: parts of the most that ran at once, rounded up to a quarter vCPU."""


def concurrency(pods: nw.LazyFrame[Any], scope: Scope, quota: float | None = None) -> Answer:
    """How many vCPU ran at once, by hour; `quota` is what the account may run at once, where somebody says so.

    `table`, a row an hour of the window: `hour` (local, without a zone), `mean`, `p95` and `most` of the vCPU in its 3,600 seconds.
    """
    sweep = _Sweep(pods, scope)
    return Answer(
        "load-concurrency",
        scope.text(en="How much runs at once?", zh="同时运行多少？"),
        _said_of_concurrency(sweep, quota, scope),
        sweep.by_hour(),
        scope,
        sweep.pods,
        notes=_notes(sweep, scope),
        parts={} if quota is None else {"quota": _quota(sweep.running, quota)},
    )


def replay(pods: nw.LazyFrame[Any], scope: Scope, limits: Sequence[float] = ()) -> Answer:
    """What would have come late if only so many vCPU could run at once: the window again, under lower limits.

    What runs above the limit waits, first come first served, and is done as soon as there is room. No scheduler defers less work,
    so the delays are the least that such a limit costs. `table`, a row a limit: `limit_vcpu`, `late_share` (part of the
    vCPU-seconds that come a second late or more), `p95_seconds` and `most_seconds` of their delay, and `busy_share`, the part of
    the limit that is used.
    """
    sweep = _Sweep(pods, scope)
    peak = float(sweep.running.max(initial=0.0))
    usual = {math.ceil(4 * peak * part) / 4 for part in LIMITS}
    asked = set(limits) or {limit for limit in usual if limit < peak} or {peak / 2}
    table = _table([_under(limit, sweep.running) for limit in sorted(asked) if peak])
    return Answer(
        "load-replay",
        scope.text(en="What would have come late under a lower limit?", zh="若上限更低，哪些工作会延迟？"),
        _said_of_replay(table, peak, scope),
        table,
        scope,
        sweep.pods,
        notes=_notes(sweep, scope),
    )


class _Sweep:
    """The window second by second: `running` vCPU of `pods`; `left_out` pods began and cannot be counted."""

    def __init__(self, pods: nw.LazyFrame[Any], scope: Scope) -> None:
        self.zone = scope.timezone
        midnights = (
            datetime.combine(day, time(), ZoneInfo(self.zone)) for day in (scope.first, scope.last + timedelta(days=1))
        )
        self.origin, end = (round(midnight.timestamp()) for midnight in midnights)
        self.pods = self.left_out = 0
        change = np.zeros(end - self.origin + 1)
        for batch in batches(pods.select("billing_start_at", "seconds", "billed_vcpu")):
            start, stop, vcpu = self._of(batch)
            _add(change, np.clip(start, 0, len(change) - 1), vcpu)
            _add(change, np.clip(stop, 0, len(change) - 1), -vcpu)
        self.running: Real = np.cumsum(change, out=change)[:-1]

    def _of(self, batch: pa.RecordBatch) -> tuple[Whole, Whole, Real]:
        """First second, second after the last one, and vCPU of those pods of a batch of which all is known."""
        moments = batch.column(0)
        start = moments.cast("int64").fill_null(0).to_numpy()
        seconds, vcpu = (batch.column(at).to_numpy(zero_copy_only=False) for at in (1, 2))
        begun = len(batch) - moments.null_count
        known = (seconds >= 0) & (vcpu >= 0)
        if moments.null_count:
            known &= moments.is_valid().to_numpy(zero_copy_only=False)
        if not known.all():
            start, seconds, vcpu = start[known], seconds[known], vcpu[known]
        self.pods += len(start)
        self.left_out += begun - len(start)
        first = start // SECOND - self.origin
        return first, first + np.rint(seconds).astype(np.int64), vcpu

    def by_hour(self) -> pd.DataFrame:
        """Mean, p95 and most of each hour; no rows where there were no pods."""
        import pandas as pd

        full = len(self.running) // HOUR * HOUR if self.pods else 0
        hours = self.running[:full].reshape(-1, HOUR)
        starts = pd.to_datetime(self.origin + HOUR * np.arange(len(hours)), unit="s", utc=True)
        low = int(0.95 * (HOUR - 1))
        part = 0.95 * (HOUR - 1) - low
        ordered = np.partition(hours, (low, low + 1), axis=1)
        return pd.DataFrame(
            {
                "hour": starts.tz_convert(self.zone).tz_localize(None).as_unit("us"),
                "mean": hours.mean(axis=1),
                "p95": ordered[:, low] * (1 - part) + ordered[:, low + 1] * part,
                "most": hours.max(axis=1, initial=0.0),
            }
        )


def _add(to: Real, at: Whole, weights: Real) -> None:
    """Add the weights at these seconds."""
    if len(at):
        low = int(at.min())
        sums = np.bincount(at - low, weights)
        to[low : low + len(sums)] += sums


def _quota(running: Real, quota: float) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"quota_vcpu": [quota], "seconds_above": [int((running > quota + 1e-9).sum())]})


def _under(limit: float, running: Real) -> tuple[float, float, float, float, float]:
    """The replay under one limit. The queue after each second is a running sum less the lowest point that it had before."""
    queue = np.cumsum(running - limit)
    queue -= np.minimum(np.minimum.accumulate(queue), 0.0)
    delays = np.rint(queue / limit).astype(np.int64)
    by_delay = np.bincount(delays, running)
    upto, total = np.cumsum(by_delay), float(by_delay.sum())
    p95 = float(np.searchsorted(upto, 0.95 * total))
    return limit, 1 - float(by_delay[0]) / total, p95, float(delays.max()), total / (limit * len(running))


def _table(rows: Sequence[tuple[float, float, float, float, float]]) -> pd.DataFrame:
    import pandas as pd

    names = ["limit_vcpu", "late_share", "p95_seconds", "most_seconds", "busy_share"]
    return pd.DataFrame(rows, columns=names, dtype="float64")


def _said_of_concurrency(sweep: _Sweep, quota: float | None, scope: Scope) -> str:
    if not sweep.pods:
        return _nothing(scope)
    running = sweep.running
    most, high, mean = (
        f"{float(value):,.6g}" for value in (running.max(), np.quantile(running, 0.95), running.mean().round(1))
    )
    text = scope.text(
        en=f"At most {most} vCPU ran at once; 95% of the time it was at most {high}, on average {mean}",
        zh=f"同时运行最多 {most} vCPU；95% 的时间不超过 {high}，平均 {mean}",
    )
    if quota is None:
        return text + scope.text(en=".", zh="。")
    share = float(running.max()) / quota
    return text + scope.text(
        en=f": {share:.0%} of the quota of {quota:,.6g} at the most.",
        zh=f"，最多达到配额 {quota:,.6g} 的 {share:.0%}。",
    )


def _said_of_replay(table: pd.DataFrame, peak: float, scope: Scope) -> str:
    if table.empty:
        return _nothing(scope)
    fits = table[table["p95_seconds"] < BEARABLE]
    chosen = (fits if len(fits) else table.tail(1)).iloc[0]
    limit, late = f"{chosen['limit_vcpu']:,.6g}", f"{chosen['late_share']:.1%}"
    p95, most = duration(float(chosen["p95_seconds"])), duration(float(chosen["most_seconds"]))
    return scope.text(
        en=f"With {limit} vCPU at once instead of {peak:,.6g}, at least {late} of the work would have come late: by {p95} at p95, "
        f"{most} at the most.",
        zh=f"若同时最多 {limit} vCPU（实际最多 {peak:,.6g}），至少 {late} 的工作会延迟：p95 为 {p95}，最长 {most}。",
    )


def _nothing(scope: Scope) -> str:
    return scope.text(
        en="No pod of this window is known with its start, its end and its size.",
        zh="该时段内没有起止时间和规格均已知的 Pod。",
    )


def _notes(sweep: _Sweep, scope: Scope) -> tuple[str, ...]:
    if not sweep.pods and not sweep.left_out:
        return ()
    notes = [
        scope.text(
            en="Pods that began before the window are not in it: its first hours show less than there was.",
            zh="不含时段开始前启动的 Pod：最初几小时偏低。",
        )
    ]
    if sweep.left_out:
        notes.append(
            scope.text(
                en=f"{sweep.left_out:,} pods began and are not counted: their end or their size is not known.",
                zh=f"{sweep.left_out:,} 个已启动的 Pod 未计入：结束时间或规格未知。",
            )
        )
    return tuple(notes)
