"""What would the same work cost on servers that run all the time? As many ECS instances as the busy hours need, against ECI."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost.collected import collected
from runbook.settings import AlwaysOn

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from runbook.eci.prices import PriceBook

BUSY = 0.95
"""The part of the hours whose work the servers of the first count hold; in the busiest 5 % jobs would wait."""

MONTH_HOURS = 730
"""Hours of a month, for amounts a month."""

ECI, USUAL, PEAK, GIVEN = "eci", "busy", "peak", "given"
"""What is compared: ECI as it ran, servers for 95 % of the hours, for the busiest minute, or as many as the card says."""


@dataclass(frozen=True)
class Server:
    """One server: what it holds, and what it costs an hour (None: nobody knows)."""

    instance_type: str
    vcpu: float | None
    memory_gib: float | None
    per_hour: float | None

    @classmethod
    def of(cls, card: AlwaysOn, book: PriceBook, region: str, scope: Scope) -> Server:
        """The card's server; what the card leaves out is taken from the price book, on the scope's last day."""
        row = book.ecs_hour(region, card.instance_type, scope.last)
        given = (card.vcpu, card.memory_gib, card.per_hour)
        listed = (row.vcpu, row.memory_gib, row.price) if row else (None, None, None)
        vcpu, memory_gib, per_hour = (own or other for own, other in zip(given, listed, strict=True))
        return cls(
            card.instance_type,
            None if vcpu is None else float(vcpu),
            None if memory_gib is None else float(memory_gib),
            None if per_hour is None else float(per_hour),
        )

    def needed(self, vcpu: float, memory_gib: float) -> int | None:
        """How many hold so much at a time; None where nobody knows what one holds."""
        if not self.vcpu or not self.memory_gib:
            return None
        return math.ceil(round(max(vcpu / self.vcpu, memory_gib / self.memory_gib), 9))


def compared(pods: nw.LazyFrame[Any], scope: Scope, *, card: AlwaysOn, book: PriceBook, region: str) -> Answer:
    """ECI beside always-on servers: `alternative`, `label`, `servers`, `vcpu`, `memory_gib`, `used` (part of the vCPU that work
    took), `cost` (of these days), `month` (730 hours).

    An hour needs as much as its busiest minute, a minute its mean. Only instances are compared: no disks, no people, no spot.
    Part `hours`: `hour` (UTC), `vcpu`, `memory_gib`, busiest minute of each.
    """
    server, ran = Server.of(card, book, region, scope), by_minute(pods, scope)
    spent, n, open_pods = _spent(pods)
    hours = _hours(ran)
    needs = _needs(hours, server, card)
    span = scope.days * 24.0
    mean_vcpu = float(ran["vcpu"].mean())
    rows = [(ECI, _label(ECI, None, server, scope), None, None, None, None, spent, spent * MONTH_HOURS / span)]
    for name, count in needs:
        price = None if server.per_hour is None else count * server.per_hour
        vcpu, memory = (count * (server.vcpu or math.nan), count * (server.memory_gib or math.nan))
        cost = (None, None) if price is None else (price * span, price * MONTH_HOURS)
        rows.append((name, _label(name, count, server, scope), count, vcpu, memory, mean_vcpu / vcpu, *cost))
    table = _frame(rows if n else [])
    return Answer(
        "always-on",
        scope.text(en="What would servers that always run cost?", zh="常驻服务器要花多少钱？"),
        _sentence(table, server, scope),
        table,
        scope,
        n,
        notes=_notes(server, open_pods, scope),
        parts={"hours": hours},
    )


def _frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    import pandas as pd

    names = ["alternative", "label", "servers", "vcpu", "memory_gib", "used", "cost", "month"]
    return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[2:], "float64"))


def _spent(pods: nw.LazyFrame[Any]) -> tuple[float, int, int]:
    """The pods' cost, how many there are, and how many of them have no known span or size."""
    lacking = _span().is_null()
    (row,) = collected(
        pods.select(
            cost=nw.col("effective_cost").sum(), pods=nw.len(), lacking=lacking.cast(nw.Int64).sum()
        )
    ).to_dict("records")  # fmt: skip
    cost, lacks = (0.0 if value is None or value != value else value for value in (row["cost"], row["lacking"]))
    return float(cost), int(row["pods"]), int(lacks)


def _span() -> nw.Expr:
    """Not null where it is known from when to when the pod ran, and how large it was."""
    known = ~nw.col("billing_start_at").is_null() & ~nw.col("finished_at").is_null() & ~nw.col("billed_vcpu").is_null()
    return nw.when(known & (nw.col("finished_at") >= nw.col("billing_start_at"))).then(nw.lit(1)).otherwise(None)


