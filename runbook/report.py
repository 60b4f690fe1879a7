"""What a notebook found out: checks with their verdicts, as a value with a face in JupyterLab and one in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from html import escape

from runbook import html
from runbook.errors import TROUBLESHOOTING, ChecksFailed


class Status(StrEnum):
    """The four answers of a check."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


_MARK = {Status.PASS: "✔", Status.WARN: "!", Status.FAIL: "✘", Status.SKIP: "–"}
_COLOUR = {Status.PASS: html.GREEN, Status.WARN: html.AMBER, Status.FAIL: html.RED, Status.SKIP: html.GREY}


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be read, and why. It is not the same as a fact that is absent."""

    reason: str

    def __str__(self) -> str:
        return f"unknown ({self.reason})"


@dataclass(frozen=True)
class Check:
    """One question with its answer.

    `title` is the sentence that is true when all is well; `observed` what was seen; `expected` what should have been;
    `remedy` what to do, ready to be copied. `id` is also the heading of its page in notebooks/troubleshooting.md.
    """

    id: str
    title: str
    status: Status
    observed: str = ""
    expected: str = ""
    remedy: str = ""

    @property
    def page(self) -> str:
        return f"{TROUBLESHOOTING}#{self.id}"

    @classmethod
    def passed(cls, id: str, title: str, observed: str = "") -> Check:
        return cls(id, title, Status.PASS, observed)

    @classmethod
    def warned(cls, id: str, title: str, observed: str, *, expected: str = "", remedy: str = "") -> Check:
        return cls(id, title, Status.WARN, observed, expected, remedy)

    @classmethod
    def failed(cls, id: str, title: str, observed: str, *, expected: str = "", remedy: str = "") -> Check:
        return cls(id, title, Status.FAIL, observed, expected, remedy)

    @classmethod
    def skipped(cls, id: str, title: str, reason: str) -> Check:
        return cls(id, title, Status.SKIP, reason)


@dataclass(frozen=True)
class Report:
    """The checks of one notebook in the order they were made; `facts` are name and value pairs shown above them."""

    title: str
    checks: Sequence[Check]
    facts: Mapping[str, str] = field(default_factory=dict)
    outcome: str = ""
    """What became of a plan, in a few words: `nothing to change`, `3 created`. Part of the verdict."""

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if check.status is Status.FAIL]

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def verdict(self) -> str:
        """`green; nothing to change`, `green, 1 warning`, `2 of 9 checks failed`: what a table of notebooks shows."""
        count = {status: sum(check.status is status for check in self.checks) for status in Status}
        if count[Status.FAIL]:
            return f"{count[Status.FAIL]} of {len(self.checks)} checks failed"
        notes = [
            f"{number} {word}{'s' if number > 1 and word == 'warning' else ''}"
            for number, word in ((count[Status.WARN], "warning"), (count[Status.SKIP], "skipped"))
            if number
        ]
        return ", ".join(["green", *notes]) + (f"; {self.outcome}" if self.outcome else "")

    def __getitem__(self, id: str) -> Check:
        return next(check for check in self.checks if check.id == id)

    def raise_for_failures(self) -> Report:
        """Raise ChecksFailed when a check failed, so that papermill and its scheduler end non-zero; else return self."""
        if self.ok:
            return self
        raise ChecksFailed(f"{self.title}: {self.verdict}.", str(self))

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON: title, verdict, facts, checks."""
        return {
            "title": self.title,
            "verdict": self.verdict,
            "facts": dict(self.facts),
            "checks": [asdict(check) | {"status": check.status.value} for check in self.checks],
        }

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.verdict}"]
        width = max((len(name) for name in self.facts), default=0)
        lines += [f"    {name:<{width}}  {value}" for name, value in self.facts.items()]
        for check in self.checks:
            lines.append(f"  {_MARK[check.status]} {check.status.value:<4}  {check.title}")
            lines += _indented(check.observed, " " * 10)
            if check.status in (Status.WARN, Status.FAIL):
                lines += _indented(check.expected, " " * 10, "expected: ")
                lines += _indented(check.remedy, " " * 10, "do: ")
                lines.append(f"{' ' * 10}read: {check.page}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            html.marked_row(
                f"{_MARK[check.status]} {check.status.value}",
                _COLOUR[check.status],
                f"<b>{escape(check.title)}</b>{_html_details(check)}",
            )
            for check in self.checks
        )
        title = f"{escape(self.title)}: <b>{escape(self.verdict)}</b>"
        colour = _COLOUR[Status.PASS if self.ok else Status.FAIL]
        return html.block(html.pairs(self.facts) + html.table(rows), title=title, colour=colour)


def combined(title: str, reports: Iterable[Report]) -> Report:
    """Several reports as one: their facts and checks in order, and what became of each."""
    reports = list(reports)
    facts = {name: value for report in reports for name, value in report.facts.items()}
    outcome = "; ".join(report.outcome for report in reports if report.outcome)
    return Report(title, [check for report in reports for check in report.checks], facts, outcome)


def text_pairs(title: str, pairs: Mapping[str, object]) -> str:
    """The same pairs for a terminal: a title line and aligned rows."""
    width = max((len(str(name)) for name in pairs), default=0)
    rows = [
        line
        for name, value in pairs.items()
        for line in _indented(str(value), " " * (width + 4), "", f"  {name:<{width}}  ")
    ]
    return "\n".join([title, *rows])


def _indented(text: str, margin: str, label: str = "", first_margin: str | None = None) -> list[str]:
    first, *rest = text.splitlines() or [""]
    if not text and first_margin is None:
        return []
    head = margin if first_margin is None else first_margin
    return [f"{head}{label}{first}", *(f"{margin}{' ' * len(label)}{line}" for line in rest)]


def _html_details(check: Check) -> str:
    details = html.soft(check.observed)
    if check.status in (Status.WARN, Status.FAIL):
        details += html.soft(f"expected: {check.expected}" if check.expected else "") + html.pre(check.remedy)
        details += html.soft(f"read: {check.page}")
    return details
