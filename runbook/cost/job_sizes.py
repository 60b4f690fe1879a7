"""One job's size: whether there is advice on it, the cheapest rung that its runs fit on, and the replay of its runs there.

A job that changed in the window (`runbook.cost.drift`), or has too few measured runs, gets no advice and the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from runbook.answer import Scope
from runbook.cost import drift, proportion, quantiles, runs
from runbook.cost.rungs import Market, Rule, Rung
from runbook.cost.runs import JOB, STEPS, Runs
from runbook.cost.sizes import size_text
from runbook.cost.trims import DAYS_A_MONTH

if TYPE_CHECKING:
    import pandas as pd


class Verdict(StrEnum):
    """What to do with a job's size."""

    SMALLER = "smaller"
    LARGER = "larger"
    KEEP = "keep"
    NO_ADVICE = "no advice"


class Reason(StrEnum):
    """Why a job gets no advice."""

    NOT_MEASURED = "not measured"
    TOO_FEW = "too few runs"
    IMAGE = "image changed"
    REQUEST = "request changed"
    SEVERAL_SIZES = "several sizes side by side"
    DURATION = "duration changed"
    MEMORY = "memory changed"
    UNKNOWN_SIZE = "size not known"
    ECS_TYPE = "billed by ECS type"
    NOT_SOLD = "no rung fits"


CHINESE = {
    Reason.NOT_MEASURED: "没有用量数据",
    Reason.TOO_FEW: "运行次数太少",
    Reason.IMAGE: "镜像已变更",
    Reason.REQUEST: "申请量已变更",
    Reason.SEVERAL_SIZES: "同时申请多种规格",
    Reason.DURATION: "运行时长已变化",
    Reason.MEMORY: "内存用量已变化",
    Reason.UNKNOWN_SIZE: "规格未知",
    Reason.ECS_TYPE: "按 ECS 规格计费",
    Reason.NOT_SOLD: "没有合适的规格",
}
"""The reasons in Chinese."""


COLUMNS = (
    "project", "job_name", "job_stage", "verdict", "reason", "why", "runs", "measured", "out_of_memory",
    "memory_p50", "memory_p95", "memory_p99", "memory_peak", "vcpu_p50", "vcpu_p95", "vcpu_p99", "vcpu_peak",
    "requested_vcpu", "requested_memory_gib", "billed_vcpu", "billed_memory_gib", "recommended_vcpu", "recommended_memory_gib",
    "hits", "hits_low", "hits_high", "slowed", "measured_vcpu", "slowed_low", "slowed_high", "tested_hits", "tested_runs",
    "cost", "saves_share", "saves_a_month", "saves_low", "saves_high", "unpriced", "runs_needed", "region", "spot",
    "asked_by", "set_vcpu", "set_memory_gib",
)  # fmt: skip
"""The columns of `rightsizing.advice`; see there."""
TEXTS = ("project", "job_name", "job_stage", "verdict", "reason", "why", "region", "asked_by")
COUNTS = ("runs", "measured", "out_of_memory", "measured_vcpu", "unpriced", "runs_needed")

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "peak": 1.0}
_Z = 1.96
"""Standard deviations to each side of a normal distribution's middle that hold 95 %."""


@dataclass(frozen=True)
class Job:
    """The counts of one job."""

    key: tuple[str, str, str]
    sizes: pd.DataFrame
    memory: pd.DataFrame
    vcpu: pd.DataFrame
    durations: pd.DataFrame

    @property
    def measured(self) -> int:
        return int(self.memory["runs"].sum())

    def hits(self, memory_gib: float) -> int:
        """Runs that needed more memory than that."""
        return int(self.memory["runs"][self.memory["steps"] > memory_gib * STEPS].sum())

    def slowed(self, vcpu: float) -> int:
        """Runs whose peak of CPU was more than that."""
        return int(self.vcpu["runs"][self.vcpu["steps"] > vcpu * STEPS].sum())

    def half(self, late: bool) -> Job:
        """The same job by the peaks of one half of the window."""
        chosen = self.memory[self.memory["late"].astype(bool) == late]
        return Job(self.key, self.sizes, chosen, self.vcpu, self.durations)


@dataclass(frozen=True)
class Judged:
    job: Job
    row: dict[str, Any]


@dataclass(frozen=True)
class _NoAdvice:
    reason: Reason
    why: str


