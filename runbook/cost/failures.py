"""Where did money go that led to nothing? Pods of jobs that failed or were cancelled, and pods that were taken away, by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost.collected import collected
from runbook.eci.endings import End

if TYPE_CHECKING:
    import pandas as pd

FAILED, CANCELED = "failed", "canceled"

PLATFORM = (
    End.RECLAIMED, End.OUT_OF_MEMORY, End.NO_STOCK, End.REFUSED, End.IMAGE_PULL, End.PENDING_LIMIT, End.DEADLINE,
    End.EVICTED, End.LOST,
)  # fmt: skip
"""Ends of a pod that say more about a failure than GitLab's reason: they go before it."""

ENOUGH = 0.8
"""The part of the failed money that the sentence counts reasons for."""

_WORDS = {
    End.RECLAIMED.value: ("spot instance taken away", "抢占式实例被回收"),
    End.OUT_OF_MEMORY.value: ("out of memory", "内存不足"),
    End.NO_STOCK.value: ("no stock", "库存不足"),
    End.REFUSED.value: ("order refused", "下单被拒"),
    End.IMAGE_PULL.value: ("image not pulled", "镜像拉取失败"),
    End.PENDING_LIMIT.value: ("pending too long", "等待超时"),
    End.DEADLINE.value: ("pod's deadline", "Pod 截止时间"),
    End.EVICTED.value: ("evicted", "被驱逐"),
    End.LOST.value: ("node or instance lost", "节点或实例丢失"),
    CANCELED: ("cancelled", "已取消"),
    FAILED: ("failed, no reason known", "失败，原因未知"),
    "script_failure": ("script failed", "脚本失败"),
    "runner_system_failure": ("runner system failure", "Runner 系统故障"),
    "stuck_or_timeout_failure": ("stuck or timed out", "卡住或超时"),
    "job_execution_timeout": ("job timed out", "作业超时"),
}
"""What a reason is called, by the pod's end or by GitLab's word; other words of GitLab stand as they are."""


def label(reason: str, scope: Scope) -> str:
    """What a reason is called."""
    en, zh = _WORDS.get(reason, (reason.replace("_", " "), reason))
    return scope.text(en=en, zh=zh)


def reason() -> nw.Expr:
    """Why a pod's work came to nothing; null where it did not, or where nobody said that it did.

    A pod's work came to nothing when its job failed or was cancelled, when it is a false green, or, where GitLab was not asked,
    when the pod itself shows that it failed. How the pod ended goes before GitLab's reason.
    """
    status, ended = nw.col("job_status"), nw.col("ended")
    platform = ended.is_in([end.value for end in PLATFORM]).fill_null(False)
    lost = nw.col("false_green").fill_null(False)
    nobody_said = status.is_null() & (platform | (ended == End.FAILED.value).fill_null(False))
    failed = (status == FAILED).fill_null(False)
    canceled = (status == CANCELED).fill_null(False)
    said = nw.when(~nw.col("job_failure_reason").is_null()).then(nw.col("job_failure_reason")).otherwise(nw.lit(FAILED))
    cause = nw.when(platform).then(ended).otherwise(nw.when(canceled).then(nw.lit(CANCELED)).otherwise(said))
    return nw.when(lost | nobody_said | failed | canceled).then(cause).otherwise(None)


def pareto(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """The money of failed work by reason, the dearest first: `reason`, `label`, `pods`, `seconds`, `cost`, `share`, `cumulative`.

    Part `projects`: the same by project and reason. Pods whose cost is not known count, and cost nothing here.
    """
    sums = collected(
        pods.with_columns(reason=reason())
        .group_by("project_path", "reason")
        .agg(
            nw.len().alias("pods"),
            nw.col("seconds").sum(),
            nw.col("effective_cost").sum().alias("cost"),
            nw.col("effective_cost").is_null().cast(nw.Int64).sum().alias("unpriced"),
        ),
        by=["project_path", "reason"],
    )
    sums = sums.astype({"seconds": "float64", "cost": "float64"}).fillna({"seconds": 0.0, "cost": 0.0})
    sums["project_path"] = sums["project_path"].astype(object).fillna("")
    total, n = float(sums["cost"].sum()), int(sums["pods"].sum())
    failed = sums[sums["reason"].notna()]
    table = _ranked(failed.groupby("reason", as_index=False)[["pods", "seconds", "cost"]].sum(), scope)
    projects = _ranked(failed.drop(columns="unpriced"), scope)
    return Answer(
        "failures",
        scope.text(en="What did failed work cost?", zh="失败的工作花了多少钱？"),
        _sentence(scope, table, projects, total),
        table,
        scope,
        n,
        notes=_notes(scope, int(failed["unpriced"].sum())),
        parts={"projects": projects},
    )


def _ranked(rows: pd.DataFrame, scope: Scope) -> pd.DataFrame:
    """The rows, the dearest first, with the label of their reason, their share and the shares so far."""
    keys = [name for name in ("project_path", "reason") if name in rows]
    rows = rows.sort_values(["cost", "pods", *keys], ascending=[False, False, *[True] * len(keys)], ignore_index=True)
    rows.insert(len(keys), "label", [label(str(one), scope) for one in rows["reason"]])
    cost = float(rows["cost"].sum())
    rows["share"] = rows["cost"] / cost if cost else 0.0
    rows["cumulative"] = rows["share"].cumsum()
    return rows


def _sentence(scope: Scope, table: pd.DataFrame, projects: pd.DataFrame, total: float) -> str:
    cost = float(table["cost"].sum())
    if table.empty:
        return scope.text(en="No pod's work is known to have failed.", zh="没有已知失败的 Pod。")
    if not cost:
        pods = f"{int(table['pods'].sum()):,}"
        return scope.text(
            en=f"Failed work (pods: {pods}) cost nothing that is known.",
            zh=f"失败的工作（{pods} 个 Pod）没有已知费用。",
        )
    few = min(int((table["cumulative"] < ENOUGH).sum()) + 1, len(table))
    named = "、".join(table["label"][:few]) if scope.language == "zh" else ", ".join(table["label"][:few])
    top = projects.iloc[0]
    who = top["project_path"] or scope.not_allocated
    part = f"{100 * cost / total:.0f} %" if total else "?"
    return scope.text(
        en=f"{scope.money(cost)}, {part} of the pods' cost, led to nothing; {few} of {len(table)} reasons make up 80 %: {named}; "
        f"most of one kind: {who}, {top['label']}, {scope.money(top['cost'])}.",
        zh=f"{scope.money(cost)}（占 Pod 成本 {part}）没有结果；{len(table)} 类原因中 {few} 类占 80 %：{named}；"
        f"最大一项：{who}，{top['label']}，{scope.money(top['cost'])}。",
    )


def _notes(scope: Scope, unpriced: int) -> tuple[str, ...]:
    method = scope.text(
        en="Failed: GitLab says failed or cancelled, or success of a pod that was taken away; without GitLab's word, what the pod "
        "shows. A failing test is not waste by itself: it found something.",
        zh="失败：GitLab 判定失败或取消，或 Pod 被回收却显示成功；无 GitLab 数据时以 Pod 为准。测试失败本身不等于浪费。",
    )
    if not unpriced:
        return (method,)
    return method, scope.text(
        en=f"Pods among these whose cost is not known: {unpriced:,}.", zh=f"其中 {unpriced:,} 个 Pod 成本未知。"
    )
