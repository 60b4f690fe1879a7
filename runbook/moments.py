"""Time as a value: a clock that is handed in, durations that people can read, waiting that shows its progress.

Nothing here looks at the machine's clock; `runbook.clients.connect.clock()` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from runbook.errors import TimedOut

Seen = TypeVar("Seen")


class Clock(Protocol):
    """What waiting needs: the time now (aware, UTC) and a way to let some of it pass."""

    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


def parse(text: str) -> datetime:
    """An RFC 3339 moment as Kubernetes and GitLab write it (`2026-11-24T11:36:32Z`), aware and in UTC."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def duration(span: timedelta | float) -> str:
    """A span in the two largest units that matter: `4.2 s`, `3 min 20 s`, `2 h 5 min`, `89 d 3 h`."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    whole = round(seconds)
    for (size, name), (smaller, smaller_name) in zip(units, units[1:], strict=False):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def wait_for(
    look: Callable[[], Seen],
    done: Callable[[Seen], bool],
    *,
    what: str,
    timeout: float,
    clock: Clock,
    every: float = 1.0,
    progress: Callable[[Seen], str] | None = None,
    show: Callable[[str], None] = print,
    remedy: str | None = None,
    page: str | None = None,
) -> Seen:
    """Look again and again until `done`, and say each time that `progress(seen)` reads differently.

    `what` is the sentence that is waited for ("the claim is bound"); `timeout` and `every` are seconds.
    Raises TimedOut with the last thing seen.
    """
    start = clock.now()
    said = ""
    while True:
        seen = look()
        state = progress(seen) if progress else ""
        elapsed = (clock.now() - start).total_seconds()
        if state != said:
            show(f"{duration(elapsed):>10}  {state}")
            said = state
        if done(seen):
            return seen
        if elapsed >= timeout:
            raise TimedOut(
                f"Waited {duration(timeout)}, and it is still not true that {what}.",
                value=state or None,
                remedy=remedy,
                page=page,
            )
        clock.sleep(every)
