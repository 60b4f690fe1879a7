"""A job's trace is read as a person reads it, by recordings of real runners and by traces written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.runner import trace
from runbook.runner.trace import Follower

PRACTICE = (
    "\x1b[0KRunning with gitlab-runner 17.9.2 (1a2b3c4d)\x1b[0;m\n"
    "section_start:1795523385:prepare_script\r\x1b[0K\x1b[36;1mPreparing environment\x1b[0;m\n"
    "Waiting for pod ci/runner-abc-project-5-concurrent-0-k2k2k2k2 to be running, status is Pending\n"
    "Running on runner-abc-project-5-concurrent-0-k2k2k2k2 via manager-host...\n"
    "\nsection_end:1795523397:prepare_script\r\x1b[0Ksection_start:1795523397:step_script\r\x1b[0K"
    '\x1b[36;1mExecuting "step_script" stage of the job script\x1b[0;m\n'
    '\x1b[32;1m$ say() { printf \'eci-smoke:%s=%s\\n\' "$1" "$2"; }\x1b[0;m\n'
    "eci-smoke:service=silent\n"
    "eci-smoke:service=answered\n"
    "downloading 10%\rdownloading 100%\n"
    "Uploading artifacts as archive to coordinator... ok  token=glcbt-64_abcdef id=7\n"
)


def test_lines_are_what_a_person_reads() -> None:
    """Colours, marks and overwritten progress are gone; the words stay in their order."""
    assert trace.lines(PRACTICE) == [
        "Running with gitlab-runner 17.9.2 (1a2b3c4d)",
        "Preparing environment",
        "Waiting for pod ci/runner-abc-project-5-concurrent-0-k2k2k2k2 to be running, status is Pending",
        "Running on runner-abc-project-5-concurrent-0-k2k2k2k2 via manager-host...",
        'Executing "step_script" stage of the job script',
        '$ say() { printf \'eci-smoke:%s=%s\\n\' "$1" "$2"; }',
        "eci-smoke:service=silent",
        "eci-smoke:service=answered",
        "downloading 100%",
        "Uploading artifacts as archive to coordinator... ok  token=(hidden) id=7",
    ]


def test_a_job_token_is_not_repeated() -> None:
    """Old runners print the job's token after an upload: we do not."""
    assert "glcbt-64_abcdef" not in "\n".join(trace.lines(PRACTICE))


def test_stamps_of_newer_runners_are_taken_off() -> None:
    """A trace with time stamps in front of its lines reads like one without."""
    stamped = (
        "2026-11-24T12:43:46.962646Z 00O Running with gitlab-runner 18.2.0 (ffff)\n"
        "2026-11-24T12:43:47.000000Z 01O eci-smoke:end=7\n"
        "2026-11-24T12:43:47.000001Z 01E+ERROR: Job failed: exit code 1\n"
    )
    assert trace.says(stamped, "eci-smoke") == {"end": "7"}
    assert trace.runner_version(stamped) == "18.2.0"
    assert trace.errors(stamped) == ["ERROR: Job failed: exit code 1"]


def test_sections_have_names_and_seconds() -> None:
    """Each stage has its name and length; one that never ended has no length."""
    assert [(section.name, section.seconds) for section in trace.sections(PRACTICE)] == [
        ("prepare_script", 12),
        ("step_script", None),
    ]


def test_a_script_says_something_by_a_marked_line() -> None:
    """What a script prints counts, the last word of each name; the command that the runner echoes does not."""
    assert trace.says(PRACTICE, "eci-smoke") == {"service": "answered"}
    assert trace.says(PRACTICE, "other") == {}


def test_pod_and_version_are_found() -> None:
    """The trace names the pod and the runner's version; a trace without them says so."""
    assert trace.pod_name(PRACTICE) == "runner-abc-project-5-concurrent-0-k2k2k2k2"
    assert trace.runner_version(PRACTICE) == "17.9.2"
    assert trace.pod_name("") is None
    assert trace.runner_version("") is None


@pytest.mark.parametrize("step", [1, 7, 50, 400])
def test_a_followed_trace_is_shown_once_whatever_the_pieces(step: int) -> None:
    """However the trace arrives in pieces, its lines come out once, whole and in order."""
    follower = Follower()
    pieces = [PRACTICE[:end] for end in range(0, len(PRACTICE), step)]
    shown = [line for piece in pieces for line in follower.new_lines(piece, finished=False)]
    shown += follower.new_lines(PRACTICE, finished=True)
    assert shown == trace.lines(PRACTICE)


def test_a_followed_trace_has_an_end() -> None:
    """A talkative job does not fill the notebook: after the limit one line says where the rest is."""
    follower = Follower(limit=3)
    talk = "".join(f"line {number}\n" for number in range(10))
    assert follower.new_lines(talk[:14], finished=False) == ["line 0", "line 1"]
    assert follower.new_lines(talk, finished=False) == ["line 2", "… the rest is on the job's page"]
    assert follower.new_lines(talk + "line 10\n", finished=True) == []


RECORDINGS = [
    ("trace-success-attach-14.7.1.log", "14.7.1", True),
    ("trace-success-clone-cache-artifact-attach-14.7.1.log", "14.7.1", True),
    ("trace-success-exec-13.6.0.log", "13.6.0", True),
    ("trace-failed-exit-42-13.6.0.log", "13.6.0", False),
    ("trace-failed-exit-42-14.7.1.log", "14.7.1", False),
    ("trace-reclaimed-attach-14.7.1.log", "14.7.1", False),
    ("trace-reclaimed-exec-14.7.1.log", "14.7.1", False),
]


@pytest.mark.parametrize(("name", "version", "succeeded"), RECORDINGS, ids=[row[0] for row in RECORDINGS])
def test_recordings_of_real_runners(traces: Path, name: str, version: str, succeeded: bool) -> None:
    """Real traces give pod, version, sections and last words, and no escape sequence is left in a line."""
    text = (traces / "runner-recordings" / name).read_text(encoding="utf-8")
    assert trace.runner_version(text) == version
    assert str(trace.pod_name(text)).startswith("runner-feas-tok-project-5-concurrent-0")
    assert "step_script" in [section.name for section in trace.sections(text)]
    assert (trace.SUCCEEDED in trace.lines(text)) is succeeded
    assert bool(trace.errors(text)) is not succeeded
    assert not any("\x1b" in line or "\r" in line or "section_" in line for line in trace.lines(text))
