"""Files of pods: what kubectl prints and plain traces become records; what cannot be read is counted and named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import SettingsError
from runbook.history import record
from runbook.history.from_files import FIELDS, Columns, Imported, from_dump, from_trace
from runbook.history.record import End, JobKnown, Known, Source

NOW = datetime(2026, 11, 24, 9, 40, tzinfo=UTC)
EPOCH = datetime(2023, 5, 1, tzinfo=UTC)
OPENB = [
    "cpu=cpu_milli:m",
    "memory=memory_mib:Mi",
    "created=creation_time",
    "start=scheduled_time",
    "end=deletion_time",
    "phase=pod_phase",
]
HEADER = "name,cpu,memory,created,start,end,phase"


def manifest(uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    """A small job pod as the API server shows it."""
    meta = {"name": f"runner-{uid}", "namespace": "gitlab", "uid": uid, "creationTimestamp": "2026-11-24T09:30:02Z"}
    resources = {"requests": {"cpu": "2", "memory": "6Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta | metadata,
        "spec": {"containers": [{"name": "build", "image": "alpine:3", "resources": resources}]},
        "status": {"phase": "Running"},
    }


def dump(value: object, **options: Any) -> Imported:
    """What a file with this value as JSON, or these bytes, becomes."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return from_dump(data, cluster="practice", observed_at=NOW, **options)


def trace(*lines: str, columns: Columns | None = None, header: str = HEADER) -> Imported:
    """What a CSV file of these lines below the header becomes."""
    data = "\n".join([header, *lines]).encode()
    return from_trace(data, columns or Columns(epoch=EPOCH), cluster="old", source="trace", observed_at=NOW)


# -- what kubectl printed


@pytest.mark.parametrize("kind", ["List", "PodList"])
def test_a_list_of_pods_becomes_records(kind: str) -> None:
    """`kubectl get pods -o json` and the API server's own list give one record a pod, as a file's."""
    items = [manifest("u1"), manifest("u2")]
    if kind == "PodList":
        items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    imported = dump({"apiVersion": "v1", "kind": kind, "items": items})
    assert [one.pod_uid for one in imported.records] == ["u1", "u2"]
    assert {(one.sources, one.request_vcpu, one.request_memory_gib) for one in imported.records} == {
        ((Source.FILE,), 2.0, 6.0)
    }
    assert (imported.rows, imported.refused, imported.repeated) == (2, (), 0)


def test_yaml_says_the_same_as_json() -> None:
    """A list, several documents, and moments without quotes: YAML gives the records that JSON gives."""
    pods = [manifest("u1"), manifest("u2")]
    expected = dump({"items": pods}).records
    assert dump(yaml.safe_dump({"kind": "List", "items": pods}).encode()).records == expected
    unquoted = yaml.safe_dump_all(pods).replace("'2026-11-24T09:30:02Z'", "2026-11-24T09:30:02Z").encode()
    assert b"'2026-" not in unquoted
    assert dump(unquoted).records == expected


def test_a_followed_list_keeps_the_last_look_of_each_pod() -> None:
    """`kubectl get -w -o json` prints a pod again and again: one record, and the other looks are counted."""
    later = manifest(resourceVersion="9", annotations={"k8s.aliyun.com/eci-instance-id": "eci-1"})
    imported = dump(json.dumps(manifest(resourceVersion="7"), indent=1).encode() + json.dumps(later).encode() + b"\n")
    (only,) = imported.records
    assert (only.instance_id, only.resource_version, imported.rows, imported.repeated) == ("eci-1", 9, 2, 1)


def test_events_in_the_file_tell_of_its_pods() -> None:
    """`kubectl get pods,events -o json`: the event StopCharge ends the billing of the pod that it names."""
    ended = manifest(annotations={"k8s.aliyun.com/eci-instance-id": "eci-1"}) | {"status": {"phase": "Failed"}}
    event = {
        "kind": "Event",
        "reason": "StopCharge",
        "involvedObject": {"kind": "Pod", "name": "runner-u1", "uid": "u1"},
        "firstTimestamp": "2026-11-24T09:35:02Z",
    }
    (only,) = dump({"kind": "List", "items": [event, ended]}).records
    assert (only.finished_at, only.finished_known) == (datetime(2026, 11, 24, 9, 35, 2, tzinfo=UTC), Known.OBSERVED)


def test_what_is_no_pod_is_named() -> None:
    """Manifests without a UID, wrong types and impossible sizes are refused by name; other kinds are counted."""
    too_big = manifest("u3")
    too_big["spec"]["containers"][0]["resources"]["requests"]["memory"] = "6Gib"
    bare = manifest()
    del bare["metadata"]["uid"]
    wrong = manifest("u4", name=["x"])
    imported = dump({"items": [manifest("u1"), bare, too_big, wrong, "text", {"kind": "Service"}]})
    assert [one.pod_uid for one in imported.records] == ["u1"]
    refused = sorted(map(str, imported.refused))
    assert [line.partition(":")[0] for line in refused] == [
        "object 2 (gitlab/runner-u1)",
        "object 3 (gitlab/runner-u3)",
        "object 4 (gitlab/['x'])",
    ]
    assert "6Gib" in refused[1]
    assert imported.unread == ("1 str", "1 Service")
    assert imported.rows == len(imported.records) + len(imported.refused)


