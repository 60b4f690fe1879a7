"""What a runner writes into a job's trace: lines to read, sections with their times, the pod's name, its last words.

A trace is text with colours, carriage returns and section marks (``section_start:1795523385:step_script``). Everything here
takes the whole text and returns values. Pinned by recordings of 13.6.0 and 14.7.1; the time stamps in front of each line
that newer runners add (`FF_TIMESTAMPS`) are taken off. Source: GitLab Runner, ``common/trace.go``, ``shells/bash.go``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z [0-9a-f]{2}[OE][ +]?", re.MULTILINE)
_MARK = re.compile(r"section_(?P<edge>start|end):(?P<second>\d+):(?P<name>[A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\r?")
_CREDENTIAL = re.compile(r"(\btoken=)\S+")
_POD = re.compile(r"^Running on (?P<pod>\S+) via (?P<host>\S+?)\.\.\.$")
_VERSION = re.compile(r"^Running with gitlab-runner (?P<version>\d+\.\d+\.\d+)")

SUCCEEDED = "Job succeeded"


@dataclass(frozen=True)
class Section:
    """One stage of a job as the runner measured it, in whole seconds; `end` is None while, or where, it never ended."""

    name: str
    start: datetime
    end: datetime | None

    @property
    def seconds(self) -> int | None:
        return None if self.end is None else int((self.end - self.start).total_seconds())


def lines(trace: str) -> list[str]:
    """The trace as a person reads it: no colours, no marks, no stamps, and job tokens that old runners print left out."""
    text = _MARK.sub("\n", _STAMP.sub("", _COLOUR.sub("", trace)))
    text = _CREDENTIAL.sub(r"\1(hidden)", text.replace("\r\n", "\n"))
    shown = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in shown if line]


def sections(trace: str) -> list[Section]:
    """The stages in the order in which they began."""
    started: dict[str, datetime] = {}
    ended: dict[str, datetime] = {}
    for mark in _MARK.finditer(_COLOUR.sub("", trace)):
        moment = datetime.fromtimestamp(int(mark["second"]), UTC)
        (started if mark["edge"] == "start" else ended)[mark["name"]] = moment
    return [Section(name, start, ended.get(name)) for name, start in started.items()]


def pod_name(trace: str) -> str | None:
    """Host name of the pod that ran the job, which is the pod's name: the runner has printed it since 9.0."""
    return next((match["pod"] for match in _matches(_POD, trace)), None)


def runner_version(trace: str) -> str | None:
    """Version of the runner, from the first line."""
    return next((match["version"] for match in _matches(_VERSION, trace)), None)


def errors(trace: str) -> list[str]:
    """What the runner says went wrong: its lines that begin with ERROR or WARNING, in order, each once."""
    return list(dict.fromkeys(line for line in lines(trace) if line.startswith(("ERROR: ", "WARNING: "))))


def says(trace: str, mark: str) -> dict[str, str]:
    """Name and value of every line ``<mark>:<name>=<value>`` that a script printed; the last one of a name wins."""
    said = re.compile(rf"^{re.escape(mark)}:(?P<name>[\w-]+)=(?P<value>.*)$")
    return {match["name"]: match["value"] for match in _matches(said, trace)}


class Follower:
    """Turns a growing trace into the lines that are new each time, at most `limit` of them in all."""

    def __init__(self, limit: int = 300) -> None:
        self._limit = limit
        self._seen = 0

    def new_lines(self, trace: str, *, finished: bool) -> list[str]:
        """The lines that were not there the last time. A last line without an end waits, unless the job is `finished`."""
        complete = trace if finished else trace[: trace.rfind("\n") + 1]
        readable = lines(complete)
        begin, self._seen = min(self._seen, self._limit), len(readable)
        fresh = readable[begin : self._limit]
        if begin < self._limit < len(readable):
            fresh.append("… the rest is on the job's page")
        return fresh


def _matches(pattern: re.Pattern[str], trace: str) -> Iterator[re.Match[str]]:
    return (match for line in lines(trace) if (match := pattern.match(line)))
