"""kill -9 of a collector and of a compaction at random moments, again and again: `python -m soak.kill_store [KILLS [SEED]]`.

A child appends small segments and compacts now and then; it writes the number of each segment into a file of its own after
the store has acknowledged it. It is killed at a random moment, and then everything acknowledged must be there, once, readable.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from bench import sample_records
from runbook.clients import connect
from runbook.clients.storage import DiskFolder
from runbook.history.store import Store

PODS = 20


def child(folder: Path, first: int) -> None:
    """Append and compact until killed. Each segment has PODS new pods, and those of the one before once more, seen later."""
    store = open_store(folder)
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    number = first
    while True:
        store.append(sample_records.table(number * PODS, PODS))
        os.write(acknowledged, f"{number}\n".encode())
        if number > first:
            store.append(sample_records.table((number - 1) * PODS, PODS, later=60))
        if number % 5 == 4:
            store.compact(grace=timedelta(0))
        number += 1


def open_store(folder: Path) -> Store:
    return Store(DiskFolder(folder / "history"), clock=connect.clock())


def acknowledged(folder: Path) -> list[int]:
    """Numbers of the acknowledged segments; a torn last line was never acknowledged to anybody."""
    path = folder / "acknowledged"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [int(line) for line in lines]


def check(folder: Path) -> int:
    """Raises AssertionError where an acknowledged pod is missing or there twice. Returns how many pods there are."""
    found = open_store(folder).table(["job_id"])["job_id"].to_pylist()
    assert len(found) == len(set(found)), "a pod is there twice"
    wanted = {number * PODS + one for number in acknowledged(folder) for one in range(PODS)}
    missing = wanted - set(found)
    assert not missing, f"{len(missing)} acknowledged pods are lost, such as {min(missing)}"
    return len(found)


def soak(kills: int, seed: int) -> str:
    """Kill so many times; check after every kill; compact at the end and check again. Returns what was seen, as a sentence."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="runbook-soak-") as name:
        folder = Path(name)
        for _ in range(kills):
            first = (
                max(acknowledged(folder), default=-1) + 2
            )  # the one that may be there unacknowledged is not written again
            started = subprocess.Popen([sys.executable, "-m", "soak.kill_store", "child", str(folder), str(first)])
            before = len(acknowledged(folder))
            while len(acknowledged(folder)) == before and started.poll() is None:
                time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.25))
            assert started.poll() is None, "the child ended by itself"
            started.send_signal(signal.SIGKILL)
            started.wait()
            pods = check(folder)
        store = open_store(folder)
        left = len(list((folder / "history").rglob(".*.tmp")))
        store.compact(grace=timedelta(0))
        store.compact(grace=timedelta(0))
        assert check(folder) == pods, "compaction changed the number of pods"
        assert not list((folder / "history").rglob(".*.tmp")), "left-overs are still there"
        return (
            f"{kills} kills (seed {seed}): {len(acknowledged(folder))} acknowledged segments, {pods} pods,"
            f" none lost, none twice; {left} left-overs at the end, removed."
        )


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["child"]:
        child(Path(arguments[1]), int(arguments[2]))
    print(
        soak(int(arguments[0]) if arguments else 200, int(arguments[1]) if arguments[1:] else random.randrange(10**6))
    )


if __name__ == "__main__":
    main()
