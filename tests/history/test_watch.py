"""The lives of pods, and what is made of an API server's bytes: values in, records out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.eci.billing_window import Known
from runbook.eci.endings import End
from runbook.history import pod_stream
from runbook.history.api_objects import Pod, PodEvent, event_from, pod_from
from runbook.history.pod_lives import LATE, Lives
from runbook.history.watch import Place, Progress

START = datetime(2026, 11, 2, 8, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def pod(uid: str = "a", version: int = 1, phase: str = "Running", **metadata: Any) -> Pod:
    return pod_from(
        {
            "metadata": {
                "uid": uid,
                "name": f"runner-{uid}",
                "namespace": "gitlab-ci",
                "resourceVersion": str(version),
                "creationTimestamp": "2026-11-02T08:30:00Z",
                **metadata,
            },
            "spec": {"containers": [{"name": "build"}]},
            "status": {"phase": phase},
        }
    )


def event(uid: str, reason: str, name: str = "e1") -> PodEvent:
    return event_from(
        {
            "metadata": {"uid": name, "name": name},
            "involvedObject": {"kind": "Pod", "uid": uid},
            "reason": reason,
            "firstTimestamp": "2026-11-02T08:31:00Z",
            "lastTimestamp": "2026-11-02T08:31:00Z",
        }
    )


def test_a_pod_is_written_when_first_seen_when_its_phase_changes_and_when_it_ends() -> None:
    """Three observations of a usual life are due, the last one final; an unchanged pod is not written again."""
    lives = Lives("practice")
    written = []
    for verb, seen in (
        ("ADDED", pod(version=1, phase="Pending")),
        ("MODIFIED", pod(version=2, phase="Pending")),
        ("MODIFIED", pod(version=3)),
        ("DELETED", pod(version=4)),
    ):
        lives.pod_changed(verb, seen, at(1))
        records = lives.due(at(60))
        lives.acknowledge(records, at(60))
        written.append([one.final for one in records])
    assert written == [[False], [], [False], [True]]


def test_what_is_not_acknowledged_stays_due() -> None:
    """A store that failed gets the same records again."""
    lives = Lives("practice")
    lives.pod_changed("DELETED", pod(), at(1))
    assert lives.due(at(2)) == lives.due(at(2))
    assert lives.waiting == 1
    lives.acknowledge(lives.due(at(2)), at(2))
    assert lives.due(at(3)) == []


def test_a_pod_missing_from_a_later_list_is_bounded() -> None:
    """After 410 the list says who is gone: the end is the latest possible one, and says so."""
    lives = Lives("practice")
    lives.pod_changed("ADDED", pod("a"), at(0))
    lives.pod_changed("ADDED", pod("b"), at(0))
    lives.pods_listed([pod("b", 5)], at(600))
    lives.list_ended(9, at(600))
    (ended,) = [one for one in lives.due(at(601)) if one.final]
    assert (ended.pod_uid, ended.ended, ended.deleted_known, ended.deleted_at) == (
        "a",
        End.UNKNOWN,
        Known.BOUNDED,
        at(600),
    )
    assert (lives.live, lives.ended, lives.bounded) == (1, 1, 1)


def test_a_pod_that_came_after_the_list_is_not_gone() -> None:
    """A list as of version 9 says nothing of a pod first seen at version 12."""
    lives = Lives("practice")
    lives.pod_changed("ADDED", pod("late", 12), at(1))
    lives.list_ended(9, at(2))
    assert lives.live == 1


def test_an_earlier_runs_pod_is_taken_up() -> None:
    """What an earlier run left unfinished ends as bounded where it is missing, and goes on where it is there."""
    first = Lives("practice")
    for uid in "ab":
        first.pod_changed("ADDED", pod(uid), at(0))
    second = Lives("practice", open_records=first.observations(at(10)))
    second.pods_listed([pod("b", 2)], at(900))
    second.list_ended(5, at(900))
    ended = {one.pod_uid: one for one in second.observations(at(901))}
    assert ended["a"].final and ended["a"].deleted_known is Known.BOUNDED
    assert not ended["b"].final


def test_replayed_lines_change_nothing() -> None:
    """A watch that begins before the list tells old states again: they do not undo newer ones, deletions count once."""
    lives = Lives("practice")
    lives.pods_listed([pod("a", 7)], at(0))
    lives.pod_changed("MODIFIED", pod("a", 3, phase="Pending"), at(1))
    (record,) = lives.due(at(1))
    assert record.resource_version == 7
    for _ in range(2):
        lives.pod_changed("DELETED", pod("a", 8), at(2))
    assert lives.ended == 1


def test_events_reach_their_pod_before_and_after_its_end() -> None:
    """An event that comes first waits for its pod; one that comes after the end has the record written again."""
    lives = Lives("practice")
    lives.event(event("a", "Pulling"), at(0))
    lives.pod_changed("ADDED", pod("a"), at(1))
    lives.pod_changed("DELETED", pod("a", 2), at(60))
    lives.acknowledge(lives.due(at(61)), at(61))
    lives.event(event("a", "StopCharge", "e2"), at(62))
    assert [one.final for one in lives.due(at(63))] == [True]


def test_the_dead_are_forgotten() -> None:
    """Memory is bounded by the pods that live and those that ended a moment ago."""
    lives = Lives("practice")
    lives.pod_changed("DELETED", pod("a"), at(0))
    lives.acknowledge(lives.due(at(1)), at(1))
    lives.acknowledge([], at(2) + LATE)
    lives.event(event("a", "StopCharge"), at(3) + LATE)
    assert lives.due(at(4) + LATE) == []


class Answer:
    """A streamed answer in chunks of any size."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def stream(self, _size: int) -> Iterator[bytes]:
        yield from self._chunks


