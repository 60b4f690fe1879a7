"""A job's trace: masked, cut, summed up, and line by line that of the recorded runners."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.runner.version import Version, parse
from sandbox.runner.endings import (
    BuildFailure,
    JobEnded,
    SystemFailure,
    canceled,
    interrupted,
    script_failed,
    took_too_long,
)
from sandbox.runner.job import Verdict
from sandbox.runner.trace import MASK, Masker, Trace

RECORDINGS = Path(os.environ.get("RUNBOOK_TRACES", "/nonexistent")) / "runner-recordings"
needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="RUNBOOK_TRACES does not point to a folder with runner-recordings/"
)
OLD, NEW = parse("14.7.1"), parse("17.9.2")


def trace(
    version: Version = NEW,
    *,
    secrets: tuple[str, ...] = (),
    limit: int = 100_000,
    clock: Callable[[], float] = lambda: 1.0,
) -> Trace:
    """An empty trace."""
    return Trace(Masker(secrets, ("glpat-",)), version, limit=limit, clock=clock)


# --- masking ----------------------------------------------------------------------------------------------------------


@given(st.data())
def test_a_secret_never_shows_however_it_is_cut(data: Any) -> None:
    """Whatever pieces the output comes in, no masked value and no part of its split reaches GitLab; the rest is kept."""
    secret = "hunter2hunter2"
    text = "before " + secret + " between\n" + secret + "after"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    masker = Masker([secret])
    shown = b"".join(masker.feed(piece.encode()) for piece in pieces) + masker.flush()
    assert shown.decode() == text.replace(secret, MASK.decode())


def test_tokens_are_masked_by_their_prefix() -> None:
    """A token of a kind that GitLab names is masked though it is nobody's variable."""
    masker = Masker([], ["glpat-"])
    assert masker.feed(b"token glpat-abcDEF_123 end\n") == b"token glpat-[MASKED] end\n"


def test_the_longer_of_two_secrets_wins() -> None:
    """A secret that is the beginning of another does not leave the other's end in sight."""
    masker = Masker(["abc", "abcdefgh"])
    assert masker.feed(b"abcdefgh abc\n") == b"[MASKED] [MASKED]\n"


def test_lines_are_shown_at_once() -> None:
    """A complete line is not held back for the sake of masking."""
    masker = Masker(["a-very-long-secret-indeed"])
    assert masker.feed(b"working\n") == b"working\n"


def test_a_trace_ends_at_its_limit() -> None:
    """Output beyond output_limit is dropped, and the trace says so once."""
    short = trace(limit=20)
    for _ in range(3):
        short.write(b"0123456789\n")
    assert short.content.startswith(b"0123456789\n012345678")
    assert short.content.count(b"exceeded limit of 20 bytes") == 1


# --- recorded ---------------------------------------------------------------------------------------------------------


def recorded(name: str) -> bytes:
    """A recorded trace."""
    return (RECORDINGS / f"trace-{name}.log").read_bytes()


@needs_recordings
@pytest.mark.parametrize("name", ["success-attach-14.7.1", "success-exec-13.6.0"])
def test_the_runners_own_lines_are_the_recorded_ones(name: str) -> None:
    """Greeting, sections, titles, times and the last line are byte for byte those of a real binary."""
    expected = recorded(name)
    version = parse(name.rpartition("-")[2])
    times = iter(int(number) for number in re.findall(rb"section_(?:start|end):(\d+)", expected))
    made = trace(version, clock=lambda: next(times))
    short = {14: "14", 13: "13"}[version.major]
    made.println(f"Running with gitlab-runner {version} (feas)")
    made.println(f"  on feas-{short} feas-tok")
    with made.section("prepare_executor", 'Preparing the "kubernetes" executor'):
        made.println("Using Kubernetes namespace: gitlab")
        made.println("Using Kubernetes executor with image registry.example/build:1 ...")
        if version.major == 14:
            made.println("Using attach strategy to execute scripts...")
    output = re.split(rb"section_(?:start|end):\d+:\w+\r\x1b\[0K", expected)
    titles = {
        "prepare_script": "Preparing environment",
        "get_sources": "Getting source from Git repository",
        "step_script": 'Executing "step_script" stage of the job script',
    }
    for name, title in titles.items():
        with made.section(name, title):
            text = next(part for part in output if title.encode() in part)
            made.write(re.split(re.escape(title.encode()) + rb"(?:\x1b\[0;m\x1b\[0;m\n|\x1b\[0;m\n\x1b\[0;m)", text)[1])
    made.notice("Job succeeded")
    made.close()
    assert made.content == expected


