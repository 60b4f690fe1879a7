"""Where are we? Five numbers, each beside what it was in the days before: spend, its change, what a pipeline that succeeded
costs, what is saved against plain on-demand instances, and how often spot instances are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import other_costs, pipelines, proportion
from runbook.cost.collected import collected, count
from runbook.cost.priced import Problem
from runbook.eci.endings import End
from runbook.settings import OtherCost

if TYPE_CHECKING:
    import pandas as pd

SPEND, CHANGE, PIPELINE, SAVINGS, INTERRUPTIONS = "spend", "change", "pipeline", "savings", "interruptions"
"""The five numbers, in the order they are shown."""

PERCENT = "%"

NOTHING: Mapping[date, float] = MappingProxyType({})
_SUMS = ["pods", "effective", "billed", "compared", "on_demand", "unpriced", "low", "high", "starts", "reclaimed"]


@dataclass(frozen=True)
class _Days:
    """What each day of some days was: a row a day with the sums of its pods, its other costs and its pipelines."""

    table: pd.DataFrame
    lines: pd.DataFrame
    scope: Scope

    def sum(self, name: str) -> float:
        return float(self.table[name].sum())

    @property
    def known(self) -> bool:
        """Whether the history has pods of these days: without any, what they cost is not known."""
        return bool(self.sum("pods"))

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most that these days can have cost, as far as unknown costs have a bound."""
        return self.sum("spend") + self.sum("low"), self.sum("spend") + self.sum("high")

    @property
    def first_pods(self) -> Any:
        """The first day that has pods; None where none has."""
        days = self.table.index[self.table["pods"] > 0]
        return days[0].date() if len(days) else None

    @property
    def per_pipeline(self) -> float | None:
        return _ratio(self.sum("spend"), self.sum("succeeded"))

    @property
    def savings(self) -> float | None:
        """Percent below the on-demand price of the same vCPU, GiB and seconds."""
        share = _ratio(self.sum("compared"), self.sum("on_demand"))
        return None if share is None else 100 * (1 - share)

    @property
    def interruptions(self) -> float | None:
        """Percent of the spot instances that were taken away."""
        share = _ratio(self.sum("reclaimed"), self.sum("starts"))
        return None if share is None else 100 * share


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def numbers(
    pods: nw.LazyFrame[Any],
    before: nw.LazyFrame[Any],
    scope: Scope,
    *,
    other: Sequence[OtherCost] = (),
    unused: Mapping[date, float] = NOTHING,
    budget: Decimal | None = None,
    tax_percent: Decimal = Decimal(0),
) -> Answer:
    """The five numbers of the scope's days against the same number of days before (`before` holds their pods).

    Spend is the effective cost of the pods, the card's other lines, and what savings plans cost without covering anything
    (`unused`, by day). `budget` is what a month may cost, before tax as every amount here; only the
    lines end with tax, where `tax_percent` is above 0. The table has a row a number: `number`, `label`, `value`, `unit`, `before`, `delta`, `low`, `high` (of a rate its 95 % interval, of the
    spend what unknown costs leave open), `budget`, and
    the same as text (`shown`, `delta_shown`). Parts: `days` (the series behind each number) and `costs` (the spend as dated
    lines, with their total).
    """
    now, then = _days(pods, scope, other, unused), _days(before, scope.before, other, unused)
    limit = other_costs.budget_of(budget, scope.first, scope.last)
    rows = [_spend(now, then, limit), _change(now, then, limit), *_rates(now, then)]
    return Answer(
        "headline",
        scope.text(en="Where are we?", zh="现状如何？"),
        _sentence(now, then, limit),
        _table(rows),
        scope,
        int(now.sum("pods")),
        notes=_notes(now, then, limit),
        parts={"days": _series(now, then), "costs": _costs(now, tax_percent)},
    )