@pytest.mark.parametrize("data", [b"{", b'{"kind": "List", "items": [', b"\xff\xfe\x00", b"a: [1", b"{}{"])
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(data: bytes) -> None:
    """Half a JSON document, half a YAML document, or no text at all: a page for a person, and no half import."""
    with pytest.raises(SettingsError, match="The file of pods") as stopped:
        dump(data, where="pods.json")
    assert "pods.json" in str(stopped.value)


def test_an_empty_file_fails_its_report() -> None:
    """A file without a single pod is no success."""
    for empty in (b"", b"[]"[:0], b'{"kind": "List", "items": []}'):
        assert not dump(empty).report("import").ok


# -- a plain trace


def test_a_row_becomes_a_record() -> None:
    """Sizes, moments in seconds from the epoch, the phase and the name: each in its column, and bounded where derived."""
    (only,) = trace("p1,2,6Gi,10,12.5,3600,Failed").records
    assert (only.pod_uid, only.pod_name, only.cluster) == ("file:trace/p1", "p1", "old")
    assert (only.request_vcpu, only.request_memory_gib, only.requested_vcpu) == (2.0, 6.0, 2.0)
    assert only.created_at == EPOCH + timedelta(seconds=10)
    assert (only.billing_start_at, only.billing_start_known) == (EPOCH + timedelta(seconds=12.5), Known.BOUNDED)
    assert (only.finished_at, only.finished_known) == (EPOCH + timedelta(hours=1), Known.BOUNDED)
    assert (only.billing_start_source, only.finished_source) == ("column start", "column end")
    assert (only.ended, only.final, only.sources) == (End.FAILED, True, (Source.FILE,))


def test_columns_may_have_other_names_and_units() -> None:
    """`cpu=cpu_milli:m` reads thousandths of a core, `memory=memory_mib:Mi` MiB; a suffix in the value itself holds."""
    columns = Columns.parse(["cpu=milli:m", "memory=mib:Mi"], epoch="2023-05-01T00:00:00Z")
    header = "milli,mib,start,end"
    first, second = trace("500,1536,0,1", "2000m,3Gi,0,1", columns=columns, header=header).records
    assert (first.request_vcpu, first.request_memory_gib) == (0.5, 1.5)
    assert (second.request_vcpu, second.request_memory_gib) == (2.0, 3.0)
    assert [one.pod_uid for one in (first, second)] == ["file:trace/2", "file:trace/3"]


def test_moments_may_be_rfc_3339_or_unix_seconds() -> None:
    """Times with a zone need no epoch; `unix` counts from 1970."""
    written = trace("p1,1,1Gi,,2026-11-24T17:30:00+08:00,2026-11-24T09:35:00Z,", columns=Columns())
    counted = trace("p1,1,1Gi,,1795512600,1795512900,", columns=Columns.parse([], epoch="unix"))
    assert written.records == counted.records
    assert (written.records[0].created_at, written.records[0].created_known) == (
        written.records[0].billing_start_at,
        Known.BOUNDED,
    )
    assert written.records[0].billing_start_at == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def test_a_pod_that_never_started_was_never_billed() -> None:
    """Without a start no instance was made; without an end the pod still lives."""
    waiting, living = trace("p1,1,1Gi,10,,70,Pending", "p2,1,1Gi,10,12,,Running").records
    assert (waiting.billing_start_at, waiting.billing_start_known) == (None, Known.NEVER)
    assert (waiting.finished_at, waiting.finished_known, waiting.ended) == (None, Known.NEVER, End.DELETED)
    assert (living.final, living.ended, living.finished_known) == (False, End.LIVE, Known.NEVER)


def test_whose_job_it_was_may_stand_in_the_file() -> None:
    """Columns of project and job make the record joinable with GitLab's."""
    (only,) = trace(
        "1,1Gi,0,9,5,grp/sub/demo,106", header="cpu,memory,start,end,project_id,project_path,job_id"
    ).records
    assert (only.job_id, only.project_id, only.project_namespace) == (106, 5, "grp/sub")
    assert only.job_known is JobKnown.MARK


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("p1,2,6Gi,10,12,3600", "6 fields, and the header has 7"),
        ("p1,two,6Gi,10,12,3600,Failed", "cpu 'two'"),
        ("p1,2,,10,12,3600,Failed", "memory ''"),
        ("p1,-2,6Gi,10,12,3600,Failed", "cannot be negative"),
        ("p1,2,6Gi,10,noon,3600,Failed", "start 'noon' is no moment"),
        ("p1,2,6Gi,10,nan,3600,Failed", "start 'nan' is no moment"),
        ("p1,2,6Gi,10,1e30,3600,Failed", "start '1e30' is no moment"),
        ("p1,2,6Gi,10,3600,12,Failed", "end comes before start"),
        ("p1,2,6Gi,,,,Pending", "no moment at all"),
        ("p1,2,6Gi,10,12,3600,Gone", "phase 'Gone'"),
        ("ok,2,6Gi,10,12,3600,Failed", "the same pod stands on line 2"),
        ('p1,"2"x,6Gi,10,12,3600,Failed', "not CSV"),
    ],
)
def test_a_bad_row_is_named_and_the_others_stay(row: str, reason: str) -> None:
    """One bad row between two good ones: they become records, it is refused with its line and the reason."""
    imported = trace("ok,2,6Gi,10,12,3600,Failed", row, "last,1,1Gi,10,12,3600,Running")
    assert [one.pod_name for one in imported.records] == ["ok", "last"]
    (refused,) = imported.refused
    assert refused.where.startswith("line 3") and reason in refused.problem
    report = imported.report("import")
    assert "1 of 3 rows refused" in report["import-rows"].observed and "line 3" in str(report)