def test_lines_are_whole_whatever_the_chunks() -> None:
    """A line may come in pieces, several may come at once, and empty ones are left out."""
    answer: Any = Answer(b'{"a"', b":1}\n{", b"}\n\n[1]\n")
    assert list(pod_stream.lines(answer)) == [b'{"a":1}', b"{}", b"[1]"]


def test_half_a_line_is_a_broken_watch() -> None:
    """A connection that ends in the middle of an object is resumed, and the half is not taken for a whole."""
    answer: Any = Answer(b'{"a":1}\n{"b"')
    with pytest.raises(pod_stream.Broken):
        list(pod_stream.lines(answer))


def test_a_place_is_only_good_for_its_api_server(tmp_path: Path) -> None:
    """The version is kept with the server's address; a torn or foreign file means to begin anew."""
    place = Place(tmp_path / "deep" / "place.json", "https://one")
    assert place.load() is None
    place.save("4711")
    assert place.load() == "4711"
    assert Place(place.path, "https://two").load() is None
    place.path.write_text("{torn")
    assert place.load() is None


def test_progress_says_backlog_and_lag() -> None:
    """One line tells how much waits and how long."""
    assert "backlog 3, lag 2.5 s" in str(Progress(backlog=3, lag=2.5))


class Replaying:
    """An API server that answers every call with one stream."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = lines

    def request(self, *_: Any, **__: Any) -> Any:
        answer: Any = Answer(*(line + b"\n" for line in self._lines))
        answer.close = lambda: None
        return answer


def changes(*lines: bytes) -> list[pod_stream.Change[Pod]]:
    server: Any = Replaying(*lines)
    return list(pod_stream.pods(server, "gitlab-ci").changes("1", seconds=1))


def test_a_bookmark_moves_the_place_and_tells_of_no_pod() -> None:
    """The API server's bookmark holds nothing but the version that the watch has reached, and null where containers would be."""
    (seen,) = changes(
        b'{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"77",'
        b'"creationTimestamp":null},"spec":{"containers":null},"status":{}}}'
    )
    assert (seen.verb, seen.object, seen.resource_version) == ("BOOKMARK", None, "77")


@pytest.mark.parametrize(("code", "raised"), [(410, pod_stream.Expired), (500, pod_stream.Broken)])
def test_an_error_of_a_watch_is_told_by_its_code(code: int, raised: type[Exception]) -> None:
    """410 means that a new list is needed, any other that the watch is to be resumed."""
    with pytest.raises(raised):
        changes(b'{"type":"ERROR","object":{"kind":"Status","metadata":{},"status":"Failure","code":%d}}' % code)
