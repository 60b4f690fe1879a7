"""What of the money was used: each pod's cost split by time (start-up, run) and by size (billed, requested, used).

*Requested* is what a pod asked for, *billed* the spec that it was rounded up to, *used* what it consumed while it ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import unpriced
from runbook.cost.collected import collected, count
from runbook.cost.spans import seconds_between
from runbook.eci.endings import End

if TYPE_CHECKING:
    import pandas as pd

USED, HEADROOM, OVER_ASK, UNMEASURED = "used", "headroom", "over_ask", "unmeasured"
ROUNDING, STARTUP, STORAGE, UNSIZED = "rounding", "startup", "storage", "unsized"

PARTS = {
    USED: ("used", "mean of what the job used while it ran", "已使用", "作业运行期间的平均用量"),
    HEADROOM: ("headroom", "between the mean and the peak of what was used", "余量", "平均用量与峰值之间"),
    OVER_ASK: ("over-ask", "asked for above the peak", "多申请", "申请量高于用量峰值的部分"),
    UNMEASURED: ("use not measured", "asked for, and nobody measured the use", "用量未测", "已申请，但没有用量数据"),
    ROUNDING: ("rounding", "billed, neither asked for nor used: the spec is rounded up", "规格取整", "计费但未申请也未使用：规格向上取整"),
    STARTUP: ("start-up", "billed before the first container ran: images and volumes", "启动", "首个容器运行前的计费：拉取镜像、挂载存储卷"),
    STORAGE: ("storage", "ephemeral storage above the free 30 GiB", "存储", "超出免费 30 GiB 的临时存储"),
    UNSIZED: ("size not known", "the billed or the requested size is not known", "规格未知", "计费或申请的规格未知"),
}  # fmt: skip
"""The parts into which a pod's money is split, in order: name and meaning, in English and in Chinese."""

ROUNDING_ERROR = 1e-9
"""What is left of a cost after its vCPU and memory, as a share of it, that is no money but a last digit."""

NEVER_RAN = (End.IMAGE_PULL.value, End.PENDING_LIMIT.value)
"""Ends of pods of which no container ran: all they cost is start-up."""