def jobs_of(found: Runs) -> Iterator[Job]:
    def by_job(table: pd.DataFrame) -> Mapping[Any, pd.DataFrame]:
        return dict(list(table.fillna({name: "" for name in JOB}).groupby(list(JOB))))

    memory, vcpu, durations = (by_job(table) for table in (found.memory, found.vcpu, found.durations))
    for key, sizes in by_job(found.sizes).items():
        yield Job(
            key,
            sizes,
            memory.get(key, found.memory.head(0)),
            vcpu.get(key, found.vcpu.head(0)),
            durations.get(key, found.durations.head(0)),
        )


def judged(job: Job, rule: Rule, scope: Scope, market: Market) -> Judged:
    """One row of `advice`."""
    now = _usual(job.sizes)
    project, name, stage = job.key
    sums = job.sizes[["runs", "out_of_memory", "cost", "unpriced"]].sum()
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "project": project or scope.not_allocated, "job_name": name, "job_stage": stage, "runs": int(sums["runs"]),
        "measured": job.measured, "out_of_memory": int(sums["out_of_memory"]), "cost": float(sums["cost"]),
        "unpriced": int(sums["unpriced"]), "measured_vcpu": int(job.vcpu["runs"].sum()),
        "runs_needed": max(0, rule.runs_needed - job.measured), "spot": bool(now["is_spot"]),
        "region": _text(now["region"]), "asked_by": str(runs.asked_by(now["asked_by"])),
        **{field: _number(now[field]) for field in ("requested_vcpu", "requested_memory_gib", "billed_vcpu", "billed_memory_gib")},
        **_spread("memory", job.memory), **_spread("vcpu", job.vcpu),
    }  # fmt: skip
    rungs = market.rungs(row["region"] or "", _text(now["compute_category"]), spot=row["spot"])
    chosen = _withheld(job, now, rule, scope) or _chosen(job, row, rungs, rule, scope)
    if isinstance(chosen, _NoAdvice):
        return Judged(job, row | {"verdict": str(Verdict.NO_ADVICE), "reason": str(chosen.reason), "why": chosen.why})
    return Judged(job, row | _replayed(job, chosen, row, rungs, rule, scope) | _to_set(now, chosen))


def _usual(sizes: pd.DataFrame) -> pd.Series:
    """The size with the request that was last seen; of several the one with the most runs."""
    last = sizes.sort_values(["last_at", "runs"], ascending=False, kind="stable").iloc[0]
    same = sizes[_same(sizes, last, "requested_vcpu", "requested_memory_gib")]
    ordered: pd.Series = same.sort_values(["runs", "last_at"], ascending=False, kind="stable").iloc[0]
    return ordered


def _same(sizes: pd.DataFrame, row: pd.Series, *names: str) -> pd.Series:
    """Which rows have the same values there; missing values are the same."""
    equal = sizes["runs"] > 0
    for name in names:
        equal &= (sizes[name] == row[name]) | (sizes[name].isna() & (row[name] != row[name]))
    return equal


def _spread(prefix: str, counts: pd.DataFrame) -> dict[str, float | None]:
    if counts.empty:
        return {}
    return {
        f"{prefix}_{name}": quantiles.of_counts(counts["steps"] / STEPS, counts["runs"], q)
        for name, q in _QUANTILES.items()
    }


def _withheld(job: Job, now: pd.Series, rule: Rule, scope: Scope) -> _NoAdvice | None:
    """Why this job gets no advice, whatever the rungs."""
    if any(_number(now[name]) is None for name in ("requested_vcpu", "requested_memory_gib", "billed_vcpu")):
        return _NoAdvice(Reason.UNKNOWN_SIZE, scope.text(en="its size is not known", zh="规格未知"))
    if _text(now["ecs_type"]) and not now["is_spot"]:
        kind = _text(now["ecs_type"])
        return _NoAdvice(
            Reason.ECS_TYPE, scope.text(en=f"it is billed by its ECS type {kind}", zh=f"按 ECS 规格 {kind} 计费")
        )
    if not job.measured:
        return _NoAdvice(Reason.NOT_MEASURED, scope.text(en="nobody measured what it used", zh="没有用量数据"))
    if job.measured < rule.runs_needed:
        more = rule.runs_needed - job.measured
        return _NoAdvice(Reason.TOO_FEW, scope.text(
            en=f"{scope.counted(job.measured, 'runs')} measured: {more} more needed", zh=f"仅 {job.measured} 次有用量数据：还需 {more} 次",
        ))  # fmt: skip
    return _changed_image(job.sizes, scope) or _changed_request(job.sizes, scope) or _changed_runs(job, scope)


