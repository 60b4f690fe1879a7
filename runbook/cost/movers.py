"""Why did the spend move, and whose is it?

The change from the days before is taken apart job by job (a project's job of one name) and adds up exactly. What a job cost is

    runs × seconds a run × size × price × what is paid of the price

and the change of that product is shared among its factors by their logarithms (the logarithmic mean Divisia index, LMDI-I):
a factor's part is L(now, before) × ln(factor now / factor before), where L is the logarithmic mean of the two costs. It needs no
order of the factors, leaves no remainder, and is the same backwards. A job that is new, or that is gone, is all *volume*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import other_costs
from runbook.cost.collected import collected
from runbook.eci.endings import End
from runbook.settings import OtherCost

if TYPE_CHECKING:
    import pandas as pd

GIB_PER_VCPU = 8
"""How many GiB weigh as much as one vCPU in a size: the list prices them so (0.000049 and 0.00000613 a second). Another price
of either is then price, not size."""

BEFORE, NOW = "before", "now"
VOLUME, DURATION, SIZE, PRICE, SPOT, REWORK, REST = "volume", "duration", "size", "price", "spot", "rework", "rest"
FACTORS = (VOLUME, DURATION, SIZE, PRICE, SPOT)
"""The factors of a job's cost, in the order of the waterfall."""

NO_PROOF = (End.RECLAIMED.value, End.LOST.value, End.EVICTED.value)
"""Ends that take a pod's work away."""

_USEFUL, _AGAIN, _OTHER = "useful", "rework", "other"
_SUMS = ("runs", "seconds", "units", "on_demand", "effective")


def why(
    pods: nw.LazyFrame[Any],
    before: nw.LazyFrame[Any],
    scope: Scope,
    *,
    other: Sequence[OtherCost] = (),
) -> Answer:
    """The change of the spend from the days before, as a waterfall: `step`, `label`, `amount`, `meaning`, from *before* to *now*.

    *rework* is what pods cost whose work was done again or taken away; *rest* is the card's other lines and pods whose size,
    length or price is not known. Parts: `projects` and `jobs`, the same steps for each (they add up to all but other lines).
    """
    jobs = _jobs(before).add_suffix("_before").join(_jobs(pods).add_suffix("_now"), how="outer").fillna(0.0)
    effects = _effects(jobs).reset_index()
    others = (
        float(other_costs.by_day(other, days.first, days.last).sum()) for days in (scope.before, scope)
    )  # fmt: skip
    lines_before, lines_now = others
    steps = {step: float(effects[step].sum()) for step in (*FACTORS, REWORK, REST)}
    steps[REST] += lines_now - lines_before
    spend = {end: float(effects[end].sum()) + lines for end, lines in ((BEFORE, lines_before), (NOW, lines_now))}
    n = int(jobs[[f"{kind}_runs_now" for kind in (_USEFUL, _AGAIN, _OTHER)]].sum().sum())
    known = bool(jobs[[f"{kind}_runs_before" for kind in (_USEFUL, _AGAIN, _OTHER)]].sum().sum())
    projects = effects.drop(columns="job_name").groupby("project_path", as_index=False, dropna=False).sum()
    return Answer(
        "movers",
        scope.text(en="Why did the spend move?", zh="支出为何变化？"),
        _why_sentence(scope, spend, steps, projects, known=known),
        _steps(scope, spend, steps) if known else _steps(scope, spend, steps).iloc[:0],
        scope,
        n,
        notes=_why_notes(scope, lines_now - lines_before),
        parts={"projects": _largest(projects), "jobs": _largest(effects)},
    )


