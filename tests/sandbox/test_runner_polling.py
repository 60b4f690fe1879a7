"""How many jobs a runner process takes, and how it numbers them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.runner.polling import Slots

FIRST: dict[str, Any] = {"token": "first", "limit": 1}
SECOND: dict[str, Any] = {"token": "second"}


def test_concurrent_is_for_all_runners_and_limit_for_one() -> None:
    """`limit` stops one runner, `concurrent` stops them all; a place given back can be taken again."""
    slots = Slots()
    place = slots.reserve(FIRST, 2)
    assert place is not None and slots.reserve(FIRST, 2) is None
    assert slots.reserve(SECOND, 2) is not None and slots.reserve(SECOND, 2) is None
    slots.release(place)
    assert slots.reserve(SECOND, 2) is not None
    assert slots.busy == 2


def test_slots_are_numbered_from_the_lowest_free() -> None:
    """CI_CONCURRENT_ID counts the jobs of a runner, CI_CONCURRENT_PROJECT_ID those of one project; a free number is used again."""
    slots = Slots()
    places = [slots.reserve(SECOND, 9) or 0 for _ in range(3)]
    given = [slots.assign(place, project) for place, project in zip(places, (5, 6, 5), strict=True)]
    assert [row.concurrent for row in given] == [0, 1, 2]
    assert [row.project_concurrent for row in given] == [0, 0, 1]
    slots.release(places[0])
    again = slots.assign(slots.reserve(SECOND, 9) or 0, 5)
    assert (again.concurrent, again.project_concurrent) == (0, 0)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(0, 3))
def test_no_limit_is_ever_exceeded(steps: list[bool], concurrent: int, limit: int) -> None:
    """Whatever jobs come and go, neither limit is exceeded, and no two running jobs have the same number."""
    slots, runner, running = Slots(), {"token": "t", "limit": limit}, {}
    for take in steps:
        if take:
            place = slots.reserve(runner, concurrent)
            if place is not None:
                running[place] = slots.assign(place, 1).concurrent
        elif running:
            place = next(iter(running))
            del running[place]
            slots.release(place)
        assert slots.busy == len(running) <= min(concurrent, limit or concurrent)
        assert len(set(running.values())) == len(running)
