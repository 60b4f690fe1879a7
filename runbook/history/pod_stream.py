"""Pods and their events straight from the API server's bytes: a list in pages, and a watch line by line.

The official client brings configuration and account (`runbook.clients.connect`); what it answers is decoded here into
Structs that hold only the needed fields, because building its own models costs forty times as much.

    stream = pods(cluster, "gitlab-ci")
    for page in stream.pages(): ...                              # PodList, PAGE_SIZE pods each
    for change in stream.changes("4711", seconds=240): ...       # Change(verb, object, resource_version)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from runbook.clients.kubernetes import KINDS, PAGE_SIZE
from runbook.clients.permissions import Permission
from runbook.errors import KubernetesError
from runbook.history import api_objects
from runbook.history.api_objects import EventList, Pod, PodEvent, PodList

if TYPE_CHECKING:
    import urllib3

    from runbook.clients.kubernetes import Cluster

CHUNK = 1 << 16
"""Bytes that are taken off the connection at once."""

SILENCE = 120.0
"""Seconds without a byte after which a watch counts as dead; the API server sends a bookmark about every minute."""

ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"

Object = TypeVar("Object", Pod, PodEvent)
Page = TypeVar("Page", PodList, EventList)


class Expired(Exception):
    """The API server no longer knows what happened since this resource version (410): list again."""


class Broken(Exception):
    """A watch ended before its time: the connection broke, or the server said so. It can be resumed."""


@dataclass(frozen=True, slots=True)
class Change(Generic[Object]):
    """One line of a watch: ADDED, MODIFIED or DELETED with the object, or BOOKMARK with none.

    `resource_version` is where the watch stands after it.
    """

    verb: str
    object: Object | None
    resource_version: str


class ObjectStream(Generic[Object, Page]):
    """The objects of one kind in one namespace, or in all of them (None). `pods` and `events` make it."""

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        namespace: str | None,
        decode_page: Callable[[bytes], Page],
        decode_line: Callable[[bytes], Any],
        fields: str | None = None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self._cluster = cluster
        self._path = KINDS[kind].path(namespace)
        self._decode_page: Callable[[bytes], Page] = decode_page
        self._decode_line: Callable[[bytes], Any] = decode_line
        self._selector = {"fieldSelector": fields} if fields else {}
        self._open: urllib3.BaseHTTPResponse | None = None

    def pages(self) -> Iterator[Page]:
        """The list, PAGE_SIZE objects a page. Raises Expired where it took so long that its rest is gone, KubernetesError."""
        query = {"limit": str(PAGE_SIZE), **self._selector}
        while True:
            page = self._decode_page(self._request("list", query).data)
            yield page
            if not page.metadata.continue_token:
                return
            query["continue"] = page.metadata.continue_token

    def changes(self, resource_version: str, *, seconds: float) -> Iterator[Change[Object]]:
        """What happened since `resource_version`, until the server ends the watch after `seconds`.

        Raises Expired, Broken, or KubernetesError where the watch cannot be started.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
            **self._selector,
        }
        answer = self._request("watch", query, stream=True)
        self._open = answer
        try:
            for line in lines(answer):
                yield self._change(line)
        finally:
            self._open = None
            answer.close()

    @property
    def connected(self) -> bool:
        """Whether a watch is open, however quiet."""
        return self._open is not None

    def stop(self) -> None:
        """End a watch that another thread waits in: it raises Broken there."""
        answer = self._open
        if answer is not None:
            answer.shutdown()

    def _change(self, line: bytes) -> Change[Object]:
        try:
            seen = self._decode_line(line)
        except msgspec.ValidationError:
            # What a bookmark holds is no whole object: `containers` of its pod is null.
            told = api_objects.decode_watch(line)
            if told.type == BOOKMARK:
                return Change(BOOKMARK, None, api_objects.decode_marker(told.object).metadata.resource_version)
            _raise_if_error(line)
            raise
        verb, found = seen.type, seen.object
        if verb == ERROR:
            _raise_if_error(line)
        return Change(verb, None if verb == BOOKMARK else found, found.metadata.resource_version)

    def _request(self, verb: str, query: dict[str, str], *, stream: bool = False) -> urllib3.BaseHTTPResponse:
        what = Permission(verb, KINDS[self.kind].plural, namespace=self.namespace)
        try:
            return self._cluster.request(
                "GET", self._path, query, what=what, stream=stream, timeout=SILENCE if stream else None
            )
        except KubernetesError as error:
            if error.status in (410, 504) and ("continue" in query or stream):
                raise Expired(error.problem) from None  # 504: a version that this server has never reached
            raise


def pods(cluster: Cluster, namespace: str | None) -> ObjectStream[Pod, PodList]:
    """The pods of a namespace."""
    return ObjectStream(cluster, "Pod", namespace, api_objects.decode_pods, api_objects.decode_watched_pod)


def events(cluster: Cluster, namespace: str | None) -> ObjectStream[PodEvent, EventList]:
    """The events on pods of a namespace."""
    fields = "involvedObject.kind=Pod"
    decode_page, decode_line = api_objects.decode_events, api_objects.decode_watched_event
    return ObjectStream(cluster, "Event", namespace, decode_page, decode_line, fields)


def _raise_if_error(line: bytes) -> None:
    """Raise what a line of the type ERROR says: its object is a Status, not one of ours."""
    seen = api_objects.decode_watch(line)
    if seen.type != ERROR:
        return
    status = api_objects.decode_status(seen.object)
    if status.code == 410:
        raise Expired(status.message)
    raise Broken(f"{status.reason or 'error'} ({status.code}): {status.message}")


def lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The whole lines of a streamed answer as they come. Raises Broken where the connection ends in the middle."""
    import urllib3

    rest: list[Any] = []
    try:
        for chunk in answer.stream(CHUNK):
            if not rest and chunk.find(b"\n") == len(chunk) - 1:  # the usual case: the API server sends a chunk a line
                if len(chunk) > 1:
                    yield chunk[:-1]
                continue
            head, *others = chunk.split(b"\n")
            rest.append(head)
            for following in others:
                whole = b"".join(rest)
                if whole:
                    yield whole
                rest = [following] if following else []
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise Broken(type(error).__name__) from None
    if any(rest):
        raise Broken("the last line is incomplete")
