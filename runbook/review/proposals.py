"""What a review proposes to do, from the answers of all notebooks: each with money a month, an interval, risk and effort.

An action's id is made of its kind and of whose cost it changes, so that the next review knows it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runbook.answer import Answer, Scope
from runbook.cost import allocation, failures
from runbook.cost.job_sizes import Verdict as Size
from runbook.cost.sizes import size_text
from runbook.cost.trims import DAYS_A_MONTH, FITS, TOO_SMALL, less_text
from runbook.review.actions import Action, Cohort, Money
from runbook.review.outcomes import Pods

if TYPE_CHECKING:
    import pandas as pd

MOST = 10
"""Actions that save money and are proposed by one review: a meeting decides on no more."""

WORTH = 0.005
"""The part of the pods' cost that an action must save to be proposed."""

TRY_SPOT = 3
"""Projects without spot that are proposed to try it: the dearest."""

ENOUGH_PULLS = 20
"""Pulls of an image without a cache before a cache is proposed."""

FAILURE_ADVICE: dict[str, tuple[str, str, str, str]] = {
    "out_of_memory": ("give {who} more memory, or find what leaks", "为 {who} 增加内存，或查找泄漏", "low", "small"),
    "image_pull": ("make the images of {who} pullable: name, credentials, mirror", "修复 {who} 的镜像拉取：名称、凭证、镜像源", "low", "medium"),
    "reclaimed": ("retry reclaimed jobs of {who} by rule, or take the long ones off spot", "为 {who} 被回收的作业设置重试，或长作业不用抢占式", "low", "small"),
    "pending_limit": ("find what keeps the pods of {who} pending: image size, volumes", "查找 {who} 的 Pod 长时间等待的原因：镜像、存储卷", "low", "medium"),
    "runner_system_failure": ("read the runner's log for {who}: system failures", "查看 Runner 日志：{who} 的系统故障", "low", "medium"),
    "stuck_or_timeout_failure": ("set shorter timeouts for {who}", "为 {who} 设置更短的超时", "low", "small"),
    "job_execution_timeout": ("set shorter timeouts for {who}, or split the job", "为 {who} 缩短超时或拆分作业", "medium", "medium"),
}  # fmt: skip
"""What to do about failed work by reason; a script that failed is the team's own business."""


def proposed(answers: Mapping[str, Answer], scope: Scope, pods: Pods) -> tuple[Action, ...]:
    """The actions that the answers suggest, what saves most first; each with the baseline it will be measured against.

    `answers` by their names (`rightsizing`, `size-trims`, `spot-ledger`, `startup-image-caches`, `failures`, `allocation`, `who`);
    what is missing suggests nothing.
    """
    found: dict[str, Action] = {}
    for name, make in _MAKERS.items():
        if name in answers and len(answers[name].table):
            for action in make(answers[name], scope, answers):
                found.setdefault(_whose(action), action)
    least = WORTH * _spent(answers) * DAYS_A_MONTH / scope.days
    worth = [one for one in found.values() if one.money_a_month is None or one.money_a_month.likely >= least > 0]
    worth.sort(key=lambda one: (-(one.money_a_month.likely if one.money_a_month else 0.0), one.id))
    saving = [one for one in worth if one.money_a_month is not None][:MOST]
    others = [one for one in worth if one.money_a_month is None]
    return tuple(_with_baseline(one, scope, pods) for one in [*saving, *others])


def _whose(action: Action) -> str:
    """Two ways to change the size of one job are one action: the first one found."""
    kind = action.id.split("-")[0]
    return action.id if kind not in ("size", "trim") else f"{action.cohort.project} {action.cohort.job}"


def _spent(answers: Mapping[str, Answer]) -> float:
    return float(answers["who"].table["cost"].sum()) if "who" in answers else 0.0


def _with_baseline(action: Action, scope: Scope, pods: Pods) -> Action:
    baseline = pods.baseline(action.cohort, scope.first, scope.last)
    return action.model_copy(update={"cohort": action.cohort.model_copy(update={"baseline": baseline})})


