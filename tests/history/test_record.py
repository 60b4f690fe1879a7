"""The record: its columns say the same to msgspec, Arrow, Parquet and the reader of the documentation; observations are merged."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.history import documentation, record
from runbook.history.record import ContainerRecord, End, JobKnown, Known, PodRecord, Source

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def example() -> PodRecord:
    """The record that consists of every column's example."""
    container = {column.name: column.meaning.example for column in record.columns(ContainerRecord)}
    values = {column.name: column.meaning.example for column in record.columns()} | {"containers": [container]}
    return msgspec.convert(values, PodRecord)


def seen(**values: Any) -> PodRecord:
    """A record of one pod with only these values."""
    return PodRecord(**{"cluster": "practice", "pod_uid": "u1", "observed_at": NOW} | values)


def test_every_column_has_a_definition_an_example_and_a_source() -> None:
    """No column is without a sentence, a source, and an example that the record accepts; sizes and moments have units."""
    for column in (*record.columns(), *record.columns(ContainerRecord)):
        assert column.meaning.definition.endswith("."), column.name
        assert column.meaning.source, column.name
        if column.name.endswith(("_at", "_vcpu", "_gib", "_seconds")):
            assert column.meaning.unit, column.name
    assert example().job_id == 106


def test_the_schema_has_the_columns_of_the_record_in_order() -> None:
    """Names and order are those of PodRecord; only what identifies a pod may not be null; the version is in the metadata."""
    schema = record.arrow_schema()
    assert schema.names == list(PodRecord.__struct_fields__)
    assert [field.name for field in schema if not field.nullable] == ["cluster", "pod_uid"]
    assert schema.metadata == {record.FORMAT_KEY: b"1"}


def test_records_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    """Every column of a full and of an empty record survives a Parquet file, and so does the version."""
    records = [example(), seen()]
    pq.write_table(record.to_table(records), tmp_path / "records.parquet")
    table = pq.read_table(tmp_path / "records.parquet")
    assert table.schema.metadata[record.FORMAT_KEY] == b"1"
    assert record.from_table(table) == records


def test_no_record_makes_an_empty_table() -> None:
    """A table of nothing still has the columns."""
    table = record.to_table([])
    assert (table.num_rows, table.schema.names) == (0, record.arrow_schema().names)


def test_the_documentation_is_what_the_columns_say() -> None:
    """data/history/RECORD.md is the page that `python -m runbook.history.documentation` writes."""
    assert documentation.PAGE.read_text(encoding="utf-8") == documentation.page()


def test_every_word_of_an_enumeration_is_explained() -> None:
    """The page explains each value that ended, job_known, sources and the moments' certainty may have."""
    page = documentation.page()
    for word in (*End, *JobKnown, *Known, *Source):
        assert f"| `{word}` |" in page


def test_the_record_loads_no_data_frame_and_no_arrow() -> None:
    """pyarrow is loaded when a table is made, not by whoever reads a pod."""
    code = "import sys, runbook.history.observation; print({'pyarrow', 'pandas', 'kubernetes'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_the_newest_observation_holds() -> None:
    """Final before not, then the later look, then the newer version of the object; the order of arrival is no matter."""
    live, later = seen(resource_version=9), seen(observed_at=NOW + timedelta(seconds=1), resource_version=3)
    final = seen(final=True, observed_at=NOW - timedelta(hours=1))
    other = seen(cluster="production")
    for order in ([live, later, final, other], [final, other, later, live]):
        assert record.newest(order) == {("practice", "u1"): final, ("production", "u1"): other}
    assert record.newest([later, live])[("practice", "u1")] is later
    assert record.newest([live, seen(resource_version=8)])[("practice", "u1")] is live


def test_a_moment_never_becomes_less_certain() -> None:
    """A bound gives way to what was observed, and what was observed to the bill; never the other way round."""
    observed = seen(finished_at=NOW, finished_known=Known.OBSERVED, finished_source="event StopCharge")
    bounded = seen(finished_at=NOW + timedelta(minutes=5), finished_known=Known.BOUNDED, finished_source="deletion")
    billed = seen(finished_at=NOW + timedelta(seconds=1), finished_known=Known.BILLED, finished_source="ECI")
    live = seen(finished_known=Known.NEVER)
    for older, newer, held in (
        (observed, bounded, observed),
        (bounded, observed, observed),
        (observed, billed, billed),
        (billed, observed, billed),
        (live, bounded, bounded),
        (bounded, live, bounded),
    ):
        merged = record.merged(older, newer)
        assert (merged.finished_at, merged.finished_known, merged.finished_source) == (
            held.finished_at,
            held.finished_known,
            held.finished_source,
        )


def test_of_two_observed_moments_the_surer_source_holds() -> None:
    """StopCharge ends a charge, whatever the containers said before it was told, and whatever is left to see after its event is forgotten."""
    told = seen(finished_at=NOW, finished_known=Known.OBSERVED, finished_source="event StopCharge")
    ended = seen(
        finished_at=NOW - timedelta(seconds=2), finished_known=Known.OBSERVED, finished_source="containers' finishedAt"
    )
    for older, newer in ((told, ended), (ended, told)):
        merged = record.merged(older, newer)
        assert (merged.finished_at, merged.finished_source) == (NOW, "event StopCharge")


def test_the_surer_end_is_kept() -> None:
    """A pod that was seen to fail is not merely deleted; one that was reclaimed did not merely fail."""
    for older, newer, held in (
        (End.FAILED, End.DELETED, End.FAILED),
        (End.FAILED, End.RECLAIMED, End.RECLAIMED),
        (End.RECLAIMED, End.FAILED, End.RECLAIMED),
        (End.LIVE, End.UNKNOWN, End.UNKNOWN),
        (End.DELETED, End.UNKNOWN, End.DELETED),
    ):
        assert record.merged(seen(ended=older), seen(ended=newer)).ended is held


def test_what_one_source_does_not_know_another_completes() -> None:
    """Values are taken from either side, the sources are listed once each, and the better way of knowing the job is kept."""
    watched = seen(sources=(Source.WATCH,), job_id=106, job_known=JobKnown.ANNOTATION, spot=False)
    asked = seen(sources=(Source.GITLAB, Source.WATCH), job_status="success", job_known=JobKnown.GITLAB, spot=True)
    merged = record.merged(watched, asked)
    assert (merged.job_id, merged.job_status, merged.job_known) == (106, "success", JobKnown.ANNOTATION)
    assert merged.sources == (Source.WATCH, Source.GITLAB)
    assert merged.spot is False


def test_two_pods_are_not_merged() -> None:
    """A record of another pod is refused."""
    with pytest.raises(ValueError, match="not one pod"):
        record.merged(seen(), seen(pod_uid="u2"))


@given(st.lists(st.sampled_from(list(Known)), min_size=2, max_size=5))
def test_merging_keeps_the_best_moment_in_any_order(certainties: list[Known]) -> None:
    """However many observations there are, the certainty that is left is the best of all."""
    observations = [
        seen(running_at=None if known in (Known.NEVER, Known.UNKNOWN) else NOW, running_known=known)
        for known in certainties
    ]
    merged = observations[0]
    for observation in observations[1:]:
        merged = record.merged(merged, observation)
    order = [Known.BILLED, Known.OBSERVED, Known.BOUNDED]
    best = next((known for known in order if known in certainties), None)
    assert merged.running_known == best if best else merged.running_at is None
