"""Time as a value: parsed, said, and waited for with a clock that is handed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook import moments
from runbook.errors import TimedOut

START = datetime(2026, 11, 24, 11, 36, 32, tzinfo=UTC)


class TurnedClock:
    """A clock that only sleeping turns."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T11:36:32Z", START),
        ("2026-11-24T11:36:32.250Z", START + timedelta(milliseconds=250)),
        ("2026-11-24T19:36:32+08:00", START),
        ("2026-11-24T11:36:32", START),
        ("2026-11-24T11:36:32.123456Z", START + timedelta(microseconds=123456)),
    ],
)
def test_moments_of_both_apis(text: str, moment: datetime) -> None:
    """Kubernetes' and GitLab's moments become aware ones in UTC; one without a zone is taken as UTC."""
    parsed = moments.parse(text)
    assert parsed == moment
    assert parsed.tzinfo is UTC


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=8)))))
def test_any_moment_survives_being_written(moment: datetime) -> None:
    """What Python writes as ISO 8601 is read back as the same instant."""
    assert moments.parse(moment.isoformat()) == moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (4.2, "4.2 s"),
        (4.04, "4 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (7525, "2 h 5 min"),
        (89 * 86400 + 3 * 3600, "89 d 3 h"),
        (-200, "-3 min 20 s"),
        (timedelta(minutes=10), "10 min"),
    ],
)
def test_durations_are_said_in_two_units(seconds: float | timedelta, text: str) -> None:
    """A span is said in the two largest units that matter, without zeros."""
    assert moments.duration(seconds) == text


def test_waiting_ends_when_it_is_true() -> None:
    """Looking is repeated with the pause given until it is done, and what was seen last is returned."""
    clock, answers = TurnedClock(), iter(["Pending", "Pending", "Bound"])
    seen = moments.wait_for(
        lambda: next(answers),
        lambda phase: phase == "Bound",
        what="the claim is bound",
        timeout=60,
        every=5,
        clock=clock,
        show=lambda line: None,
    )
    assert seen == "Bound"
    assert clock.now() - START == timedelta(seconds=10)


def test_waiting_shows_only_what_is_new() -> None:
    """Progress is one line a change, with the time since the start, not one line a look."""
    clock, answers, lines = TurnedClock(), iter(["Pending"] * 4 + ["Bound"]), list[str]()
    moments.wait_for(
        lambda: next(answers),
        lambda phase: phase == "Bound",
        what="the claim is bound",
        timeout=60,
        clock=clock,
        progress=lambda phase: phase,
        show=lines.append,
    )
    assert [line.split() for line in lines] == [["0", "s", "Pending"], ["4", "s", "Bound"]]


def test_waiting_has_an_end() -> None:
    """When the time is over, the error says what was waited for, how long, and what was seen last."""
    clock = TurnedClock()
    with pytest.raises(TimedOut) as caught:
        moments.wait_for(
            lambda: "Pending",
            lambda phase: phase == "Bound",
            what="the claim is bound",
            timeout=90,
            every=20,
            clock=clock,
            progress=lambda phase: phase,
            show=lambda line: None,
            remedy="Look at the claim's events.",
            page="#cache-claim",
        )
    assert caught.value.problem == "Waited 1 min 30 s, and it is still not true that the claim is bound."
    assert caught.value.value == "Pending"
    assert caught.value.remedy == "Look at the claim's events."
    assert clock.now() - START == timedelta(seconds=100)


def test_what_is_true_at_once_is_not_waited_for() -> None:
    """No time passes where the first look is enough, even with no time to wait."""
    clock = TurnedClock()
    assert moments.wait_for(lambda: 7, bool, what="it is there", timeout=0, clock=clock, show=lambda line: None) == 7
    assert clock.now() == START
