"""Every way to fail, on one page.

    RunbookError                 something is wrong that a person must know about
    ├── SettingsError            the cluster card or a notebook's parameter
    │   ├── QuantityError        a size such as `500m`, `1.5Gi` or `2/6Gi`
    │   └── SpecError            a request that no ECI spec answers, or an ECI annotation that ECI would refuse
    ├── SecretError              a reference to a secret that cannot be resolved or stored
    ├── KubernetesError          the cluster's API: connection, authentication, authorization, a refused object
    ├── GitLabError              GitLab's API: connection, token, scope, a refused request
    │   ├── GitLabForbidden      403: the token's scope or its user's role is too small
    │   └── GitLabNotFound       404: not there, or not shown to this token
    ├── AlibabaError             Alibaba Cloud's API: connection, AccessKey, RAM, throttling, a refused request
    ├── BillError                Alibaba Cloud's bill: a file that is none, a row that cannot be read
    ├── PrometheusError          Prometheus' HTTP API: connection, token, a refused query
    ├── HistoryError             the pod history's folder or bucket: unreadable, unwritable, torn, of a newer format
    ├── ConfigTomlError          gitlab-runner's config.toml: missing, unreadable, not TOML, changed meanwhile
    ├── PlanError                a plan that must not be applied as it is
    ├── TimedOut                 something that was waited for did not happen in time
    └── ChecksFailed             a report whose checks failed; its text is the report

An error is a page for a tired person: what is wrong, the value, what is allowed, what to do, where to read.
It never holds a secret: callers pass names of secrets, not their contents.
"""

from __future__ import annotations

TROUBLESHOOTING = "notebooks/troubleshooting.md"


class RunbookError(Exception):
    """What went wrong, said so that the reader can act.

    `problem` is one sentence. `where` names the file, field, parameter or URL; `value` is what stood there;
    `allowed` says what may stand there; `remedy` what to do next; `page` where to read more, a path or an anchor
    of `notebooks/troubleshooting.md` (`#cache-volume`).
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        value: object = None,
        allowed: str | None = None,
        remedy: str | None = None,
        page: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.value = value
        self.allowed = allowed
        self.remedy = remedy
        self.page = TROUBLESHOOTING + page if page and page.startswith("#") else page

    def lines(self) -> list[str]:
        """The page, a line each: the problem first, then only what is known."""
        rows = {
            "where": self.where,
            "value": None if self.value is None else _shown(self.value),
            "allowed": self.allowed,
            "do": self.remedy,
            "read": self.page,
        }
        page = [self.problem]
        for name, text in rows.items():
            if text is not None:
                first, *rest = text.splitlines() or [""]
                page.append(f"  {name + ':':<9}{first}")
                page.extend(f"  {'':<9}{line}" for line in rest)
        return page

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a stack of frames: in a notebook the page is all a reader needs."""
        return [f"{type(self).__name__}: {line}" if i == 0 else line for i, line in enumerate(self.lines())]


def _shown(value: object) -> str:
    """A short value as Python writes it, so that blanks are seen; a block of text as it is."""
    return value if isinstance(value, str) and "\n" in value else repr(value)


class SettingsError(RunbookError):
    """The cluster card or a parameter says something that cannot be."""


class QuantityError(SettingsError):
    """A size that is not a Kubernetes quantity."""


class SpecError(SettingsError):
    """A request that no ECI spec answers, or an ECI annotation that ECI would refuse."""


class SecretError(RunbookError):
    """A secret is named where nothing is, or given where only its name may stand."""


class KubernetesError(RunbookError):
    """The cluster's API did not do what was asked."""

    status: int | None = None
    """HTTP status of the answer; None where there was no answer."""


class GitLabError(RunbookError):
    """GitLab's API did not do what was asked."""


class GitLabForbidden(GitLabError):
    """The token's scope, or the role of its user, does not reach."""


class GitLabNotFound(GitLabError):
    """GitLab does not know the thing, or hides it from this token."""


class AlibabaError(RunbookError):
    """Alibaba Cloud's API did not do what was asked."""

    code: str = ""
    """The API's error code, such as `Forbidden.RAM`."""
    status: int | None = None
    """HTTP status of the answer; None where there was no answer."""


class BillError(RunbookError):
    """A bill, or a row of one, that cannot be read."""


class PrometheusError(RunbookError):
    """Prometheus did not answer a query."""


class HistoryError(RunbookError):
    """The pod history cannot be read or written; what it acknowledged before is untouched."""


class ConfigTomlError(RunbookError):
    """The runner's config.toml cannot be read, understood or replaced safely."""


class PlanError(RunbookError):
    """Applying this plan would do harm; nothing was changed."""


class TimedOut(RunbookError):
    """The time given to a waiting step is over."""


class ChecksFailed(RunbookError):
    """At least one check of a report failed. The text of this error ends with the report itself."""

    def __init__(self, problem: str, report_text: str) -> None:
        super().__init__(problem)
        self.report_text = report_text

    def lines(self) -> list[str]:
        return [self.problem, *self.report_text.splitlines()]
