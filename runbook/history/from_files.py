"""Pods that somebody already has in a file become records: what kubectl printed, or a plain trace.

    imported = from_dump(data, cluster="…", observed_at=now)          # kubectl get pods -o json, or -o yaml
    imported = from_trace(data, columns, cluster="…", source="…")     # CSV with cpu, memory, start, end

Pure: bytes in, an `Imported` out. A row that cannot be read is neither dropped in silence nor in the way of the others:
`refused` names it and says why. A row that was read without one of its values stands in `doubtful`, too.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import yaml

from runbook import moments, quantities
from runbook.errors import QuantityError, SettingsError
from runbook.history import sizes
from runbook.history.api_objects import ContainerSpec, Pod, PodEvent, PodSpec, Resources, event_from, pod_from
from runbook.history.observation import pod_record
from runbook.history.record import End, JobKnown, Known, PodRecord, Source
from runbook.report import Check, Report

PAGE = "data/history/IMPORTING.md"
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SHOWN = 20


@dataclass(frozen=True)
class Remark:
    """One row of a file and what is wrong with it. `where` is its line or its place in a list, and its name."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True)
class Imported:
    """What a file gave: the records, and everything that did not become one.

    `rows` counts what the file holds: each is in `records`, in `refused`, or (a later look at the same pod) in `repeated`.
    `doubtful` are rows that are in `records` without one of their values; `unread` the columns or kinds that no record has.
    """

    records: tuple[PodRecord, ...]
    rows: int
    refused: tuple[Remark, ...] = ()
    doubtful: tuple[Remark, ...] = ()
    repeated: int = 0
    unread: tuple[str, ...] = ()

    def report(self, title: str) -> Report:
        """The same as checks: refused rows fail where no row was good, else they warn."""
        facts = {
            "rows": str(self.rows),
            "records": str(len(self.records)),
            "how they ended": _counted(Counter(one.ended.value for one in self.records)),
        }
        if self.repeated:
            facts["later looks at the same pod"] = str(self.repeated)
        if self.unread:
            facts["not read"] = ", ".join(self.unread)
        return Report(title, [self._readable(), self._complete()], facts)

    def _readable(self) -> Check:
        title = "Every row of the file is a pod"
        if not self.refused and self.rows:
            return Check.passed("import-rows", title, _rows_of(self.rows))
        answer = Check.warned if self.records else Check.failed
        return answer(
            "import-rows",
            title,
            "\n".join([f"{len(self.refused)} of {_rows_of(self.rows)} refused", *_named(self.refused)]),
            expected="rows with a name, sizes and moments that can be read" if self.rows else "at least one row",
            remedy="Correct these rows and import the file again: the same rows become the same records.",
        )

    def _complete(self) -> Check:
        title = "Every row states its sizes"
        if not self.doubtful:
            return Check.passed("import-values", title, f"{len(self.records)} records")
        return Check.warned(
            "import-values",
            title,
            "\n".join([f"{_rows_of(len(self.doubtful))} without a value", *_named(self.doubtful)]),
            expected="CPU and memory above 0",
            remedy="Nothing, if the pods asked for nothing: ECI takes its default of 2 vCPU and 4 GiB then.",
        )


