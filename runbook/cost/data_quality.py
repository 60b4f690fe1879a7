"""What is wrong with the pods of a period, each kind with its share of the pods and of the money."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from runbook.answer import Answer, Scope
from runbook.cost.priced import COSTLESS, MEANING, PHASES, Problem

DUPLICATE = "duplicate instance"
SKEW = "clock skew"
NOT_ALLOCATED = "no project"

_MORE = {
    DUPLICATE: "another record has the same ECI instance: its cost may be counted twice",
    SKEW: "its moments are not in their order: a clock was wrong, and its cost may be too",
    NOT_ALLOCATED: "nobody knows whose job it was: its cost belongs to no project",
}
COLUMNS = ("problem", "meaning", "pods", "share_of_pods", "hours", "cost", "share_of_cost", "cost_low", "cost_high")


def problems(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """One row each kind of problem: how many pods have it, their hours, what is known of their cost, and the interval of it.

    A pod has at most one problem of pricing, and may have others beside it, so that rows must not be added.
    `share_of_cost` is of the most that the period can have cost.
    """
    rows = [*_priced(pods), *_found_here(pods)]
    pods_in_all, most = _whole(pods)
    table = pd.DataFrame(rows, columns=["problem", "pods", "hours", "cost", "cost_low", "cost_high"])
    table["meaning"] = [MEANING[Problem(name)] if name in set(Problem) else _MORE[name] for name in table["problem"]]
    table["share_of_pods"] = table["pods"] / max(pods_in_all, 1)
    table["share_of_cost"] = table["cost_high"] / most if most else 0.0
    table = table.sort_values(["cost_high", "pods", "problem"], ascending=[False, False, True]).reset_index(drop=True)
    costless = table[table["problem"].isin([one.value for one in COSTLESS])]
    return Answer(
        "data-problems",
        "What is wrong with the data?",
        _sentence(scope, pods_in_all, costless, len(table)),
        table[list(COLUMNS)],
        scope,
        pods_in_all,
    )


def _sentence(scope: Scope, n: int, costless: pd.DataFrame, kinds: int) -> str:
    if not n:
        return scope.text(en="There are no pods in this period.", zh="该期间没有 Pod。")
    if not len(costless):
        remarks = f"{kinds} kind{'s' * (kinds > 1)} of remarks"
        others = scope.text(en=f"; {remarks}" if kinds else "", zh=f"；{kinds} 类备注" if kinds else "")
        return scope.text(en=f"The cost of every pod is known{others}.", zh=f"每个 Pod 的费用都已知{others}。")
    pods, high = int(costless["pods"].sum()), costless["cost_high"].sum()
    share = costless["share_of_cost"].sum()
    return scope.text(
        en=f"The cost of {pods:,} of {n:,} pods is not known: at most {scope.money(high)} where it has a bound, {share:.1%} of the period.",
        zh=f"{n:,} 个 Pod 中有 {pods:,} 个费用未知：有上限的部分至多 {scope.money(high)}，占该期间的 {share:.1%}。",
    )


def _sums(pods: nw.LazyFrame[Any], by: str) -> pd.DataFrame:
    found: pd.DataFrame = (
        pods.group_by(by)
        .agg(
            nw.len().alias("pods"),
            (nw.col("seconds").sum() / 3600).alias("hours"),
            nw.col("effective_cost").sum().alias("cost"),
            nw.col("cost_low").sum(),
            nw.col("cost_high").sum(),
        )
        .collect("pandas")
        .to_native()
    )
    return found.fillna({"hours": 0.0, "cost": 0.0, "cost_low": 0.0, "cost_high": 0.0})


def _whole(pods: nw.LazyFrame[Any]) -> tuple[int, float]:
    whole = _sums(pods.with_columns(nw.lit(1).alias("all")), "all")
    return (int(whole["pods"][0]), float(whole["cost_high"][0])) if len(whole) else (0, 0.0)


def _priced(pods: nw.LazyFrame[Any]) -> list[tuple[Any, ...]]:
    return _rows(_sums(pods.filter(~nw.col("problem").is_null()), "problem"))


def _found_here(pods: nw.LazyFrame[Any]) -> list[tuple[Any, ...]]:
    twice = (
        pods.filter(~nw.col("instance_id").is_null())
        .group_by("instance_id")
        .agg(nw.len().alias("_times"))
        .filter(nw.col("_times") > 1)
    )
    found = [
        pods.join(twice, on="instance_id", how="inner").with_columns(nw.lit(DUPLICATE).alias("_kind")),
        pods.filter(_out_of_order()).with_columns(nw.lit(SKEW).alias("_kind")),
        pods.filter(nw.col("project_path").is_null()).with_columns(nw.lit(NOT_ALLOCATED).alias("_kind")),
    ]
    return [row for one in found for row in _rows(_sums(one, "_kind"))]


def _out_of_order() -> nw.Expr:
    """Later moments before earlier ones; those of a second are not, for the API server writes whole seconds."""
    wrong = nw.lit(False)
    for phase in PHASES:
        wrong = wrong | (nw.col(phase) < -1).fill_null(False)
    return wrong


def _rows(sums: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in sums.itertuples(index=False)]
