"""The store on a disk: what is acknowledged stays, the newest of each pod is read once, whatever else lies in the folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench.sample_records import record, table
from runbook.clients.storage import DiskFolder, open_folder
from runbook.errors import HistoryError
from runbook.history.compaction import compact
from runbook.history.reading import Footers
from runbook.history.record import FORMAT_KEY, PodRecord, arrow_schema, from_table, newest, to_table
from runbook.history.store import Store
from runbook.settings import PodHistory
from soak import kill_store

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(DiskFolder(tmp_path / "history"), clock=Hand())


def seen(number: int, minute: int = 0, **changes: object) -> PodRecord:
    """An observation of pod `number`, made at noon and `minute`."""
    at = NOON + timedelta(minutes=minute)
    whole = record(number, created_at=NOON, final=False, observed_at=at)
    return msgspec.structs.replace(whole, **changes)


def held(store: Store) -> dict[tuple[str, str], PodRecord]:
    rows = from_table(store.table())
    found = {(one.cluster, one.pod_uid): one for one in rows}
    assert len(found) == len(rows), "a pod is there twice"
    return found


def files(store: Store, under: str) -> list[Path]:
    return sorted(Path(store.folder.root, under).rglob("*.parquet"))


def test_what_was_appended_is_read_as_it_was(store: Store) -> None:
    """Records come back equal, with all their columns, containers, and moments in UTC."""
    records = [seen(number) for number in range(5)]
    acknowledged = store.append(records)
    assert (acknowledged.rows, len(acknowledged.files)) == (5, 1)
    assert sorted(from_table(store.table()), key=lambda one: one.pod_uid) == records
    assert store.table().schema.equals(arrow_schema())


def test_an_empty_store_reads_as_no_pods(store: Store) -> None:
    """Before anything was appended there are no rows, and no error; nothing appended is no file."""
    assert store.table().num_rows == 0
    assert store.append([]).files == ()
    assert store.state().pods == 0


def test_the_newest_observation_of_a_pod_is_read(store: Store) -> None:
    """Of several observations in tail and base the one that is final, else later, is read, in whatever order they came."""
    store.append([seen(1, 5), seen(2, 5), seen(3, 5, final=True)])
    store.compact()
    store.append([seen(1, 9), seen(2, 1), seen(3, 9)])
    minutes = {one.job_id: (one.observed_at - NOON).seconds // 60 for one in held(store).values()}
    assert minutes == {1: 9, 2: 5, 3: 5}
    store.compact()
    assert {one.job_id: (one.observed_at - NOON).seconds // 60 for one in held(store).values()} == minutes


def test_of_equal_observations_the_later_append_holds(store: Store) -> None:
    """An observation that was completed from another source, and is as new, replaces the one before; also where the clock stepped back."""
    store.append([seen(1)])
    store.clock.time -= timedelta(hours=3)  # type: ignore[attr-defined]
    store.append([seen(1, job_status="success")])
    assert [one.job_status for one in held(store).values()] == ["success"]
    store.compact()
    store.append([seen(1, job_status="failed")])
    assert [one.job_status for one in held(store).values()] == ["failed"]


observations = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.booleans(),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from(["a", "b"]),
        st.booleans(),
    ),
    max_size=25,
)


@hypothesis_settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.tuples(observations, st.booleans()), max_size=5))
def test_the_store_agrees_with_the_nouns(tmp_path_factory: pytest.TempPathFactory, batches: list) -> None:  # type: ignore[type-arg]
    """Whatever is appended and whenever it is compacted, the store holds what `record.newest` says."""
    store = Store(DiskFolder(tmp_path_factory.mktemp("history")), clock=Hand())
    every: list[PodRecord] = []
    for batch, compacted in batches:
        records = [
            seen(
                pod, minute, final=final, resource_version=version, cluster=cluster, created_at=NOON if dated else None
            )
            for pod, final, minute, version, cluster, dated in batch
        ]
        store.append(records)
        every += records
        if compacted:
            store.compact(grace=timedelta(0))
    key = ("final", "observed_at", "resource_version")
    wanted = {identity: [getattr(one, name) for name in key] for identity, one in newest(every).items()}
    assert {identity: [getattr(one, name) for name in key] for identity, one in held(store).items()} == wanted


def test_a_pods_day_is_that_of_its_creation(store: Store) -> None:
    """One append of several days is one segment a day; a day filter reads only those days, and says what it read."""
    days = [datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC) for day in (22, 23, 24)]
    store.append([*(seen(number, created_at=day) for number, day in enumerate(days)), seen(9, created_at=None)])
    assert [path.parent.name for path in files(store, "segments")] == [
        "day=2026-11-22",
        "day=2026-11-23",
        "day=2026-11-24",
        "day=__HIVE_DEFAULT_PARTITION__",
    ]
    assert store.table(["job_id"], first=date(2026, 11, 23), last=date(2026, 11, 23))["job_id"].to_pylist() == [1]
    assert store.table().num_rows == 4


def test_compaction_is_idempotent_and_removes_only_after_the_grace(store: Store) -> None:
    """A second compaction changes nothing; merged segments stay readable for the grace, and are not read twice."""
    for number in range(3):
        store.append([seen(number)])
    assert [(day.rows, day.segments) for day in store.compact().days] == [(3, 3)]
    assert (store.compact().days, len(files(store, "segments")), store.state().segments) == ((), 3, 0)
    store.clock.time = datetime.now(UTC) + timedelta(hours=1)  # type: ignore[attr-defined]
    assert store.compact().removed == 3
    assert (len(files(store, "segments")), store.state().pods) == (0, 3)


def test_a_reader_that_listed_before_a_compaction_still_reads(store: Store) -> None:
    """A lazy scan that was made before a compaction gives every pod once after it."""
    store.append([seen(number) for number in range(3)])
    store.compact()
    store.append([seen(number, 5) for number in range(5)])
    before = store.scan(["job_id"])
    store.compact()
    assert sorted(before.to_arrow_table()["job_id"].to_pylist()) == [0, 1, 2, 3, 4]


def test_a_second_compaction_on_the_machine_gives_way(store: Store) -> None:
    """While one compaction is at work, another one says so and does nothing."""
    store.append([seen(1)])
    with store.folder.exclusive("compaction"):
        assert compact(store.folder, Footers(store.folder), now=NOON).busy
    assert store.compact().days


def test_a_large_day_is_merged_in_parts(store: Store) -> None:
    """A day with more rows than are compared at once gives the same pods."""
    store.append(table(0, 1000))
    store.append(table(500, 1000, later=60))
    compact(store.folder, Footers(store.folder), now=NOON, rows_at_once=300)
    ids = store.table(["job_id"])["job_id"].to_pylist()
    assert sorted(ids) == list(range(1500))


def test_live_pods_are_those_a_collector_takes_up(store: Store) -> None:
    """Only pods whose newest observation is not final are live."""
    store.append([seen(1), seen(2)])
    store.append([seen(2, 5, final=True)])
    assert [one.job_id for one in store.live()] == [1]


def test_frames_for_narwhals(store: Store) -> None:
    """The frame is lazy, has the asked columns, and filters like any narwhals frame."""
    import narwhals

    store.append([seen(number) for number in range(4)])
    frame = store.frame(["job_id", "billed_vcpu"]).filter(narwhals.col("job_id") > 1)
    assert sorted(frame.collect("pyarrow")["job_id"].to_list()) == [2, 3]


def test_an_unknown_column_is_named(store: Store) -> None:
    """A scan for a column that no record has says which, and what there is; rows that are no records are not kept."""
    with pytest.raises(HistoryError, match="no column colour"):
        store.scan(["colour"])
    with pytest.raises(HistoryError, match="no pod records"):
        store.append(pa.table({"colour": ["red"]}))
    assert not files(store, "segments")


def test_a_newer_format_is_refused(store: Store) -> None:
    """A file of a newer format is not read and not merged: the page names the file and both formats."""
    path = Path(store.folder.root, store.append([seen(1)]).files[0])
    newer = pq.read_table(path).replace_schema_metadata({FORMAT_KEY: b"2"})
    pq.write_table(newer, path)
    for action in (store.table, store.compact, store.state):
        with pytest.raises(HistoryError, match="newer version") as caught:
            action()
        assert str(path) in str(caught.value)
    assert path.exists()


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_a_torn_file_is_no_silent_gap(store: Store, kept: int) -> None:
    """A segment that lost its end stops readers and compaction with its name; set aside, the rest reads on."""
    store.append([seen(1)])
    (path,) = store.append([seen(2)]).files
    whole = Path(store.folder.root, path).read_bytes()
    Path(store.folder.root, path).write_bytes(whole[:kept])
    for action in (store.table, store.compact):
        with pytest.raises(HistoryError, match="torn"):
            action()
    store.set_aside(path)
    assert [one.job_id for one in held(store).values()] == [1]
    assert len(files(store, "set-aside")) == 1


def test_a_foreign_file_is_told(store: Store) -> None:
    """Foreign Parquet files stop readers wherever they lie; other foreign files are listed; temporary ones are left alone until old."""
    (path,) = store.append([seen(1)]).files
    folder = Path(store.folder.root, path).parent
    (folder / "notes.txt").write_text("mine")
    (folder / ".half.parquet.0a1b2c3d.tmp").write_bytes(b"PAR1")
    assert store.state().foreign == (f"segments/{folder.name}/notes.txt",)
    for foreign in (folder / "mine.parquet", folder.parent / "mine.parquet"):
        pq.write_table(pa.table({"a": [1]}), foreign)
        with pytest.raises(HistoryError, match="none of its own"):
            store.table()
        store.set_aside(str(foreign.relative_to(store.folder.root)))
    store.compact()
    assert (folder / ".half.parquet.0a1b2c3d.tmp").exists()
    store.clock.time = datetime.now(UTC) + timedelta(hours=1)  # type: ignore[attr-defined]
    store.compact()
    assert not (folder / ".half.parquet.0a1b2c3d.tmp").exists()


IN_NAMESPACE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
APPENDER = """
import sys
from pathlib import Path
from bench.sample_records import table
from runbook.clients import connect
from runbook.clients.storage import DiskFolder
from runbook.errors import HistoryError
from runbook.history.store import Store
store, kept = Store(DiskFolder(Path(sys.argv[1]) / "history"), clock=connect.clock()), 0
try:
    for number in range(int(sys.argv[2])):
        kept += store.append(table(number * 200, 200)).rows
