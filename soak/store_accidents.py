"""What befalls a store's disk, again and again at random moments: `python -m soak.store_accidents [ROUNDS [SEED]]`.

A full disk, a disk that may not be written any more, a clock that steps back, a torn file, a foreign file: each has to end
in a clear error or in a repaired store, never in a silent gap. A writer keeps what was not acknowledged, as a collector does,
and appends it again when the disk takes it. The disks are made in a mount namespace of the soak's own.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench import sample_records
from runbook.clients.storage import DiskFolder
from runbook.errors import HistoryError
from runbook.history.store import Store

PODS = 20
"""Pods of each segment."""
SEGMENTS = 12
"""Segments that a round has before its accident, at most."""
SMALL, LARGE = "1m", "32m"
IN_NAMESPACE = ("unshare", "--map-root-user", "--mount")


@dataclass
class SteppingClock:
    """A clock that somebody sets back now and then."""

    dice: random.Random
    time: datetime = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        if self.dice.random() < 0.2:
            self.time -= timedelta(seconds=self.dice.uniform(1, 86_400))
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Writer:
    """A store, what it has acknowledged, and what it has refused."""

    folder: Path
    dice: random.Random
    acknowledged: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Files by the number of the segment."""
    refused: list[int] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.store = Store(DiskFolder(self.folder / "history"), clock=SteppingClock(self.dice))

    def write(self, segments: int, *, compacting: bool = True) -> list[int]:
        """Append so many new segments, and compact now and then; their numbers."""
        numbers = list(range(self._number, self._number + segments))
        for number in numbers:
            self._append(number)
            self._number += 1
            if compacting and self.dice.random() < 0.1:
                self.store.compact(grace=timedelta(0))
        return numbers

    def write_until_refused(self) -> str:
        """Append until the disk refuses; what the error says."""
        while True:
            try:
                self._append(self._number)
            except HistoryError as error:
                self.refused.append(self._number)
                return error.problem
            finally:
                self._number += 1

    def write_again(self) -> None:
        """Append what was refused."""
        for number in self.refused:
            self._append(number)
        self.refused.clear()

    def check(self) -> None:
        """Raises AssertionError where an acknowledged pod is missing, or any pod is there twice."""
        found = self.store.table(["job_id"])["job_id"].to_pylist()
        assert len(found) == len(set(found)), "a pod is there twice"
        missing = {number * PODS + one for number in self.acknowledged for one in range(PODS)} - set(found)
        assert not missing, f"{len(missing)} acknowledged pods are lost, such as {min(missing)}"

    def _append(self, number: int) -> None:
        self.acknowledged[number] = self.store.append(sample_records.table(number * PODS, PODS)).files


def full_disk(writer: Writer) -> None:
    """A disk without room says so and loses nothing; with more room it goes on."""
    with_disk(writer, SMALL)
    said = writer.write_until_refused()
    assert "full" in said, said
    writer.check()
    assert not list(writer.folder.rglob("*.tmp")), "a left-over takes room"
    mount("-o", f"remount,size={LARGE}", str(writer.folder))
    writer.write_again()


def permission_lost(writer: Writer) -> None:
    """A disk that may not be written any more says so, and can still be read; given back, it goes on."""
    with_disk(writer, LARGE)
    writer.write(writer.dice.randint(1, SEGMENTS))
    mount("-o", "remount,ro", str(writer.folder))
    said = writer.write_until_refused()
    assert "read-only" in said, said
    writer.check()
    mount("-o", "remount,rw", str(writer.folder))
    writer.write_again()


def clock_stepped_back(writer: Writer) -> None:
    """Of observations that are as new as each other the one that was appended later holds, whatever the clock says."""
    writer.write(SEGMENTS)
    number = writer.dice.randrange(SEGMENTS)
    table = sample_records.table(number * PODS, PODS)
    for status in ("failed", "success"):
        column = pa.array([status] * PODS)
        at = table.schema.get_field_index("job_status")
        writer.store.append(table.set_column(at, table.schema.field(at), column))
    rows = writer.store.scan(["job_id", "job_status"]).filter("job_status IS NOT NULL").fetchall()
    assert sorted(rows) == [(number * PODS + one, "success") for one in range(PODS)], rows


def torn_file(writer: Writer) -> None:
    """A segment that lost its end is named; set aside, the rest is read, and what it held can be appended again."""
    writer.write(SEGMENTS)
    number = writer.dice.choice(writer.write(SEGMENTS, compacting=False))
    (path,) = writer.acknowledged[number]
    place = writer.folder / "history" / path
    data = place.read_bytes()
    place.write_bytes(data[: writer.dice.randrange(len(data))])
    named(writer, path)
    del writer.acknowledged[number]
    writer.check()
    writer.refused.append(number)
    writer.write_again()


def foreign_file(writer: Writer) -> None:
    """A Parquet file that is none of the store's is named; set aside, everything is there."""
    writer.write(SEGMENTS)
    folders = sorted({one.parent for one in (writer.folder / "history" / "segments").rglob("*.parquet")})
    place = writer.dice.choice(folders or [writer.folder / "history" / "segments"]) / "theirs.parquet"
    pq.write_table(pa.table({"theirs": [1]}), place)
    named(writer, str(place.relative_to(writer.folder / "history")))


def named(writer: Writer, path: str) -> None:
    """Readers and compaction stop, and the error says at which file; then the file is set aside."""
    for action in (writer.store.table, writer.store.compact):
        try:
            action()
        except HistoryError as error:
            assert path in str(error), error
        else:
            raise AssertionError(f"nobody missed {path}")
    writer.store.set_aside(path)


ACCIDENTS: tuple[Callable[[Writer], None], ...] = (
    full_disk,
    permission_lost,
    clock_stepped_back,
    torn_file,
    foreign_file,
)


def with_disk(writer: Writer, size: str) -> None:
    """A disk of this size for the writer."""
    mount("-t", "tmpfs", "-o", f"size={size}", "none", str(writer.folder))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def soak(rounds: int, seed: int) -> str:
    """Every accident so many times, each on a store of its own; what was seen, as a sentence. Raises AssertionError."""
    dice = random.Random(seed)
    pods = 0
    for _ in range(rounds):
        for accident in ACCIDENTS:
            with tempfile.TemporaryDirectory(prefix="runbook-soak-") as name:
                writer = Writer(Path(name), dice)
                try:
                    accident(writer)
                    writer.check()
                    writer.write(2)
                    writer.store.compact(grace=timedelta(0))
                    writer.check()
                    pods += len(writer.acknowledged) * PODS
                finally:
                    if Path(name).is_mount():
                        subprocess.run(["umount", name], check=True)
    names = ", ".join(accident.__name__.replace("_", " ") for accident in ACCIDENTS)
    return f"{rounds} rounds (seed {seed}) of {names}: {pods} acknowledged pods, none lost, none twice, no silent gap."


def main() -> int:
    inside, *given = sys.argv[1:] or [""]
    if inside != "inside":
        command = [*IN_NAMESPACE, sys.executable, "-m", "soak.store_accidents", "inside", *sys.argv[1:]]
        return subprocess.run(command).returncode
    rounds = int(given[0]) if given else 40
    print(soak(rounds, int(given[1]) if given[1:] else random.randrange(10**6)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