@needs_recordings
@pytest.mark.parametrize(
    ("name", "version", "ending"),
    [
        ("failed-exit-42-14.7.1", "14.7.1", script_failed(42)),
        ("failed-exit-42-13.6.0", "13.6.0", script_failed(42)),
        ("reclaimed-exec-14.7.1", "14.7.1", script_failed(137)),
        ("reclaimed-exec-13.6.0", "13.6.0", script_failed(137)),
        (
            "reclaimed-attach-14.7.1",
            "14.7.1",
            BuildFailure('pod "runner-feas-tok-project-5-concurrent-0g5p87" status is "Failed"'),
        ),
    ],
)
def test_the_last_line_of_a_failed_job_is_the_recorded_one(name: str, version: str, ending: JobEnded) -> None:
    """The red line that ends a failed job's trace is byte for byte that of a real binary."""
    made = trace(parse(version))
    made.error(ending.line)
    made.close()
    assert made.content in recorded(name)


@needs_recordings
def test_the_checksum_is_the_one_that_gitlab_was_sent() -> None:
    """crc32 and size of a recorded trace are those in the update that the real binary sent."""
    made = trace(OLD)
    made.write(recorded("success-attach-14.7.1"))
    made.close()
    rows = [json.loads(line) for line in (RECORDINGS / "updates.jsonl").read_text().splitlines()]
    sent = next(row["output"] for row in rows if row["job"] == 1001 and row["what"] == "update")
    assert sent == {"checksum": made.checksum, "bytesize": len(made.content)}


UPDATES = [
    (1001, "14.7.1", None),
    (1101, "14.7.1", script_failed(42)),
    (1201, "14.7.1", BuildFailure('pod "x" status is "Failed"')),
    (1204, "14.7.1", script_failed(137)),
    (2001, "13.6.0", None),
    (2012, "13.6.0", script_failed(42)),
    (2101, "13.6.0", script_failed(137)),
]


@needs_recordings
@pytest.mark.parametrize(("job", "version", "ending"), UPDATES)
def test_verdicts_are_the_recorded_ones(job: int, version: str, ending: JobEnded | None) -> None:
    """State, failure reason and exit code of each kind of end are those that the real binary sent."""
    rows = [json.loads(line) for line in (RECORDINGS / "updates.jsonl").read_text().splitlines()]
    sent = next(row for row in rows if row["job"] == job and row["what"] == "update")
    verdict = Verdict.of(ending, {}, parse(version))
    assert (verdict.state, verdict.failure_reason, verdict.exit_code) == (
        sent["state"],
        sent["failure_reason"],
        sent["exit_code"],
    )


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "known", "reason"),
    [
        (SystemFailure("x"), [], "runner_system_failure"),
        (took_too_long("1h0m0s"), [], "job_execution_timeout"),
        (canceled(), ["job_canceled"], "job_canceled"),
        (canceled(), [], "unknown_failure"),
        (BuildFailure("x", reason="image_pull_failure"), ["image_pull_failure"], "image_pull_failure"),
        (BuildFailure("x", reason="image_pull_failure"), [], "runner_system_failure"),
        (interrupted(), [], "runner_system_failure"),
    ],
)
def test_reasons_are_said_in_words_that_gitlab_knows(ending: JobEnded, known: list[str], reason: str) -> None:
    """A reason that this GitLab does not list is replaced by one that every GitLab knows."""
    assert Verdict.of(ending, {"features": {"failure_reasons": known}}, NEW).failure_reason == reason


def test_system_failures_say_so() -> None:
    """The last line tells a failure of the system from one of the job."""
    assert SystemFailure("x").line == "ERROR: Job failed (system failure): x"
    assert (
        script_failed(2).within("prepare environment").line
        == "ERROR: Job failed: prepare environment: command terminated with exit code 2"
    )