def slug(*parts: str) -> str:
    """`size`, `grp/demo`, `unit tests` become `size-grp-demo-unit-tests`; a name with other letters gets a mark of its own."""
    name = " ".join(parts)
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    mark = "" if name.isascii() else f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return words[: 100 - len(mark)].strip("-") + mark


def _action(kind: str, names: Sequence[str], what: str, money: Money | None, scope: Scope, **more: Any) -> Action:
    return Action(id=slug(kind, *names), what=what, proposed=scope.last, money_a_month=money, **more)


def _money(low: float, likely: float, high: float) -> Money:
    return Money(low=round(min(low, likely), 2), likely=round(likely, 2), high=round(max(high, likely), 2))


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


# -- one maker an answer ----------------------------------------------------------------------------------------------


def _rightsizing(answer: Answer, scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Action]:
    for row in _rows(answer.table[answer.table["verdict"] == Size.SMALLER]):
        if not row["saves_a_month"] > 0 or not isinstance(row["project"], str):
            continue
        was, new = size_text(row["billed_vcpu"], row["billed_memory_gib"]), size_text(
            row["recommended_vcpu"], row["recommended_memory_gib"]
        )  # fmt: skip
        names, worst = (row["project"], row["job_name"]), row["hits_high"]
        what = scope.text(
            en=f"{names[0]}, {names[1]}: {was} → {new}; {row['hits']:.0f} of {row['measured']:.0f} measured runs needed more memory",
            zh=f"{names[0]}，{names[1]}：{was} → {new}；{row['measured']:.0f} 次实测中 {row['hits']:.0f} 次需要更多内存",
        )
        risk = "low" if worst <= 0.02 else "medium" if worst <= 0.1 else "high"
        money = _money(row["saves_low"], row["saves_a_month"], row["saves_high"])
        cohort = Cohort(project=names[0], job=names[1])
        yield _action("size", names, what, money, scope, risk=risk, effort="small", cohort=cohort)


def _trims(answer: Answer, scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Action]:
    for row in _rows(answer.table[answer.table["verdict"] != TOO_SMALL]):
        names = (row["project"], row["job_name"])
        if not row["saves_a_month"] > 0 or not all(isinstance(name, str) for name in names):
            continue
        less, new = (
            less_text(row["less_vcpu"], row["less_memory_gib"]),
            size_text(row["next_vcpu"], row["next_memory_gib"]),
        )
        what = scope.text(
            en=f"{names[0]}, {names[1]}: ask for {less} less, which is billed as {new}",
            zh=f"{names[0]}，{names[1]}：少申请 {less}，即按 {new} 计费",
        )
        doubt = row["saves_a_month"] * 1.96 / max(row["pods"], 1) ** 0.5
        money = _money(row["saves_a_month"] - doubt, row["saves_a_month"], row["saves_a_month"] + doubt)
        risk = "low" if row["verdict"] == FITS else "medium"
        cohort = Cohort(project=names[0], job=names[1])
        yield _action("trim", names, what, money, scope, risk=risk, effort="small", cohort=cohort)


def _spot(answer: Answer, scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Action]:
    """Spot off where it lost money for sure; spot tried by the dearest projects without it, where it pays for the others."""
    month = DAYS_A_MONTH / scope.days
    table = answer.table[answer.table["project"] != scope.not_allocated]
    for row in _rows(table[table["net_high"] < 0]):
        what = scope.text(en=f"{row['project']}: no spot, it lost money", zh=f"{row['project']}：停用抢占式，当前亏损")
        money = _money(
            -row["net_high"] * month, -(row["net_low"] + row["net_high"]) / 2 * month, -row["net_low"] * month
        )
        yield _action("no-spot", [row["project"]], what, money, scope, risk="low", effort="small",
                      cohort=Cohort(project=row["project"]))  # fmt: skip
    worth, low, high = (float(table[name].sum()) for name in ("on_demand", "net_low", "net_high"))
    if "who" not in answers or worth <= 0 or low <= 0:
        return
    without = answers["who"].parts["projects"]
    without = without[~without["project"].isin(table["project"]) & (without["project"] != "")].head(TRY_SPOT)
    for row in _rows(without):
        cost = row["cost"] * month
        what = scope.text(
            en=f"{row['project']}: try spot for jobs that can be retried; the others save {low / worth:.0%} of the on-demand price, net",
            zh=f"{row['project']}：可重试的作业试用抢占式；其他项目净省按量价的 {low / worth:.0%}",
        )
        money = _money(0.0, cost * low / worth, cost * high / worth)
        yield _action("try-spot", [row["project"]], what, money, scope, risk="medium", effort="small",
                      cohort=Cohort(project=row["project"]))  # fmt: skip