def _days(pods: nw.LazyFrame[Any], scope: Scope, other: Sequence[OtherCost], unused: Mapping[date, float]) -> _Days:
    started = ~nw.col("billing_start_at").is_null()
    both = ~nw.col("effective_cost").is_null() & ~nw.col("on_demand_cost").is_null()
    spot = nw.col("spot").fill_null(False) & started
    nothing_billed = nw.col("problem").fill_null("") == Problem.NO_INSTANCE.value
    unknown = nw.col("effective_cost").is_null() & ~nothing_billed
    sums = collected(
        pods.group_by("day").agg(
            nw.len().alias("pods"),
            nw.col("effective_cost").sum().alias("effective"),
            nw.col("billed_cost").sum().alias("billed"),
            nw.when(both).then(nw.col("effective_cost")).otherwise(None).sum().alias("compared"),
            nw.when(both).then(nw.col("on_demand_cost")).otherwise(None).sum().alias("on_demand"),
            count(unknown).alias("unpriced"),
            nw.when(unknown).then(nw.col("cost_low")).otherwise(None).sum().alias("low"),
            nw.when(unknown).then(nw.col("cost_high")).otherwise(None).sum().alias("high"),
            count(spot).alias("starts"),
            count(spot & (nw.col("ended") == End.RECLAIMED.value)).alias("reclaimed"),
        ),
        by=["day"],
    )
    every = other_costs.by_day(other, scope.first, scope.last)
    idle = [unused.get(day.date(), 0.0) for day in every.index]
    table = (every + idle).rename("other").to_frame()
    table[_SUMS] = sums.set_index("day").reindex(table.index)[_SUMS].fillna(0)
    done = pipelines.by_day(pods).set_index("day").reindex(table.index)[["pipelines", "succeeded", "unknown"]].fillna(0)
    table[done.columns] = done
    table["spend"] = table["effective"] + table["other"]
    lines = other_costs.lines(other, scope.first, scope.last)
    if sum(idle) or _covered(table) > 0:
        name = scope.text(en="Savings plans (cost: the unused part)", zh="节省计划（成本：未使用部分）")
        lines.loc[len(lines)] = [name, "savings-plan", every.index[0], every.index[-1], sum(idle)]
    return _Days(table, lines, scope)


@dataclass(frozen=True)
class _Row:
    """One of the five numbers."""

    number: str
    label: str
    value: float | None
    unit: str
    before: float | None
    delta: float | None
    shown: str
    delta_shown: str
    low: float | None = None
    high: float | None = None
    budget: float | None = None