def _changed_image(sizes: pd.DataFrame, scope: Scope) -> _NoAdvice | None:
    images = _seen(sizes, "image")
    now = images.iloc[0]
    before = images[images["last_at"] < now["first_at"]]
    if before["runs"].sum() <= drift.MIXED * images["runs"].sum():
        return None
    was = before.sort_values("runs", ascending=False, kind="stable").iloc[0]["image"]
    return _NoAdvice(Reason.IMAGE, scope.text(
        en=f"its image changed: {was} → {now['image']}", zh=f"镜像已变更：{was} → {now['image']}"
    ))  # fmt: skip


def _changed_request(sizes: pd.DataFrame, scope: Scope) -> _NoAdvice | None:
    asked = _seen(sizes, "requested_vcpu", "requested_memory_gib")
    now, others = asked.iloc[0], asked.iloc[1:]
    if others["runs"].sum() <= drift.MIXED * asked["runs"].sum():
        return None
    other = others.sort_values("runs", ascending=False, kind="stable").iloc[0]
    was, then = (size_text(one["requested_vcpu"], one["requested_memory_gib"]) for one in (other, now))
    if other["last_at"] < now["first_at"]:
        return _NoAdvice(
            Reason.REQUEST, scope.text(en=f"its request changed: {was} → {then}", zh=f"申请量已变更：{was} → {then}")
        )
    return _NoAdvice(Reason.SEVERAL_SIZES, scope.text(
        en=f"its runs ask for several sizes: {then}, {was}", zh=f"同时申请多种规格：{then}、{was}"
    ))  # fmt: skip


def _seen(sizes: pd.DataFrame, *names: str) -> pd.DataFrame:
    """When each value was seen first and last, and in how many runs; the one that was seen last comes first."""
    seen = sizes.groupby(list(names), as_index=False, dropna=False).agg(
        runs=("runs", "sum"), first_at=("first_at", "min"), last_at=("last_at", "max")
    )
    return seen.sort_values(["last_at", "runs", *names], ascending=[False, False, *[True] * len(names)], kind="stable")


def _changed_runs(job: Job, scope: Scope) -> _NoAdvice | None:
    """Whether durations or peaks of the second half lie elsewhere than those of the first."""
    for reason, counts, value, unit, en, zh in (
        (Reason.DURATION, job.durations, "seconds", "s", "its runs take another time", "运行时长已变化"),
        (Reason.MEMORY, job.memory, "steps", "GiB", "its runs need other memory", "内存用量已变化"),
    ):
        late = counts["late"].astype(bool)
        halves = [(half[value].to_numpy(), half["runs"].to_numpy()) for half in (counts[~late], counts[late])]
        if drift.changed(*halves[0], *halves[1]):
            scale = STEPS if value == "steps" else 1
            was, now = (f"{quantiles.of_counts(*half, 0.5) / scale:,.4g}" for half in halves)
            return _NoAdvice(
                reason,
                scope.text(
                    en=f"{en} since mid-window: median {was} → {now} {unit}", zh=f"{zh}：中位数 {was} → {now} {unit}"
                ),
            )
    return None


def _chosen(job: Job, row: Mapping[str, Any], rungs: Sequence[Rung], rule: Rule, scope: Scope) -> Rung | _NoAdvice:
    """The cheapest rung that holds what the rule asks for; of CPU no more than is billed now, which no run could exceed.

    A dearer rung than the one that is billed now takes more than a margin: only where the runs do not fit into what there is.
    """
    peak = quantiles.of_counts(job.memory["steps"] / STEPS, job.memory["runs"], rule.memory_quantile)
    memory, vcpu = peak * (1 + rule.memory_margin), row["billed_vcpu"]
    if len(job.vcpu):
        busy = quantiles.of_counts(job.vcpu["steps"] / STEPS, job.vcpu["runs"], rule.vcpu_quantile)
        vcpu = min(vcpu, busy * (1 + rule.vcpu_margin))
    now = _rung(rungs, row)
    for rung in rungs:
        if now is not None and rung.per_second > now.per_second and _holds(now, peak, vcpu, job, rule):
            return now
        if _holds(rung, memory, vcpu, job, rule):
            return rung
    needs = f"{memory:.3g} GiB"
    return _NoAdvice(Reason.NOT_SOLD, scope.text(
        en=f"no rung of {row['region']} that has a price holds {needs}", zh=f"{row['region']} 没有可容纳 {needs} 的已知价格规格"
    ))  # fmt: skip


def _holds(rung: Rung, memory: float, vcpu: float, job: Job, rule: Rule) -> bool:
    fits = rung.memory_gib >= memory and rung.vcpu >= vcpu
    return fits and rule.allows(job.hits(rung.memory_gib), job.measured)