def _caches(answer: Answer, scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Action]:
    """A cache for images that are pulled without one, as far as caches of other images show what one saves."""
    table = answer.table
    cached = table[table["cached"] > 0]
    seconds = float(table["seconds_saved"].sum())
    if cached.empty or seconds <= 0:
        return
    usual = float((cached["cached_seconds"] * cached["cached"]).sum() / cached["cached"].sum())
    second = float(table["saved"].sum()) / seconds
    for row in _rows(table[(table["cached"] == 0) & (table["uncached"] >= ENOUGH_PULLS)]):
        likely = row["uncached"] * (row["uncached_seconds"] - usual) * second * DAYS_A_MONTH / scope.days
        if likely <= 0 or not isinstance(row["image"], str):
            continue
        what = scope.text(
            en=f"Make an image cache for {row['image']}: {row['uncached']:,.0f} pulls of {row['uncached_seconds']:.0f} s; with a "
            f"cache others take {usual:.0f} s",
            zh=f"为 {row['image']} 制作镜像缓存：{row['uncached']:,.0f} 次拉取，平均 {row['uncached_seconds']:.0f} 秒；有缓存约 {usual:.0f} 秒",
        )
        yield _action("cache", [row["image"]], what, _money(likely / 2, likely, likely), scope, risk="low", effort="small",
                      cohort=Cohort(image=row["image"]))  # fmt: skip


def _failures(answer: Answer, scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Action]:
    """What can be done about failures of one kind; between none and all of their money is saved, half of it is planned with."""
    month = DAYS_A_MONTH / scope.days
    for row in _rows(answer.parts["projects"]):
        advice = FAILURE_ADVICE.get(row["reason"])
        if advice is None or not row["project_path"]:
            continue
        en, zh, risk, effort = advice
        who, cost = row["project_path"], row["cost"] * month
        label = failures.label(row["reason"], scope)
        what = f"{label}: {scope.text(en=en, zh=zh).format(who=who)}"
        cohort = Cohort(project=who, reason=row["reason"], per="day")
        yield _action("failed", [row["reason"], who], what, _money(0.0, cost / 2, cost), scope, risk=risk, effort=effort,
                      cohort=cohort)  # fmt: skip


def _allocation(answer: Answer, scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Action]:
    nobody = answer.table.set_index("kind").loc[allocation.NOBODY]
    if nobody["share"] <= 0.01:
        return
    what = scope.text(
        en=f"Let every runner mark its pods: {nobody['pods']:,.0f} pods, {nobody['share']:.1%} of the spend, have no project",
        zh=f"让每个 Runner 标记 Pod：{nobody['pods']:,.0f} 个 Pod（支出的 {nobody['share']:.1%}）没有项目",
    )
    yield _action(
        "allocate", ["pods"], what, None, scope, risk="low", effort="small", cohort=Cohort(allocated=False, per="day")
    )


_MAKERS: dict[str, Callable[[Answer, Scope, Mapping[str, Answer]], Iterator[Action]]] = {
    "rightsizing": _rightsizing,
    "size-trims": _trims,
    "spot-ledger": _spot,
    "startup-image-caches": _caches,
    "failures": _failures,
    "allocation": _allocation,
}
"""What each answer suggests. Those that come first win where two change the size of one job."""
