"""What spot instances cost an hour: beside the price at which they would no longer pay, and beside the market's archive.

The measure is ECI's own vCPU and memory price, which a team would pay without spot. The ECS type that a spot instance is matched
to has a list price of its own, dearer or cheaper: what a discount on it is worth shows only beside the plain price.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import interruptions, spot_pods
from runbook.cost.collected import collected, count
from runbook.cost.interruptions import HOUR

if TYPE_CHECKING:
    import pandas as pd

    from runbook.eci.prices import SpotChange

_BREAK_EVEN = (
    "ecs_type", "vcpu", "memory_gib", "pods", "spot_hours", "on_demand_hour", "list_hour", "paid_hour_low", "paid_hour_high",
    "break_even_hour", "break_even_share", "paid_share_low", "paid_share_high", "reclaimed", "lost_share", "hours_lost_each", "per_hour",
    "per_hour_low", "per_hour_high", "break_even_per_hour_low", "break_even_per_hour_high", "pays",
)  # fmt: skip


def break_even(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """From which spot price, and from which rate of interruptions on, spot no longer pays.

    The table has a row an ECS type and size, most spot-hours first. Prices are those of an hour: `on_demand_hour` by vCPU and
    memory, `list_hour` of the ECS type, `paid_hour_low` to `paid_hour_high`. `break_even_hour` is the spot price that costs as
    much as vCPU and memory do, lost work counted in: on_demand_hour (1 - lost_share), where `lost_share` is the part of the
    spot-hours whose work was lost; `break_even_share` is the same as a share of the ECS list price. `break_even_per_hour` is the rate of
    interruptions at which today's price saves nothing: (1 - paid / on-demand) / `hours_lost_each`. `pays` is null where the
    interval of the cost holds both. Pods with extra ephemeral storage are left out: it costs the same either way.
    """
    table, assumed = _losses(_by_type(spot_pods.marked(pods)))
    return Answer(
        "spot-break-even",
        scope.text(en="From which price or rate of interruptions on does spot no longer pay?", zh="价格或回收率到多少时抢占式不再划算？"),
        _break_even_sentence(table, scope),
        table,
        scope,
        int(table["pods"].sum()),
        notes=_break_even_notes(table, assumed, scope),
    )  # fmt: skip


def _by_type(marked: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Sums of the spot pods whose cost and on-demand cost are known, by ECS type and size."""
    seconds, listed = nw.col("seconds"), ~nw.col("list_cost").is_null()
    known = nw.col("has_cost") & ~nw.col("on_demand_cost").is_null() & (seconds > 0)
    plain = ~(nw.col("extra_ephemeral_gib").fill_null(0.0) > 0)
    return collected(
        marked.filter(nw.col("is_spot") & known & plain)
        .group_by("ecs_type", "billed_vcpu", "billed_memory_gib")
        .agg(
            nw.len().alias("pods"),
            (seconds.sum() / HOUR).alias("spot_hours"),
            nw.col("on_demand_cost").sum().alias("on_demand"),
            spot_pods.sum_where(listed, nw.col("list_cost")).alias("listed"),
            (spot_pods.sum_where(listed, seconds) / HOUR).alias("listed_hours"),
            nw.col("low").sum().alias("low"),
            nw.col("high").sum().alias("high"),
            count(nw.col("taken")).alias("reclaimed"),
            (spot_pods.sum_where(nw.col("taken"), seconds) / HOUR).alias("lost_hours"),
        ),
        by=["ecs_type", "billed_vcpu", "billed_memory_gib"],
    ).rename(columns={"billed_vcpu": "vcpu", "billed_memory_gib": "memory_gib"})


