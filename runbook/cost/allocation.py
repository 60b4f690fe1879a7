"""How much of the money can be said to be somebody's? Pods with a project and a job, with a project only, and with neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import other_costs
from runbook.cost.collected import collected
from runbook.settings import OtherCost

if TYPE_CHECKING:
    import pandas as pd

JOB, PROJECT, NOBODY, OTHER = "job", "project", "nobody", "other"
"""How far a cost is allocated: to a job, to a project only, to nobody; and what is shared by nature."""

WORST = 10
"""Kinds of pods without a project that the part `worst` lists."""

_LABELS = {
    JOB: ("project and job known", "项目和作业已知"),
    PROJECT: ("only the project known", "仅项目已知"),
    NOBODY: ("not allocated", "未归属"),
    OTHER: ("other costs, shared", "其他费用（公共）"),
}


def health(pods: nw.LazyFrame[Any], scope: Scope, *, other: Sequence[OtherCost] = ()) -> Answer:
    """The spend by how far it is allocated: `kind`, `label`, `pods`, `cost`, `share`. Part `worst`: pods that are nobody's, by
    `runner_name` and `image`, the dearest first (`pods`, `cost`, `first`, `last`)."""
    import pandas as pd

    named, job = ~nw.col("project_path").is_null(), ~nw.col("job_name").is_null()
    kind = (
        nw.when(named & job).then(nw.lit(JOB)).otherwise(nw.when(named).then(nw.lit(PROJECT)).otherwise(nw.lit(NOBODY)))
    )
    sums = collected(
        pods.with_columns(kind=kind)
        .group_by("kind")
        .agg(nw.len().alias("pods"), nw.col("effective_cost").sum().alias("cost")),
        by=["kind"],
    ).set_index("kind")
    table = sums.reindex([JOB, PROJECT, NOBODY, OTHER]).fillna(0).astype({"pods": "int64", "cost": "float64"})
    table.loc[OTHER, "cost"] = float(other_costs.by_day(other, scope.first, scope.last).sum())
    total = float(table["cost"].sum())
    table["share"] = table["cost"] / total if total else 0.0
    table = table.rename_axis("kind").reset_index()
    table.insert(1, "label", [scope.text(en=_LABELS[one][0], zh=_LABELS[one][1]) for one in table["kind"]])
    worst = _worst(pods) if sums.index.isin([NOBODY]).any() else pd.DataFrame(columns=_WORST_COLUMNS)
    return Answer(
        "allocation",
        scope.text(en="How much of the money is somebody's?", zh="有多少费用可以归属？"),
        _sentence(scope, table, worst, total),
        table if total or table["pods"].sum() else table.iloc[:0],
        scope,
        int(table["pods"].sum()),
        notes=_notes(scope, table),
        parts={"worst": worst},
    )


_WORST_COLUMNS = ["runner_name", "image", "pods", "cost", "first", "last"]


def _worst(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    rows = collected(
        pods.filter(nw.col("project_path").is_null())
        .group_by("runner_name", "image")
        .agg(
            nw.len().alias("pods"),
            nw.col("effective_cost").sum().alias("cost"),
            nw.col("day").min().alias("first"),
            nw.col("day").max().alias("last"),
        ),
        by=["runner_name", "image"],
    ).astype({"cost": "float64"})
    rows["cost"] = rows["cost"].fillna(0.0)
    return rows.sort_values(["cost", "pods"], ascending=False, kind="stable", ignore_index=True).head(WORST)[
        _WORST_COLUMNS
    ]


def _sentence(scope: Scope, table: pd.DataFrame, worst: pd.DataFrame, total: float) -> str:
    cost, pods = (table.set_index("kind")[name] for name in ("cost", "pods"))
    if not total:
        return scope.text(en="There is no cost to allocate.", zh="没有可归属的费用。")
    mine, lost = 100 * (cost[JOB] + cost[PROJECT]) / total, 100 * cost[NOBODY] / total
    if not pods[NOBODY]:
        return scope.text(
            en=f"Every pod has a project: {mine:.1f} % of the spend is allocated, the rest is shared.",
            zh=f"每个 Pod 都有项目：{mine:.1f} % 的支出已归属，其余为公共费用。",
        )
    count, money = f"{pods[NOBODY]:,} pod{'' if pods[NOBODY] == 1 else 's'}", scope.money(cost[NOBODY])
    where = worst.iloc[0]
    runner, image = (where[name] if isinstance(where[name], str) else "?" for name in ("runner_name", "image"))
    return scope.text(
        en=f"{mine:.1f} % of the spend is allocated to a project; {count} ({money}, {lost:.1f} %) have none, "
        f"most of it by runner {runner} with image {image}.",
        zh=f"{mine:.1f} % 的支出已归属到项目；{pods[NOBODY]:,} 个 Pod（{money}，{lost:.1f} %）未归属，主要来自 Runner {runner}，镜像 {image}。",
    )


def _notes(scope: Scope, table: pd.DataFrame) -> tuple[str, ...]:
    if not int(table.set_index("kind")["pods"][[PROJECT, NOBODY]].sum()):
        return ()
    said = scope.text(
        en="A pod has no project when its runner writes no marks, or when its job was gone before GitLab was asked: notebook 50 of "
        "onboarding writes the marks, and `runbook import gitlab-jobs` asks GitLab.",
        zh="Runner 未写标记、或向 GitLab 查询时作业已不存在，Pod 就没有项目：onboarding 的 notebook 50 写标记，`runbook import gitlab-jobs` 查询 GitLab。",
    )
    return (said,)
