"""The cost review: all questions of the notebooks in one page for the meeting, with the actions it proposes.

    review = pack.review(period.open_period(settings, "2026-11-01", "2026-11-30"))
    review.report.raise_for_failures()

An exhibit that cannot be made does not stop the others: the page names it with its error, and the report fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import html
from runbook.answer import Answer, Scope
from runbook.charts import allocation as draw_allocation
from runbook.charts import always_on as draw_always_on
from runbook.charts import failures as draw_failures
from runbook.charts import headline as draw_headline
from runbook.charts import movers as draw_movers
from runbook.charts import reconcile as draw_reconcile
from runbook.charts import rightsizing as draw_rightsizing
from runbook.charts import sizes as draw_sizes
from runbook.charts import spot as draw_spot
from runbook.charts import startup as draw_startup
from runbook.charts import trend as draw_trend
from runbook.charts import waste as draw_waste
from runbook.clients import connect
from runbook.cost import (
    allocation,
    always_on,
    bill,
    failures,
    headline,
    interruptions,
    movers,
    rightsizing,
    sizes,
    spot,
    startup,
    trend,
    trims,
    waste,
)
from runbook.errors import RunbookError
from runbook.report import Check, Report, Status, text_pairs
from runbook.review import actions, billing, outcomes, page, proposals
from runbook.review.exhibit import exhibit, picture, shown, write_tables
from runbook.review.outcomes import Outcome, Verdict
from runbook.review.page import Failed, Section, Shown

if TYPE_CHECKING:
    import narwhals as nw
    from matplotlib.figure import Figure

    from runbook.eci.prices import PriceBook
    from runbook.review.billing import Compared
    from runbook.review.period import Period
    from runbook.settings import Cost

PAGE = "review.html"
"""File name of the page, in the period's folder."""


@dataclass(frozen=True)
class Asked:
    """What exhibits are made of: pods of the period and of the days before, whose they are, the card's section `cost`.

    `final_until` is the last day whose bill is final, `against_bill` what compares the model with the kept bill.
    """

    pods: nw.LazyFrame[Any]
    earlier: nw.LazyFrame[Any]
    scope: Scope
    cost: Cost
    region: str
    book: PriceBook
    unused: Mapping[date, float]
    final_until: date
    against_bill: Callable[[], Compared]


@dataclass(frozen=True)
class Question:
    """One exhibit: the section it stands in, the question, and its chart (None: only its numbers are written)."""

    section: str
    name: str
    ask: Callable[[Asked], Answer | None]
    draw: Callable[[Answer], Figure] | None = None


QUESTIONS = (
    Question(
        "where",
        "headline",
        lambda a: headline.numbers(
            a.pods,
            a.earlier,
            a.scope,
            other=a.cost.other,
            unused=a.unused,
            budget=a.cost.budget,
            tax_percent=a.cost.tax_percent,
        ),
        draw_headline.strip,
    ),
    Question(
        "where",
        "always-on",
        lambda a: always_on.compared(a.pods, a.scope, card=a.cost.always_on, book=a.book, region=a.region),
        draw_always_on.bars,
    ),
    Question(
        "why", "movers", lambda a: movers.why(a.pods, a.earlier, a.scope, other=a.cost.other), draw_movers.waterfall
    ),
    Question(
        "why", "trend", lambda a: trend.daily(a.pods, a.earlier, a.scope, final_until=a.final_until), draw_trend.daily
    ),
    Question("who", "who", lambda a: movers.who(a.pods, a.earlier, a.scope), draw_movers.who),
    Question(
        "who", "allocation", lambda a: allocation.health(a.pods, a.scope, other=a.cost.other), draw_allocation.bar
    ),
    Question("sizes", "instance-sizes", lambda a: sizes.ladder(a.pods, a.scope), draw_sizes.ladder),
    Question("sizes", "money-used", lambda a: waste.waste(a.pods, a.scope), draw_waste.waste),
    Question("sizes", "size-trims", lambda a: trims.trims(a.pods, a.scope)),
    Question("sizes", "rightsizing", lambda a: rightsizing.advice(a.pods, a.scope), draw_rightsizing.dumbbell),
    Question("spot", "spot-ledger", lambda a: spot.ledger(a.pods, a.scope), draw_spot.ledger),
    Question("spot", "spot-interruptions", lambda a: interruptions.by_hour(a.pods, a.scope), draw_spot.interruptions),
    Question(
        "time",
        "startup-image-caches",
        lambda a: startup.image_caches(a.pods, a.scope, a.cost.other),
        draw_startup.image_caches,
    ),
    Question("failed", "failures", lambda a: failures.pareto(a.pods, a.scope), draw_failures.pareto),
    Question("bill", "model-against-bill", lambda a: a.against_bill().answer, draw_reconcile.by_day),
)
"""The exhibits of the review, in their order on the page."""

