"""What of the money was used: each pod's cost split by time (start-up, run) and by size (billed, requested, used).

*Requested* is what a pod asked for, *billed* the spec that it was rounded up to, *used* what it consumed while it ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import unpriced
from runbook.cost.collected import collected, count
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

ROUNDING_ERROR = 1e-12
"""The share of a cost below which a difference is no money but a last digit."""

NEVER_RAN = (End.IMAGE_PULL.value, End.PENDING_LIMIT.value)
"""Ends of pods of which no container ran: all they cost is start-up."""


def waste(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """What of each project's money was used: a row a project, the dearest first, with `cost` and one column a part (PARTS).

    The parts of a row add up to its cost. A pod's money is split by time, then by dimension:

    * start-up: the seconds of billing before the first container ran;
    * rounding: billed minus requested, or minus the peak of what was used where that is more;
    * over-ask: requested minus peak; headroom: peak minus mean; used: the mean;
    * where nobody measured, requested is one part. A job that measured itself knows its build container alone: what the
      pod's other containers asked for was not measured.

    vCPU and memory are split each by its own sizes and own money, then added. Parts: `dimensions` (the same for vCPU, memory and
    storage) and `meaning` (what each part is).
    """
    import pandas as pd

    sums = _sums(pods)
    money = {dimension: _parts_of(sums, dimension) for dimension in _DIMENSIONS}
    money["storage"] = _storage(sums)
    table = pd.DataFrame({"project": sums["project_path"].fillna(scope.not_allocated)})
    table[["pods", "cost"]] = sums[["pods", "cost"]]
    table[list(PARTS)] = sum(money.values())
    table[["measured_cost", "unpriced_pods"]] = sums[["measured_cost", "unpriced_pods"]]
    table = table.sort_values(["cost", "project"], ascending=[False, True]).reset_index(drop=True)
    dimensions = pd.DataFrame({dimension: parts.sum() for dimension, parts in money.items()}).T
    dimensions.insert(0, "cost", dimensions.sum(axis=1))
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
            "dimensions": dimensions.rename_axis("dimension").reset_index(),
            "meaning": pd.DataFrame(meaning, columns=["part", "label", "meaning"]),
        },
    )


# -- in the engine: sums a project ------------------------------------------------------------------------------------

_DIMENSIONS = {
    "vcpu": ("vcpu_cost", "billed_vcpu", "requested_vcpu", "build_vcpu", "used_vcpu_peak", "used_vcpu_mean"),
    "memory": (
        "memory_cost", "billed_memory_gib", "requested_memory_gib", "build_memory_gib", "used_memory_peak_gib", "used_memory_mean_gib",
    ),
}  # fmt: skip
"""Each dimension with the columns of its money and of its sizes: billed, requested, that of the build container, peak, mean."""

_LEVELS = {"mean": USED, "peak": HEADROOM, "own": OVER_ASK, "asked": UNMEASURED, "billed": ROUNDING}
"""Sizes of a pod in rising order, and the part between each and the one before it: used is from nothing to the mean, and so on."""


def _sums(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """One row a project: pods, cost, money of the start-up, and for each dimension the money up to each level."""
    money, startup = nw.col("effective_cost"), nw.col("startup_share")
    both = ~money.is_null() & ~nw.col("vcpu_cost").is_null() & ~nw.col("memory_cost").is_null()
    late = ~money.is_null() & nw.col("running_at").is_null() & (startup == 0.0)
    measured = ~nw.col("used_vcpu_peak").is_null() & ~nw.col("used_memory_peak_gib").is_null()
    split = {"startup": money * startup, "apart": nw.when(~both).then(money * (nw.lit(1.0) - startup))}
    split |= {"measured_cost": nw.when(measured).then(money), "late_cost": nw.when(late).then(money)}
    levels: dict[str, nw.Expr] = {}
    for dimension, (cost, *sizes) in _DIMENSIONS.items():
        split |= {f"{dimension}:cost": nw.col(cost), f"{dimension}:startup": nw.col(cost) * startup}
        split |= {
            f"{dimension}:{level}": nw.col(f"{dimension}:{level}") * nw.col(f"{dimension}:unit") for level in _LEVELS
        }
        levels[f"{dimension}:unit"] = nw.col(cost) * (nw.lit(1.0) - startup) / nw.col(sizes[0])
        levels |= {f"{dimension}:{level}": size for level, size in _levels(*sizes).items()}
    return collected(
        unpriced.with_instance(pods)
        .with_columns(
            _startup_share().alias("startup_share"),
            *(nw.when(both).then(nw.col(name)).alias(name) for name in ("vcpu_cost", "memory_cost")),
        )
        .with_columns(size.alias(name) for name, size in levels.items())
        .group_by("project_path")
        .agg(
            nw.len().alias("pods"),
            money.fill_null(0.0).sum().alias("cost"),
            count(late).alias("late_pods"),
            *unpriced.sums(),
            *(value.fill_null(0.0).sum().alias(name) for name, value in split.items()),
        ),
        by=["project_path"],
    )


def _startup_share() -> nw.Expr:
    """The share of a pod's billed seconds before its first container ran, from 0 to 1; 0 where nobody knows."""
    before = nw.coalesce(nw.col("seconds") - nw.col("run_seconds"), nw.col("pull_seconds") + nw.col("prepare_seconds"))
    share = before / nw.col("seconds")
    never_ran = nw.col("ended").fill_null("").is_in(NEVER_RAN) & nw.col("running_at").is_null()
    within = nw.when(share > 1).then(nw.lit(1.0)).otherwise(nw.when(share > 0).then(share).otherwise(nw.lit(0.0)))
    return nw.when(never_ran).then(nw.lit(1.0)).otherwise(within)


