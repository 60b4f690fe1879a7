"""What the history holds as one table: each moment of a pod's life, and of how many pods it is known how.

overview.of(store)                                  # notebook operations/10-collect-pod-history
runbook history --cluster data/clusters/mine.yaml
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from typing import TYPE_CHECKING

from runbook import html
from runbook.history.job_records import TURNED_UP
from runbook.history.record import MOMENTS, Known, Source

if TYPE_CHECKING:
    from runbook.history.store import Store

STATES = (Known.OBSERVED, Known.BILLED, Known.BOUNDED, Known.NEVER, Known.UNKNOWN)
"""The columns of the table; what they mean stands in data/history/RECORD.md."""

TITLES = {
    "created": "created",
    "scheduled": "scheduled to a node",
    "billing_start": "billing began",
    "pulled": "images pulled",
    "running": "running",
    "finished": "billing ended",
    "deleted": "deleted",
}
"""The rows: the moments of a pod's life, in their order."""


@dataclass(frozen=True)
class Overview:
    """Counts of pods. `known` has for each moment a count of each of STATES; they sum up to `pods`.

    `sources` counts the pods that each source told something of, `ended` how lives ended, the most frequent first.
    """

    pods: int
    jobs: int
    first: datetime | None
    """When the first of these pods was created, and `last` the last one."""
    last: datetime | None
    known: Mapping[str, Mapping[Known, int]]
    sources: Mapping[Source, int]
    ended: Mapping[str, int]
    false_greens: int
    spot: int
    spot_without_type: int
    """Spot instances whose ECS type nobody wrote down: their cost is an interval."""

    @property
    def title(self) -> str:
        """`717 pods of 640 jobs, created from 2026-11-24 08:01 to 2026-11-24 08:02 UTC`."""
        if self.first is None or self.last is None:
            return f"{self.pods} pods of {self.jobs} jobs"
        return f"{self.pods} pods of {self.jobs} jobs, created from {self.first:%F %H:%M} to {self.last:%F %H:%M} UTC"

    @property
    def rows(self) -> list[tuple[str, list[int]]]:
        """Title of each moment with its counts in the order of STATES."""
        return [(TITLES[name], [self.known[name][state] for state in STATES]) for name in MOMENTS]

    @property
    def notes(self) -> dict[str, str]:
        """What the table does not say, as names and values."""
        said = {
            "told by": _counted({source.value: count for source, count in self.sources.items()}),
            "ended": _counted(self.ended),
            "false greens": f"{self.false_greens}",
        }
        if self.spot:
            said["spot instances"] = f"{self.spot}, of these {self.spot_without_type} of an unknown ECS type"
        return said

    def __str__(self) -> str:
        width = max(map(len, TITLES.values()))
        lines = [f"{self.title}; how their moments are known:"]
        lines.append(" " * (width + 2) + "".join(f"{state.value:>10}" for state in STATES))
        lines += [
            f"  {title:<{width}}" + "".join(f"{count or '-':>10}" for count in counts) for title, counts in self.rows
        ]
        lines += [f"  {name}: {value}" for name, value in self.notes.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(_cell(word, "th") for word in ("", *(state.value for state in STATES)))
        body = "".join(
            f"<tr style='background:none'>{_cell(title, 'td', 'left')}"
            + "".join(_cell(str(count or "–")) for count in counts)
            + "</tr>"
            for title, counts in self.rows
        )
        table = html.table(f"<tr style='background:none'>{head}</tr>{body}")
        return html.block(table + html.pairs(self.notes), title=escape(self.title))


def of(store: Store, *, first: date | None = None, last: date | None = None) -> Overview:
    """Count what a store holds of the pods created on these days (UTC, both included; None: all). Raises HistoryError."""
    needed = [*(f"{name}_known" for name in MOMENTS), "created_at", "gitlab_host", "job_id", "sources", "ended"]
    needed += ["false_green", "spot", "ecs_type", "billing_start_source"]
    # Of a job whose pod turned up after all, only that pod counts.
    pods = store.scan(needed, first=first, last=last).filter(
        f"billing_start_source IS DISTINCT FROM {_quoted(TURNED_UP)}"
    )
    counts = {
        "pods": "count(*)",
        "jobs": "count(DISTINCT (gitlab_host, job_id)) FILTER (job_id IS NOT NULL)",
        "first": "min(created_at)",
        "last": "max(created_at)",
        "false_greens": "count(*) FILTER (false_green)",
        "spot": "count(*) FILTER (spot)",
        "spot_without_type": "count(*) FILTER (spot AND ecs_type IS NULL)",
        **{f"source {source}": f"count(*) FILTER (list_contains(sources, '{source}'))" for source in Source},
        **{f"{name} {state}": f"count(*) FILTER ({name}_known = '{state}')" for name in MOMENTS for state in STATES},
    }
    values = pods.aggregate(", ".join(counts.values())).fetchall()[0]
    found = dict(zip(counts, values, strict=True))
    ended = pods.aggregate("ended, count(*) AS pods", "ended").order("pods DESC, ended").fetchall()
    return Overview(
        **{
            name: found[name] for name in ("pods", "jobs", "first", "last", "false_greens", "spot", "spot_without_type")
        },
        known={name: {state: found[f"{name} {state}"] for state in STATES} for name in MOMENTS},
        sources={source: found[f"source {source}"] for source in Source},
        ended=dict(ended),
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"


def _cell(text: str, kind: str = "td", align: str = "right") -> str:
    return f"<{kind} style='text-align:{align};padding:3px 14px 3px 0;background:none'>{escape(text)}</{kind}>"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