TITLES = {
    "where": ("Where are we?", "现状如何？"),
    "why": ("Why did it move, and where does it go?", "为何变化，走向如何？"),
    "who": ("Whose cost is it?", "谁的成本？"),
    "sizes": ("What sizes do we buy, and what is used of them?", "购买了什么规格，用了多少？"),
    "spot": ("Does spot pay?", "抢占式实例划算吗？"),
    "time": ("What do starts cost, and do image caches pay?", "启动花多少钱，镜像缓存划算吗？"),
    "failed": ("What did failed work cost?", "失败的工作花了多少钱？"),
    "bill": ("Does the model agree with the bill?", "模型与账单一致吗？"),
}


@dataclass(frozen=True)
class Review:
    """A finished review: its page, the answers on it and their drawings, what it says of each action, and its checks."""

    scope: Scope
    page: Path
    answers: Mapping[str, Answer]
    shown: tuple[Shown, ...]
    decided: Answer
    outcomes: tuple[Outcome, ...]
    report: Report

    @property
    def actions(self) -> Answer:
        """What is proposed and what became of what was decided, with the columns that a person reads."""
        return outcomes.short(self.decided)

    def summary(self) -> dict[str, str]:
        """Where the page is, and the sentences of its exhibits."""
        said = {name: answer.sentence for name, answer in self.answers.items()}
        return {"page": shown(self.page), "numbers": f"{shown(self.page.parent)}/*.csv"} | said

    def __str__(self) -> str:
        return text_pairs(f"Cost review of cluster {self.scope.cluster}, {self.scope.window}", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title = f"Cost review of cluster <b>{escape(self.scope.cluster)}</b>, {escape(self.scope.window)}"
        charts = "".join(f"<p>{picture(one.answer, one.svg)}</p>" for one in self.shown)
        return html.block(html.pairs(self.report.facts) + charts, title=title)


def review(
    pods: Period,
    *,
    now: datetime | None = None,
    questions: Sequence[Question] = QUESTIONS,
) -> Review:
    """Ask every question of the period, write page, charts, tables and proposals into its folder, and read the register.

    `now` is the moment by which a bill counts as final (None: the clock's). Raises nothing for an exhibit or a register that
    fails: they are on the page, and the report fails.
    """
    moment = now or connect.clock().now()
    settings, scope = pods.settings, pods.scope
    asked = Asked(
        pods.frame, pods.earlier, scope, settings.cost, settings.region, pods.book, pods.unused_plans,
        bill.final_until(moment), lambda: billing.against_bill(pods, now=moment),
    )  # fmt: skip
    made = _all_made(questions, asked, pods)
    answers = {name: answer for _, (name, answer, _) in made if answer is not None}
    history = outcomes.Pods(pods.earlier, pods.frame, scope)
    proposed = proposals.proposed(answers, scope, history)
    register, unreadable = _register(pods)
    became = tuple(outcomes.became(register, proposed, history))
    decided = outcomes.table(became, scope)
    write_tables(decided, pods.folder)
    (pods.folder / actions.PROPOSED).write_text(
        actions.as_yaml([one for one in proposed if one.id not in register], scope), encoding="utf-8"
    )
    failed = [one for _, (_, _, one) in made if isinstance(one, Failed)]
    path = pods.folder / PAGE
    checks = (*pods.report.checks, *_checks(path, failed, unreadable, became))
    page.write(_contents(pods, made, decided, checks, moment, asked.final_until), path)
    facts = {"page": shown(path), "numbers": f"{shown(path.parent)}/*.csv"}
    drawn = tuple(one for _, (_, _, one) in made if isinstance(one, Shown))
    return Review(scope, path, answers, drawn, decided, became, Report(f"Cost review of {scope.window}", checks, facts))


# -- exhibits ---------------------------------------------------------------------------------------------------------

Made = tuple[str, Answer | None, Shown | Failed | None]
"""An exhibit's name, its answer, and what the page shows of it; None where there is nothing to ask or to draw."""


def _all_made(questions: Sequence[Question], asked: Asked, pods: Period) -> list[tuple[Question, Made]]:
    """Every exhibit; while one is drawn here, another thread asks the next question of the engine, one at a time."""
    with ThreadPoolExecutor(max_workers=1) as asking:
        answers = [asking.submit(question.ask, asked) for question in questions]
        return [(question, _made(question, answer, pods)) for question, answer in zip(questions, answers, strict=True)]


def _made(question: Question, asked: Future[Answer | None], pods: Period) -> Made:
    """Wait for the answer and draw it; whatever goes wrong is shown in the exhibit's place, and does not reach the others."""
    answer: Answer | None = None
    try:
        answer = asked.result()
        if answer is None:
            return question.name, None, None
        if question.draw is None:
            write_tables(answer, pods.folder)
            return question.name, answer, None
        drawn = exhibit(answer, question.draw, pods)
    except Exception as error:  # a fault of any kind is an exhibit less, named on the page and in the report
        return question.name, answer, Failed(question.name, _told(error))
    files = tuple(path.name for path in drawn.files if path.suffix == ".csv")
    return question.name, answer, Shown(answer, drawn.svg, files, _below(question.name, answer))


def _told(error: Exception) -> str:
    """The error's own page; of one that is no page, its kind and where it came from, for whoever mends it."""
    if isinstance(error, RunbookError):
        return str(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f"{Path(last.tb_frame.f_code.co_filename).name}, line {last.tb_lineno}" if last is not None else "unknown"
    return f"{type(error).__name__}: {error}\n  where:   {where}\n  do:      This is a fault of the runbook: report it with these lines."


def _below(name: str, answer: Answer) -> str:
    return page.cost_lines(answer.parts["costs"], answer.scope) if name == "headline" else ""


def _contents(
    pods: Period,
    made: list[tuple[Question, Made]],
    decided: Answer,
    checks: tuple[Check, ...],
    moment: datetime,
    final_until: date,
) -> page.Contents:
    scope = pods.scope
    sections = []
    for id, (en, zh) in TITLES.items():
        exhibits = tuple(one for question, (_, _, one) in made if question.section == id and one is not None)
        if exhibits:
            sections.append(Section(id, scope.text(en=en, zh=zh), exhibits))
    noted = [(one.status.value, one.title, one.observed) for one in checks if one.status in (Status.FAIL, Status.WARN)]
    return page.Contents(
        scope, scope.text(en=f"made {moment:%Y-%m-%d %H:%M} UTC", zh=f"生成于 {moment:%Y-%m-%d %H:%M} UTC"),
        _banner(scope, final_until), tuple(sections), decided, pods.quality, pods.report.facts, noted,
    )  # fmt: skip


def _banner(scope: Scope, final_until: date) -> str:
    if scope.last <= final_until:
        return ""
    final_on = bill.month_is_final(scope.last).date()
    return scope.text(
        en=f"Bill not final: until {final_on} the bill of these days may change. Amounts are what the model says of the pods.",
        zh=f"账单未定：{final_on} 之前账单仍可能变化。金额为模型按 Pod 估算。",
    )


# -- register and checks ----------------------------------------------------------------------------------------------


def _register(pods: Period) -> tuple[actions.Register, RunbookError | None]:
    """The register; where it cannot be read, an empty one and why."""
    cluster = pods.settings.name
    try:
        return actions.read(actions.place(pods.settings.cost.reviews, cluster), cluster), None
    except RunbookError as error:
        return actions.Register(cluster=cluster), error


def _checks(
    path: Path, failed: list[Failed], unreadable: RunbookError | None, became: tuple[Outcome, ...]
) -> Iterator[Check]:
    title = "Every exhibit of the review could be made"
    if failed:
        errors = "\n".join(f"{one.name}: {one.error}" for one in failed)
        yield Check.failed("review-exhibits", title, errors, remedy=f"The page shows the others: {shown(path)}")
    else:
        yield Check.passed("review-exhibits", title, shown(path))
    yield _readable(unreadable)
    yield _owned(became)
    yield _worked(became)


def _readable(unreadable: RunbookError | None) -> Check:
    title = "The action register can be read"
    if unreadable is None:
        return Check.passed("review-register", title)
    return Check.failed("review-register", title, str(unreadable), remedy="Correct it, and make the review again.")


def _owned(became: tuple[Outcome, ...]) -> Check:
    title = "Every open action of the register has an owner"
    nobody = [one.action for one in became if one.verdict is Verdict.OPEN and not one.action.owner.strip()]
    if not nobody:
        return Check.passed("review-owners", title)
    return Check.warned(
        "review-owners", title, "\n".join(f"{action.id}: {action.what}" for action in nobody),
        expected="a name", remedy="Write owner: in the register.",
    )  # fmt: skip


def _worked(became: tuple[Outcome, ...]) -> Check:
    title = "What was done shows in the data"
    hidden = [one for one in became if one.verdict in (Verdict.UNCLEAR, Verdict.DEARER, Verdict.NO_BASELINE)]
    if not hidden:
        return Check.passed("review-savings", title)
    return Check.warned(
        "review-savings", title, "\n".join(f"{one.action.id}: {one.sentence}" for one in hidden),
        expected="a saving whose interval is above zero", remedy="Look at the cohort, or take the action back.",
    )  # fmt: skip