def waste(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """What of each project's money was used: a row a project, the dearest first, with `cost` and one column a part (PARTS).

    The parts of a row add up to its cost. A pod's money is split by time, then by dimension:

    * start-up: the seconds of billing before the first container ran;
    * rounding: billed minus requested, or minus the peak of what was used where that is more;
    * over-ask: requested minus peak; headroom: peak minus mean; used: the mean;
    * where nobody measured, requested is one part.

    vCPU and memory are split each by its own sizes and own money, then added. Parts: `dimensions` (the same for vCPU, memory and
    storage) and `meaning` (what each part is).
    """
    import pandas as pd

    sums = _split(pods)
    table = pd.DataFrame({"project": sums["project_path"].fillna(scope.not_allocated)})
    table[["pods", "cost"]] = sums[["pods", "cost"]]
    for part in PARTS:
        table[part] = sums[[column for column in map(str, sums) if column.rpartition(":")[0] == part]].sum(axis=1)
    table[["measured_cost", "unpriced_pods"]] = sums[["measured_cost", "unpriced_pods"]]
    table = table.sort_values(["cost", "project"], ascending=[False, True]).reset_index(drop=True)
    meaning = [(part, scope.text(en=a, zh=c), scope.text(en=b, zh=d)) for part, (a, b, c, d) in PARTS.items()]
    return Answer(
        "money-used",
        scope.text(en="How much of the money was used?", zh="花费中有多少被真正使用？"),
        _waste_sentence(table, scope),
        table,
        scope,
        int(table["pods"].sum()) if len(table) else 0,
        notes=(*_waste_notes(sums, scope), *unpriced.note(sums, scope)),
        parts={
            "dimensions": _by_dimension(sums),
            "meaning": pd.DataFrame(meaning, columns=["part", "label", "meaning"]),
        },
    )


_DIMENSIONS = {
    "vcpu": ("vcpu_cost", "billed_vcpu", "requested_vcpu", "used_vcpu_peak", "used_vcpu_mean"),
    "memory": ("memory_cost", "billed_memory_gib", "requested_memory_gib", "used_memory_peak_gib", "used_memory_mean_gib"),
}  # fmt: skip
"""Each dimension with the columns of its money and of its sizes: billed, requested, peak and mean of used."""


def _split(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """One row a project with its pods, cost, and a column `part:dimension` for each part of the money."""
    money = nw.col("effective_cost")
    known = ~money.is_null()
    both = known & ~nw.col("vcpu_cost").is_null() & ~nw.col("memory_cost").is_null()
    rest = money - nw.col("vcpu_cost") - nw.col("memory_cost")
    rest = nw.when(rest.abs() > money * ROUNDING_ERROR).then(rest).otherwise(nw.lit(0.0))
    running = nw.lit(1.0) - nw.col("startup_share")
    columns = {f"{STARTUP}:vcpu": nw.col("vcpu_cost") * nw.col("startup_share")}
    columns[f"{STARTUP}:memory"] = nw.col("memory_cost") * nw.col("startup_share")
    columns[f"{STARTUP}:storage"] = nw.when(both).then(rest).otherwise(nw.col("effective_cost")) * nw.col(
        "startup_share"
    )
    columns[f"{STORAGE}:storage"] = nw.when(both).then(rest * running)
    columns[f"{UNSIZED}:storage"] = nw.when(~both).then(money * running)
    for dimension, names in _DIMENSIONS.items():
        columns |= _parts_of(dimension, *names)
    measured = nw.lit(True)
    for _, _, _, peak, mean in _DIMENSIONS.values():
        measured = measured & ~nw.col(peak).is_null() & ~nw.col(mean).is_null()
    late = known & nw.col("running_at").is_null() & (nw.col("startup_share") == 0.0)
    return collected(
        unpriced.with_instance(pods)
        .with_columns(_startup_share().alias("startup_share"))
        .with_columns(nw.when(both).then(nw.col(name)).alias(name) for name in ("vcpu_cost", "memory_cost"))
        .group_by("project_path")
        .agg(
            nw.len().alias("pods"),
            money.fill_null(0.0).sum().alias("cost"),
            nw.when(measured).then(money.fill_null(0.0)).otherwise(nw.lit(0.0)).sum().alias("measured_cost"),
            count(late).alias("late_pods"),
            nw.when(late).then(money).otherwise(nw.lit(0.0)).sum().alias("late_cost"),
            *unpriced.sums(),
            *(value.fill_null(0.0).sum().alias(name) for name, value in columns.items()),
        ),
        by=["project_path"],
    )  # fmt: skip


def _startup_share() -> nw.Expr:
    """The share of a pod's billed seconds before its first container ran, from 0 to 1; 0 where nobody knows."""
    share = seconds_between("billing_start_at", "running_at") / nw.col("seconds")
    never_ran = nw.col("ended").fill_null("").is_in(NEVER_RAN)
    known = nw.when(share < 0).then(nw.lit(0.0)).otherwise(nw.when(share > 1).then(nw.lit(1.0)).otherwise(share))
    unknown = nw.when(never_ran).then(nw.lit(1.0)).otherwise(nw.lit(0.0))
    can_tell = ~nw.col("running_at").is_null() & ~nw.col("billing_start_at").is_null() & (nw.col("seconds") > 0)
    return nw.when(can_tell.fill_null(False)).then(known).otherwise(unknown)


def _parts_of(dimension: str, cost: str, billed: str, requested: str, peak: str, mean: str) -> dict[str, nw.Expr]:
    """The money of each part of one dimension, null where a pod has none of it."""
    money = nw.col(cost) * (nw.lit(1.0) - nw.col("startup_share"))
    sized = (nw.col(billed) > 0).fill_null(False) & ~nw.col(requested).is_null()
    measured = sized & ~nw.col(peak).is_null() & ~nw.col(mean).is_null()
    unit = money / nw.col(billed)
    highest = nw.min_horizontal(peak, billed)
    average = nw.min_horizontal(mean, highest)
    asked = nw.min_horizontal(requested, billed)
    needed = nw.max_horizontal(asked, highest)
    parts = {
        USED: nw.when(measured).then(unit * average),
        HEADROOM: nw.when(measured).then(unit * (highest - average)),
        OVER_ASK: nw.when(measured).then(unit * (needed - highest)),
        UNMEASURED: nw.when(sized & ~measured).then(unit * asked),
        ROUNDING: nw.when(sized).then(unit * (nw.col(billed) - nw.when(measured).then(needed).otherwise(asked))),
        UNSIZED: nw.when(~sized).then(money),
    }
    return {f"{part}:{dimension}": value for part, value in parts.items()}


def _by_dimension(sums: pd.DataFrame) -> pd.DataFrame:
    """One row a dimension with the money of each part, and the sum of its row."""
    import pandas as pd

    rows = []
    for dimension in (*_DIMENSIONS, "storage"):
        money = {part: float(sums.get(f"{part}:{dimension}", pd.Series(dtype=float)).sum()) for part in PARTS}
        rows.append({"dimension": dimension, "cost": sum(money.values()), **money})
    return pd.DataFrame(rows)


def _waste_sentence(table: pd.DataFrame, scope: Scope) -> str:
    total = float(table["cost"].sum()) if len(table) else 0.0
    if not total:
        return scope.text(en="No money to split: no pod of this window has a known cost.", zh="没有可拆分的费用：该时段没有已知费用的 Pod。")  # fmt: skip
    shares = {part: float(table[part].sum()) / total for part in PARTS}
    listed = [part for part in (USED, HEADROOM, OVER_ASK, UNMEASURED, ROUNDING, STARTUP) if shares[part] >= 0.005]
    if not any(shares[part] for part in (USED, HEADROOM, OVER_ASK)):
        said = scope.text(en="nobody measured what jobs used", zh="没有用量数据")
        listed = [part for part in listed if part != UNMEASURED]
        named = [said, *(_share_text(part, shares[part], scope) for part in listed)]
    else:
        named = [_share_text(part, shares[part], scope) for part in listed]
    money = unpriced.known_money(total, table, scope)
    return scope.text(en=f"Of {money}: {', '.join(named)}.", zh=f"在{money} 中：{'，'.join(named)}。")


def _share_text(part: str, share: float, scope: Scope) -> str:
    english, _, chinese, _ = PARTS[part]
    return scope.text(en=f"{share:.0%} {english}", zh=f"{chinese} {share:.0%}")


def _waste_notes(sums: pd.DataFrame, scope: Scope) -> list[str]:
    notes = []
    total, measured = (float(sums[name].sum()) for name in ("cost", "measured_cost"))
    if total and measured < total:
        notes.append(scope.text(
            en=f"Use was measured for pods with {measured / total:.0%} of the money.",
            zh=f"有用量数据的 Pod 占费用的 {measured / total:.0%}。",
        ))  # fmt: skip
    late = int(sums["late_pods"].sum())
    if late:
        money = scope.money(sums["late_cost"].sum())
        notes.append(scope.text(
            en=f"Of {scope.counted(late)} ({money}) nobody knows when a container ran first: no start-up is counted for them.",
            zh=f"{scope.counted(late)}（{money}）的首个容器启动时间未知：不计启动费用。",
        ))  # fmt: skip
    return notes