except HistoryError as error:
    print(error.problem)
print(kept, store.state().pods, len(list(Path(sys.argv[1]).rglob("*.tmp"))))
"""


def appended(prepare: str, folder: Path) -> list[str]:
    """What APPENDER says in a mount namespace of its own, after `prepare`."""
    command = f'{prepare} && exec "$2" -c "$3" "$1" 40'
    argv = [*IN_NAMESPACE, command, "sh", str(folder), sys.executable, APPENDER]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if ended.returncode and ("unshare" in ended.stderr or "mount:" in ended.stderr):
        pytest.skip(f"no mount namespace on this machine: {ended.stderr.strip()}")
    assert not ended.returncode, ended.stderr
    return ended.stdout.splitlines()


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    """On a full disk append raises a page; what was acknowledged before is there, and no left-over takes room."""
    said, counts = appended('mount -t tmpfs -o size=400k none "$1"', tmp_path)
    kept, pods, left = map(int, counts.split())
    assert "full" in said
    assert 0 < kept == pods
    assert left == 0


def test_a_disk_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    """Where the folder is read-only, append raises a page at once; what is there can still be read."""
    Store(DiskFolder(tmp_path / "history"), clock=Hand()).append([seen(1)])
    said, counts = appended('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', tmp_path)
    assert "read-only" in said
    assert counts == "0 1 0"


def test_a_lost_permission_is_an_error(store: Store) -> None:
    """What the disk refuses is told with the path and what to do: a folder's place that is a file."""
    Path(store.folder.root).write_text("a file")
    with pytest.raises(HistoryError, match="a file, not a folder") as caught:
        store.append([seen(1)])
    assert store.folder.root in str(caught.value)


