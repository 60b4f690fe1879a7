"""Does spot pay? What it saved each project, what its interruptions and fallbacks took away from that, and what is left.

Everything is held against the vCPU and memory price of ECI that a team would pay without spot, never against the list price of
the ECS type that a spot instance is matched to: a discount on that one is not yet a saving. A spot pod whose cost is an interval
(nobody wrote down its ECS type, or the market of its time is not archived) makes every answer an interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import spot_pods
from runbook.cost.collected import collected, count

if TYPE_CHECKING:
    import pandas as pd

_COUNTED = ("as_interval", "unpriced", "false_green", "repeats", "fallback_pods")
_REPEATS = ("repeats", "repeats_low", "repeats_high")


def ledger(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """What spot saved each project: gross saving - rework - fallback = net.

    *Gross*: for spot pods that were not taken away, the vCPU and memory price of the same size and seconds minus what they
    cost. *Rework*: all that was paid for spot pods that were taken away; their work was lost, and whatever repeats it is done
    once, so the repeats are shown and not charged again. *Fallback*: where spot was asked for and pay-as-you-go was taken,
    what it cost above the vCPU and memory price (as a rule nothing); `missed` is what these pods would have saved at the
    project's own discount, and is not part of the net.

    The table has a row a project, the largest net first: `project`, counts, `spot_hours`, `on_demand` (of the pods in *gross*)
    and money as `…_low` and `…_high`, which are equal where every cost is known, and null where none is.
    """
    marked = spot_pods.marked(pods)
    table = _by_project(marked, scope)
    if not len(table):
        table = table.reindex(columns=_LEDGER)
    totals = table.drop(columns="project").sum() if len(table) else None
    return Answer(
        "spot-ledger",
        scope.text(en="Does spot pay?", zh="抢占式实例划算吗？"),
        _ledger_sentence(totals, scope),
        table,
        scope,
        int(totals["spot_pods"] + totals["fallback_pods"]) if totals is not None else 0,
        notes=_ledger_notes(totals, _unstated(pods), scope),
    )


_LEDGER = (
    "project", "spot_pods", "spot_hours", "on_demand", "gross_low", "gross_high", "reclaimed", "false_green", "rework_low",
    "rework_high", "fallback_pods", "fallback", "net_low", "net_high", "repeats", "repeats_low", "repeats_high",
    "missed_low", "missed_high", "as_interval", "interval_low", "interval_high", "unpriced",
)  # fmt: skip


def _by_project(marked: nw.LazyFrame[Any], scope: Scope) -> pd.DataFrame:
    import numpy as np

    spot, taken = nw.col("is_spot"), nw.col("taken")
    compared = spot & ~taken & nw.col("has_cost") & ~nw.col("on_demand_cost").is_null()
    lost = taken & nw.col("has_cost")
    above = nw.col("effective_cost") - nw.col("on_demand_cost")
    on_demand = nw.col("on_demand_cost")
    as_interval = spot & nw.col("effective_cost").is_null() & nw.col("has_cost")
    sums = collected(
        marked.filter(spot | nw.col("fell_back"))
        .group_by("project_path")
        .agg(
            count(spot).alias("spot_pods"),
            (spot_pods.sum_where(spot, nw.col("seconds").fill_null(0.0)) / 3600).alias("spot_hours"),
            spot_pods.sum_where(compared, on_demand).alias("on_demand"),
            spot_pods.sum_where(compared, on_demand - nw.col("high")).alias("gross_low"),
            spot_pods.sum_where(compared, on_demand - nw.col("low")).alias("gross_high"),
            count(taken).alias("reclaimed"),
            count(taken & nw.col("false_green").fill_null(False)).alias("false_green"),
            spot_pods.sum_where(lost, nw.col("low")).alias("rework_low"),
            spot_pods.sum_where(lost, nw.col("high")).alias("rework_high"),
            count(nw.col("fell_back")).alias("fallback_pods"),
            spot_pods.sum_where(nw.col("fell_back") & (above > 0), above).alias("fallback"),
            spot_pods.sum_where(nw.col("fell_back") & ~on_demand.is_null(), on_demand).alias("fallback_on_demand"),
            count(as_interval).alias("as_interval"),
            spot_pods.sum_where(as_interval, nw.col("low")).alias("interval_low"),
            spot_pods.sum_where(as_interval, nw.col("high")).alias("interval_high"),
            count(spot & ~compared & ~lost).alias("unpriced"),
        ),
        by=["project_path"],
    )
    table = sums.merge(_repeats(marked), on="project_path", how="left")
    table[list(_REPEATS)] = table[list(_REPEATS)].fillna(0)
    table["repeats"] = table["repeats"].astype("int64")
    for end, other in (("low", "high"), ("high", "low")):
        table[f"net_{end}"] = table[f"gross_{end}"] - table[f"rework_{other}"] - table["fallback"]
        overall = table[f"gross_{end}"].sum() / (table["on_demand"].sum() or 1.0)
        own = table[f"gross_{end}"] / table["on_demand"].replace(0.0, np.nan)
        table[f"missed_{end}"] = (table["fallback_on_demand"] * own.fillna(overall)).clip(lower=0.0)
    nothing_known = (table["spot_pods"] > 0) & (table["unpriced"] == table["spot_pods"])
    table.loc[nothing_known, [f"{name}_{end}" for name in ("gross", "net") for end in ("low", "high")]] = np.nan
    table["project"] = table["project_path"].fillna(scope.not_allocated)
    return table.sort_values(["net_high", "project"], ascending=[False, True], ignore_index=True)[list(_LEDGER)]


def _repeats(marked: nw.LazyFrame[Any]) -> pd.DataFrame:
    """By project, the pods of jobs that repeat a job whose pod was taken away, as far as they were not taken away themselves."""
    lost = marked.filter(nw.col("taken") & ~nw.col("job_id").is_null()).select("cluster", repeated="job_id").unique()
    again = marked.filter(~nw.col("retry_of").is_null() & ~nw.col("taken")).join(
        lost, left_on=["cluster", "retry_of"], right_on=["cluster", "repeated"], how="semi"
    )
    return collected(
        again.group_by("project_path").agg(
            nw.len().alias("repeats"),
            nw.col("low").fill_null(0.0).sum().alias("repeats_low"),
            nw.col("high").fill_null(0.0).sum().alias("repeats_high"),
        ),
        by=["project_path"],
    )


def _unstated(pods: nw.LazyFrame[Any]) -> pd.Series:
    """How many pods do not say whether they are spot, and how many whether spot was asked for."""
    found = collected(
        pods.select(
            count(nw.col("spot").is_null()).alias("spot"),
            count(nw.col("spot_requested").is_null() & ~nw.col("spot").fill_null(True)).alias("requested"),
        )
    )
    return found.fillna(0).iloc[0]


def _ledger_sentence(totals: pd.Series | None, scope: Scope) -> str:
    if totals is None:
        return scope.text(
            en="No pod asked for spot: there is nothing to save or to lose.", zh="没有 Pod 申请抢占式实例。"
        )
    if not totals["spot_pods"]:
        asked = int(totals["fallback_pods"])
        return scope.text(
            en=f"{scope.counted(asked)} asked for spot and none got it: nothing was saved.",
            zh=f"{asked:,} 个 Pod 申请了抢占式实例，均未获得：没有节省。",
        )
    if totals["unpriced"] == totals["spot_pods"]:
        return scope.text(
            en=f"Nobody knows what {scope.counted(int(totals['spot_pods']), 'spot pods')} cost: whether spot paid is not known.",
            zh=f"{int(totals['spot_pods']):,} 个抢占式 Pod 的费用均未知：是否划算无法判断。",
        )
    equation, low, high = _equation(totals, scope), totals["net_low"], totals["net_high"]
    net, share = spot_pods.span(scope, low, high), _share(low, high, totals["on_demand"], scope)
    if high < 0:
        dearer = spot_pods.span(scope, -high, -low)
        return scope.text(
            en=f"Spot cost {dearer} more than ECI's vCPU and memory price would have: {equation}.",
            zh=f"抢占式实例比按 vCPU 和内存计费多花了 {dearer}：{equation}。",
        )
    if low < 0:
        return scope.text(
            en=f"Whether spot paid is not known: net {net}{share}: {equation}.",
            zh=f"抢占式实例是否划算尚不确定：净节省 {net}{share}：{equation}。",
        )
    return scope.text(en=f"Spot saved {net} net{share}: {equation}.", zh=f"抢占式实例净节省 {net}{share}：{equation}。")


def _equation(totals: pd.Series, scope: Scope) -> str:
    gross = spot_pods.span(scope, totals["gross_low"], totals["gross_high"])
    lost = spot_pods.span(scope, totals["rework_low"], totals["rework_high"])
    taken, fallback = int(totals["reclaimed"]), totals["fallback"]
    rework = f"{lost} for {scope.counted(taken)}" if taken else "nothing for pods"
    return scope.text(
        en=f"gross {gross}, minus {rework} taken away, minus"
        f" {scope.money(fallback) if fallback else 'nothing'} for fallbacks",
        zh=f"毛节省 {gross}，减去 {taken:,} 个被回收 Pod 的 {lost}，减去回退多付的 {scope.money(fallback)}",
    )


def _share(low: float, high: float, work: float, scope: Scope) -> str:
    """` (71 % of what the same work costs without spot)`; nothing where that is not known."""
    if not work:
        return ""
    first, last = (f"{100 * end / work:.0f}".replace("-", "−") for end in (low, high))
    share = first if first == last else scope.text(en=f"{first} to {last}", zh=f"{first} 至 {last}")
    return scope.text(
        en=f" ({share} % of what the same work costs without spot)", zh=f"（不用抢占式实例时费用的 {share} %）"
    )


def _ledger_notes(totals: pd.Series | None, unstated: pd.Series, scope: Scope) -> tuple[str, ...]:
    """What the ledger assumes and leaves out, as far as it did."""
    found = {name: 0 if totals is None else int(totals[name]) for name in _COUNTED}
    found |= {str(name): int(number) for name, number in unstated.items()}
    money = {name: "" for name in ("interval", "repeats", "missed")}
    if totals is not None:
        money = {name: spot_pods.span(scope, totals[f"{name}_low"], totals[f"{name}_high"]) for name in money}
    texts = {
        "as_interval": (
            f"The cost of {scope.counted(found['as_interval'], 'spot pods')} is not known exactly (ECS type or market price unknown): together"
            f" {money['interval']}, and the net is an interval for it.",
            f"{found['as_interval']:,} 个抢占式 Pod 的 ECS 规格或市场价未知，费用合计 {money['interval']}，净节省因此是区间。",
        ),
        "unpriced": (
            f"Of {scope.counted(found['unpriced'], 'spot pods')} nobody knows the cost, or what to compare it with: left out of the money.",
            f"{found['unpriced']:,} 个抢占式 Pod 没有已知费用或可比价格，未计入金额。",
        ),
        "false_green": (
            f"Of the jobs that lost their pod, GitLab calls {found['false_green']:,} a success: counted as rework, for nothing"
            " proves that their script ran to its end.",
            f"被回收的作业中有 {found['false_green']:,} 个被 GitLab 判为成功：无法证明脚本已执行完，计为返工。",
        ),
        "repeats": (
            f"{scope.counted(found['repeats'])} ({money['repeats']}) ran jobs again whose pod was taken away: shown, not subtracted. The"
            " lost pod is charged already, and without spot the job would have run once too.",
            f"{found['repeats']:,} 个 Pod（{money['repeats']}）重跑了被回收的作业：仅列出，不再扣减；被回收的 Pod 已计入返工，"
            "不用抢占式实例时该作业也要运行一次。",
        ),
        "fallback_pods": (
            f"{scope.counted(found['fallback_pods'])} asked for spot and got pay-as-you-go: at the discount of the others they would have"
            f" saved {money['missed']}, a chance missed and not part of the net.",
            f"{found['fallback_pods']:,} 个 Pod 申请抢占式实例但按量付费：按其余 Pod 的折扣本可节省 {money['missed']}，"
            "属于错失的机会，不计入净节省。",
        ),
        "spot": (
            f"Of {scope.counted(found['spot'])} nobody knows whether they were spot: not counted as such.",
            f"{found['spot']:,} 个 Pod 不知是否为抢占式：未计入。",
        ),
        "requested": (
            f"Of {scope.counted(found['requested'])} without spot nobody knows whether it was asked for: a fallback among them is not seen.",
            f"{found['requested']:,} 个非抢占式 Pod 不知是否申请过：其中的回退无法识别。",
        ),
    }
    return tuple(scope.text(en=en, zh=zh) for name, (en, zh) in texts.items() if found[name])