def _rung(rungs: Sequence[Rung], row: Mapping[str, Any]) -> Rung | None:
    """The rung that is billed now, if it is one of them."""
    billed = (row["billed_vcpu"], row["billed_memory_gib"])
    return next((one for one in rungs if (one.vcpu, one.memory_gib) == billed), None)


def _replayed(
    job: Job, rung: Rung, row: Mapping[str, Any], rungs: Sequence[Rung], rule: Rule, scope: Scope
) -> dict[str, Any]:
    """What the history would have been like on the rung: hits, slower runs, money."""
    hits, slowed = job.hits(rung.memory_gib), job.slowed(rung.vcpu)
    hits_low, hits_high = proportion.interval(hits, job.measured, rule.confidence)
    result: dict[str, Any] = {
        "recommended_vcpu": rung.vcpu, "recommended_memory_gib": rung.memory_gib, "hits": hits, "hits_low": hits_low,
        "hits_high": hits_high, "slowed": slowed,
    }  # fmt: skip
    if row["measured_vcpu"]:
        result["slowed_low"], result["slowed_high"] = proportion.interval(slowed, row["measured_vcpu"], rule.confidence)
    result |= _tested(job, row, rungs, rule, scope)
    now = _rung(rungs, row)
    if now is not None:
        result["saves_share"] = 1 - float(rung.per_second / now.per_second)
    dearer = (now is None and rung.memory_gib > row["billed_memory_gib"]) or (
        now is not None and rung.per_second > now.per_second
    )
    verdict = Verdict.KEEP if rung == now else Verdict.LARGER if dearer else Verdict.SMALLER
    if verdict is Verdict.KEEP and row["out_of_memory"] and row["requested_memory_gib"] < rung.memory_gib:
        result["why"] = scope.text(
            en="runs ended out of memory below what is billed: ask for the whole rung, it costs nothing",
            zh="在低于计费规格的用量下内存不足：可申请整个规格，不增加费用",
        )
    return result | _money(job.sizes, rung, rungs, scope) | {"verdict": str(verdict)}


def _tested(job: Job, row: Mapping[str, Any], rungs: Sequence[Rung], rule: Rule, scope: Scope) -> dict[str, Any]:
    """How the second half of the window fares on the rung that the first half alone would have chosen."""
    first, second = job.half(late=False), job.half(late=True)
    if min(first.measured, second.measured) < drift.FEW:
        return {}
    # Half of the runs cannot show so small a risk as all of them: the quantile and its margin choose alone.
    chosen = _chosen(first, row, rungs, replace(rule, risk=1.0), scope)
    if isinstance(chosen, _NoAdvice):
        return {}
    return {"tested_hits": second.hits(chosen.memory_gib), "tested_runs": second.measured}


def _money(sizes: pd.DataFrame, rung: Rung, rungs: Sequence[Rung], scope: Scope) -> dict[str, float]:
    """What the rung would have saved of what the runs cost, as a month's money with its interval; nothing where no cost is known."""
    price = {(one.vcpu, one.memory_gib): float(one.per_second) for one in rungs}
    saved = spread = 0.0
    priced = 0
    for size in sizes.to_dict("records"):
        now = price.get((size["billed_vcpu"], size["billed_memory_gib"]))
        if now and size["runs"] > size["unpriced"]:
            share = 1 - float(rung.per_second) / now
            saved += size["cost"] * share
            spread += size["cost_squared"] * share**2
            priced += size["runs"] - size["unpriced"]
    if not priced:
        return {}
    months = DAYS_A_MONTH / scope.days
    # Runs that come independently: the sum of squares is the variance, of what was seen and again of what will come.
    doubt = _Z * math.sqrt(spread * (months + months**2))
    return {
        "saves_a_month": saved * months, "saves_low": saved * months - doubt, "saves_high": saved * months + doubt
    }  # fmt: skip


def _to_set(now: pd.Series, rung: Rung) -> dict[str, float]:
    """What the build container has to ask for, so that the pod asks for the whole rung; nothing where the others leave no room."""
    asked = {}
    for name, size in (("vcpu", rung.vcpu), ("memory_gib", rung.memory_gib)):
        build, requested = _number(now[f"build_{name}"]), _number(now[f"requested_{name}"])
        if build is None or requested is None:
            return {}
        asked[f"set_{name}"] = round(size - (requested - build), 9)
    return asked if all(value > 0 for value in asked.values()) else {}


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _text(value: Any) -> str | None:
    """A text of a pandas row; None for its missing values."""
    return value if isinstance(value, str) else None