def by_minute(pods: nw.LazyFrame[Any], scope: Scope) -> pd.DataFrame:
    """The mean vCPU and GiB that ran in each minute of the scope's days: columns `vcpu`, `memory_gib`."""
    import numpy as np
    import pandas as pd

    first, end = (
        pd.Timestamp(day, tz=scope.timezone).tz_convert("UTC").as_unit("us")
        for day in (scope.first, scope.last + timedelta(days=1))
    )
    span = pd.date_range(first, end, freq="min", inclusive="left", unit="us")
    steps = {name: np.zeros(len(span) + 1) for name in ("vcpu", "memory_gib")}
    known = pods.filter(~_span().is_null())
    for moment, sign in (("billing_start_at", 1.0), ("finished_at", -1.0)):
        events = _events(known, moment)
        at = ((events["minute"] - first) // pd.Timedelta(minutes=1)).to_numpy()
        for name, step in steps.items():
            # What begins in the middle of a minute is half there in it, and whole from the next one on.
            late = events[f"{name}_late"].to_numpy()
            np.add.at(step, np.clip(at, 0, len(span)), sign * (events[name].to_numpy() - late))
            np.add.at(step, np.clip(at + 1, 0, len(span)), sign * late)
    ran = {name: _no_dust(np.cumsum(step)[: len(span)]) for name, step in steps.items()}
    return pd.DataFrame(ran, index=span)


def _events(pods: nw.LazyFrame[Any], moment: str) -> pd.DataFrame:
    """What begins or ends in each minute: its vCPU and GiB, and the same times how late in the minute (0 to 1)."""
    late = nw.col(moment).dt.second() / 60.0
    return collected(
        pods.select(
            minute=nw.col(moment).dt.truncate("1m"),
            vcpu=nw.col("billed_vcpu"),
            memory_gib=nw.col("billed_memory_gib").fill_null(0.0),
            vcpu_late=nw.col("billed_vcpu") * late,
            memory_gib_late=nw.col("billed_memory_gib").fill_null(0.0) * late,
        )
        .group_by("minute")
        .agg(nw.col("vcpu", "memory_gib", "vcpu_late", "memory_gib_late").sum()),
        by=["minute"],
    )


def _no_dust(amounts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sums of what came and went, without the rounding that is left where all is gone."""
    import numpy as np

    return np.where(np.abs(amounts) < 1e-6, 0.0, amounts)


def _hours(minutes: pd.DataFrame) -> pd.DataFrame:
    """The busiest minute of each hour: `hour`, `vcpu`, `memory_gib`."""
    return minutes.resample("h").max().rename_axis("hour").reset_index()


def _needs(hours: pd.DataFrame, server: Server, card: AlwaysOn) -> list[tuple[str, int]]:
    """The counts to compare: the card's, or those for 95 % of the hours and for all."""
    if card.count:
        return [(GIVEN, card.count)]
    pairs = zip(hours["vcpu"].tolist(), hours["memory_gib"].tolist(), strict=True)
    needed = sorted(count for count in (server.needed(*pair) for pair in pairs) if count is not None)
    if not needed:
        return []
    usual, peak = max(needed[math.ceil(BUSY * len(needed)) - 1], 1), max(needed[-1], 1)
    return [(USUAL, usual), (PEAK, peak)] if peak > usual else [(USUAL, usual)]


def _label(alternative: str, count: int | None, server: Server, scope: Scope) -> str:
    what = f"{count} × {server.instance_type}"
    return {
        ECI: scope.text(en="ECI, as it ran", zh="ECI 实际"),
        USUAL: scope.text(en=f"{what}, enough in 95 % of the hours", zh=f"{what}，满足 95 % 的小时"),
        PEAK: scope.text(en=f"{what}, enough for the busiest minute", zh=f"{what}，满足最忙的一分钟"),
        GIVEN: scope.text(en=f"{what}, as the card says", zh=f"{what}，按卡片设定"),
    }[alternative]


def _sentence(table: pd.DataFrame, server: Server, scope: Scope) -> str:
    if table.empty:
        return scope.text(en="No pods: nothing to run elsewhere.", zh="没有 Pod，无可比较。")
    eci, servers = table.iloc[0], table.iloc[1:]
    if servers.empty or math.isnan(servers.iloc[0]["cost"]):
        return scope.text(
            en=f"What {server.instance_type} holds and costs is not known: nothing to compare with.",
            zh=f"{server.instance_type} 的规格或价格未知，无法比较。",
        )
    one = servers.iloc[0]
    ratio = one["cost"] / eci["cost"] if eci["cost"] else math.inf
    times = f"{ratio:,.{1 if ratio < 100 else 0}f}" if math.isfinite(ratio) else "∞"
    return scope.text(
        en=f"{one['label']}, would cost {scope.money(one['cost'])}, {times} times the {scope.money(eci['cost'])} of the pods, "
        f"and be used to {100 * one['used']:.0f} %.",
        zh=f"{one['label']}，需 {scope.money(one['cost'])}，为 Pod 成本 {scope.money(eci['cost'])} 的 {times} 倍，利用率 {100 * one['used']:.0f} %。",
    )


def _notes(server: Server, lacking: int, scope: Scope) -> tuple[str, ...]:
    price = scope.money(server.per_hour)
    notes = [
        scope.text(
            en=f"One {server.instance_type}: {server.vcpu or '?'} vCPU, {server.memory_gib or '?'} GiB, {price} an hour. Without "
            "system disks, traffic, images, and the people who look after them; pods are packed without gaps.",
            zh=f"一台 {server.instance_type}：{server.vcpu or '?'} vCPU、{server.memory_gib or '?'} GiB、每小时 {price}。不含系统盘、流量和运维人力；假设完美装箱。",
        )
    ]
    if server.per_hour is None or not server.vcpu or not server.memory_gib:
        notes.append(
            scope.text(
                en="Write vcpu, memory_gib and per_hour under cost.always_on in the card, or archive the price of the type.",
                zh="请在卡片 cost.always_on 中填写 vcpu、memory_gib、per_hour，或归档该规格的价格。",
            )
        )
    if lacking:
        notes.append(
            scope.text(
                en=f"Pods whose span or size is not known, and that need no server here: {lacking:,}.",
                zh=f"时段或规格未知、未计入的 Pod：{lacking:,}。",
            )
        )
    return tuple(notes)