def superseded(pods: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The pods with one more column, `again`: whether the job was run again, as another job of the same pipeline tells."""
    repeats = (
        pods.filter(~nw.col("retry_of").is_null())
        .select(job_id=nw.col("retry_of"), again=nw.lit(True))
        .unique(["job_id", "again"])
    )
    return pods.join(repeats, on="job_id", how="left").with_columns(again=nw.col("again").fill_null(False))


def _jobs(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """A row a project and job name; columns `KIND_SUM`: what its useful, repeated and other pods add up to."""
    import pandas as pd

    units = nw.col("billed_vcpu") + nw.col("billed_memory_gib") / GIB_PER_VCPU
    whole = (units * nw.col("seconds") > 0) & (nw.col("on_demand_cost") > 0) & (nw.col("effective_cost") > 0)
    again = nw.col("again") | nw.col("ended").is_in(NO_PROOF).fill_null(False)
    kind = nw.when(again).then(nw.lit(_AGAIN)).otherwise(
        nw.when(whole.fill_null(False)).then(nw.lit(_USEFUL)).otherwise(nw.lit(_OTHER))
    )  # fmt: skip
    sums = collected(
        superseded(pods)
        .with_columns(kind=kind, unit_seconds=units * nw.col("seconds"))
        .group_by("project_path", "job_name", "kind")
        .agg(
            nw.len().alias("runs"),
            nw.col("seconds").sum(),
            nw.col("unit_seconds").sum().alias("units"),
            nw.col("on_demand_cost").sum().alias("on_demand"),
            nw.col("effective_cost").sum().alias("effective"),
        ),
        by=["project_path", "job_name", "kind"],
    )
    sums = sums.fillna({name: 0.0 for name in _SUMS}).astype(dict.fromkeys(_SUMS, "float64"))
    sums[["project_path", "job_name"]] = sums[["project_path", "job_name"]].astype(object).fillna("")
    wide = sums.pivot(index=["project_path", "job_name"], columns="kind", values=list(_SUMS))
    wide.columns = pd.Index([f"{column[1]}_{column[0]}" for column in list(wide.columns)])
    every = [f"{kind}_{name}" for kind in (_USEFUL, _AGAIN, _OTHER) for name in _SUMS]
    return wide.reindex(columns=every).astype("float64").fillna(0.0)


def _effects(jobs: pd.DataFrame) -> pd.DataFrame:
    """The steps of each job, in money: what it cost before and now, and each factor's part of the change."""
    import numpy as np
    import pandas as pd

    def sums(kind: str, end: str) -> dict[str, Any]:
        return {name: jobs[f"{kind}_{name}_{end}"].to_numpy() for name in _SUMS}

    then, now = sums(_USEFUL, BEFORE), sums(_USEFUL, NOW)
    stays = (then["effective"] > 0) & (now["effective"] > 0)
    change = now["effective"] - then["effective"]
    result = pd.DataFrame(index=jobs.index)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(now["effective"] / then["effective"])
        weight = np.where(ratio == 0, now["effective"], change / ratio)
        logs = [
            np.log(_over(now, name, by) / _over(then, name, by))
            for name, by in zip(("runs", "seconds", "units", "on_demand", "effective"), (None, *_SUMS[:4]), strict=True)
        ]
        for step, log in zip(FACTORS, logs, strict=True):
            result[step] = np.where(stays, weight * log, change if step == VOLUME else 0.0)
    for step, kind in ((REWORK, _AGAIN), (REST, _OTHER)):
        result[step] = sums(kind, NOW)["effective"] - sums(kind, BEFORE)["effective"]
    for end in (BEFORE, NOW):
        result[end] = sum(sums(kind, end)["effective"] for kind in (_USEFUL, _AGAIN, _OTHER))
    return result


def _over(sums: dict[str, Any], name: str, by: str | None) -> Any:
    return sums[name] if by is None else sums[name] / sums[by]


def _largest(effects: pd.DataFrame) -> pd.DataFrame:
    """The rows with their change, the largest change first."""
    moved = effects.assign(change=effects[NOW] - effects[BEFORE])
    order = moved["change"].abs().sort_values(ascending=False, kind="stable").index
    return moved.loc[order].reset_index(drop=True)


_LABELS = {
    BEFORE: ("days before", "上期"),
    VOLUME: ("volume", "运行次数"),
    DURATION: ("duration", "运行时长"),
    SIZE: ("size", "规格"),
    PRICE: ("price", "单价"),
    SPOT: ("spot and discounts", "抢占式与折扣"),
    REWORK: ("rework", "返工"),
    REST: ("rest", "其余"),
    NOW: ("these days", "本期"),
}
_MEANINGS = {
    BEFORE: ("spend of as many days before", "前一个等长时段的支出"),
    VOLUME: ("more or fewer runs, jobs that are new or gone", "运行次数增减、新增或消失的作业"),
    DURATION: ("longer or shorter runs", "每次运行更长或更短"),
    SIZE: ("larger or smaller billed specs", "计费规格更大或更小"),
    PRICE: ("the on-demand price of the same size", "相同规格的按量价格"),
    SPOT: ("what is paid of the on-demand price: spot, savings plans", "实付与按量价之比：抢占式、节省计划"),
    REWORK: ("pods whose work was done again or taken away", "被重试或被回收的 Pod"),
    REST: ("the card's other lines; pods of unknown size or length", "其他费用；规格或时长未知的 Pod"),
    NOW: ("spend of these days", "本期支出"),
}


def label(step: str, scope: Scope) -> str:
    """What a step is called."""
    en, zh = _LABELS[step]
    return scope.text(en=en, zh=zh)


def _steps(scope: Scope, spend: dict[str, float], steps: dict[str, float]) -> pd.DataFrame:
    import pandas as pd

    amounts = {BEFORE: spend[BEFORE], **steps, NOW: spend[NOW]}
    return pd.DataFrame(
        [
            (step, label(step, scope), amount, scope.text(en=_MEANINGS[step][0], zh=_MEANINGS[step][1]))
            for step, amount in amounts.items()
        ],
        columns=["step", "label", "amount", "meaning"],
    )


def _signed(scope: Scope, amount: float) -> str:
    return ("+" if amount >= 0 else "") + scope.money(amount)


def _why_sentence(
    scope: Scope, spend: dict[str, float], steps: dict[str, float], projects: pd.DataFrame, *, known: bool
) -> str:
    if not known:
        return scope.text(
            en="The history has no pods of the days before: nothing to compare with.",
            zh="历史记录中没有上期的 Pod，无法比较。",
        )
    change = spend[NOW] - spend[BEFORE]
    if abs(change) < 0.005:
        return scope.text(en="The spend is what it was in the days before.", zh="支出与上期持平。")
    up = change > 0
    percent = f" ({100 * abs(change) / spend[BEFORE]:.0f} %)" if spend[BEFORE] else ""
    order = sorted(steps, key=lambda step: -abs(steps[step]))
    two = [f"{label(step, scope)} {_signed(scope, steps[step])}" for step in order[:2] if abs(steps[step]) >= 0.005]
    named = _largest(projects).iloc[0] if len(projects) else None
    project = (
        "" if named is None else f"{named['project_path'] or scope.not_allocated} {_signed(scope, named['change'])}"
    )
    return scope.text(
        en=f"Spend {'rose' if up else 'fell'} by {scope.money(abs(change))}{percent}: {', '.join(two)}; "
        f"the project that moved most is {project}.",
        zh=f"支出{'增加' if up else '减少'} {scope.money(abs(change))}{percent}：{'，'.join(two)}；变化最大的项目：{project}。",
    )


def _why_notes(scope: Scope, lines: float) -> tuple[str, ...]:
    method = scope.text(
        en="Taken apart job by job with logarithmic means (LMDI), which leaves no remainder; one vCPU weighs as much as "
        f"{GIB_PER_VCPU} GiB in a size. Whether a job was run again is known where GitLab was asked.",
        zh=f"按作业用对数平均（LMDI）分解，无残差；规格中 1 vCPU 与 {GIB_PER_VCPU} GiB 等重。作业是否重跑以 GitLab 数据为准。",
    )
    if not lines:
        return (method,)
    said = _signed(scope, lines)
    return method, scope.text(
        en=f"Other lines of the card moved by {said}; they are in the rest.", zh=f"其他费用变化 {said}，计入其余。"
    )


# -- who --------------------------------------------------------------------------------------------------------------

MOST = 15
"""Projects that the chart names; the others together are the rest."""


def who(pods: nw.LazyFrame[Any], before: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """Each project's cost beside that of the days before, the dearest first: `project`, `cost`, `before`, `change`, `share`, `pods`.

    The table ends with the rest and with what is not allocated; the part `projects` has every project.
    """
    import pandas as pd

    now, then = _projects(pods), _projects(before)
    every = now.join(then["cost"].rename("before"), how="outer").fillna(0.0)
    every["change"] = every["cost"] - every["before"]
    total = float(every["cost"].sum())
    every["share"] = every["cost"] / total if total else 0.0
    every = every.reset_index().rename(columns={"project_path": "project"})
    every = every.sort_values(["cost", "before", "project"], ascending=[False, False, True], ignore_index=True)
    nameless = every["project"] == ""
    named = every[~nameless]
    tail = [(scope.rest, named.iloc[MOST:]), (scope.not_allocated, every[nameless])]
    sums = [{"project": name, **rows.drop(columns="project").sum().to_dict()} for name, rows in tail if len(rows)]
    table = (
        pd.concat([named.head(MOST), pd.DataFrame(sums, columns=every.columns)], ignore_index=True) if sums else named
    )
    table = table.astype({"pods": "int64"})
    return Answer(
        "who",
        scope.text(en="Whose cost is it?", zh="谁的成本？"),
        _who_sentence(scope, named, total),
        table,
        scope,
        int(every["pods"].sum()),
        parts={"projects": every},
    )


def _projects(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    table = collected(
        pods.group_by("project_path").agg(nw.col("effective_cost").sum().alias("cost"), nw.len().alias("pods")),
        by=["project_path"],
    )
    table["project_path"] = table["project_path"].astype(object).fillna("")
    table["cost"] = table["cost"].astype("float64").fillna(0.0)
    return table.set_index("project_path")


def _who_sentence(scope: Scope, named: pd.DataFrame, total: float) -> str:
    if not total or named.empty:
        return scope.text(en="No cost is known of any project.", zh="没有任何项目的成本数据。")
    top, count = named.iloc[0], int((named["cost"].cumsum() < 0.8 * total).sum()) + 1
    moved = named.iloc[int(named["change"].abs().argmax())]
    count = min(count, len(named))
    en = [f"{top['project']} costs most, {scope.money(top['cost'])} ({100 * top['share']:.0f} %)"]
    zh = [f"{top['project']} 成本最高：{scope.money(top['cost'])}（{100 * top['share']:.0f} %）"]
    if len(named) > 1:
        en.append(f"{count} of {len(named)} projects make up 80 % of the pods' cost")
        zh.append(f"{len(named)} 个项目中 {count} 个占 80 %")
    if named["before"].any():
        en.append(f"{moved['project']} moved most ({_signed(scope, moved['change'])})")
        zh.append(f"{moved['project']} 变化最大（{_signed(scope, moved['change'])}）")
    return scope.text(en="; ".join(en) + ".", zh="；".join(zh) + "。")
