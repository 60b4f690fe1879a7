"""10,000 runner pods listed: ours against the official client's models and against reading the bytes alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kubernetes.client import CoreV1Api

from bench import replay
from bench.figures import Figure, ratio
from runbook.clients.kubernetes import PAGE_SIZE, Cluster
from runbook.history import pod_stream
from sandbox.control_plane import ControlPlane
from sandbox.toolchain import programs

PODS = 10_000
RECORDED = PAGE_SIZE
ROUNDS = 15
PATH = f"/api/v1/namespaces/{replay.NAMESPACE}/pods"


def measure() -> Iterator[Figure]:
    """About two minutes on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder) / "plane", programs()).start()
        try:
            real = replay.client_of(plane)
            replay.fill(real, RECORDED)
            recorded = [bytes(real.request("GET", PATH, {"limit": str(PAGE_SIZE)}).data)]
            of_bytes = ratio(lambda: ours(real), lambda: bytes_only(real), rounds=ROUNDS)
            yield Figure("pod list from the kube-apiserver itself, to reading its bytes", of_bytes, "x", 1.3)
        finally:
            plane.stop()
    with replay.served(replay.pages_of(recorded, PODS), []) as url:
        client = replay.client_at(url)
        typed(client, pages=1)
        slower = ratio(lambda: ours(client), lambda: typed(client), rounds=1)
        yield Figure(f"{PODS:,} pods listed, to the official client's models", slower, "x", 1 / 40)
        yield Figure(
            f"{PODS:,} pods listed, to reading the bytes",
            ratio(lambda: ours(client), lambda: bytes_only(client), rounds=ROUNDS),
            "x",
            3,
        )
        fresh = subprocess.run(
            [sys.executable, "-m", "bench.list_pods", url], capture_output=True, text=True, check=True
        )
        yield Figure(f"{PODS:,} pods listed, more memory", float(fresh.stdout), "MiB", 64)


def ours(client: Cluster) -> int:
    stream = pod_stream.pods(client, replay.NAMESPACE)
    return sum(len(page.items) for page in stream.pages())


def bytes_only(client: Cluster) -> int:
    """The same pages, of which only the place of the next one is read."""
    query, size = {"limit": str(PAGE_SIZE)}, 0
    while True:
        page = client.request("GET", PATH, query).data
        size += len(page)
        following = _continue(page)
        if not following:
            return size
        query["continue"] = following


def typed(client: Cluster, *, pages: int | None = None) -> int:
    api, count, following, done = CoreV1Api(client._api), 0, None, 0
    while True:
        page = api.list_namespaced_pod(replay.NAMESPACE, limit=PAGE_SIZE, _continue=following)
        count, following, done = count + len(page.items), page.metadata._continue, done + 1
        if not following or done == pages:
            return count


def _continue(page: bytes) -> str:
    """The place of the next page, from the list's own metadata: it stands before the pods, or after them."""
    start = page.find(b'"continue":"')
    return page[start + 12 : page.index(b'"', start + 12)].decode() if start >= 0 else ""


def more_memory(url: str) -> float:
    """MiB by which this process grows at most while it lists; true only in one that has done nothing else."""
    client = replay.client_at(url)
    before = _peak()
    ours(client)
    return _peak() - before


def _peak() -> float:
    """The process's own high-water mark: getrusage would count what its parent had before exec."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(more_memory(sys.argv[1]))
