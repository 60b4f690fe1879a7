"""Questions about cost over ten million pods, each against decoding the columns it needs with Arrow; naive pandas beside each.

Which columns a question needs is found out, not believed: those without which it fails on a small file of the same pods.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals as nw
import pyarrow.parquet as pq

from bench import priced_pods
from bench.figures import Figure, peak_mib, ratio, seconds
from bench.priced_pods import SCOPE

MILLIONS = int(os.environ.get("BENCH_MILLIONS", "10"))
"""Millions of pods of the large file; the small one has a tenth of them."""
SAMPLE = 20_000
ROUNDS = 5
MEMORY = 1024

Pods = nw.LazyFrame[Any]


@dataclass(frozen=True)
class Scan:
    """One question: how it is asked, the naive way in pandas, and how many times as long as decoding it may take."""

    ask: Callable[[Pods], object]
    naive: Callable[[Path], object]
    limit: float


def scans() -> Mapping[str, Scan]:
    """The measured questions. Imported late: the process that measures memory has to be small when it forks."""
    from runbook.cost import failures, load, movers, rightsizing, sizes, spot, startup, trend

    def before(pods: Pods) -> Pods:
        return pods.filter(nw.col("day") < nw.lit(SCOPE.first))

    return {
        "by project": Scan(lambda pods: movers.who(pods, before(pods), SCOPE), _summed("project_path"), 2),
        "by size": Scan(
            lambda pods: sizes.ladder(pods, SCOPE), _summed("requested_vcpu", "requested_memory_gib", "billed_vcpu"), 2
        ),
        "by day": Scan(lambda pods: trend.daily(pods, before(pods), SCOPE), _summed("day", "project_path"), 2),
        "by reason": Scan(lambda pods: failures.pareto(pods, SCOPE), _summed("ended", "job_failure_reason"), 2),
        "spot": Scan(lambda pods: spot.ledger(pods, SCOPE), _summed("project_path", "spot"), 2),
        "start-up phase": Scan(lambda pods: startup.phases(pods, SCOPE), _quantiles, 2),
        "concurrency": Scan(lambda pods: load.concurrency(pods, SCOPE), _events, 3),
        "replay": Scan(lambda pods: load.replay(pods, SCOPE), _events, 3),
        "right sizes": Scan(lambda pods: rightsizing.advice(pods, SCOPE), _peaks, 3),
    }


def measure() -> Iterator[Figure]:
    """About eight minutes on two cores, and 1 GB of scratch."""
    var = Path(__file__).resolve().parent.parent / "var" / "bench"
    var.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=var))
    try:
        yield from _figures(folder)
    finally:
        shutil.rmtree(folder)


def _figures(folder: Path) -> Iterator[Figure]:
    large, small, sample = (folder / f"{name}.parquet" for name in ("large", "small", "sample"))
    pods = MILLIONS * 1_000_000
    making = seconds(lambda: peak_mib(lambda: priced_pods.write(large, pods)))
    yield Figure(f"{MILLIONS} million pods made, priced and written: a million", making / MILLIONS, "s")
    for path, count in ((small, pods // 10), (sample, SAMPLE)):
        peak_mib(lambda path=path, count=count: priced_pods.write(path, count))  # type: ignore[misc]
    memory = peak_mib(lambda: _all(large))
    yield Figure(f"every scan of {MILLIONS} million pods, one after the other: memory", memory, "MiB", MEMORY)
    dearer = ratio(lambda: _all(large), lambda: _all(small), rounds=3)
    yield Figure(f"... {MILLIONS} million pods: a tenth of them", dearer, "times", 10)
    from runbook.clients.engine import DuckDB

    with DuckDB() as engine:
        frame = engine.scan([large])
        for name, scan in scans().items():
            columns = needed(scan, engine.scan([sample]))
            decode = lambda columns=columns: pq.read_table(large, columns=columns)  # noqa: E731
            asked = ratio(lambda scan=scan: scan.ask(frame), decode, rounds=ROUNDS)  # type: ignore[misc]
            yield Figure(f"{name}: Arrow decoding its {len(columns)} columns", asked, "times", scan.limit)
            naive = seconds(lambda scan=scan: scan.naive(small))  # type: ignore[misc]
            ours = seconds(lambda scan=scan: scan.ask(engine.scan([small])))  # type: ignore[misc]
            yield Figure("... naive: pandas over a tenth of the pods: ours over them", naive / ours, "times")


def _all(path: Path) -> None:
    from runbook.clients.engine import DuckDB

    with DuckDB() as engine:
        for scan in scans().values():
            scan.ask(engine.scan([path]))


def needed(scan: Scan, pods: Pods) -> list[str]:
    """The columns without which a question fails."""
    columns = list(pods.collect_schema().names())
    for column in list(columns):
        fewer = [one for one in columns if one != column]
        try:
            scan.ask(pods.select(fewer))
        except Exception:  # engines have many words for a column that is not there
            continue
        columns = fewer
    return columns


def _summed(*by: str) -> Callable[[Path], object]:
    def naive(path: Path) -> object:
        import pandas as pd

        return pd.read_parquet(path, columns=[*by, "effective_cost"]).groupby(list(by), dropna=False).sum()

    return naive


def _quantiles(path: Path) -> object:
    import pandas as pd

    phases = ["job_queued_seconds", "schedule_seconds", "pull_seconds", "prepare_seconds", "run_seconds"]
    return pd.read_parquet(path, columns=["week", *phases]).groupby("week").quantile([0.5, 0.95])


def _peaks(path: Path) -> object:
    import pandas as pd

    peaks = ["used_memory_peak_gib", "used_vcpu_peak"]
    job = ["project_path", "job_name", "job_stage"]
    return pd.read_parquet(path, columns=[*job, *peaks]).groupby(job, dropna=False)[peaks].quantile([0.5, 0.95, 0.99])


def _events(path: Path) -> object:
    """Concurrency as it is usually done: starts and ends sorted, and a running sum."""
    import pandas as pd

    pods = pd.read_parquet(path, columns=["billing_start_at", "seconds", "billed_vcpu"]).dropna()
    starts = pd.Series(pods["billed_vcpu"].to_numpy(), pods["billing_start_at"])
    ends = pd.Series(
        -pods["billed_vcpu"].to_numpy(), pods["billing_start_at"] + pd.to_timedelta(pods["seconds"], unit="s")
    )
    return pd.concat([starts, ends]).sort_index().cumsum().resample("h").max()