def _losses(sums: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The table of `break_even`, and whether what a reclaim loses had to be assumed, for there was none."""
    import numpy as np

    hours, taken, lost = sums["spot_hours"], sums["reclaimed"], sums["lost_hours"]
    all_taken = int(taken.sum())
    each = hours / sums["pods"] if not all_taken else lost.sum() / all_taken
    table = interruptions.rated(sums.copy())
    table["on_demand_hour"] = sums["on_demand"] / hours
    table["list_hour"] = sums["listed"] / sums["listed_hours"].replace(0.0, np.nan)
    table["paid_hour_low"], table["paid_hour_high"] = sums["low"] / hours, sums["high"] / hours
    table["lost_share"] = lost / hours
    table["hours_lost_each"] = (lost / taken.replace(0, np.nan)).fillna(each)
    table["break_even_hour"] = table["on_demand_hour"] * (1 - table["lost_share"])
    table["break_even_share"] = table["break_even_hour"] / table["list_hour"]
    for end, other in (("low", "high"), ("high", "low")):
        table[f"paid_share_{end}"] = table[f"paid_hour_{end}"] / table["list_hour"]
        margin = (1 - table[f"paid_hour_{other}"] / table["on_demand_hour"]).clip(lower=0.0)
        table[f"break_even_per_hour_{end}"] = margin / table["hours_lost_each"]
    table["pays"] = None
    table.loc[table["paid_hour_high"] < table["break_even_hour"], "pays"] = True
    table.loc[table["paid_hour_low"] >= table["break_even_hour"], "pays"] = False
    order = ["spot_hours", "ecs_type", "vcpu", "memory_gib"]
    table = table.sort_values(order, ascending=[False, True, True, True], ignore_index=True)
    return table[list(_BREAK_EVEN)], not all_taken and bool(len(table))


def size_of(row: Any) -> str:
    """`ecs.c6.large (2c/4Gi)` of a row of the table; `2c/4Gi` where the ECS type is not known."""
    size = f"{row['vcpu']:g}c/{row['memory_gib']:g}Gi"
    return f"{row['ecs_type']} ({size})" if isinstance(row["ecs_type"], str) else size


def _break_even_sentence(table: pd.DataFrame, scope: Scope) -> str:
    if table.empty:
        return scope.text(
            en="No spot pod has a known cost: there is no price to compare.",
            zh="没有已知费用的抢占式 Pod，无价格可比。",
        )
    hours = table["spot_hours"].sum()
    paying = table.loc[table["pays"].eq(True), "spot_hours"].sum() / hours
    losing = table.loc[table["pays"].eq(False), "spot_hours"].sum() / hours
    known = table.dropna(subset=["list_hour"])
    first = scope.text(
        en=f"Spot pays for {100 * paying:.0f} % of the spot-hours and does not for {100 * losing:.0f} %",
        zh=f"{100 * paying:.0f} % 的抢占式小时划算，{100 * losing:.0f} % 不划算",
    )
    if table["pays"].eq(True).all():
        first = scope.text(en="Spot pays for every size that was used", zh="所用的每种规格都划算")
    elif table["pays"].isna().any():
        unsure = 100 * table.loc[table["pays"].isna(), "spot_hours"].sum() / hours
        first += scope.text(en=f"; of {unsure:.0f} % nobody knows", zh=f"，{unsure:.0f} % 不确定")
    if known.empty:
        return first + scope.text(en=".", zh="。")
    row = known.iloc[0]
    paid, limit = _percents(row["paid_share_low"], row["paid_share_high"], scope), row["break_even_share"]
    if limit >= 1:
        return first + scope.text(
            en=f"; {size_of(row)} pays up to its whole ECS list price and costs {paid} of it now.",
            zh=f"；{size_of(row)} 即使按 ECS 目录价也划算，目前为其 {paid}。",
        )
    return first + scope.text(
        en=f"; {size_of(row)} pays up to {100 * limit:.0f} % of its ECS list price and costs {paid} now.",
        zh=f"；{size_of(row)} 在 ECS 目录价的 {100 * limit:.0f} % 以下划算，目前为 {paid}。",
    )


def _percents(low: float, high: float, scope: Scope) -> str:
    first, last = f"{100 * low:.0f}", f"{100 * high:.0f}"
    return f"{first} %" if first == last else scope.text(en=f"{first} to {last} %", zh=f"{first} 至 {last} %")


def _break_even_notes(table: pd.DataFrame, assumed: bool, scope: Scope) -> tuple[str, ...]:
    unlisted = int(table.loc[table["list_hour"].isna(), "pods"].sum()) if len(table) else 0
    texts = (
        (
            unlisted,
            f"Of {scope.counted(unlisted, 'spot pods')} the ECS type or its list price is not known: what they paid is an interval, and no share of"
            " a list price can be given.",
            f"{unlisted:,} 个抢占式 Pod 的 ECS 规格或目录价未知：所付为区间，无法给出占目录价的比例。",
        ),
        (
            assumed,
            "Nothing was taken away: a reclaim is assumed to lose as many hours as a pod of that size runs on average.",
            "没有回收：假设一次回收损失该规格 Pod 的平均运行时长。",
        ),
    )
    return tuple(scope.text(en=en, zh=zh) for said, en, zh in texts if said)


# -- price paid -------------------------------------------------------------------------------------------------------

_PAID = (
    "zone", "ecs_type", "at", "pods", "spot_hours", "on_demand_hour", "list_hour", "paid_hour", "market_low", "market_high", "inside",
)  # fmt: skip
_STEPS = ("zone", "ecs_type", "at", "until", "price")

TOLERANCE = 0.005
"""How far a price may lie outside the archive's and still be the same: rounding of short pods."""


def price_paid(pods: nw.LazyFrame[Any], scope: Scope, changes: Sequence[SpotChange] = ()) -> Answer:
    """What spot pods paid an hour, beside what the price archive says the market was (`changes`: a price book's `spot`).

    The table has a row a zone, ECS type and hour (`at`, UTC) in which spot pods began: `paid_hour`, and the least and the most
    that the market was while they ran (null where the archive has no price); `inside` says whether the two agree. Part `steps`
    has the archive's prices of these zones and types: each holds from `at` to `until` (null: until now).
    """
    hours, unknown = _paid_by_hour(pods, scope)
    usable = [change for change in changes if change.currency == scope.currency]
    steps = _steps(usable, hours)
    table = _with_market(hours, steps)
    return Answer(
        "spot-price-paid",
        scope.text(en="Did spot pods pay what the market asked?", zh="抢占式 Pod 所付是否等于市场价？"),
        _paid_sentence(table, scope),
        table,
        scope,
        int(table["pods"].sum()),
        notes=_paid_notes(table, unknown, len(changes) - len(usable), scope),
        parts={"steps": steps},
    )


def _paid_by_hour(pods: nw.LazyFrame[Any], scope: Scope) -> tuple[pd.DataFrame, int]:
    """Hourly prices of spot pods by zone, ECS type and the hour in which they began; and how many pods have none."""
    import numpy as np
    import pandas as pd

    spot = spot_pods.marked(pods).filter(nw.col("is_spot"))
    priced = (
        ~nw.col("effective_cost").is_null() & ~nw.col("ecs_type").is_null() & ~nw.col("zone").is_null()
        & (nw.col("seconds") > 0) & ~nw.col("hour").is_null() & ~(nw.col("extra_ephemeral_gib").fill_null(0.0) > 0)
    )  # fmt: skip
    listed = nw.col("list_cost")
    sums = collected(
        spot.filter(priced)
        .group_by("zone", "ecs_type", "day", "hour")
        .agg(
            nw.len().alias("pods"),
            nw.col("seconds").sum().alias("seconds"),
            nw.col("seconds").max().alias("longest"),
            nw.col("effective_cost").sum().alias("paid"),
            nw.col("on_demand_cost").sum().alias("on_demand"),
            listed.sum().alias("listed"),
        ),
        by=["zone", "ecs_type", "day", "hour"],
    )
    every = int(collected(spot.select(nw.len().alias("pods")))["pods"].fillna(0).iloc[0])
    local = pd.to_datetime(sums["day"]) + pd.to_timedelta(sums["hour"], unit="h")
    at = local.dt.tz_localize(scope.timezone, ambiguous=np.ones(len(sums), bool), nonexistent="shift_forward")
    sums["at"] = at.dt.tz_convert("UTC")
    hours = sums["seconds"] / HOUR
    sums["spot_hours"] = hours
    for name, total in (("paid_hour", "paid"), ("on_demand_hour", "on_demand"), ("list_hour", "listed")):
        sums[name] = sums[total] / hours
    return sums, every - int(sums["pods"].sum())


def _steps(changes: Sequence[SpotChange], hours: pd.DataFrame) -> pd.DataFrame:
    """The archive's prices of the zones and types of the table, by time; each ends where the next begins."""
    import pandas as pd

    wanted = set(zip(hours["zone"], hours["ecs_type"], strict=True))
    found = sorted((one for one in changes if (one.zone, one.instance_type) in wanted), key=lambda one: one.at)
    rows = [(one.zone, one.instance_type, one.at, one.until, float(one.price)) for one in found]
    steps = pd.DataFrame(rows, columns=list(_STEPS))
    steps = steps.astype({"price": "float64"}).assign(
        at=pd.to_datetime(steps["at"], utc=True), until=pd.to_datetime(steps["until"], utc=True)
    )
    steps = steps.sort_values(["zone", "ecs_type", "at"], ignore_index=True)
    following = steps.groupby(["zone", "ecs_type"])["at"].shift(-1)
    steps["until"] = pd.concat([steps["until"], following], axis=1).min(axis=1)
    return steps


def _with_market(hours: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """With the least and the most that the market was from the hour's begin until the last of its pods ended."""
    import numpy as np
    import pandas as pd

    held = {key: part for key, part in steps.groupby(["zone", "ecs_type"])}
    lows, highs = [], []
    for row in hours.to_dict("records"):
        part = held.get((row["zone"], row["ecs_type"]))
        prices = np.array([])
        if part is not None:
            end = row["at"] + pd.Timedelta(seconds=HOUR + row["longest"])
            inside = (part["at"] < end) & ~(part["until"] <= row["at"])
            prices = part.loc[inside, "price"].to_numpy()
        lows.append(prices.min() if len(prices) else np.nan)
        highs.append(prices.max() if len(prices) else np.nan)
    table = hours.assign(market_low=np.array(lows, float), market_high=np.array(highs, float))
    paid = table["paid_hour"]
    near = (paid >= table["market_low"] * (1 - TOLERANCE)) & (paid <= table["market_high"] * (1 + TOLERANCE))
    table["inside"] = near.astype(object).where(table["market_low"].notna(), None)
    return table[list(_PAID)]


def _paid_sentence(table: pd.DataFrame, scope: Scope) -> str:
    if table.empty:
        return scope.text(
            en="No spot pod has a known price: there is nothing to compare.", zh="没有已知价格的抢占式 Pod，无可比较。"
        )
    hours = table["spot_hours"].sum()
    paid = (table["paid_hour"] * table["spot_hours"]).sum() / (table["on_demand_hour"] * table["spot_hours"]).sum()
    first = scope.text(
        en=f"Spot pods paid {100 * paid:.0f} % of ECI's vCPU and memory price",
        zh=f"抢占式 Pod 所付为 vCPU 和内存计费价格的 {100 * paid:.0f} %",
    )
    known = table[table["market_low"].notna()]
    if known.empty:
        return first + scope.text(
            en="; the archive has no market price of their zones and times.",
            zh="；归档中没有对应可用区和时间的市场价。",
        )
    covered = 100 * known["spot_hours"].sum() / hours
    agreed = 100 * known.loc[known["inside"].eq(True), "spot_hours"].sum() / known["spot_hours"].sum()
    return first + scope.text(
        en=f"; the archive knows the market of {covered:.0f} % of their hours, and {agreed:.0f} % of these agree with it.",
        zh=f"；归档覆盖其 {covered:.0f} % 的小时，其中 {agreed:.0f} % 与市场价一致。",
    )


def _paid_notes(table: pd.DataFrame, unknown: int, foreign: int, scope: Scope) -> tuple[str, ...]:
    texts = (
        (
            len(table),
            "Where no bill was imported, what was paid is worked out from the archive itself: then this shows how much of it the"
            " archive covers, and a bill shows whether it is right.",
            "未导入账单时，所付金额由归档价格推算：此时只说明归档的覆盖程度，是否准确由账单验证。",
        ),
        (
            unknown,
            f"Of {scope.counted(unknown, 'spot pods')} zone, ECS type or price is not known, or they have extra storage: left out.",
            f"{unknown:,} 个抢占式 Pod 的可用区、ECS 规格或价格未知，或带额外存储：未计入。",
        ),
        (
            foreign,
            f"{foreign:,} archived prices are in another currency than {scope.currency}: left out.",
            f"{foreign:,} 条归档价格的币种不是 {scope.currency}：未计入。",
        ),
    )
    return tuple(scope.text(en=en, zh=zh) for said, en, zh in texts if said)