def test_a_size_of_nothing_is_kept_and_named() -> None:
    """Memory 0 means that none was asked for: the record stays, and the report names the row."""
    imported = trace("p1,2,0,10,12,3600,Failed")
    assert imported.records[0].request_memory_gib is None
    assert "line 2 (p1): memory is 0" in imported.report("import")["import-values"].observed


def test_numbers_without_an_epoch_say_what_is_missing() -> None:
    """Seconds from an unknown beginning are refused, and the reason tells of the epoch."""
    (refused,) = trace("p1,2,6Gi,10,12,3600,Failed", columns=Columns()).refused
    assert "without an epoch" in refused.problem


def test_a_file_without_the_columns_is_refused_as_a_whole() -> None:
    """The page says which column is missing, and which there are."""
    with pytest.raises(SettingsError) as stopped:
        trace("1,2", columns=Columns.parse(["cpu=cores"], epoch="unix"), header="name,memory")
    page = str(stopped.value)
    assert "cpu=cores, start=start, end=end" in page and "name, memory" in page


@pytest.mark.parametrize("text", ["cpu", "cpu=", "gpu=num_gpu"])
def test_a_column_that_no_record_has_is_refused(text: str) -> None:
    """`--column` takes FIELD=COLUMN, and says which fields there are."""
    with pytest.raises(SettingsError) as stopped:
        Columns.parse([text])
    assert all(word in str(stopped.value) for word in FIELDS)


def test_columns_that_nobody_reads_are_named() -> None:
    """What the record has no room for stands in the report."""
    imported = trace("1,1Gi,0,9,LS", header="cpu,memory,start,end,qos")
    assert imported.unread == ("qos",)
    assert imported.report("import").facts["not read"] == "qos"


@given(st.binary(max_size=200))
def test_no_bytes_break_the_trace_reader(data: bytes) -> None:
    """Whatever stands below a header, each row is a record or is refused; the file is refused only as no text."""
    whole = HEADER.encode() + b"\n" + data
    try:
        imported = from_trace(whole, Columns(epoch=EPOCH), cluster="c", source="t", observed_at=NOW)
    except SettingsError:
        return
    assert imported.rows == len(imported.records) + len(imported.refused)


# -- real data by other people


def test_the_real_trace_is_imported_whole(traces: Path) -> None:
    """8,152 real pods of an Alibaba cluster, whose times count from the trace's beginning, become 8,152 records."""
    path = traces / "pods" / "openb_pod_list_default.csv"
    columns = Columns.parse(OPENB, epoch="2023-05-01T00:00:00Z")
    imported = from_trace(path.read_bytes(), columns, cluster="openb", source=path.stem, observed_at=NOW)
    assert (imported.rows, len(imported.records), imported.refused) == (8152, 8152, ())
    assert [one.where for one in imported.doubtful] == ["line 1525 (openb-pod-1523)"]
    ends = [one.ended for one in imported.records]
    assert (ends.count(End.FAILED), ends.count(End.DONE), ends.count(End.DELETED)) == (1870, 192, 5193 + 897)
    assert sum(one.billing_start_known is Known.NEVER for one in imported.records) == 897
    table = record.to_table(imported.records)
    assert (table.num_rows, len(set(table["pod_uid"].to_pylist()))) == (8152, 8152)


def test_the_real_eci_pod_is_imported(traces: Path) -> None:
    """A real ECI pod as `kubectl get -o yaml` shows it keeps its instance, its billed spec and its image cache."""
    path = traces / "eci-pods" / "eci-pod-running-cn-shenzhen-2containers.yaml"
    (only,) = from_dump(path.read_bytes(), cluster="old", observed_at=NOW).records
    assert (only.instance_id, only.instance_spec, only.zone) == (
        "eci-wz9c9z4zt9zfxlf4dd8v",
        "2.0-4.0Gi",
        "cn-shenzhen-d",
    )
    assert (only.image_cache_hit, only.ended, only.final) == (True, End.LIVE, False)
