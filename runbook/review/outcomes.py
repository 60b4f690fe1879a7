"""What became of each action: whether what it was to save shows in what its pods cost since.

A cohort's mean cost (of a run, or of a day) since the action is held against its baseline, with the 95 % interval of the difference
of two means. It says what the pods cost, not why: a job that also grew longer hides a saving.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import failures
from runbook.cost.collected import collected
from runbook.cost.trims import DAYS_A_MONTH
from runbook.review.actions import Action, Baseline, Cohort, Money, Register, Status

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = {"run": 20, "day": 7}
"""Runs or days that each side needs before they are compared."""

SURE = 1.96
"""Standard errors on each side of a 95 % interval."""


class Verdict(StrEnum):
    """What became of an action."""

    PROPOSED = "proposed"
    OPEN = "open"
    REJECTED = "rejected"
    SAVED = "saved"
    UNCLEAR = "not seen"
    DEARER = "dearer"
    EARLY = "too early"
    NO_BASELINE = "no baseline"


@dataclass(frozen=True)
class Outcome:
    """An action, what became of it, what it saves a month as measured (for done ones), and a sentence."""

    action: Action
    verdict: Verdict
    sentence: str
    measured: Money | None = None


class Pods:
    """The pods of a period and of the days before it, day by day, for any cohort."""

    def __init__(self, earlier: nw.LazyFrame[Any], pods: nw.LazyFrame[Any], scope: Scope) -> None:
        self.frames, self.scope = (earlier, pods), scope
        self._asked: dict[tuple[int, Cohort], pd.DataFrame] = {}

    def baseline(self, cohort: Cohort, first: date, last: date) -> Baseline | None:
        """What the cohort cost a run or a day from `first` to `last`; None where it did not run, or nobody knows its cost."""
        import pandas as pd

        first, last = max(first, self.scope.before.first), min(last, self.scope.last)
        if first > last:
            return None
        spans = (self.scope.before.last, self.scope.last)
        asked = [number for number, end in enumerate(spans) if first <= end]
        days = pd.concat([self._days(number, cohort) for number in asked], ignore_index=True)
        days = days[(days["day"] >= pd.Timestamp(first)) & (days["day"] <= pd.Timestamp(last))]
        if cohort.per == "day":
            return self._of_days(days, first, last)
        count, total, squares = (float(days[name].sum()) for name in ("runs", "cost", "squares"))
        if not count:
            return None
        mean = total / count
        spread = max(squares - count * mean**2, 0.0) / max(count - 1, 1)
        return Baseline(mean=mean, error=math.sqrt(spread / count), count=int(count), first=first, last=last)

    def _days(self, number: int, cohort: Cohort) -> pd.DataFrame:
        """The days of the cohort in one of the frames. Those of all jobs are asked once: most cohorts are jobs."""
        keys = ("project_path", "job_name")
        narrow = Cohort(image=cohort.image, reason=cohort.reason, allocated=cohort.allocated)
        if (number, narrow) not in self._asked:
            self._asked[number, narrow] = _by_day(_narrowed(self.frames[number], narrow), *keys)
        rows = self._asked[number, narrow]
        for name, value in zip(keys, (cohort.project, cohort.job), strict=True):
            if value is not None:
                rows = rows[rows[name] == value]
        return rows.groupby("day", as_index=False)[["runs", "cost", "squares"]].sum()

    def _of_days(self, days: pd.DataFrame, first: date, last: date) -> Baseline | None:
        if self._first_day is None or self._first_day > last:
            return None
        begin = max(self._first_day, first)
        count = (last - begin).days + 1
        costs = [*days["cost"].tolist(), *[0.0] * (count - len(days))]
        mean = math.fsum(costs) / count
        spread = math.fsum((cost - mean) ** 2 for cost in costs) / max(count - 1, 1)
        return Baseline(mean=mean, error=math.sqrt(spread / count), count=count, first=begin, last=last)

    @functools.cached_property
    def _first_day(self) -> date | None:
        """The first day that has pods: days before it are unknown, not free."""
        firsts = [collected(frame.select(nw.col("day").min()))["day"].iloc[0] for frame in self.frames]
        return min((day.date() for day in firsts if day == day and day is not None), default=None)

    def runs_a_month(self, cohort: Cohort, measured: Baseline) -> float:
        """By how many a mean is multiplied to be money a month."""
        if cohort.per == "day":
            return DAYS_A_MONTH
        return measured.count / ((measured.last - measured.first).days + 1) * DAYS_A_MONTH


def _by_day(pods: nw.LazyFrame[Any], *keys: str) -> pd.DataFrame:
    """`day` and `keys`, `runs` with a known cost, their `cost`, and the sum of its `squares`."""
    cost = nw.col("effective_cost")
    by = ["day", *keys]
    return collected(
        pods.filter(~cost.is_null())
        .with_columns(squares=cost * cost)
        .group_by(*by)
        .agg(nw.len().alias("runs"), cost.sum().alias("cost"), nw.col("squares").sum()),
        by=by,
    )


def _narrowed(pods: nw.LazyFrame[Any], cohort: Cohort) -> nw.LazyFrame[Any]:
    """The pods of the cohort as far as image, reason and allocation tell."""
    if cohort.image is not None:
        pods = pods.filter(nw.col("image") == cohort.image)
    if cohort.reason is not None:
        pods = pods.with_columns(reason=failures.reason()).filter(nw.col("reason") == cohort.reason)
    if cohort.allocated is not None:
        unknown = nw.col("project_path").is_null()
        pods = pods.filter(~unknown if cohort.allocated else unknown)
    return pods


def became(register: Register, proposals: Sequence[Action], pods: Pods) -> list[Outcome]:
    """What became of each action of the register, done ones first; then what is proposed and not in it."""
    proposed = {action.id: action for action in proposals}
    order = [Status.DONE, Status.OPEN, Status.REJECTED]
    written = sorted(register.actions, key=lambda action: (order.index(action.status), -_likely(action)))
    known = [_outcome(action, proposed.get(action.id), pods) for action in written]
    scope = pods.scope
    say = scope.text(en="new: nobody has decided yet", zh="新建议：尚未决定")
    fresh = [Outcome(action, Verdict.PROPOSED, say) for action in proposals if action.id not in register]
    return [*known, *fresh]


def _likely(action: Action) -> float:
    return action.money_a_month.likely if action.money_a_month else 0.0


def _outcome(action: Action, again: Action | None, pods: Pods) -> Outcome:
    text = pods.scope.text
    if action.status is Status.REJECTED:
        return Outcome(action, Verdict.REJECTED, text(en=f"rejected: {action.because}", zh=f"已否决：{action.because}"))
    if action.status is Status.DONE and action.done is not None:
        return _measured(action, action.done, pods)
    if again is not None and again.money_a_month is not None:
        now = pods.scope.money(again.money_a_month.likely)
        return Outcome(
            action, Verdict.OPEN, text(en=f"open: would now save {now} a month", zh=f"未完成：目前每月可省 {now}")
        )
    return Outcome(action, Verdict.OPEN, text(en="open: these days do not propose it again", zh="未完成：本期不再建议"))


def _measured(action: Action, done: date, pods: Pods) -> Outcome:
    cohort, scope = action.cohort, pods.scope
    before = cohort.baseline or pods.baseline(cohort, scope.before.first, done - timedelta(days=1))
    since = pods.baseline(cohort, done, scope.last)
    need = ENOUGH[cohort.per]
    unit = scope.text(en=f"{cohort.per}s", zh="次运行" if cohort.per == "run" else "天")
    if before is None:
        say = scope.text(en="done: what it cost before is not known", zh="已完成：此前成本未知")
        return Outcome(action, Verdict.NO_BASELINE, say)
    if since is None or min(since.count, before.count) < need:
        have = f"{before.count} + {since.count if since else 0}"
        say = scope.text(
            en=f"done on {done}: too early to tell ({have} {unit}, {need} are needed on each side)",
            zh=f"{done} 完成：为时过早（{have} {unit}，前后各需 {need}）",
        )
        return Outcome(action, Verdict.EARLY, say)
    saved = _saved(before, since, pods.runs_a_month(cohort, since))
    verdict = Verdict.SAVED if saved.low > 0 else Verdict.DEARER if saved.high < 0 else Verdict.UNCLEAR
    return Outcome(action, verdict, _said(verdict, done, saved, before, since, scope, cohort), saved)


def _saved(before: Baseline, since: Baseline, times: float) -> Money:
    """Money a month: the difference of the means with its 95 % interval, times runs or days a month."""
    likely = before.mean - since.mean
    doubt = SURE * math.hypot(before.error, since.error)
    return Money(low=(likely - doubt) * times, likely=likely * times, high=(likely + doubt) * times)


def _said(
    verdict: Verdict, done: date, saved: Money, before: Baseline, since: Baseline, scope: Scope, cohort: Cohort
) -> str:
    money = scope.money
    word = {
        Verdict.SAVED: scope.text(en="saves", zh="每月节省"),
        Verdict.DEARER: scope.text(en="costs more: saves", zh="反而更贵：每月节省"),
        Verdict.UNCLEAR: scope.text(en="not seen in the data: saves", zh="数据中看不出：每月节省"),
    }[verdict]
    unit = scope.text(en=f"a {cohort.per}", zh="每次" if cohort.per == "run" else "每天")
    between = f"{money(saved.low)} … {money(saved.high)}"
    means = f"{money(before.mean)} → {money(since.mean)}"
    return scope.text(
        en=f"done on {done}: {word} {money(saved.likely)} a month ({between}); {unit} {means}, n = {before.count:,} and {since.count:,}",
        zh=f"{done} 完成：{word} {money(saved.likely)}（{between}）；{unit} {means}，n = {before.count:,} 与 {since.count:,}",
    )


COLUMNS = (
    "id", "what", "owner", "low", "likely", "high", "risk", "effort", "status", "done", "verdict", "measured_low",
    "measured", "measured_high", "became",
)  # fmt: skip


def table(outcomes: Sequence[Outcome], scope: Scope) -> Answer:
    """The actions as an answer: a row each, money a month as expected and, of done ones, as measured."""
    import pandas as pd

    def amounts(money: Money | None) -> list[float]:
        return [math.nan] * 3 if money is None else [money.low, money.likely, money.high]

    rows = []
    for one in outcomes:
        action = one.action
        expected, measured = amounts(action.money_a_month), amounts(one.measured)
        done = pd.Timestamp(action.done) if action.done else pd.NaT
        rows.append(
            (action.id, action.what, action.owner, *expected, action.risk, action.effort, action.status.value, done,
             one.verdict.value, *measured, one.sentence)
        )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return Answer(
        "actions",
        scope.text(en="What do we do?", zh="我们做什么？"),
        _sentence(outcomes, scope),
        frame,
        scope,
        len(outcomes),
        unit=scope.text(en="actions", zh="项"),
        notes=(
            scope.text(
                en="Money a month, before tax; actions that change the same pods overlap. Measured: mean cost of the action's pods since it was done against before, with a 95 % "
                "interval; it says what they cost, not why.",
                zh="每月金额，税前；涉及相同 Pod 的建议会重叠。实测：完成后与之前的平均成本之差及 95 % 区间；只说明成本，不说明原因。",
            ),
        ),
    )


def short(answer: Answer) -> Answer:
    """The answer of `table` with the columns that a person reads: what, owner, money a month, risk and effort, what became of it."""
    import pandas as pd

    heads = answer.scope.text(
        en="what,owner,money a month,risk,effort,what became of it", zh="内容,负责人,每月金额,风险,工作量,结果"
    ).split(",")
    rows = [
        (
            row["what"],
            row["owner"] or "—",
            _interval(row["low"], row["likely"], row["high"]),
            row["risk"],
            row["effort"],
            row["became"],
        )
        for row in answer.table.to_dict("records")
    ]
    return replace(answer, table=pd.DataFrame(rows, columns=heads))


def _interval(low: float, likely: float, high: float) -> str:
    """`12.00 (8.00 … 15.00)`; nothing where no money is expected."""
    if math.isnan(likely):
        return "—"
    return f"{likely:,.2f}" + ("" if low == high else f" ({low:,.2f} … {high:,.2f})")


def _sentence(outcomes: Sequence[Outcome], scope: Scope) -> str:
    def those(*verdicts: Verdict) -> list[Outcome]:
        return [one for one in outcomes if one.verdict in verdicts]

    new, waiting, rejected = those(Verdict.PROPOSED), those(Verdict.OPEN), those(Verdict.REJECTED)
    done, seen = [one for one in outcomes if one.action.status is Status.DONE], those(Verdict.SAVED)
    money, saved = sum(_likely(one.action) for one in new), sum(one.measured.likely for one in seen if one.measured)
    en, zh = [], []
    if new:
        en.append(f"{len(new)} new, up to {scope.money(money)} a month together")
        zh.append(f"新建议 {len(new)} 项，合计每月至多 {scope.money(money)}")
    if waiting:
        en.append(f"{len(waiting)} open")
        zh.append(f"未完成 {len(waiting)} 项")
    if done:
        amount = scope.text(en=f", {scope.money(saved)} a month", zh=f"，每月 {scope.money(saved)}") if seen else ""
        en.append(f"{len(done)} done, of which {len(seen)} show{'s' * (len(seen) == 1)} in the data{amount}")
        zh.append(f"已完成 {len(done)} 项，其中 {len(seen)} 项见效{amount}")
    if rejected:
        en.append(f"{len(rejected)} rejected")
        zh.append(f"否决 {len(rejected)} 项")
    if not outcomes:
        return scope.text(en="Nothing is proposed, and the register is empty.", zh="没有建议，登记表为空。")
    return scope.text(en="; ".join(en) + ".", zh="；".join(zh) + "。")
