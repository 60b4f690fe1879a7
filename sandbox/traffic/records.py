"""The same team's pods as finished records, by the million: for benchmarks of whatever reads or writes history.

    for batch in batches(1_000_000, seed=7): ...

The same seed gives the same records. What a pod of each job looks like is read from the pod that its runner would
create, so that sizes and names are those of a watched one; what happens to it is drawn by `lives`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runbook.eci import specs, vocabulary
from runbook.eci.billing_window import Known
from runbook.eci.endings import End
from runbook.history.api_objects import Pod
from runbook.history.observation import pod_record
from runbook.history.record import JobKnown, Source, arrow_schema, to_table
from runbook.history.used import schema as used_schema
from runbook.runner.names import POD_NAME_ALPHABET, POD_NAME_SUFFIX_LENGTH
from sandbox.alibaba.prices import EcsType
from sandbox.traffic import usage
from sandbox.traffic.lives import FAILURE_REASON, STATUS, Ending, Lives, Verdict, draw, kinds
from sandbox.traffic.pods import PlayedRunner, manifest
from sandbox.traffic.team import TEAM, Team
from sandbox.traffic.truth import NUMBERS, planned

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 100_000
"""Records of one batch."""
REGION, ZONES = "cn-hangzhou", ("cn-hangzhou-i", "cn-hangzhou-j")
SLOTS = 12
SAMPLE_SECONDS = 15
"""Seconds between two samples of what a pod uses."""
IDENTITY = ("cluster", "pod_uid", "instance_id", "job_id")
PODS_A_DAY = 550
"""About as many does the usual team have, nights and weekends counted in."""

_RUNNER = PlayedRunner("https://gitlab.example.com", "gitlab-ci")
_ENDED = {
    Ending.DELETED: (End.DELETED, "deleted while Running", None),
    Ending.EXIT: (End.FAILED, "container build: exit code 1", "build"),
    Ending.OOM: (End.OUT_OF_MEMORY, "container build: OOMKilled", "build"),
    Ending.RECLAIM: (End.RECLAIMED, "status.reason BidFailed", None),
    Ending.IMAGE_PULL: (End.IMAGE_PULL, "container build waiting: ErrImagePull", None),
    Ending.NO_STOCK: (End.NO_STOCK, "condition ContainerInstanceCreated False: ContainerGroup.NoStock", None),
}


def batches(count: int, *, seed: int, **options: Any) -> Iterator[pa.RecordBatch]:
    """`count` records of pods, by arrow_schema(), roughly in time's order. `options` are those of `measured_batches`."""
    for records, _ in measured_batches(count, seed=seed, **options):
        yield records


