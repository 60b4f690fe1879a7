"""Which job runs on too large or too small a spec: the cheapest rung that its runs fit on, what it saves, and how sure that is.

    advice(pods, scope)      a row a job: used, asked, billed, recommended; the replay at that size; or why there is no advice
    backtest(pods, scope)    the peaks of memory of the jobs that would save most, run by run, against the two sizes
    frontier(pods, scope)    what a run of a job took and cost on each size that it ran on

Used is what runs needed at their peak (`runbook.cost.runs`), the rule is `runbook.cost.rungs.Rule`, one job's verdict `runbook.cost.job_sizes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from runbook.answer import Answer, Scope
from runbook.cost import proportion, runs
from runbook.cost.job_sizes import CHINESE, COLUMNS, COUNTS, TEXTS, Judged, Reason, Verdict, judged
from runbook.cost.rungs import Market, Rule
from runbook.cost.runs import JOB, Runs, jobs_of
from runbook.cost.sizes import size_text
from runbook.eci.prices import PriceRow
from runbook.eci.specs import Ladder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "RULE", "Rule", "Verdict", "advice", "backtest", "frontier", "job_text", "risk_text"]

RULE = Rule()
"""The rule where none is given."""
BACKTESTED = 6
"""Jobs that `backtest` shows."""
FEW_OF_A_SIZE = 5
"""Runs that a size needs before `frontier` shows it."""


# -- questions --------------------------------------------------------------------------------------------------------


def advice(
    pods: nw.LazyFrame[Any],
    scope: Scope,
    *,
    rule: Rule = RULE,
    rows: Sequence[PriceRow] | None = None,
    offered: Ladder | None = None,
) -> Answer:
    """A row a job: what saves most first, then those without advice and those that stay as they are, the dearest first.

    `memory_…` (GiB) and `vcpu_…` are quantiles of the runs' peaks. *Recommended* is the cheapest rung of the job's region that holds
    what `rule` asks for. Replay: of `measured` runs `hits` needed more memory than that rung has, a share between `hits_low` and
    `hits_high`; of `measured_vcpu` runs `slowed` had a peak of more CPU. `tested_hits` of `tested_runs` is the harder test: the
    rung chosen by the first half of the window alone, met by the second. Money is that of the job's own runs, at the ratio of
    the two list prices, for a month of 30.44 days; its interval is what the number of runs leaves open, if they go on to come
    independently. `set_…` is what the build container would ask for (`asked_by` limit or request): the rung without what helper
    and services ask for. `rows` and `offered` are price list and ladder (None: those of `data/`).
    """
    import pandas as pd

    found = runs.counted(pods, scope)
    market = Market(scope, rows, offered)
    every = [judged(job, rule, scope, market) for job in jobs_of(found)]
    types = {name: "float64" for name in COLUMNS} | dict.fromkeys(TEXTS, "object") | dict.fromkeys(COUNTS, "int64")
    table = pd.DataFrame([one.row for one in every], columns=list(COLUMNS)).astype(types | {"spot": "bool"})
    order = {verdict: place for place, verdict in enumerate((Verdict.SMALLER, Verdict.LARGER, Verdict.NO_ADVICE))}
    table["_place"] = table["verdict"].map(order).fillna(len(order))
    by, ascending = ["_place", "saves_a_month", "cost", *COLUMNS[:3]], [True, False, False, True, True, True]
    table = table.sort_values(by, ascending=ascending, ignore_index=True).drop(columns="_place")
    return Answer(
        "rightsizing",
        scope.text(en="Which jobs run on too large or too small a spec?", zh="哪些作业的规格过大或过小？"),
        _sentence(table, scope),
        table,
        scope,
        int(table["runs"].sum()),
        unit="runs",
        notes=tuple(_notes(found, table, rule, scope)),
    )


def backtest(
    pods: nw.LazyFrame[Any],
    scope: Scope,
    *,
    rule: Rule = RULE,
    rows: Sequence[PriceRow] | None = None,
    offered: Ladder | None = None,
    jobs: int = BACKTESTED,
) -> Answer:
    """The runs' peaks of memory of the `jobs` that another rung would change most: a row each different peak of a job.

    `share` of the job's measured runs needed at most `memory_gib`; `share_low` and `share_high` are what the count still allows.
    Beside it the two sizes, and the replay's `hits` as in `advice`.
    """
    import pandas as pd

    found = runs.counted(pods, scope)
    market = Market(scope, rows, offered)
    every = [judged(job, rule, scope, market) for job in jobs_of(found)]
    moved = [one for one in every if one.row["verdict"] in (Verdict.SMALLER, Verdict.LARGER)]
    moved.sort(key=lambda one: (-abs(one.row["saves_a_month"] or 0.0), -one.row["measured"], one.job.key))
    parts = [_cumulative(one, rule) for one in moved[:jobs]]
    table = pd.DataFrame(
        [row for part in parts for row in part],
        columns=["project", "job_name", "job_stage", "memory_gib", "runs", "share", "share_low", "share_high", "measured",
                 "billed_memory_gib", "recommended_memory_gib", "hits", "hits_low", "hits_high"],
    )  # fmt: skip
    shown = [one.row for one in moved[:jobs]]
    return Answer(
        "rightsizing-backtest",
        scope.text(en="Is the recommended size safe?", zh="推荐的规格安全吗？"),
        _backtest_sentence(shown, rule, scope),
        table,
        scope,
        sum(int(row["measured"]) for row in shown),
        unit="runs",
        notes=tuple(_backtest_notes(shown, scope)),
    )


def frontier(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """What a run of a job took and cost on each size, for jobs that ran on more than one: a row each job, size and way to pay.

    `seconds` and `cost` are means of one run, over `runs` of known cost. A larger size that is quicker by as much as it is dearer
    costs nothing; nothing here says that the runs did the same work.
    """
    import pandas as pd

    sizes = runs.counted(pods, scope).sizes
    by = [*JOB, "billed_vcpu", "billed_memory_gib", "is_spot"]
    known = sizes[sizes["unpriced"] == 0].dropna(subset=["billed_vcpu", "billed_memory_gib"])
    sums = known.fillna({name: "" for name in JOB}).groupby(by, as_index=False)[["runs", "seconds", "cost"]].sum()
    sums = sums[sums["runs"] >= FEW_OF_A_SIZE]
    several = sums.groupby([*JOB, "is_spot"])["runs"].transform("size") > 1
    table = pd.DataFrame(sums[several]).rename(
        columns={"billed_vcpu": "vcpu", "billed_memory_gib": "memory_gib", "is_spot": "spot"}
    )
    for name in ("seconds", "cost"):
        table[name] = table[name] / table["runs"]
    table.insert(0, "project", table.pop("project_path").replace("", scope.not_allocated))
    table = table.sort_values(["project", "job_name", "job_stage", "spot", "vcpu", "memory_gib"], ignore_index=True)
    return Answer(
        "rightsizing-frontier",
        scope.text(en="Is a larger size worth its price?", zh="更大的规格值得吗？"),
        _frontier_sentence(table, scope),
        table,
        scope,
        int(table["runs"].sum()),
        unit="runs",
    )


def _cumulative(one: Judged, rule: Rule) -> Iterator[dict[str, Any]]:
    """The cumulative share of runs at each different peak."""
    fields = (
        "project", "job_name", "job_stage", "measured", "billed_memory_gib", "recommended_memory_gib", "hits", "hits_low",
        "hits_high",
    )  # fmt: skip
    upto = 0
    peaks, place = np.unique(one.job.memory.values, return_inverse=True)
    counts = np.bincount(place, weights=one.job.memory.runs).astype(int)
    for peak, number in zip(peaks.tolist(), counts.tolist(), strict=True):
        upto += number
        low, high = proportion.interval(upto, one.row["measured"], rule.confidence)
        yield {name: one.row[name] for name in fields} | {
            "memory_gib": peak, "runs": number, "share": upto / one.row["measured"], "share_low": low,
            "share_high": high,
        }  # fmt: skip


# -- words ------------------------------------------------------------------------------------------------------------


def job_text(row: Mapping[str, Any] | pd.Series) -> str:
    """`grp/demo · unit tests`, with the stage where it says something else."""
    stage = row["job_stage"]
    return f"{row['project']} · {row['job_name']}" + (f" ({stage})" if stage and stage != row["job_name"] else "")


def risk_text(hits: int, measured: int, high: float, scope: Scope) -> str:
    """`0 of 210 runs (at most 1.7%)`."""
    return scope.text(
        en=f"{hits:,} of {measured:,} runs (at most {high:.1%})", zh=f"{measured:,} 次中 {hits:,} 次（至多 {high:.1%}）"
    )


def _sentence(table: pd.DataFrame, scope: Scope) -> str:
    if table.empty:
        return scope.text(en="No job ran in this window.", zh="该时段没有作业运行。")
    count = {verdict: int((table["verdict"] == verdict).sum()) for verdict in Verdict}
    jobs = scope.counted(len(table), "jobs")
    if count[Verdict.NO_ADVICE] == len(table):
        reasons = table["reason"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
        reason = Reason(reasons.index[0])
        most = "" if len(reasons) == 1 else scope.text(en="most often ", zh="最常见的原因：")
        return scope.text(en=f"No advice on {jobs}: {most}{reason}.", zh=f"{jobs}均没有建议：{most}{CHINESE[reason]}。")
    end = ""
    if count[Verdict.NO_ADVICE]:
        end = scope.text(
            en=f"; no advice on {count[Verdict.NO_ADVICE]:,}", zh=f"；{count[Verdict.NO_ADVICE]:,} 个没有建议"
        )
    moved = table[table["verdict"].isin([Verdict.SMALLER, Verdict.LARGER])]
    if moved.empty:
        kept = count[Verdict.KEEP]
        return scope.text(en=f"{kept:,} of {jobs} have the right size{end}.", zh=f"{jobs}中 {kept:,} 个规格合适{end}。")
    first, larger = moved.iloc[0], ""
    was, to = (size_text(first[f"{kind}_vcpu"], first[f"{kind}_memory_gib"]) for kind in ("billed", "recommended"))
    if count[Verdict.LARGER]:
        number = count[Verdict.LARGER]
        larger = scope.text(
            en=f", {number:,} need{'s' * (number == 1)} a larger one", zh=f"，{number:,} 个需要更大规格"
        )
    risk = risk_text(int(first["hits"]), int(first["measured"]), first["hits_high"], scope)
    return scope.text(
        en=f"{count[Verdict.SMALLER]:,} of {jobs} could have a cheaper spec{larger}: {_saving(moved, scope)}; first of all"
        f" {job_text(first)}, {was} → {to}, where {risk} would have hit the limit{end}.",
        zh=f"{jobs}中 {count[Verdict.SMALLER]:,} 个可用更便宜的规格{larger}：{_saving(moved, scope)}；首先是 {job_text(first)}，"
        f"{was} → {to}，{risk}会触及上限{end}。",
    )


def _saving(moved: pd.DataFrame, scope: Scope) -> str:
    """What the jobs save a month together, with its interval: jobs are taken to vary independently."""
    known = moved.dropna(subset=["saves_a_month"])
    if known.empty:
        return scope.text(en="what they cost is not known", zh="费用未知")
    total = float(known["saves_a_month"].sum())
    doubt = math.sqrt(float((((known["saves_high"] - known["saves_low"]) / 2) ** 2).sum()))
    less = scope.text(en="less" if total >= 0 else "more", zh="节省" if total >= 0 else "增加")
    low, high = sorted((total - doubt, total + doubt) if total >= 0 else (-total - doubt, -total + doubt))
    amounts = scope.text(
        en=f"({scope.money(low)} to {scope.money(high)})", zh=f"（{scope.money(low)} 至 {scope.money(high)}）"
    )
    money = scope.money(abs(total))
    return scope.text(en=f"{money} a month {less} {amounts}", zh=f"每月{less} {money}{amounts}")


def _notes(found: Runs, table: pd.DataFrame, rule: Rule, scope: Scope) -> Iterator[str]:
    if table.empty:
        return
    yield scope.text(
        en=f"Recommended is the cheapest rung that holds {rule.memory_quantile:.0%} of the runs' peaks of memory plus {rule.memory_margin:.0%}, and {rule.vcpu_quantile:.0%} of"
        f" their peaks of CPU; advice takes {rule.runs_needed} measured runs, with which the risk of a run is at most {rule.risk:.0%}.",
        zh=f"推荐规格为可容纳 {rule.memory_quantile:.0%} 运行内存峰值加 {rule.memory_margin:.0%} 余量、以及 {rule.vcpu_quantile:.0%} CPU 峰值的最便宜规格；"
        f"至少需要 {rule.runs_needed} 次有用量数据的运行，此时单次运行的风险不超过 {rule.risk:.0%}。",
    )  # fmt: skip
    yield scope.text(
        en="Peaks are samples: a shorter peak between two samples is not seen. Less CPU makes a run slower, and longer runs cost more: not counted.",
        zh="峰值来自采样，两次采样之间更短的峰值看不到。CPU 变少会使运行变慢、变贵，未计入。",
    )
    few, measured = int(found.sizes["few_samples"].sum()), int(table["measured"].sum())
    if few:
        yield scope.text(
            en=f"{few:,} of {scope.counted(measured, 'measured runs')} rest on fewer than {runs.FEW_SAMPLES} samples: too short, or seldom looked at.",
            zh=f"{measured:,} 次有用量数据的运行中，{few:,} 次的采样少于 {runs.FEW_SAMPLES} 个。",
        )
    left = {name: int(found.left_out[name]) for name in ("without_job", "never_ran", "cut_short")}
    if any(left.values()):
        yield scope.text(
            en=f"Left out: {left['without_job']:,} pods without a job, {left['never_ran']:,} that never ran, {left['cut_short']:,} that were taken away, lost or still run.",
            zh=f"未计入：{left['without_job']:,} 个没有作业的 Pod，{left['never_ran']:,} 个从未运行，{left['cut_short']:,} 个被回收、丢失或仍在运行。",
        )  # fmt: skip
    if table["spot"].any():
        yield scope.text(
            en="Spot jobs stand on the spot table; what they would save is at the ratio of the vCPU and memory prices, for their market has no list.",
            zh="抢占式作业按抢占式规格表；其节省按 vCPU 与内存价格之比估算。",
        )
    unpriced = int(table["unpriced"].sum())
    if unpriced:
        yield scope.text(
            en=f"What {scope.counted(unpriced, 'runs')} cost is not known: their peaks count, their money does not.",
            zh=f"{scope.counted(unpriced, 'runs')}的费用未知：计入峰值，不计入金额。",
        )


def _backtest_sentence(shown: Sequence[Mapping[str, Any]], rule: Rule, scope: Scope) -> str:
    if not shown:
        return scope.text(
            en="No job is advised to change its size: nothing to replay.", zh="没有建议更改规格的作业，无需回放。"
        )
    hits, measured = (sum(int(row[name]) for row in shown) for name in ("hits", "measured"))
    low, high = proportion.interval(hits, measured, rule.confidence)
    jobs = scope.counted(len(shown), "jobs")
    return scope.text(
        en=f"At the recommended sizes, {hits:,} of the {measured:,} measured runs of {jobs} would have needed more memory than they had:"
        f" {hits / measured:.1%}, between {low:.1%} and {high:.1%}.",
        zh=f"按推荐规格，{jobs}的 {measured:,} 次运行中有 {hits:,} 次内存不足：{hits / measured:.1%}（{low:.1%} 至 {high:.1%}）。",
    )  # fmt: skip


def _backtest_notes(shown: Sequence[Mapping[str, Any]], scope: Scope) -> Iterator[str]:
    tested = [row for row in shown if row["tested_runs"]]
    if tested:
        hits, number = (sum(int(row[name]) for row in tested) for name in ("tested_hits", "tested_runs"))
        yield scope.text(
            en=f"The harder test: on the sizes that the first half of the window alone would have chosen, {hits:,} of {number:,} runs of the second half would have hit the limit.",
            zh=f"更严格的检验：仅用前半时段选定规格，后半时段 {number:,} 次运行中有 {hits:,} 次会触及上限。",
        )  # fmt: skip
    died = sum(int(row["out_of_memory"]) for row in shown)
    if died:
        yield scope.text(
            en=f"{scope.counted(died, 'runs')} ended out of memory: they count as needing more than was asked for, by how much nobody knows.",
            zh=f"{scope.counted(died, 'runs')}因内存不足结束：计为需要超过申请量，超出多少未知。",
        )


def _frontier_sentence(table: pd.DataFrame, scope: Scope) -> str:
    if table.empty:
        return scope.text(
            en=f"No job ran {FEW_OF_A_SIZE} times or more on each of several sizes: nothing to compare.", zh="没有作业在多种规格上各运行足够次数，无法比较。"
        )  # fmt: skip
    ends = [(group.iloc[0], group.iloc[-1]) for _, group in table.groupby([*COLUMNS[:3], "spot"], sort=True)]
    small, large = max(ends, key=lambda pair: abs(pair[1]["cost"] / pair[0]["cost"] - 1) if pair[0]["cost"] else 0.0)
    quicker = 1 - large["seconds"] / small["seconds"] if small["seconds"] else 0.0
    dearer = large["cost"] / small["cost"] - 1 if small["cost"] else 0.0
    sizes = [size_text(one["vcpu"], one["memory_gib"]) for one in (small, large)]
    speed = scope.text(en="less" if quicker >= 0 else "more", zh="缩短" if quicker >= 0 else "延长")
    price = scope.text(en="more" if dearer >= 0 else "less", zh="增加" if dearer >= 0 else "减少")
    return scope.text(
        en=f"{job_text(small)} on {sizes[1]} in place of {sizes[0]}: {abs(quicker):.0%} {speed} time, {abs(dearer):.0%} {price} money a run.",
        zh=f"{job_text(small)} 由 {sizes[0]} 改为 {sizes[1]}：时间{speed} {abs(quicker):.0%}，每次费用{price} {abs(dearer):.0%}。",
    )