def _rows_of(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {word}" for word, number in counts.most_common()) or "none"


def _named(remarks: Sequence[Remark]) -> list[str]:
    more = [f"… and {len(remarks) - _SHOWN} more"] if len(remarks) > _SHOWN else []
    return [*map(str, remarks[:_SHOWN]), *more]


# -- what kubectl printed ---------------------------------------------------------------------------------------------


def from_dump(
    data: bytes,
    *,
    cluster: str,
    observed_at: datetime,
    region: str | None = None,
    gitlab_host: str | None = None,
    where: str = "the file",
) -> Imported:
    """Pods as `kubectl get pods -o json`, `-o yaml` or `kubectl get pods,events -o json` prints them.

    One pod, a list, several documents, or the objects that `--watch` prints one after the other. `observed_at` is when
    they were printed; `region` and `gitlab_host` are for pods that do not say. Events of the file tell of its pods. Raises
    SettingsError where the file is neither JSON nor YAML.
    """
    pods: list[tuple[str, Pod]] = []
    events: dict[str, list[PodEvent]] = {}
    refused: list[Remark] = []
    unread: Counter[str] = Counter()
    rows = 0
    for place, item in enumerate(_items(_documents(data, where)), 1):
        kind = item.get("kind", "Pod") if isinstance(item, Mapping) else type(item).__name__
        if kind not in ("Pod", "Event"):
            unread[kind] += 1
            continue
        rows += kind == "Pod"
        try:
            if kind == "Pod":
                pods.append((_place(place, item), _pod(item)))
            else:
                event = event_from(item)
                events.setdefault(event.involved_object.uid, []).append(event)
        except (msgspec.MsgspecError, _Unusable) as error:
            refused.append(Remark(_place(place, item), str(error)))
            rows += kind == "Event"
    records: dict[str, PodRecord] = {}
    for place_name, pod in pods:
        uid = pod.metadata.uid
        try:
            records[uid] = pod_record(
                pod,
                events.get(uid, ()),
                cluster=cluster,
                observed_at=observed_at,
                region=region,
                gitlab_host=gitlab_host,
                earlier=records.get(uid),
                source=Source.FILE,
            )
        except QuantityError as error:
            refused.append(Remark(place_name, _in_short(error)))
    return Imported(
        tuple(records.values()),
        rows,
        refused=tuple(refused),
        repeated=rows - len(records) - len(refused),
        unread=tuple(f"{number} {kind}" for kind, number in unread.items()),
    )


class _Unusable(ValueError):
    """A row that no record can be made of; its text is the reason."""


def _pod(item: Mapping[str, Any]) -> Pod:
    pod = pod_from(item)
    if not pod.metadata.uid:
        raise _Unusable("it has no metadata.uid: a manifest, not a pod that a cluster has")
    return pod


def _place(place: int, item: object) -> str:
    meta = item.get("metadata") if isinstance(item, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    name = "/".join(str(meta[key]) for key in ("namespace", "name") if meta.get(key))
    return f"object {place}" + (f" ({name})" if name else "")


def _documents(data: bytes, where: str) -> Iterator[Any]:
    """The JSON values or YAML documents of a file."""
    try:
        text = data.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError:
        raise _not_read("is not UTF-8 text", where) from None
    if not text.startswith("{"):
        try:
            yield from yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            raise _not_read("is not YAML", where + (f", line {mark.line + 1}" if mark else "")) from None
        return
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _not_read("is not JSON, or ends in the middle", f"{where}, line {error.lineno}") from None
        yield value
        at += len(text[at:]) - len(text[at:].lstrip())


def _not_read(problem: str, where: str) -> SettingsError:
    return SettingsError(
        f"The file of pods {problem}.",
        where=where,
        allowed="what `kubectl get pods -o json` or `-o yaml` prints, or a CSV file with a header",
        page=PAGE,
    )


def _items(documents: Iterator[Any]) -> Iterator[Any]:
    """The objects of lists and of single documents; the lines of a raw watch hold theirs under `object`."""
    for document in documents:
        if isinstance(document, Mapping) and isinstance(document.get("items"), list):
            yield from document["items"]
        elif isinstance(document, Mapping) and set(document) == {"type", "object"}:
            yield document["object"]
        elif document is not None:
            yield document


def _in_short(error: QuantityError) -> str:
    return f"{error.where or 'a size'} {error.value!r}: {error.problem}"


# -- a plain trace ----------------------------------------------------------------------------------------------------

FIELDS = {
    "name": "Name of the pod; with the name of the file it identifies it.",
    "uid": "UID of the pod, in place of the name.",
    "namespace": "Its namespace.",
    "phase": "Its last phase: Pending, Running, Succeeded or Failed.",
    "cpu": "CPU request; a unit may follow, `cpu=cpu_milli:m`.",
    "memory": "Memory request; a unit may follow, `memory=memory_mib:Mi`.",
    "created": "When the pod was created.",
    "start": "When it was given to a node; empty where it never was.",
    "end": "When it ended or was deleted; empty where it had not.",
    "image": "Image of its main container.",
    "zone": "Zone it ran in.",
    "project_id": "GitLab's number of the project.",
    "project_path": "Path of the project.",
    "job_id": "GitLab's number of the job.",
    "job_name": "Name of the job.",
}
"""What a column of a trace may be; `Columns` says which column is what."""

REQUIRED = ("cpu", "memory", "start", "end")
MOMENT_FIELDS = ("created", "start", "end")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Column:
    """One column of a trace by its name in the header; `unit` is the suffix of a plain number, such as `m` or `Mi`."""

    name: str
    unit: str = ""


@dataclass(frozen=True)
class Columns:
    """Which column of a trace is what, by the words of FIELDS.

    Columns that bear such a word as their name need not be named. `epoch` is the moment 0 of times that are plain
    numbers of seconds; without it times are RFC 3339.
    """

    of: Mapping[str, Column] = field(default_factory=dict)
    epoch: datetime | None = None
    delimiter: str = ","

    @classmethod
    def parse(cls, texts: Sequence[str], *, epoch: str | None = None, delimiter: str = ",") -> Columns:
        """From `FIELD=COLUMN` and `FIELD=COLUMN:UNIT`, and an epoch as RFC 3339 or `unix`. Raises SettingsError."""
        named: dict[str, Column] = {}
        for text in texts:
            word, equals, column = text.partition("=")
            if not equals or not column or word not in FIELDS:
                raise SettingsError(
                    "A column is named FIELD=COLUMN." if not equals or not column else "No record has such a field.",
                    where="--column",
                    value=text,
                    allowed="\n".join(f"{name}: {meaning}" for name, meaning in FIELDS.items()),
                    page=PAGE,
                )
            name, colon, unit = column.rpartition(":")
            sized = bool(colon) and unit in quantities.FACTORS and word in ("cpu", "memory")
            named[word] = Column(name, unit) if sized else Column(column)
        return cls(named, _epoch(epoch), delimiter)


def _epoch(text: str | None) -> datetime | None:
    if text is None or text == "unix":
        return UNIX_EPOCH if text else None
    try:
        return moments.parse(text)
    except ValueError:
        raise SettingsError(
            "The epoch is not a moment.",
            where="--epoch",
            value=text,
            allowed="RFC 3339 such as 2023-05-01T00:00:00Z, or `unix` for seconds since 1970",
            page=PAGE,
        ) from None


def from_trace(
    data: bytes, columns: Columns, *, cluster: str, source: str, observed_at: datetime, region: str | None = None
) -> Imported:
    """Pods from a CSV file with a header, one a row.

    `source` names the file: with it and the row's name the record is identified, so that the same file imported twice
    gives the same records. `observed_at` is when the file was written. Nobody says when billing began, so it is bounded by
    `start`. Raises SettingsError where the file has no header or lacks a column.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_read("is not UTF-8 text", source) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=columns.delimiter, strict=True)
    rows = _rows(reader)
    _, header = next(rows, (0, []))
    if isinstance(header, str):
        raise _not_read(f"has no header that can be read: {header}", source)
    places = _places(header, columns, source)
    trace = _Trace(places, columns, cluster, source, observed_at, region)
    records: dict[str, PodRecord] = {}
    line_of: dict[str, int] = {}
    refused, doubtful, count = [], [], 0
    for line, row in rows:
        count += 1
        where = f"line {line}"
        try:
            if isinstance(row, str):
                raise _Unusable(row)
            if len(row) != len(header):
                raise _Unusable(f"{len(row)} fields, and the header has {len(header)}")
            values = {word: row[place].strip() for word, (place, _) in places.items()}
            where += f" ({values['name']})" if values.get("name") else ""
            record, lacking = trace.record(values, line)
            if record.pod_uid in records:
                raise _Unusable(f"the same pod stands on line {line_of[record.pod_uid]}")
        except _Unusable as error:
            refused.append(Remark(where, str(error)))
            continue
        records[record.pod_uid], line_of[record.pod_uid] = record, line
        doubtful += [Remark(where, problem) for problem in lacking]
    read = {place for place, _ in places.values()}
    unread = tuple(name for place, name in enumerate(header) if place not in read)
    return Imported(tuple(records.values()), count, tuple(refused), tuple(doubtful), unread=unread)


def _rows(reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and fields of every row that is not empty; of one that is no CSV, what is wrong with it."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, f"not CSV: {error}"
            continue
        if row:
            yield reader.line_num, row


def _places(header: Sequence[str], columns: Columns, source: str) -> dict[str, tuple[int, str]]:
    """Place and unit of every field that the file has. Raises SettingsError for a named column that it has not."""
    names = [name.strip() for name in header]
    named = {word: columns.of.get(word, Column(word)) for word in FIELDS}
    missing = [
        f"{word}={column.name}"
        for word, column in named.items()
        if column.name not in names and (word in columns.of or word in REQUIRED)
    ]
    if missing:
        raise SettingsError(
            "The file has no such column.",
            where=source,
            value=", ".join(missing),
            allowed=", ".join(names) or "a first line with the names of the columns",
            remedy="Say which column is what: --column cpu=NAME:UNIT --column start=NAME …",
            page=PAGE,
        )
    twice = sorted({column.name for column in named.values() if names.count(column.name) > 1})
    if twice:
        raise SettingsError("Two columns have the same name.", where=source, value=", ".join(twice), page=PAGE)
    return {word: (names.index(column.name), column.unit) for word, column in named.items() if column.name in names}


_ENDS = {"Succeeded": End.DONE, "Failed": End.FAILED}
_PHASES = ("", "Pending", "Running", "Succeeded", "Failed", "Unknown")
_TEXT = ("namespace", "image", "zone", "project_path", "job_name")


@dataclass(frozen=True)
class _Trace:
    """What is the same for all rows of one file."""

    places: Mapping[str, tuple[int, str]]
    columns: Columns
    cluster: str
    source: str
    observed_at: datetime
    region: str | None

    def record(self, values: Mapping[str, str], line: int) -> tuple[PodRecord, list[str]]:
        """The record of one row, and what it lacks. Raises _Unusable."""
        asked, lacking = self._sizes(values)
        at = {word: self._moment(word, values.get(word, "")) for word in MOMENT_FIELDS}
        _in_order(at)
        phase = values.get("phase", "")
        if phase not in _PHASES:
            raise _Unusable(f"phase {phase!r} is none of {', '.join(filter(None, _PHASES))}")
        numbers: dict[str, Any] = {word: _whole(word, values.get(word, "")) for word in ("job_id", "project_id")}
        texts: dict[str, Any] = {word: values.get(word) or None for word in _TEXT}
        known = JobKnown.MARK if numbers["job_id"] else JobKnown.NAME if numbers["project_id"] else JobKnown.UNKNOWN
        record = PodRecord(
            cluster=self.cluster,
            pod_uid=values.get("uid") or f"file:{self.source}/{values.get('name') or line}",
            pod_name=values.get("name") or None,
            region=self.region,
            sources=(Source.FILE,),
            final=at["end"] is not None,
            observed_at=self.observed_at,
            job_known=known,
            project_namespace=(values.get("project_path") or "").rpartition("/")[0] or None,
            **texts,
            **numbers,
            **asked,
            **self._moments(at),
            **self._ending(phase, at),
        )
        return record, lacking

    def _sizes(self, values: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
        """Requests as the trace states them and as ECI adds them up; a size of 0 is none, and a remark."""
        requests, lacking = {}, []
        for word in ("cpu", "memory"):
            text, unit = values[word], self.places[word][1]
            try:
                amount = quantities.parse(text + unit if _NUMBER.fullmatch(text) else text, where=word)
            except QuantityError as error:
                raise _Unusable(f"{word} {text!r}: {error.problem}") from None
            if amount:
                requests[word] = str(amount)
            else:
                lacking.append(f"{word} is {text}: taken as not stated")
        added_up = sizes.requested(PodSpec(containers=[_container(requests)]), ())
        return {name: value for name, value in added_up.items() if name not in ("containers", "image")}, lacking

    def _moment(self, word: str, text: str) -> datetime | None:
        if not text:
            return None
        number = _NUMBER.fullmatch(text) is not None
        try:
            if number and self.columns.epoch:
                return self.columns.epoch + timedelta(microseconds=round(Decimal(text) * 1_000_000))
            if not number:
                return moments.parse(text)
        except (ValueError, OverflowError):
            pass
        hint = ", and without an epoch a number is no moment" if number and not self.columns.epoch else ""
        raise _Unusable(f"{word} {text!r} is no moment{hint}")

    def _column(self, word: str) -> str:
        return f"column {self.columns.of.get(word, Column(word)).name}"

    def _moments(self, at: Mapping[str, datetime | None]) -> dict[str, Any]:
        created, start, end = at["created"], at["start"], at["end"]
        billed = start is not None
        return {
            "created_at": created or start,
            "created_known": Known.OBSERVED if created else Known.BOUNDED if start else Known.UNKNOWN,
            "scheduled_at": start,
            "scheduled_known": Known.OBSERVED if start else Known.NEVER,
            "billing_start_at": start,
            "billing_start_known": Known.BOUNDED if billed else Known.NEVER,
            "billing_start_source": self._column("start") if billed else "no instance was made",
            "running_known": Known.UNKNOWN if billed else Known.NEVER,
            "pulled_known": Known.UNKNOWN if billed else Known.NEVER,
            "finished_at": end if billed else None,
            "finished_known": Known.BOUNDED if billed and end else Known.NEVER,
            "finished_source": None if not billed else self._column("end") if end else "it has not ended",
            "deleted_at": end,
            "deleted_known": Known.BOUNDED if end else Known.NEVER,
        }

    def _ending(self, phase: str, at: Mapping[str, datetime | None]) -> dict[str, Any]:
        shown = f"{self._column('phase')}: {phase}" if phase else None
        if phase in _ENDS:
            return {"ended": _ENDS[phase], "ended_evidence": shown}
        if at["end"] is None:
            return {"ended": End.LIVE}
        return {"ended": End.DELETED if phase in ("Pending", "Running") else End.UNKNOWN, "ended_evidence": shown}


def _container(requests: dict[str, str]) -> ContainerSpec:
    return ContainerSpec("build", resources=Resources(requests=dict(requests)))


def _in_order(at: Mapping[str, datetime | None]) -> None:
    present = [(word, at[word]) for word in MOMENT_FIELDS]
    known = [(word, moment) for word, moment in present if moment is not None]
    if not known:
        raise _Unusable("it has no moment at all")
    for (first, earlier), (second, later) in zip(known, known[1:], strict=False):
        if later < earlier:
            raise _Unusable(f"{second} comes before {first}")


def _whole(word: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _Unusable(f"{word} {text!r} is no whole number")
    return int(text)
