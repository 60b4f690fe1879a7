"""The page that says what each column of the history means: `python -m runbook.history.documentation` writes data/history/RECORD.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from runbook.eci.billing_window import KNOWN_MEANING
from runbook.eci.endings import MEANING
from runbook.history.record import (
    FORMAT_KEY,
    FORMAT_VERSION,
    JOB_KNOWN_MEANING,
    SOURCE_MEANING,
    Column,
    ContainerRecord,
    columns,
)

Word = TypeVar("Word", bound=StrEnum)

PAGE = Path(__file__).parents[2] / "data" / "history" / "RECORD.md"

_HEAD = f"""# The record: one row a pod's life

This page is made by `python -m runbook.history.documentation` from `runbook/history/record.py`; change the columns there.

A row is one observation of one pod. Observations of one pod have the same `cluster` and `pod_uid`; the one that is `final`, else the one with the
later `observed_at`, else with the larger `resource_version` holds. *Requested* is what a pod asked for, *billed* the ECI spec it was rounded to.
Moments are in UTC and are those that the pod and its events report. Null means unknown. What old runners do not write is missing: see `job_known`.

Format version {FORMAT_VERSION}, in the metadata of the Arrow schema and of every Parquet file under `{FORMAT_KEY.decode()}`; readers refuse a newer one.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [
        _HEAD,
        "## Columns\n",
        _table(columns()),
        "## Columns of a container\n",
        _table(columns(ContainerRecord)),
        "## `…_known`: how a moment is known\n",
        _words(KNOWN_MEANING),
        "## `ended`: how a pod's life ended\n",
        _words(MEANING),
        "## `job_known`: from what the job is known, the best first\n",
        _words(JOB_KNOWN_MEANING),
        "## `sources`: who contributed\n",
        _words(SOURCE_MEANING),
    ]
    return "\n".join(parts)


def _table(rows: Iterable[Column]) -> str:
    lines = ["| column | type | unit | meaning | example | from |", "|---|---|---|---|---|---|"]
    for column in rows:
        meaning = column.meaning
        cells = (
            f"`{column.name}`",
            _type(column),
            meaning.unit,
            meaning.definition,
            _example(meaning.example),
            meaning.source,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _type(column: Column) -> str:
    text = str(column.arrow)
    return "list of containers" if "struct" in text else text.replace("list<item: string>", "list of string")


def _example(example: object) -> str:
    if isinstance(example, datetime):
        return f"`{example:%Y-%m-%dT%H:%M:%SZ}`"
    if isinstance(example, tuple):
        return " ".join(f"`{one}`" for one in example)
    return f"`{str(example).lower()}`" if isinstance(example, bool) else f"`{example}`"


def _words(meanings: Mapping[Word, str]) -> str:
    return (
        "\n".join(["| value | meaning |", "|---|---|", *(f"| `{one}` | {text} |" for one, text in meanings.items())])
        + "\n"
    )


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} written")


if __name__ == "__main__":
    main()
