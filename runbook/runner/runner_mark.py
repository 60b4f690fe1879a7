"""The line in a runner's maintenance note by which these runbooks know a runner again. Pure.

runbook: cluster=practice
runbook: cluster=practice proved=2026-11-24T15:04:05Z
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook.errors import PlanError

NOTE_LIMIT = 1024
"""Characters that GitLab keeps in a maintenance note."""


@dataclass(frozen=True)
class Mark:
    """The line in a maintenance note by which a runner is ours: the card's name, and what proved it.

    `proved` is a word without spaces (a moment, a pipeline's address), or empty until notebook 80 is green.
    """

    cluster: str
    proved: str = ""

    @classmethod
    def read(cls, note: str | None) -> Mark | None:
        """The mark in a maintenance note, or None."""
        found = _MARK.search(note or "")
        return cls(found["cluster"], found["proved"] or "") if found else None

    def written_into(self, note: str | None) -> str:
        """The note with this mark in place of the old one, or below what people wrote. Raises PlanError if too long."""
        text = note or ""
        if _MARK.search(text):
            text = _MARK.sub(lambda _: str(self), text, count=1)
        else:
            text = f"{text.rstrip()}\n{self}" if text.strip() else str(self)
        if len(text) > NOTE_LIMIT:
            raise PlanError(
                "The runner's maintenance note is too long to take the mark by which it is known again.",
                value=f"{len(text)} characters",
                allowed=f"{NOTE_LIMIT} characters with the line: {self}",
                remedy="Shorten the note in GitLab.",
                page="#runner-mark",
            )
        return text

    def __str__(self) -> str:
        return f"runbook: cluster={self.cluster}" + (f" proved={self.proved}" if self.proved else "")


_MARK = re.compile(r"^runbook: cluster=(?P<cluster>\S+)(?: proved=(?P<proved>\S+))?[^\S\n]*$", re.MULTILINE)