def test_killed_at_random_moments() -> None:
    """The short form of the soak: 8 times kill -9 while appending and compacting; nothing acknowledged is lost, nothing is twice."""
    assert "none lost, none twice" in kill_store.soak(8, seed=4)


def test_what_befalls_a_disk() -> None:
    """The short form of the soak: each accident of a disk once ends in an error that names it and in a store that goes on."""
    argv = [sys.executable, "-m", "soak.store_accidents", "1", "4"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode and ("unshare" in ended.stderr or "mount:" in ended.stderr):
        pytest.skip(f"no mount namespace on this machine: {ended.stderr.strip()}")
    assert not ended.returncode, ended.stderr
    assert "none lost, none twice, no silent gap" in ended.stdout


def test_places_of_a_card(tmp_path: Path) -> None:
    """A card names a path or a file URL; anything else that is no object store is refused with what is allowed."""
    assert open_folder(PodHistory(url=str(tmp_path))).root == str(tmp_path)
    assert open_folder(PodHistory(url=f"file://{tmp_path}")).root == str(tmp_path)
    oss = open_folder(PodHistory(url="oss://bucket/ci/history", endpoint="oss-cn-hangzhou-internal.aliyuncs.com"))
    assert (oss.url, oss.root, oss.on_disk) == ("oss://bucket/ci/history", "bucket/ci/history", False)


@pytest.fixture
def compacted(store: Store, tmp_path: Path) -> Iterator[Path]:
    store.append([seen(1), seen(2), seen(3, created_at=NOON + timedelta(days=1))])
    store.compact()
    yield Path(store.folder.root)


def test_the_documented_lines_read_the_day_files(compacted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of data/history/README.md for DuckDB and pandas read every pod once, from the repository's root."""
    page = (ROOT / "data" / "history" / "README.md").read_text(encoding="utf-8")
    lines = {name: line for name in ("duckdb", "pandas") for line in page.splitlines() if line.startswith(f"{name}.")}
    monkeypatch.chdir(compacted.parent.parent)
    (compacted.parent.parent / "var").symlink_to(compacted.parent)
    read = {"duckdb": duckdb, "pandas": pandas}
    assert len(eval(lines["duckdb"], read).fetchall()) == 3
    frame = eval(lines["pandas"], read)
    assert (len(frame), str(frame["created_at"].dtype)[-4:]) == (3, "UTC]")
    assert set(frame["day"].astype(str)) == {"2026-11-24", "2026-11-25"}


def test_a_table_of_records_and_records_are_the_same(store: Store) -> None:
    """A table that has the record's columns in another order, as an engine returns it, is taken."""
    rows = to_table([seen(1)])
    store.append(rows.select(sorted(rows.column_names)))
    assert msgspec.structs.asdict(next(iter(held(store).values()))) == msgspec.structs.asdict(seen(1))