def _levels(billed: str, requested: str, build: str, peak: str, mean: str) -> dict[str, nw.Expr]:
    """The levels of one dimension, rising; null where the billed or the requested size is not known."""
    sized = (nw.col(billed) > 0) & ~nw.col(requested).is_null()
    measured = sized & ~nw.col(peak).is_null() & ~nw.col(mean).is_null()
    highest = nw.min_horizontal(peak, billed)
    asked = nw.min_horizontal(requested, billed)
    by_job = nw.col("used_source").fill_null("") == "job"
    own = nw.when(by_job).then(nw.min_horizontal(nw.col(build).fill_null(0.0), asked)).otherwise(asked)
    own = nw.max_horizontal(own, highest)
    nothing = nw.when(sized).then(nw.lit(0.0))
    return {
        "mean": nw.when(measured).then(nw.min_horizontal(mean, highest)).otherwise(nothing),
        "peak": nw.when(measured).then(highest).otherwise(nothing),
        "own": nw.when(measured).then(own).otherwise(nothing),
        "asked": nw.when(measured).then(nw.max_horizontal(own, asked)).otherwise(nw.when(sized).then(asked)),
        "billed": nw.when(sized).then(nw.col(billed)),
    }


# -- from sums to parts -----------------------------------------------------------------------------------------------


def _parts_of(sums: pd.DataFrame, dimension: str) -> pd.DataFrame:
    """The parts of one dimension's money: the steps between its levels, its start-up, and what has no size."""
    parts, before = _no_parts(sums), 0.0 * sums["cost"]
    for level, part in _LEVELS.items():
        parts[part] = _no_noise(sums[f"{dimension}:{level}"] - before, sums["cost"])
        before = sums[f"{dimension}:{level}"]
    parts[STARTUP] = sums[f"{dimension}:startup"]
    parts[UNSIZED] = _no_noise(sums[f"{dimension}:cost"] - parts[STARTUP] - before, sums["cost"])
    return parts


def _storage(sums: pd.DataFrame) -> pd.DataFrame:
    """What is neither for vCPU nor for memory: ephemeral storage, and the money of pods that nobody can split."""
    parts = _no_parts(sums)
    parts[STARTUP] = _no_noise(sums["startup"] - sums["vcpu:startup"] - sums["memory:startup"], sums["cost"])
    parts[UNSIZED] = sums["apart"]
    rest = sums["cost"] - sums["vcpu:cost"] - sums["memory:cost"] - parts[STARTUP] - parts[UNSIZED]
    parts[STORAGE] = _no_noise(rest, sums["cost"])
    return parts


def _no_parts(sums: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(0.0, index=sums.index, columns=list(PARTS))


def _no_noise(money: pd.Series, cost: pd.Series) -> pd.Series:
    """A difference of sums without what is only the last digits of large ones."""
    return money.where(money.abs() > cost.abs() * ROUNDING_ERROR, 0.0)


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
            en=f"Use was measured for pods with {measured / total:.1%} of the money.",
            zh=f"有用量数据的 Pod 占费用的 {measured / total:.1%}。",
        ))  # fmt: skip
    late = int(sums["late_pods"].sum())
    if late:
        money = scope.money(sums["late_cost"].sum())
        notes.append(scope.text(
            en=f"Of {scope.counted(late)} ({money}) nobody knows when a container ran first: no start-up is counted for them.",
            zh=f"{scope.counted(late)}（{money}）的首个容器启动时间未知：不计启动费用。",
        ))  # fmt: skip
    return notes