def _table(rows: Sequence[_Row]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([vars(row) for row in rows]).astype(
        dict.fromkeys(("value", "before", "delta", "low", "high", "budget"), "float64")
    )


def _minus(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else now - then


def _signed(scope: Scope, amount: float | None) -> str:
    """`+CNY 12.00`, `−CNY 3.00`; how it stands against the days before, or that nobody knows."""
    if amount is None:
        return scope.text(en="days before: unknown", zh="上期未知")
    return ("+" if amount > 0 else "") + scope.money(amount)


def _points(scope: Scope, points: float | None) -> str:
    if points is None:
        return scope.text(en="days before: unknown", zh="上期未知")
    size = f"{'+' if points > 0 else '−' if points < 0 else ''}{abs(points):.1f}"
    return scope.text(en=f"{size} points", zh=f"{size} 个百分点")


def _percent(scope: Scope, value: float | None, digits: int = 1) -> str:
    if value is None:
        return scope.text(en="unknown", zh="未知")
    return f"{'−' if value < 0 else ''}{abs(value):.{digits}f} %"


def _spend(now: _Days, then: _Days, limit: float | None) -> _Row:
    """The spend; where costs are not known, the row also has what it may be at least and at most."""
    spend, scope = now.sum("spend"), now.scope
    earlier = then.sum("spend") if then.known else None
    low, high = now.range
    at_most = "" if high - spend < 0.005 else scope.text(
        en=f"with unknown costs up to {scope.money(high)}; ", zh=f"含未知成本至多 {scope.money(high)}；"
    )  # fmt: skip
    shown = at_most + _of_budget(scope, spend, high, limit)
    return _Row(
        SPEND, scope.text(en="Spend", zh="支出"), spend, scope.currency, earlier, _minus(spend, earlier),
        scope.money(spend), shown, low, high, limit,
    )  # fmt: skip


def _of_budget(scope: Scope, spend: float, high: float, limit: float | None) -> str:
    """`90 % of the budget of CNY 5,000.00`; an interval where the spend is one."""
    if not limit:
        return scope.text(en="no budget in the card", zh="未设预算")
    share, most = f"{100 * spend / limit:.0f}", f"{100 * high / limit:.0f}"
    between = scope.text(en=f"{share} to {most} %", zh=f"{share} 至 {most} %") if most != share else f"{share} %"
    return scope.text(
        en=f"{between} of the budget of {scope.money(limit)}", zh=f"预算 {scope.money(limit)} 的 {between}"
    )


def _change(now: _Days, then: _Days, limit: float | None) -> _Row:
    scope = now.scope
    moved = now.sum("spend") - then.sum("spend") if then.known else None
    percent = None if moved is None or not then.sum("spend") else 100 * moved / then.sum("spend")
    shown = _percent(scope, percent) if percent is None or percent < 0 else f"+{_percent(scope, percent)}"
    return _Row(
        CHANGE, scope.text(en="Change", zh="环比变化"), percent, PERCENT, None, moved, shown, _signed(scope, moved)
    )


def _rates(now: _Days, then: _Days) -> list[_Row]:
    scope = now.scope
    price = _minus(now.per_pipeline, then.per_pipeline)
    saved = _minus(now.savings, then.savings)
    lost = _minus(now.interruptions, then.interruptions)
    low, high = (100 * end for end in proportion.interval(int(now.sum("reclaimed")), int(now.sum("starts"))))
    none = not now.sum("starts")
    interval = (
        "" if none else scope.text(en=f", 95 %: {low:.1f} to {high:.1f} %", zh=f"，95 %：{low:.1f} 至 {high:.1f} %")
    )
    return [
        _Row(
            PIPELINE, scope.text(en="Cost per successful pipeline", zh="每条成功流水线成本"), now.per_pipeline,
            scope.currency, then.per_pipeline, price, scope.money(now.per_pipeline), _signed(scope, price),
        ),
        _Row(
            SAVINGS, scope.text(en="Effective savings rate", zh="有效节省率"), now.savings, PERCENT, then.savings, saved,
            _percent(scope, now.savings), _points(scope, saved),
        ),
        _Row(
            INTERRUPTIONS, scope.text(en="Spot interruption rate", zh="抢占式实例中断率"), now.interruptions, PERCENT,
            then.interruptions, lost,
            scope.text(en="no spot", zh="未使用") if none else _percent(scope, now.interruptions, 2),
            _points(scope, lost) + interval, None if none else low, None if none else high,
        ),
    ]  # fmt: skip


def _series(now: _Days, then: _Days) -> pd.DataFrame:
    """A row a day: the series behind each number; `change` is what was spent so far, minus so far in the days before."""
    import numpy as np
    import pandas as pd

    table = now.table
    earlier = then.table["spend"].cumsum().to_numpy()
    successes, demand, starts = (table[name].replace(0, np.nan) for name in ("succeeded", "on_demand", "starts"))
    return pd.DataFrame(
        {
            "day": table.index,
            SPEND: table["spend"].to_numpy(),
            CHANGE: table["spend"].cumsum().to_numpy() - earlier if then.known else np.nan,
            PIPELINE: (table["spend"] / successes).to_numpy(),
            SAVINGS: (100 * (1 - table["compared"] / demand)).to_numpy(),
            INTERRUPTIONS: (100 * table["reclaimed"] / starts).to_numpy(),
            "eci": table["effective"].to_numpy(),
            "other": table["other"].to_numpy(),
            "pods": table["pods"].to_numpy(),
            "succeeded": table["succeeded"].to_numpy(),
        }
    )


def _covered(table: pd.DataFrame) -> float:
    """What pods cost through savings plans: part of their cost, and on the invoice part of the plans' commitment."""
    return round(float(table["effective"].sum() - table["billed"].sum()), 9)


def _costs(now: _Days, tax_percent: Decimal) -> pd.DataFrame:
    """The spend as lines that a finance person knows: the instances first, then the card's, their total, and that with tax."""
    import pandas as pd

    scope = now.scope
    days = {"first": pd.Timestamp(scope.first), "last": pd.Timestamp(scope.last)}
    instances = {
        "name": scope.text(en="Elastic Container Instances (pods)", zh="弹性容器实例（Pod）"),
        "service": "eci",
        **days,
        "effective_cost": now.sum("effective"),
        "billed_cost": now.sum("billed"),
    }
    lines = [
        {**line, "effective_cost": line["cost"], "billed_cost": line["cost"]} for line in now.lines.to_dict("records")
    ]
    for line in lines:
        if line["service"] == "savings-plan":
            line["billed_cost"] += _covered(now.table)
    rows = pd.DataFrame([instances, *lines]).drop(columns="cost", errors="ignore")
    sums = {name: rows[name].sum() for name in ("effective_cost", "billed_cost")}
    totals = [{"name": scope.text(en="Total, before tax", zh="合计（税前）"), "service": "", **days, **sums}]
    if tax_percent:
        part = float(tax_percent) / 100
        names = scope.text(en=f"Tax, {tax_percent:f} %|Total with tax", zh=f"税 {tax_percent:f} %|含税合计").split("|")
        for name, factor in zip(names, (part, 1 + part), strict=True):
            amounts = {column: amount * factor for column, amount in sums.items()}
            totals.append({"name": name, "service": "", **days, **amounts})
    return pd.concat([rows, pd.DataFrame(totals)], ignore_index=True)


def _sentence(now: _Days, then: _Days, limit: float | None) -> str:
    scope, spend = now.scope, now.sum("spend")
    if not now.known and not spend:
        return scope.text(
            en=f"No pod and no cost is known of {scope.window}.", zh=f"{scope.window}：没有 Pod，也没有费用。"
        )
    en, zh = [f"CI cost {scope.money(spend)} in {scope.days} days"], [f"{scope.days} 天 CI 支出 {scope.money(spend)}"]
    if then.known:
        moved = spend - then.sum("spend")
        percent = f" ({100 * abs(moved) / then.sum('spend'):.0f} %)" if then.sum("spend") else ""
        amount = scope.money(abs(moved))
        en.append(f"{amount}{percent} {'more' if moved >= 0 else 'less'} than in the {scope.days} days before")
        zh.append(f"比上期{'多' if moved >= 0 else '少'} {amount}{percent}")
    if now.range[1] - spend >= 0.005:
        en.append(f"up to {scope.money(now.range[1])} with pods whose cost is not known")
        zh.append(f"计入成本未知的 Pod 至多 {scope.money(now.range[1])}")
    if limit:
        en.append(f"{100 * spend / limit:.0f} % of the budget")
        zh.append(f"为预算的 {100 * spend / limit:.0f} %")
    if now.per_pipeline is not None:
        count = now.sum("succeeded")
        whose = "the one pipeline" if count == 1 else f"each of {count:,.0f} pipelines"
        en.append(f"{scope.money(now.per_pipeline)} for {whose} that succeeded")
        zh.append(f"{now.sum('succeeded'):,.0f} 条成功流水线平均每条 {scope.money(now.per_pipeline)}")
    return scope.text(en=", ".join(en) + ".", zh="，".join(zh) + "。")


def _notes(now: _Days, then: _Days, limit: float | None) -> tuple[str, ...]:
    say = now.scope.text
    notes = [
        say(
            en="Spend is before tax: the effective cost of the pods and the card's other lines. A pipeline succeeded when the "
            "last run of each of its jobs that ran here did; green jobs whose pod was taken away are no success.",
            zh="支出为税前：Pod 的实际成本加上卡片中的其他费用。流水线的每个作业最后一次运行都成功才算成功；Pod 被回收而显示成功的作业不算。",
        )
    ]
    if now.sum("unpriced"):
        few = f"{now.sum('unpriced'):,.0f}"
        notes.append(
            say(
                en=f"Pods whose cost is not known, and that are not in the spend: {few}.",
                zh=f"{few} 个 Pod 成本未知，未计入支出。",
            )
        )
    if now.sum("unknown"):
        few = f"{now.sum('unknown'):,.0f}"
        notes.append(
            say(
                en=f"Pipelines with a job of which GitLab said nothing, which count as no success: {few}.",
                zh=f"{few} 条流水线有作业状态未知，不计为成功。",
            )
        )
    begun = then.first_pods
    if begun and begun > then.scope.first:
        notes.append(
            say(
                en=f"The history of the days before has its first pods on {begun}: what is missing looks like growth.",
                zh=f"上期记录从 {begun} 才开始：缺失的部分会显得像增长。",
            )
        )
    if limit:
        notes.append(say(en="The budget of a month counts a day at a time.", zh="月度预算按天折算。"))
    return tuple(notes)
