"""Does the model agree with the bill? What differs on which day and for which instance, and why.

    by_day(pods, scope, lines=pricing.charge_lines(records, book, terms), bill=bill, now=now)

The bill's rows and the model's charge lines are added up by instance and day (of China), and each difference is given the first
cause that holds. What an instance is billed for a day is compared with what the model says it *bills* (FOCUS BilledCost): savings plans,
which are invoiced elsewhere, are not in it. Days that are not on the bill yet, and months that may still change, are marked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import bill as bills
from runbook.cost.bill import Bill
from runbook.cost.bill_causes import HALF_A_CENT, PENDING, READINGS, Cause, cause
from runbook.cost.bill_row import ECI, Kind
from runbook.cost.collected import collected, count
from runbook.cost.priced import COSTLESS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LINES = (
    "pod_uid", "instance_id", "item", "charge_period_start", "charge_period_end", "day", "list_cost", "billed_cost", "covered",
)  # fmt: skip
"""Columns of the charge lines that are read."""

SHOWN = 200
"""Instances and days that the part `instances` shows, those with the largest differences."""


def by_day(pods: nw.LazyFrame[Any], scope: Scope, *, lines: pa.Table, bill: Bill, now: datetime) -> Answer:
    """The difference between estimate and bill on each day, what caused it, and the share of the bill that the model explains.

    `lines` are the model's charge lines (`pricing.charge_lines`) of all pods that may have been charged on the scope's days; an
    instance that began the day before is of today's bill too. The table has a row a day (a month, where the bill has no days):
    `day`, `estimate`, `billed`, `difference` (estimate - billed; null while the day is not on the bill), `tolerance` (what
    rounding each fee to 0.01 makes on 19 days of 20), `instances`, `on_bill`, `final`, `cause` (of the largest difference). Parts: `causes`, `instances`
    (the largest differences), `other` (what the bill has beside ECI's usage).

    *Explained* is 1 - Σ |estimate - billed| / Σ billed, over all instances and days of the bill: errors that cancel out count.
    """
    here = bill.within(scope.first, scope.last)
    matched = _matched(pods, scope, lines, here)
    grouped = _grouped(matched.frame)
    days, causes = _days(grouped, now), _causes(grouped)
    totals = _Totals.of(causes)
    return Answer(
        name="model-against-bill",
        question=scope.text(en="Does the model agree with the bill?", zh="模型与账单一致吗？"),
        sentence=_sentence(scope, here, matched, totals),
        table=_in_words(days, scope),
        scope=scope,
        n=matched.instances,
        unit=scope.text(en="instances", zh="个实例"),
        notes=tuple(_notes(pods, scope, here, matched, causes, now)),
        parts={
            "causes": _with_remedies(causes, scope),
            "instances": _in_words(_instances(matched.frame), scope),
            "other": _other(here, scope),
        },
    )


# -- instance by instance ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matched:
    """A lazy row an instance and day: what the model says and what the bill says, with the cause. `last` is the bill's newest day."""

    frame: nw.LazyFrame[Any]
    last: date | None
    instances: int
    common: int
    monthly: bool


def _matched(pods: nw.LazyFrame[Any], scope: Scope, lines: pa.Table, bill: Bill) -> _Matched:
    import pyarrow as pa
    import pyarrow.compute as pc

    monthly = not bill.daily
    estimated = _estimated(lines, scope, monthly=monthly)
    billed = bill.by_instance(scope.currency)
    billed = billed.append_column("on_bill", pc.cast(pc.is_valid(billed["billed"]), pa.int64()))
    both = pa.concat_tables([estimated, billed], promote_options="default")
    sums = ["estimate", "list_estimate", "model_seconds", "hours", "by_type", "covered", "modelled"]
    sums += ["billed", "listed", "seconds", "fees", "by_ecs_type", "on_bill"]
    table = both.group_by(["instance_id", "day"]).aggregate(
        [(name, "sum") for name in sums] + [("namespace", "max"), ("pod_name", "max")]
    )
    table = table.rename_columns([name.removesuffix("_sum").removesuffix("_max") for name in table.column_names])
    table = table.append_column("day_on_bill", pc.is_in(table["day"], value_set=billed["day"].combine_chunks()))
    common = pc.sum(pc.and_(pc.is_valid(table["modelled"]), pc.is_valid(table["on_bill"]))).as_py() or 0
    last = bill.last_day if not monthly else bill.last_month
    frame = _beside(pods, table).join(_attributes(pods), on="instance_id", how="left")
    elsewhere = not common and estimated.num_rows > 0 and billed.num_rows > 0
    return _Matched(
        frame.with_columns(cause(last, elsewhere=elsewhere).alias("cause")),
        last,
        int(pc.count_distinct(table["instance_id"]).as_py()),
        int(common),
        monthly,
    )


def on_days(lines: pa.Table, scope: Scope) -> pa.Table:
    """The charge lines of the scope's days (of China), with the columns LINES: whoever has many lines keeps only these."""
    import pyarrow as pa
    import pyarrow.compute as pc

    inside = pc.and_(
        pc.greater_equal(lines["day"], pa.scalar(scope.first)), pc.less_equal(lines["day"], pa.scalar(scope.last))
    )
    return lines.select(LINES).filter(inside)


def _estimated(lines: pa.Table, scope: Scope, *, monthly: bool) -> pa.Table:
    """The charge lines of the scope's days, a row an instance and day. Items run side by side: seconds are those of the longest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen = on_days(lines, scope)
    day = pc.floor_temporal(chosen["day"], unit="month") if monthly else chosen["day"]
    span = pc.subtract(*(pc.cast(chosen[f"charge_period_{end}"], pa.int64()) for end in ("end", "start")))
    table = pa.table({
        "instance_id": pc.coalesce(chosen["instance_id"], chosen["pod_uid"]),
        "day": pc.cast(day, pa.date32()),
        "item": chosen["item"],
        "estimate": pc.cast(chosen["billed_cost"], pa.float64()),
        "list_estimate": pc.cast(chosen["list_cost"], pa.float64()),
        "model_seconds": pc.divide(pc.cast(span, pa.float64()), 1e6),
        "hours": pa.array(_ones(chosen.num_rows)),
        "by_type": pc.cast(pc.equal(chosen["item"], "instance_type"), pa.int64()),
        "covered": pc.cast(chosen["covered"], pa.float64()),
    })  # fmt: skip
    items = table.group_by(["instance_id", "day", "item"]).aggregate(
        [(name, "sum") for name in ("estimate", "list_estimate", "model_seconds", "hours", "by_type", "covered")]
    )
    longest = ("model_seconds", "hours")
    found = items.group_by(["instance_id", "day"]).aggregate(
        [(f"{name}_sum", "sum") for name in ("estimate", "list_estimate", "by_type", "covered")]
        + [(f"{name}_sum", "max") for name in longest]
    )
    names = {name: name.removesuffix("_max").removesuffix("_sum").removesuffix("_sum") for name in found.column_names}
    found = found.rename_columns([names[name] for name in found.column_names])
    return found.append_column("modelled", pa.array(_ones(found.num_rows)))


def _ones(number: int) -> Any:
    import numpy as np

    return np.ones(number, np.int64)


def _beside(pods: nw.LazyFrame[Any], given: pa.Table) -> nw.LazyFrame[Any]:
    """An Arrow table as a lazy frame of the same engine, so that the two can be joined."""
    native = nw.to_native(pods)
    if pods.implementation.is_spark_like():
        lifted = native.sparkSession.createDataFrame(given)
    else:
        lifted = native.query(
            "pods", "SELECT * FROM given"
        )  # DuckDB finds the Arrow table by its name in this function
    beside: nw.LazyFrame[Any] = nw.from_native(lifted)
    return beside


def _attributes(pods: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """What the history knows of each instance."""
    return (
        pods.filter(~nw.col("instance_id").is_null())
        .with_columns(nw.col("spot").fill_null(False).cast(nw.Int64).alias("is_spot"))
        .group_by("instance_id")
        .agg(
            nw.col("project_path").min(),
            nw.col("job_name").min(),
            nw.col("problem").min(),
            nw.col("is_spot").max(),
            nw.len().alias("pods"),
        )
    )


# -- the tables -------------------------------------------------------------------------------------------------------


def _grouped(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Money, instances and fees by day and cause."""
    estimate, billed = nw.col("estimate").fill_null(0.0), nw.col("billed").fill_null(0.0)
    fees = nw.max_horizontal(nw.col("hours").fill_null(0), nw.col("fees").fill_null(0))
    with_listed = ~nw.col("listed").is_null()
    return collected(
        frame.with_columns(
            (estimate - billed).abs().alias("error"),
            fees.alias("most_fees"),
            (nw.col("seconds") - nw.col("model_seconds")).alias("late"),
            nw.when(with_listed).then(billed).otherwise(nw.lit(0.0)).alias("billed_of_listed"),
        )
        .group_by("day", "cause")
        .agg(
            nw.col("estimate").sum(),
            nw.col("billed").sum(),
            nw.col("error").sum(),
            nw.col("most_fees").sum().alias("fees"),
            nw.col("listed").sum(),
            nw.col("billed_of_listed").sum(),
            nw.col("late").sum(),
            count(~nw.col("late").is_null()).alias("timed"),
            nw.len().alias("instances"),
            count(~nw.col("on_bill").is_null()).alias("on_bill"),
        ),
        by=("day", "cause"),
    ).fillna({"estimate": 0.0, "billed": 0.0, "error": 0.0, "listed": 0.0, "late": 0.0})


def _days(grouped: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """A row a day."""
    import pandas as pd

    sums = ["estimate", "billed", "fees", "instances", "error", "on_bill"]
    days = grouped.groupby("day", as_index=False)[sums].sum()
    days["on_bill"] = days["on_bill"] > 0
    days["difference"] = (days["estimate"] - days["billed"]).where(days["on_bill"])
    days["tolerance"] = [_tolerance(fees) for fees in days["fees"]]
    days["final"] = days["on_bill"] & (days["day"] <= pd.Timestamp(bills.final_until(now)))
    apart = grouped[grouped["cause"] != Cause.AGREES].sort_values(
        ["day", "error", "cause"], ascending=[True, False, True]
    )
    days["cause"] = days["day"].map(apart.drop_duplicates("day").set_index("day")["cause"]).astype("object")
    columns = ["day", "estimate", "billed", "difference", "tolerance", "instances", "on_bill", "final", "cause"]
    return days[columns].sort_values("day", ignore_index=True)


def _tolerance(fees: int) -> float:
    """How far the sum of so many fees is moved by rounding each to 0.01: on 19 days of 20 not farther, and never more than half a cent each."""
    return min(1.96 * 0.01 / math.sqrt(12) * math.sqrt(fees), HALF_A_CENT * fees)


def _causes(grouped: pd.DataFrame) -> pd.DataFrame:
    """A row a cause, the largest first: instances and days, estimate, billed, and how far apart they are."""
    sums = ["instances", "estimate", "billed", "error", "listed", "billed_of_listed", "late", "timed"]
    causes = grouped.groupby("cause", as_index=False)[sums].sum()
    return causes.sort_values(["error", "billed", "cause"], ascending=[False, False, True], ignore_index=True)


def _instances(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    """The instances and days with the largest differences."""
    columns = ["day", "instance_id", "project_path", "job_name", "namespace", "pod_name"]
    columns += ["estimate", "billed", "difference", "model_seconds", "seconds", "cause"]
    difference = nw.col("estimate").fill_null(0.0) - nw.col("billed").fill_null(0.0)
    far = (
        frame.filter(~nw.col("cause").is_in([one.value for one in (Cause.AGREES, *PENDING)]))
        .with_columns(difference.alias("difference"), difference.abs().alias("error"))
        .sort("error", "day", "instance_id", descending=[True, False, False], nulls_last=True)
        .head(SHOWN)
    )
    found = collected(far.select(*columns, "error"))
    found = found.sort_values(["error", "day", "instance_id"], ascending=[False, True, True], ignore_index=True)
    return found.drop(columns="error").rename(
        columns={"model_seconds": "estimated_seconds", "seconds": "billed_seconds"}
    )


def _other(bill: Bill, scope: Scope) -> pd.DataFrame:
    """What the bill has beside ECI's usage in the scope's currency, with its share of the money in its own currency."""
    import pandas as pd

    sums = bill.sums()
    totals: dict[str, Decimal] = {}
    for one in sums:
        totals[one.currency] = totals.get(one.currency, Decimal(0)) + abs(one.amount)
    rows = [
        (one.product, one.kind.value, one.account, one.currency, float(one.amount), one.rows,
         float(abs(one.amount) / totals[one.currency]) if totals[one.currency] else 0.0)
        for one in sums if not _compared(one, scope)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["product", "kind", "account", "currency", "amount", "rows", "share"])


def _compared(one: bills.Sum, scope: Scope) -> bool:
    return (one.product, one.kind, one.currency) == (ECI, Kind.USAGE, scope.currency)


# -- in words ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Totals:
    """Sums over the instances and days that are on the bill."""

    estimate: float
    billed: float
    error: float
    largest: str | None
    largest_error: float
    unexplained: float

    @classmethod
    def of(cls, causes: pd.DataFrame) -> _Totals:
        due = causes[~causes["cause"].isin(PENDING)]
        apart = due[(due["cause"] != Cause.AGREES) & (due["error"] > 0)]
        unexplained = float(due.loc[due["cause"] == Cause.UNEXPLAINED, "error"].sum())
        largest = None if apart.empty else str(apart["cause"].iloc[0])
        most = 0.0 if apart.empty else float(apart["error"].iloc[0])
        estimate, billed, error = (float(due[name].sum()) for name in ("estimate", "billed", "error"))
        return cls(estimate, billed, error, largest, most, unexplained)

    @property
    def explained(self) -> float:
        return max(0.0, 1 - self.error / self.billed) if self.billed > 0 else 0.0


def _word(cause: str | None, scope: Scope) -> str | None:
    return None if cause is None else scope.text(en=cause, zh=READINGS[Cause(cause)].zh)


def _in_words(table: pd.DataFrame, scope: Scope) -> pd.DataFrame:
    """The table with its causes in the scope's language."""
    import pandas as pd

    words = [_word(one if isinstance(one, str) else None, scope) for one in table["cause"]]
    return table.assign(cause=pd.Series(words, index=table.index, dtype="object"))


def _with_remedies(causes: pd.DataFrame, scope: Scope) -> pd.DataFrame:
    readings = [READINGS[Cause(one)] for one in causes["cause"]]
    shown = causes[["cause", "instances", "estimate", "billed", "error"]]
    remedies = [scope.text(en=one.remedy, zh=one.remedy_zh) for one in readings]
    return _in_words(shown, scope).assign(remedy=remedies)


def _percent(share: float) -> str:
    """Rounded down, so that only all of it is 100 %."""
    return f"{int(share * 1000 + 1e-9) / 10:g} %"


def _sentence(scope: Scope, bill: Bill, matched: _Matched, totals: _Totals) -> str:
    currencies = sorted({one.currency for one in bill.sums() if (one.product, one.kind) == (ECI, Kind.USAGE)})
    if not currencies:
        return scope.text(en="There is no bill of ECI for these days yet.", zh="这些日期还没有 ECI 账单。")
    if scope.currency not in currencies:
        other = ", ".join(currencies)
        return scope.text(
            en=f"The bill is in {other} and the estimate in {scope.currency}: there is nothing to compare.",
            zh=f"账单币种为 {other}，估算币种为 {scope.currency}：无法比较。",
        )
    paid = scope.money(totals.billed)
    if not totals.largest:
        return scope.text(
            en=f"The model explains all of the bill of {paid}: every instance agrees on every day.",
            zh=f"模型解释了全部账单 {paid}：每个实例每天都一致。",
        )
    gap = totals.estimate - totals.billed
    above = gap > 0
    side = scope.text(en="above" if above else "below", zh="高" if above else "低")
    share, apart, cause = _percent(totals.explained), scope.money(totals.largest_error), _word(totals.largest, scope)
    even = scope.money(abs(gap))
    return scope.text(
        en=f"The model explains {share} of the bill of {paid} and is {even} {side} it; most of that: {cause} ({apart}).",
        zh=f"模型解释了账单 {paid} 的 {share}，估算{side} {even}；主要原因：{cause}（{apart}）。",
    )


def _notes(
    pods: nw.LazyFrame[Any], scope: Scope, bill: Bill, matched: _Matched, causes: pd.DataFrame, now: datetime
) -> list[str]:
    """What limits the comparison, a sentence each."""
    by_cause = {str(row["cause"]): row for row in causes.to_dict("records")}
    notes = [*_about_time(scope, bill, matched, by_cause, now), *_about_money(scope, bill)]
    if Cause.OTHER_ACCOUNT in by_cause:
        accounts = ", ".join(sorted({one.account for one in bill.sums() if one.account})) or "?"
        notes.append(
            scope.text(
                en=f"No instance of the bill (account {accounts}) is in the history: it is probably another account's.",
                zh=f"账单（账号 {accounts}）中的实例均不在历史中：可能是其他账号的账单。",
            )
        )
    if Cause.DISCOUNT in by_cause:
        row = by_cause[Cause.DISCOUNT]
        percent = f"{round(100 - 100 * float(row['billed_of_listed']) / float(row['listed']), 1):g} %"
        notes.append(
            scope.text(
                en=f"Where only the discount differs, the bill took {percent} off the list price.",
                zh=f"仅折扣不同的部分，账单较目录价优惠 {percent}。",
            )
        )
    if Cause.SECONDS in by_cause and by_cause[Cause.SECONDS]["timed"]:
        row = by_cause[Cause.SECONDS]
        late = float(row["late"]) / int(row["timed"])
        notes.append(
            scope.text(
                en=f"Where only the seconds differ, the bill has {late:+.1f} s an instance and day, on average.",
                zh=f"仅秒数不同的部分，账单平均每个实例每天相差 {late:+.1f} 秒。",
            )
        )
    unknown = int(
        collected(pods.select(count(nw.col("problem").is_in([one.value for one in COSTLESS])).alias("pods")))["pods"].fillna(0).sum()
    )  # fmt: skip
    if unknown:
        notes.append(
            scope.text(
                en=f"{unknown:,} pods of the history have no known cost; what the bill has of them is under the causes.",
                zh=f"历史中有 {unknown:,} 个 Pod 的费用未知；账单中的对应部分见原因表。",
            )
        )
    return notes


def _about_time(scope: Scope, bill: Bill, matched: _Matched, by_cause: Mapping[str, Any], now: datetime) -> list[str]:
    notes = []
    final = bills.final_until(now)
    if scope.last > final:
        notes.append(
            scope.text(
                en=f"Bills are final until {final}; later ones may change until noon of the 3rd of the next month (China).",
                zh=f"账单在 {final} 之前已定；之后的账单在次月 3 日中午 12 点（北京时间）前仍可能变化。",
            )
        )
    pending = [by_cause[one] for one in PENDING if one in by_cause]
    if pending:
        newest = matched.last or scope.text(en="none", zh="无")
        money = scope.money(sum(float(row["estimate"]) for row in pending))
        notes.append(
            scope.text(
                en=f"{money} is of days that the bill does not have (its newest: {newest}); it is not part of the share.",
                zh=f"{money} 属于账单尚无的日期（最新日期：{newest}），不计入比例。",
            )
        )
    if matched.monthly:
        notes.append(
            scope.text(
                en="The bill has no days: months are compared. Fetch it with granularity DAILY to see days.",
                zh="账单没有日期：按月比较。请用 DAILY 粒度获取以按天查看。",
            )
        )
    elif scope.timezone not in ("Asia/Shanghai", "PRC"):
        notes.append(
            scope.text(
                en="Days of this answer are China's, as those of the bill.", zh="此处的日期与账单一致，为北京时间。"
            )
        )
    return notes


def _about_money(scope: Scope, bill: Bill) -> list[str]:
    notes = []
    beside = [one for one in bill.sums() if not _compared(one, scope)]
    total = sum((abs(one.amount) for one in bill.sums() if one.currency == scope.currency), Decimal(0))
    for en, zh, chosen in (
        ("other products", "其他产品", [one for one in beside if one.product != ECI and one.currency == scope.currency]),
        (
            "ECI rows that are no usage (refunds, adjustments, orders)", "ECI 非用量行（退款、调账、订单）",
            [one for one in beside if one.product == ECI and one.currency == scope.currency],
        ),
    ):  # fmt: skip
        if chosen:
            amount = sum((one.amount for one in chosen), Decimal(0))
            share = _percent(float(sum((abs(one.amount) for one in chosen), Decimal(0)) / total)) if total else "0 %"
            names = ", ".join(sorted({one.product if one.product != ECI else one.kind.value for one in chosen}))
            notes.append(
                scope.text(
                    en=f"The bill has {scope.money(amount)} ({share} of its money) for {en}: {names}.",
                    zh=f"账单中 {scope.money(amount)}（占 {share}）属于{zh}：{names}。",
                )
            )
    foreign = [one for one in beside if one.currency != scope.currency]
    for currency in sorted({one.currency for one in foreign}):
        amount = sum((one.amount for one in foreign if one.currency == currency), Decimal(0))
        notes.append(
            scope.text(
                en=f"The bill also has {currency or 'an unnamed currency'} {amount:,.2f}, which is not added to {scope.currency}.",
                zh=f"账单还有 {currency or '未注明币种'} {amount:,.2f}，未与 {scope.currency} 相加。",
            )
        )
    if bill.with_tax:
        notes.append(
            scope.text(
                en="The bill's amounts include tax; they are compared as they are.", zh="账单金额含税，按原值比较。"
            )
        )
    if bill.repeated:
        notes.append(
            scope.text(
                en=f"{bill.repeated:,} rows of the bill were there already and were counted once.",
                zh=f"账单有 {bill.repeated:,} 行重复，只计一次。",
            )
        )
    return notes
