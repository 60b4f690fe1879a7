"""One job's size: whether there is advice on it, the cheapest rung that its runs fit on, and the replay of its runs there.

A job that changed in the window (`runbook.cost.drift`), or has too few measured runs, gets no advice and the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from runbook.answer import Scope
from runbook.cost import drift, proportion, runs
from runbook.cost.rungs import Market, Rule, Rung
from runbook.cost.runs import Counts, Job
from runbook.cost.sizes import size_text
from runbook.cost.trims import DAYS_A_MONTH

Size = Mapping[str, Any]
"""A row of `runs.Runs.sizes`."""
REQUESTED = ("requested_vcpu", "requested_memory_gib")


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
class Judged:
    job: Job
    row: dict[str, Any]


@dataclass(frozen=True)
class _NoAdvice:
    reason: Reason
    why: str


def judged(job: Job, rule: Rule, scope: Scope, market: Market) -> Judged:
    """One row of `advice`."""
    now = _usual(job.sizes)
    project, name, stage = job.key
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {field: sum(size[field] for size in job.sizes) for field in ("runs", "out_of_memory", "cost", "unpriced")}
    row |= {
        field: now[field] for field in ("requested_vcpu", "requested_memory_gib", "billed_vcpu", "billed_memory_gib")
    }
    row |= {
        "project": project or scope.not_allocated, "job_name": name, "job_stage": stage, "measured": job.memory.total,
        "measured_vcpu": job.vcpu.total, "runs_needed": max(0, rule.runs_needed - job.memory.total),
        "spot": bool(now["is_spot"]), "region": now["region"], "asked_by": str(runs.asked_by(now["asked_by"])),
        **_spread("memory", job.memory), **_spread("vcpu", job.vcpu),
    }  # fmt: skip
    rungs = market.rungs(row["region"] or "", now["compute_category"], spot=row["spot"])
    chosen = _withheld(job, now, rule, scope) or _chosen(job, row, rungs, rule, scope)
    if isinstance(chosen, _NoAdvice):
        return Judged(job, row | {"verdict": str(Verdict.NO_ADVICE), "reason": str(chosen.reason), "why": chosen.why})
    return Judged(job, row | _replayed(job, chosen, row, rungs, rule, scope) | _to_set(now, chosen))


def _usual(sizes: Sequence[Size]) -> Size:
    """The size with the request that was last seen; of several the one with the most runs."""
    last = max(sizes, key=lambda size: (size["last_at"], size["runs"]))
    same = [size for size in sizes if _values(size, *REQUESTED) == _values(last, *REQUESTED)]
    return max(same, key=lambda size: (size["runs"], size["last_at"]))


def _values(size: Size, *names: str) -> tuple[Any, ...]:
    return tuple(size[name] for name in names)


def _spread(prefix: str, counts: Counts) -> dict[str, float]:
    return {f"{prefix}_{name}": counts.quantile(q) for name, q in _QUANTILES.items()} if counts.total else {}


def _withheld(job: Job, now: Size, rule: Rule, scope: Scope) -> _NoAdvice | None:
    """Why this job gets no advice, whatever the rungs."""
    if None in _values(now, *REQUESTED, "billed_vcpu", "billed_memory_gib"):
        return _NoAdvice(Reason.UNKNOWN_SIZE, scope.text(en="its size is not known", zh="规格未知"))
    if now["ecs_type"] and not now["is_spot"]:
        kind = now["ecs_type"]
        return _NoAdvice(
            Reason.ECS_TYPE, scope.text(en=f"it is billed by its ECS type {kind}", zh=f"按 ECS 规格 {kind} 计费")
        )
    if not job.memory.total:
        return _NoAdvice(Reason.NOT_MEASURED, scope.text(en="nobody measured what it used", zh="没有用量数据"))
    if job.memory.total < rule.runs_needed:
        more = rule.runs_needed - job.memory.total
        return _NoAdvice(Reason.TOO_FEW, scope.text(
            en=f"{scope.counted(job.memory.total, 'runs')} measured: {more} more needed", zh=f"仅 {job.memory.total} 次有用量数据：还需 {more} 次",
        ))  # fmt: skip
    return _changed_image(job.sizes, scope) or _changed_request(job.sizes, scope) or _changed_runs(job, scope)


def _changed_image(sizes: Sequence[Size], scope: Scope) -> _NoAdvice | None:
    now, *others = _seen(sizes, "image")
    before = [one for one in others if one.last_at < now.first_at]
    if sum(one.runs for one in before) <= drift.MIXED * sum(size["runs"] for size in sizes):
        return None
    was, then = max(before, key=lambda one: one.runs).values[0], now.values[0]
    return _NoAdvice(
        Reason.IMAGE, scope.text(en=f"its image changed: {was} → {then}", zh=f"镜像已变更：{was} → {then}")
    )


def _changed_request(sizes: Sequence[Size], scope: Scope) -> _NoAdvice | None:
    now, *others = _seen(sizes, *REQUESTED)
    if sum(one.runs for one in others) <= drift.MIXED * sum(size["runs"] for size in sizes):
        return None
    other = max(others, key=lambda one: one.runs)
    if None in other.values:
        return _NoAdvice(
            Reason.UNKNOWN_SIZE, scope.text(en="the size of some of its runs is not known", zh="部分运行的规格未知")
        )
    was, then = size_text(*other.values), size_text(*now.values)
    if other.last_at < now.first_at:
        return _NoAdvice(
            Reason.REQUEST, scope.text(en=f"its request changed: {was} → {then}", zh=f"申请量已变更：{was} → {then}")
        )
    return _NoAdvice(Reason.SEVERAL_SIZES, scope.text(
        en=f"its runs ask for several sizes: {then}, {was}", zh=f"同时申请多种规格：{then}、{was}"
    ))  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """When runs had some values first and last, and how many had them."""

    values: tuple[Any, ...]
    runs: int
    first_at: datetime
    last_at: datetime


def _seen(sizes: Sequence[Size], *names: str) -> list[_Seen]:
    """Each combination of values; the one that was seen last comes first."""
    groups: dict[tuple[Any, ...], list[Size]] = {}
    for size in sizes:
        groups.setdefault(_values(size, *names), []).append(size)
    seen = [
        _Seen(
            values,
            sum(one["runs"] for one in some),
            min(one["first_at"] for one in some),
            max(one["last_at"] for one in some),
        )
        for values, some in groups.items()
    ]
    return sorted(seen, key=lambda one: (one.last_at, one.runs, str(one.values)), reverse=True)


def _changed_runs(job: Job, scope: Scope) -> _NoAdvice | None:
    """Whether durations or peaks of the second half lie elsewhere than those of the first."""
    for reason, counts, unit, en, zh in (
        (Reason.DURATION, job.durations, "s", "its runs take another time", "运行时长已变化"),
        (Reason.MEMORY, job.memory, "GiB", "its runs need other memory", "内存用量已变化"),
    ):
        first, second = counts.half(late=False), counts.half(late=True)
        if drift.changed(first.values, first.runs, second.values, second.runs):
            was, now = (f"{half.quantile(0.5):,.4g}" for half in (first, second))
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
    peak = job.memory.quantile(rule.memory_quantile)
    memory, vcpu = peak * (1 + rule.memory_margin), row["billed_vcpu"]
    if job.vcpu.total:
        vcpu = min(vcpu, job.vcpu.quantile(rule.vcpu_quantile) * (1 + rule.vcpu_margin))
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
    return fits and rule.allows(job.memory.above(rung.memory_gib), job.memory.total)


def _rung(rungs: Sequence[Rung], row: Mapping[str, Any]) -> Rung | None:
    """The rung that is billed now, if it is one of them."""
    billed = (row["billed_vcpu"], row["billed_memory_gib"])
    return next((one for one in rungs if (one.vcpu, one.memory_gib) == billed), None)


def _replayed(
    job: Job, rung: Rung, row: Mapping[str, Any], rungs: Sequence[Rung], rule: Rule, scope: Scope
) -> dict[str, Any]:
    """What the history would have been like on the rung: hits, slower runs, money."""
    hits, slowed = job.memory.above(rung.memory_gib), job.vcpu.above(rung.vcpu)
    hits_low, hits_high = proportion.interval(hits, job.memory.total, rule.confidence)
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
    first, second = job.memory.half(late=False), job.memory.half(late=True)
    if min(first.total, second.total) < drift.FEW:
        return {}
    # Half of the runs cannot show so small a risk as all of them: the quantile and its margin choose alone.
    chosen = _chosen(replace(job, memory=first), row, rungs, replace(rule, risk=1.0), scope)
    if isinstance(chosen, _NoAdvice):
        return {}
    return {"tested_hits": second.above(chosen.memory_gib), "tested_runs": second.total}


def _money(sizes: Sequence[Size], rung: Rung, rungs: Sequence[Rung], scope: Scope) -> dict[str, float]:
    """What the rung would have saved of what the runs cost, as a month's money with its interval; nothing where no cost is known."""
    price = {(one.vcpu, one.memory_gib): float(one.per_second) for one in rungs}
    saved = spread = 0.0
    priced = 0
    for size in sizes:
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


def _to_set(now: Size, rung: Rung) -> dict[str, float]:
    """What the build container has to ask for, so that the pod asks for the whole rung; nothing where the others leave no room."""
    asked = {}
    for name, size in (("vcpu", rung.vcpu), ("memory_gib", rung.memory_gib)):
        if now[f"build_{name}"] is None:
            return {}
        asked[f"set_{name}"] = round(size - (now[f"requested_{name}"] - now[f"build_{name}"]), 9)
    return asked if all(value > 0 for value in asked.values()) else {}