def measured_batches(
    count: int, *, seed: int, begin: datetime = BEGIN, days: float = 365, team: Team = TEAM, rows: int = ROWS
) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Records of `days` from `begin` on, in batches of `rows`, and what the pods that ran used, by `runbook.history.used`."""
    parts = -(-count // rows)
    look = _looks(team)
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(parts)):
        wanted = min(rows, count - number * rows)
        since = begin + timedelta(days=days / parts * number)
        lives_seed, records_seed = child.spawn(2)
        lives = _enough(team, lives_seed, since, days / parts, wanted)
        records = _batch(look, lives, since, number * rows, np.random.default_rng(records_seed))
        yield records, _used(records, lives)


def _enough(team: Team, seed: np.random.SeedSequence, begin: datetime, days: float, wanted: int) -> Lives:
    """At least so many pods, cut to the number: as busy a team as it takes."""
    times = 1.1 * wanted / (PODS_A_DAY * days) + 0.01
    while True:
        lives = draw(team, seed=seed, begin=begin, days=days, times=times)
        if len(lives) >= wanted:
            return lives.head(wanted)
        times *= 1.5


class _Looks(msgspec.Struct, frozen=True):
    """What all pods of a job have in common: a row of the record for each kind, and names by `ref`."""

    records: pa.Table
    refs: pa.Array
    most_refs: int


def _looks(team: Team) -> _Looks:
    moment = BEGIN
    lives = draw(team, seed=1, begin=moment, days=7)
    first = {kind: number for number, kind in reversed(list(enumerate(lives.columns["kind"].tolist())))}
    truths = list(planned(team, lives, moment))
    rng = np.random.default_rng(0)
    records = []
    for number, (_, kind) in enumerate(kinds(team)):
        pod = manifest(_RUNNER, kind, truths[first[number]], 0, rng, {})
        spec = specs.for_pod(pod, region=REGION)
        pod["metadata"] |= {"uid": str(number)}
        pod["metadata"]["annotations"] |= {
            vocabulary.INSTANCE_ID: "eci-x",
            vocabulary.INSTANCE_SPEC: _written_spec(float(spec.vcpu or 0), float(spec.memory_gib or 0), spot=kind.spot),
            vocabulary.INSTANCE_CPU: str(spec.vcpu),
            vocabulary.INSTANCE_MEMORY: str(spec.memory_gib),
        }
        seen = msgspec.json.decode(msgspec.json.encode(pod), type=Pod)
        records.append(pod_record(seen, cluster="benchmark", observed_at=moment, deleted=True))
    most = max(len(project.refs) for project in team.projects)
    refs = [ref for project in team.projects for ref in (*project.refs, *[""] * (most - len(project.refs)))]
    return _Looks(to_table(records), pa.array(refs), most)


def _written_spec(vcpu: float, memory_gib: float, *, spot: bool) -> str:
    """What ECI writes on the pod: vCPU and memory, or the ECS type that a spot order was matched to."""
    return EcsType.holding(vcpu, memory_gib).name if spot else f"{vcpu}-{memory_gib}Gi"


def _batch(look: _Looks, lives: Lives, begin: datetime, first: int, rng: np.random.Generator) -> pa.RecordBatch:
    """One batch; `first` is the number of its first record."""
    n, row = len(lives), lives.columns
    ending = row["ending"]
    made = ending != Ending.NO_STOCK
    ran = row["running"] >= 0
    zone = pa.array(rng.integers(0, len(ZONES), n))
    ended_at = np.where(ending == Ending.RECLAIM, row["end"], row["deleted"])

    def at(seconds: Any, valid: Any = None) -> pa.Array:
        moments = (np.datetime64(begin.replace(tzinfo=None), "us") + seconds.astype("timedelta64[s]")).astype("int64")
        return pa.array(moments, pa.timestamp("us", tz="UTC"), mask=None if valid is None else ~valid)

    def known(valid: Any) -> pa.Array:
        return _words([Known.NEVER.value, Known.OBSERVED.value], valid.astype(np.int64))

    def by_ending(choose: Callable[[tuple[End, str, str | None]], str | None]) -> pa.Array:
        return _words([choose(_ENDED[one]) for one in Ending], ending)

    def numbers(values: Any, valid: Any = None) -> pa.Array:
        return pa.array(values, pa.int64(), mask=None if valid is None else ~valid)

    always = np.ones(n, bool)
    looks = look.records.take(pa.array(row["kind"]))
    slot = row["job"] % SLOTS
    columns: dict[str, pa.Array] = {
        "pod_uid": _uids(rng, n),
        "pod_name": _pod_names(looks["pod_name"].combine_chunks(), slot, rng),
        "node_name": _words([vocabulary.NODE_NAME_PREFIX + one for one in ZONES], zone),
        "region": _words([REGION], np.zeros(n, np.int64)),
        "zone": _words(list(ZONES), zone),
        "sources": pa.ListArray.from_arrays(
            pa.array(np.arange(0, 2 * n + 1, 2), pa.int32()),
            _words([Source.WATCH.value, Source.GITLAB.value], np.tile([0, 1], n)),
        ),
        "observed_at": at(row["deleted"] + 1),
        "resource_version": numbers(1000 + 20 * (first + np.arange(n))),
        "job_known": _words([JobKnown.ANNOTATION.value], np.zeros(n, np.int64)),
        "pipeline_id": numbers(NUMBERS.first_pipeline + first + row["pipeline"]),
        "job_id": numbers(NUMBERS.first_job + first + row["job"]),
        "job_ref": look.refs.take(pa.array(row["project"] * look.most_refs + row["ref"])),
        "retry_of": numbers(NUMBERS.first_job + first + row["retry_of"], row["retry_of"] >= 0),
        "job_status": _words(list(STATUS), row["verdict"]),
        "job_failure_reason": _words(list(FAILURE_REASON), row["verdict"]),
        "job_created_at": at(row["job_created"]),
        "job_started_at": at(row["job_started"]),
        "job_finished_at": at(row["job_finished"]),
        "job_queued_seconds": pa.array((row["job_started"] - row["job_created"]).astype(float)),
        "runner_slot": numbers(slot),
        "containers": _containers(looks["containers"].combine_chunks(), row, at),
        "instance_id": _ids("eci-bp1", 17, rng, n, made),
        "spot": pa.array(row["spot"]),
        "image_cache_hit": pa.array(row["cached"], mask=~made),
        "image_cache_id": _ids("imc-bp1", 17, rng, n, row["cached"]),
        "created_at": at(row["created"]),
        "scheduled_at": at(row["scheduled"]),
        "billing_start_at": at(row["instance"], made),
        "billing_start_source": _words([None, "condition ContainerInstanceCreated"], made.astype(np.int64)),
        "pulled_at": at(row["pulled"], ran),
        "running_at": at(row["running"], ran),
        "finished_at": at(ended_at, made),
        "finished_source": _words([None, "event StopCharge"], made.astype(np.int64)),
        "deleted_at": at(row["deleted"]),
        "ended": by_ending(lambda end: end[0].value),
        "ended_evidence": by_ending(lambda end: end[1]),
        "failed_container": by_ending(lambda end: end[2]),
        "exit_code": numbers(row["exit_code"], row["exit_code"] >= 0),
        "false_green": pa.array((ending == Ending.RECLAIM) & (row["verdict"] == Verdict.SUCCESS)),
    }
    reached = {"created": always, "scheduled": always, "billing_start": made, "pulled": ran, "running": ran}
    reached |= {"finished": made, "deleted": always}
    columns |= {f"{name}_known": known(valid) for name, valid in reached.items()}
    billed = pa.array(made)
    for name in ("instance_spec", "billed_vcpu", "billed_memory_gib", "ecs_type"):
        column = looks[name].combine_chunks()
        columns[name] = pc.if_else(billed, column, pa.scalar(None, column.type))
    schema = arrow_schema()
    arrays = [columns.get(name, None) for name in schema.names]
    filled = [
        looks[name].combine_chunks() if array is None else array
        for name, array in zip(schema.names, arrays, strict=True)
    ]
    return pa.RecordBatch.from_arrays(
        [one.cast(field.type) for one, field in zip(filled, schema, strict=True)], schema=schema
    )


def _used(records: pa.RecordBatch, lives: Lives) -> pa.Table:
    """What the pods of a batch used, as ECI would tell of those that ran: a sample each 15 seconds, `usage.shape`."""
    row = lives.columns
    ran = row["used_mcpu_peak"] >= 0
    seconds = (row["end"] - row["running"])[ran]
    columns: dict[str, Any] = {name: records[name].filter(pa.array(ran)) for name in IDENTITY}
    columns |= {
        "source": pa.array(["eci"]).take(pa.array(np.zeros(len(seconds), np.int64))),
        "observed_at": records["deleted_at"].filter(pa.array(ran)),
        "samples": pa.array(np.maximum(1, seconds // SAMPLE_SECONDS)),
    }
    for prefix, suffix, field, unit in (("vcpu", "", "mcpu", 1000), ("memory", "_gib", "mib", 1024)):
        mean, peak = (row[f"used_{field}_{name}"][ran] / unit for name in ("mean", "peak"))
        usual = usage.level(mean, peak)
        for name, values in {"mean": mean, "p50": usual, "p95": peak, "p99": peak, "peak": peak}.items():
            columns[f"{prefix}_{name}{suffix}"] = pa.array(values)
    schema = used_schema()
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _words(values: list[str | None] | list[str], which: Any) -> pa.Array:
    return pa.array(values, pa.string()).take(pa.array(which))


def _containers(looks: pa.ListArray, row: dict[str, Any], at: Callable[..., pa.Array]) -> pa.ListArray:
    """The containers with the moments of their pod: all start together and end with it."""
    lengths = looks.value_lengths().to_numpy()
    which = np.repeat(np.arange(len(looks)), lengths)
    flat = looks.flatten()
    kind = flat.field("kind").to_numpy(zero_copy_only=False)
    build, init = kind == "build", kind == "init"
    ending, running = row["ending"][which], row["running"][which]
    own_end = build & np.isin(ending, (Ending.EXIT, Ending.OOM))
    finished = np.where(init, running, np.where(own_end, row["end"][which], row["deleted"][which]))
    ran = running >= 0
    ends = ran & (init | (ending != Ending.RECLAIM))
    code = np.where(init, 0, np.where(own_end, row["exit_code"][which], 137))
    why = np.select([init, own_end & (ending == Ending.OOM)], [0, 2], 1)
    waiting = ending == Ending.IMAGE_PULL
    values = {
        "exit_code": pa.array(code, pa.int64(), mask=~ends),
        "reason": _words(
            ["Completed", "Error", "OOMKilled", "ErrImagePull", None], np.where(ends, why, np.where(waiting, 3, 4))
        ),
        "started_at": at(running, ran),
        "finished_at": at(finished, ends),
    }
    names = [field.name for field in flat.type]
    struct = pa.StructArray.from_arrays([values.get(name, flat.field(name)) for name in names], names=names)
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), struct)


def _letters(rng: np.random.Generator, n: int, length: int, alphabet: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    letters: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(alphabet.encode(), np.uint8)
    return letters.take(rng.integers(0, len(alphabet), (n, length), np.uint8))


def _texts(letters: np.ndarray[Any, np.dtype[np.uint8]], valid: Any = None) -> pa.Array:
    """Rows of letters as strings, without a Python object for each."""
    n, length = letters.shape
    offsets = np.arange(0, (n + 1) * length, length, dtype=np.int32)
    array = pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(letters)))
    return array if valid is None else pc.if_else(pa.array(valid), array, pa.scalar(None, pa.string()))


def _ids(prefix: str, length: int, rng: np.random.Generator, n: int, valid: Any) -> pa.Array:
    start = np.broadcast_to(np.frombuffer(prefix.encode(), np.uint8), (n, len(prefix)))
    letters = _letters(rng, n, length, "0123456789abcdefghijklmnopqrstuvwxyz")
    return _texts(np.concatenate([start, letters], axis=1), valid)


def _uids(rng: np.random.Generator, n: int) -> pa.Array:
    """Random UIDs in the form that Kubernetes gives them."""
    letters = _letters(rng, n, 36, "0123456789abcdef").copy()
    letters[:, [8, 13, 18, 23]] = ord("-")
    letters[:, 14] = ord("4")
    return _texts(letters)


def _pod_names(looks: pa.Array, slot: Any, rng: np.random.Generator) -> pa.Array:
    """The name that the runner gave the sample of each kind, with the slot and the random end of this pod."""
    stems = pc.replace_substring_regex(looks, r"-\d+-[a-z0-9]+$", "-")
    ends = _texts(_letters(rng, len(looks), POD_NAME_SUFFIX_LENGTH, "".join(POD_NAME_ALPHABET)))
    return pc.binary_join_element_wise(stems, pa.array(slot).cast(pa.string()), pa.scalar("-"), ends, pa.scalar(""))
