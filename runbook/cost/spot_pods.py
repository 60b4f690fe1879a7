"""Which pods are spot, which fell back to pay-as-you-go, which were taken away, and what each cost at least and at most."""

from __future__ import annotations

from typing import Any

import narwhals as nw

from runbook.answer import Scope
from runbook.cost import unpriced
from runbook.eci.endings import End


def marked(pods: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The pods that got an instance, with `is_spot`, `fell_back`, `taken`, and the interval `low` to `high` of their cost."""
    taken = nw.col("ended").fill_null("") == End.RECLAIMED.value
    return (
        unpriced.with_instance(pods)
        .with_columns(
            taken.alias("taken"),
            (nw.col("spot").fill_null(False) | taken).alias("is_spot"),
            (nw.col("spot_requested").fill_null(False) & ~nw.col("spot").fill_null(True) & ~taken).alias("fell_back"),
            nw.coalesce("effective_cost", "cost_low").alias("low"),
            nw.coalesce("effective_cost", "cost_high").alias("high"),
        )
        .with_columns((~nw.col("low").is_null() & ~nw.col("high").is_null()).alias("has_cost"))
    )


def sum_where(condition: nw.Expr, value: nw.Expr) -> nw.Expr:
    """The sum of `value` over the rows that meet the condition; 0.0 where none does."""
    return nw.when(condition).then(value).otherwise(nw.lit(0.0)).sum()


def span(scope: Scope, low: float, high: float) -> str:
    """`CNY 12.00`, or `CNY 12.00 to 14.00` where it is an interval that shows."""
    first, last = scope.money(low), scope.money(high)
    if first == last:
        return first
    last = last.replace(f"{scope.currency} ", "") if first.startswith(scope.currency) else last
    return scope.text(en=f"{first} to {last}", zh=f"{first} 至 {last}")
