"""Pods whose cost nobody knows: every answer counts them and says what bounds it, none takes them for free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Scope
from runbook.cost.collected import count
from runbook.cost.priced import Problem

if TYPE_CHECKING:
    import pandas as pd

SUMS = ("unpriced_pods", "unpriced_most", "boundless_pods")
"""Columns that `sums` makes: pods without a known cost, the most that those with a bound can have cost, those without one."""


def with_instance(pods: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The pods for which an ECI instance was made: the others are never billed."""
    return pods.filter(nw.col("problem").fill_null("") != Problem.NO_INSTANCE.value)


def sums() -> list[nw.Expr]:
    """Aggregations of a group: the columns SUMS."""
    unknown, most = nw.col("effective_cost").is_null(), nw.col("cost_high")
    return [
        count(unknown).alias("unpriced_pods"),
        nw.when(unknown).then(most.fill_null(0.0)).otherwise(nw.lit(0.0)).sum().alias("unpriced_most"),
        count(unknown & most.is_null()).alias("boundless_pods"),
    ]


def note(table: pd.DataFrame, scope: Scope) -> list[str]:
    """One sentence on all of them, from a table with the columns SUMS; nothing where every cost is known."""
    number, most, boundless = (table[name].sum() for name in SUMS)
    if not number:
        return []
    bound = scope.text(en=f"at most {scope.money(most)}", zh=f"至多 {scope.money(most)}")
    if boundless == number:
        bound = scope.text(en="no bound either", zh="也没有上限")
    elif boundless:
        bound += scope.text(
            en=f", and no bound for {int(boundless):,} of them", zh=f"，其中 {int(boundless):,} 个没有上限"
        )
    them = scope.counted(int(number))
    said = scope.text(
        en=f"The cost of {them} is not known ({bound}): counted as pods and hours, not as money.",
        zh=f"{them} 的费用未知（{bound}）：计入数量和时长，不计入金额。",
    )
    return [said]


def known_money(amount: float, table: pd.DataFrame, scope: Scope) -> str:
    """`CNY 1.00` where every cost is known, else `a known CNY 1.00`: a sum that leaves something out says so."""
    money = scope.money(amount)
    if not table["unpriced_pods"].sum():
        return scope.text(en=money, zh=f" {money}")
    return scope.text(en=f"a known {money}", zh=f"已知的 {money}")
