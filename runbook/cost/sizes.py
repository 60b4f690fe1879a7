"""Which sizes are bought: the ladder of ECI's specs with the money and the pod-hours on each rung.

*Requested* is what a pod asked for, *billed* the spec that it was rounded up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import unpriced
from runbook.cost.collected import collected
from runbook.eci import specs
from runbook.eci.specs import Ladder
from runbook.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

RUNG_COLUMNS = (
    "vcpu", "memory_gib", "on_ladder", "pods", "pod_hours", "cost", "share", "rounded_up_hours", "spot_hours", "ecs_type_hours",
    "unpriced_pods",
)  # fmt: skip
_BILLED = ("billed_vcpu", "billed_memory_gib")
_REQUESTED = ("requested_vcpu", "requested_memory_gib")


def size_text(vcpu: float, memory_gib: float) -> str:
    """`4 vCPU / 7.5 GiB`."""
    return f"{vcpu:.6g} vCPU / {memory_gib:.6g} GiB"


def ladder(pods: nw.LazyFrame[Any], scope: Scope, *, offered: Ladder | None = None) -> Answer:
    """What each rung cost: a row each billed size, the dearest first.

    `pod_hours` are from the start of billing to its end; `cost` is of the pods whose cost is known, null where none is, and
    `share` its share of all that is known; `rounded_up_hours` those of pods that asked
    for less than was billed. Parts: `asked` (each requested size with the size billed for it) and `rungs` (every size on sale in
    the regions of these pods; `offered` is the ladder, None: the one in `data/specs`).
    """
    import pandas as pd

    shapes = _shapes(pods)
    sized = shapes.dropna(subset=list(_BILLED))
    rungs, unknown_regions = _on_sale(sized["region"].dropna().unique().tolist(), offered or specs.shipped())
    table = sized.groupby(list(_BILLED), as_index=False)[list(_SHAPE_SUMS)].sum().rename(columns=_PLAIN)
    on_sale = set(rungs[["vcpu", "memory_gib"]].itertuples(index=False, name=None))
    table["on_ladder"] = [size in on_sale for size in table[["vcpu", "memory_gib"]].itertuples(index=False, name=None)]
    table["on_ladder"] = table["on_ladder"].astype(bool)
    total = float(table["cost"].sum())
    table["share"] = table["cost"] / total if total else 0.0
    table = _known(table.sort_values(["cost", "pod_hours", "vcpu", "memory_gib"], ascending=[False, False, True, True]))
    asked = sized.dropna(subset=list(_REQUESTED)).groupby([*_REQUESTED, *_BILLED], as_index=False)
    asked_sums = asked[["pods", "pod_hours", "cost", "unpriced_pods"]].sum()
    by = ["cost", "pod_hours", *_REQUESTED, *_BILLED]
    return Answer(
        "instance-sizes",
        scope.text(en="Which sizes do we buy?", zh="我们购买了哪些规格？"),
        _ladder_sentence(table, scope),
        pd.DataFrame(table, columns=list(RUNG_COLUMNS)).reset_index(drop=True),
        scope,
        int(table["pods"].sum()),
        notes=(*_ladder_notes(shapes, unknown_regions, scope), *unpriced.note(shapes, scope)),
        parts={
            "asked": _known(asked_sums.sort_values(by, ascending=[False, False, *[True] * 4]).reset_index(drop=True)),
            "rungs": rungs,
        },
    )


_PLAIN = {"billed_vcpu": "vcpu", "billed_memory_gib": "memory_gib"}
_SHAPE_SUMS = (
    "pods", "pod_hours", "cost", "rounded_up_hours", "spot_hours", "ecs_type_hours", *unpriced.SUMS,
)  # fmt: skip


def _known(table: pd.DataFrame) -> pd.DataFrame:
    """The table with no cost where none of its pods has a known one."""
    return table.assign(cost=table["cost"].where(table["unpriced_pods"] < table["pods"]))


def _shapes(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """One row each region, requested and billed size of the pods that had an instance, with their sums."""
    hours = nw.col("seconds").fill_null(0.0) / 3600
    smaller = (nw.col("requested_vcpu") < nw.col("billed_vcpu")) | (
        nw.col("requested_memory_gib") < nw.col("billed_memory_gib")
    )
    spot, none = nw.col("spot").fill_null(False), nw.lit(0.0)
    return collected(
        unpriced.with_instance(pods)
        .group_by("region", *_REQUESTED, *_BILLED)
        .agg(
            nw.len().alias("pods"),
            hours.sum().alias("pod_hours"),
            nw.col("effective_cost").fill_null(0.0).sum().alias("cost"),
            nw.when(smaller).then(hours).otherwise(none).sum().alias("rounded_up_hours"),
            nw.when(spot).then(hours).otherwise(none).sum().alias("spot_hours"),
            nw.when(~spot & ~nw.col("ecs_type").is_null()).then(hours).otherwise(none).sum().alias("ecs_type_hours"),
            *unpriced.sums(),
        ),
        by=["region", *_REQUESTED, *_BILLED],
    )  # fmt: skip


def _on_sale(regions: Sequence[str], offered: Ladder) -> tuple[pd.DataFrame, list[str]]:
    """Every size that is sold in the regions, with the tables that have it, and the regions that the ladder does not know."""
    import pandas as pd

    rows: list[specs.Row] = []
    unknown = []
    for region in regions:
        try:
            rows += offered.offered(region)
        except SpecError:
            unknown.append(region)
    tables: dict[tuple[float, float], set[str]] = {}
    for row in rows or offered.rows:
        for memory in row.memory_gib:
            tables.setdefault((float(row.vcpu), float(memory)), set()).add(row.table)
    sizes = [(vcpu, memory, " ".join(sorted(names))) for (vcpu, memory), names in sorted(tables.items())]
    return pd.DataFrame(sizes, columns=["vcpu", "memory_gib", "tables"]), sorted(unknown)


def _ladder_sentence(table: pd.DataFrame, scope: Scope) -> str:
    if not len(table):
        return scope.text(en="No pod with a known size was billed in this window.", zh="该时段没有已知规格的计费 Pod。")
    first, hours, cost = table.iloc[0], table["pod_hours"].sum(), float(table["cost"].sum())
    size = size_text(first["vcpu"], first["memory_gib"])
    up = table["rounded_up_hours"].sum() / hours if hours else 0.0
    if not cost:
        return scope.text(
            en=f"What these pods cost is not known; most hours went to {size}, and {up:.0%} of pod-hours were billed larger than asked for.",
            zh=f"这些 Pod 的费用未知；运行时长最多的规格是 {size}，{up:.0%} 的 Pod 时长按大于申请的规格计费。",
        )  # fmt: skip
    money, whole = scope.money(first["cost"]), unpriced.known_money(cost, table, scope)
    return scope.text(
        en=f"{size} cost {money}, {first['share']:.0%} of {whole}; {up:.0%} of pod-hours were billed larger than asked for.",
        zh=f"{size} 花费 {money}，占{whole} 的 {first['share']:.0%}；{up:.0%} 的 Pod 时长按大于申请的规格计费。",
    )


def _ladder_notes(shapes: pd.DataFrame, unknown_regions: Sequence[str], scope: Scope) -> list[str]:
    notes = []
    unsized = shapes[shapes["billed_vcpu"].isna() | shapes["billed_memory_gib"].isna()]
    if len(unsized):
        number, money = scope.counted(int(unsized["pods"].sum())), scope.money(unsized["cost"].sum())
        notes.append(scope.text(
            en=f"Of {number} ({money}) nobody knows the size: on no rung.",
            zh=f"{number}（{money}）的规格未知，未计入任何规格。",
        ))  # fmt: skip
    if unknown_regions:
        named = ", ".join(unknown_regions)
        notes.append(scope.text(
            en=f"The ladder of {named} is not known; the sizes on sale are those of the other regions, or of all.",
            zh=f"{named} 的规格表未知；所示可售规格取自其他地域。",
        ))  # fmt: skip
    for column, en, zh in (
        ("spot_hours", "were spot: their size is a rung, their price that of an ECS type", "为抢占式：规格相同，价格按 ECS 规格"),
        ("ecs_type_hours", "were billed by their ECS type, which the ladder does not bind", "按 ECS 规格计费，不受规格表约束"),
    ):  # fmt: skip
        hours = float(shapes[column].sum())
        if hours:
            notes.append(scope.text(en=f"{hours:,.1f} pod-hours {en}.", zh=f"{hours:,.1f} Pod 小时{zh}。"))
    return notes
