"""Who gets which job and when a job is given up: the GitLab stand-in's tables, without a server, time handed in."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.gitlab import job_payload, job_queue, pipelines
from sandbox.gitlab.instance import Instance, Limits, Options
from sandbox.gitlab.records import Job, Pipeline, Project, Runner, User, Variable
from sandbox.gitlab.repository import Author, Change
from sandbox.gitlab.seed import plant

START = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


@dataclass
class Clock:
    """The time that the instance is told."""

    moment: dt.datetime = START

    def __call__(self) -> dt.datetime:
        return self.moment

    def pass_by(self, **time: float) -> None:
        self.moment += dt.timedelta(**time)


@dataclass
class World:
    instance: Instance
    clock: Clock

    @property
    def root(self) -> User:
        return next(user for user in self.instance.users.values() if user.username == "root")

    def project(self, name: str = "echo") -> Project:
        return next(one for one in self.instance.projects.values() if one.path == name)

    def pipeline(self, ci: str | None = None, ref: str = "main", **variables: str) -> Pipeline:
        """A pipeline of the echo project, of the text given or of its own file."""
        project = self.project()
        if ci is not None:
            repository = self.instance.repository(project)
            change = Change("update", ".gitlab-ci.yml", ci.encode())
            repository.create_commit(ref, [change], "CI", Author("A", "a@b"), parent=repository.resolve("main"), when=0)
        given = [Variable(key, value) for key, value in variables.items()]
        return pipelines.create(self.instance, project, self.root, ref, source="api", variables=given)

    def commit(self, files: dict[str, str]) -> None:
        """Change files on main; what stays the same is left alone."""
        repository = self.instance.repository(self.project())
        changed = {
            path: text.encode() for path, text in files.items() if repository.read("main", path) != text.encode()
        }
        changes = [Change("update", path, content) for path, content in changed.items()]
        repository.create_commit(
            "main", changes, "Change", Author("A", "a@b"), parent=repository.resolve("main"), when=0
        )

    def runner(self, runner_type: str = "instance_type", **changed: Any) -> Runner:
        runner = Runner(
            id=self.instance.next_id("runners"), token="t", runner_type=runner_type, created_at=self.clock()
        )
        for name, value in changed.items():
            setattr(runner, name, value)
        self.instance.runners[runner.id] = runner
        return runner

    def begin(self, name: str, pipeline: Pipeline) -> Job:
        job = self.jobs(pipeline)[name]
        assert job.status == "pending"
        job.contacted_at = self.clock()
        pipelines.begin(self.instance, job)
        return job

    def jobs(self, pipeline: Pipeline) -> dict[str, Job]:
        return {job.name: job for job in self.instance.pipeline_jobs(pipeline)}

    def statuses(self, pipeline: Pipeline) -> dict[str, str]:
        return {job.name: job.status for job in self.instance.pipeline_jobs(pipeline)}

    def end(self, name: str, pipeline: Pipeline, status: str = "success", reason: str | None = None) -> None:
        pipelines.finish(self.instance, self.begin(name, pipeline), status, reason)


@pytest.fixture
def world(tmp_path: Path) -> World:
    clock = Clock()
    instance = Instance(Options(), "http://127.0.0.1:1", tmp_path, clock)
    plant(instance)
    return World(instance, clock)


# ------------------------------------------------------------------------------------------------- matching


@pytest.mark.parametrize(
    ("runner", "job_tags", "ref", "taken"),
    [
        ({"run_untagged": True}, [], "main", True),
        ({"run_untagged": False, "tag_list": ["a"]}, [], "main", False),
        ({"tag_list": ["a", "b"]}, ["a"], "main", True),
        ({"tag_list": ["a"]}, ["a", "b"], "main", False),
        ({"tag_list": ["A"]}, ["a"], "main", False),
        ({"paused": True}, [], "main", False),
        ({"access_level": "ref_protected"}, [], "main", True),
        ({"access_level": "ref_protected"}, [], "topic", False),
        ({"runner_type": "group_type", "group_ids": ["GROUP"]}, [], "main", True),
        ({"runner_type": "group_type", "group_ids": []}, [], "main", False),
        ({"runner_type": "project_type", "project_ids": ["echo"]}, [], "main", True),
        ({"runner_type": "project_type", "project_ids": ["smoke"]}, [], "main", False),
        ({"runner_type": "project_type", "project_ids": ["smoke", "echo"], "locked": True}, [], "main", True),
    ],
)
def test_matching(world: World, runner: dict[str, Any], job_tags: list[str], ref: str, taken: bool) -> None:
    """Tags, untagged jobs, pause, protection and the runner's projects decide who may take a job."""
    named = {
        "group_ids": [world.project().namespace_id],
        "project_ids": [world.project(n).id for n in runner.get("project_ids", [])],
    }
    filled = {key: named[key] if key in named and value else value for key, value in runner.items()}
    one = world.runner(**filled)
    world.pipeline(f"job: {{script: x, tags: {job_tags}}}", ref)
    assert (job_queue.next_job(world.instance, one) is not None) is taken


def test_a_project_may_refuse_instance_runners(world: World) -> None:
    """Where instance runners are off for a project, only its own runners serve it."""
    world.pipeline()
    one = world.runner()
    world.project().shared_runners_enabled = False
    assert job_queue.next_job(world.instance, one) is None


def test_the_oldest_job_comes_first(world: World) -> None:
    """A project's runner works through its jobs in the order in which they were made."""
    made = [world.pipeline().id for _ in range(3)]
    one = world.runner("project_type", project_ids=[world.project().id])
    taken = []
    while (job := job_queue.next_job(world.instance, one)) is not None:
        taken.append(job.pipeline_id)
        pipelines.begin(world.instance, job)
    assert taken == made


def test_instance_runners_share_fairly(world: World) -> None:
    """An instance runner prefers the project that has fewer jobs on instance runners already."""
    first, _, one = world.pipeline(), world.pipeline(), world.runner()
    smoke = pipelines.create(world.instance, world.project("smoke"), world.root, "main", source="api")
    world.jobs(first)["echo"].runner_id = one.id
    world.begin("echo", first)
    one.tag_list = ["eci-smoke"]
    job = job_queue.next_job(world.instance, one)
    assert job is not None and job.pipeline_id == smoke.id


# ---------------------------------------------------------------------------------------------- the payload


def test_the_shorter_timeout_counts(world: World) -> None:
    """A job gets its own timeout, or the project's, but never more than its runner allows."""
    from_runner = world.runner(maximum_timeout=900)
    for text, expected in (
        ("a: {script: x}", 900),
        ("a: {script: x, timeout: 10m}", 600),
        ("a: {script: x, timeout: 2h}", 900),
    ):
        job = world.jobs(world.pipeline(text))["a"]
        assert job_queue.timeout_for(world.instance, from_runner, job) == expected
    assert job_queue.timeout_for(world.instance, world.runner(), job) == 7200


def test_a_cache_key_of_files_follows_the_files(world: World) -> None:
    """`cache: key: files` changes with the commit that last changed one of the files, and with nothing else."""
    text = "a: {{script: x, cache: {{key: {{files: [README.md], prefix: p}}, paths: [c/]}}, variables: {{N: '{n}'}}}}"
    keys = []
    for number, readme in enumerate(("one", "one", "two")):
        world.commit({"README.md": readme, ".gitlab-ci.yml": text.format(n=number)})
        job = world.jobs(world.pipeline())["a"]
        keys.append(job_payload.payload(world.instance, job, world.runner())["cache"][0]["key"])
    assert keys[0] == keys[1] != keys[2] and all(key.startswith("p-") and key.endswith("-protected") for key in keys)


# ----------------------------------------------------------------------------------------- stages and needs

STAGES = """
stages: [a, b, c]
one: {stage: a, script: x}
two: {stage: b, script: x}
rescue: {stage: b, script: x, when: on_failure}
always: {stage: c, script: x, when: always}
"""


def test_stages_follow_each_other(world: World) -> None:
    """A stage waits for the one before; what is for failures is skipped when all goes well."""
    pipeline = world.pipeline(STAGES)
    assert world.statuses(pipeline) == {"one": "pending", "two": "created", "rescue": "created", "always": "created"}
    world.end("one", pipeline)
    assert world.statuses(pipeline) == {"one": "success", "two": "pending", "rescue": "skipped", "always": "created"}
    world.end("two", pipeline)
    world.end("always", pipeline)
    assert pipeline.status == "success" and pipeline.finished_at == START


def test_a_failure_skips_what_follows(world: World) -> None:
    """After a failure only `on_failure` and `always` run, and the pipeline has failed."""
    pipeline = world.pipeline(STAGES)
    world.end("one", pipeline, "failed", "script_failure")
    assert world.statuses(pipeline) == {"one": "failed", "two": "skipped", "rescue": "pending", "always": "created"}
    world.end("rescue", pipeline)
    world.end("always", pipeline)
    assert pipeline.status == "failed"


def test_a_failure_that_is_allowed(world: World) -> None:
    """`allow_failure`, plain or by exit code, lets the pipeline go on."""
    pipeline = world.pipeline(
        "a: {stage: build, script: x, allow_failure: {exit_codes: [7]}}\nb: {stage: test, script: x}"
    )
    pipelines.finish(world.instance, world.begin("a", pipeline), "failed", "script_failure", 7)
    world.end("b", pipeline)
    assert pipeline.status == "success"


def test_needs_do_not_wait_for_the_stage(world: World) -> None:
    """A job with `needs` starts as soon as those are done."""
    text = "a: {stage: build, script: x}\nb: {stage: build, script: x}\nc: {stage: test, script: x, needs: [a]}"
    pipeline = world.pipeline(text)
    world.end("a", pipeline)
    assert world.statuses(pipeline) == {"a": "success", "b": "pending", "c": "pending"}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["success", "success"], "success"),
        (["success", "skipped"], "success"),
        (["skipped", "skipped"], "skipped"),
        (["created", "created"], "created"),
        (["pending", "created"], "pending"),
        (["success", "pending"], "running"),
        (["success", "created"], "running"),
        (["running", "failed"], "running"),
        (["success", "canceled"], "canceled"),
        (["failed", "canceled"], "failed"),
        (["failed", "skipped"], "failed"),
        (["canceling", "success"], "canceling"),
        (["success", "manual", "created"], "manual"),
    ],
)
def test_the_status_of_a_pipeline(world: World, statuses: list[str], expected: str) -> None:
    """A pipeline's status is composed of its jobs' as GitLab composes it."""
    template = world.jobs(world.pipeline())["echo"]
    assert pipelines.status_of([replace(template, status=status) for status in statuses]) == expected


def test_manual_jobs_wait_for_a_person(world: World) -> None:
    """A manual job blocks where its rule says so, and runs when it is played."""
    pipeline = world.pipeline("a: {stage: build, script: x, rules: [{when: manual}]}\nb: {stage: test, script: x}")
    assert (pipeline.status, world.statuses(pipeline)) == ("manual", {"a": "manual", "b": "created"})
    pipelines.play(world.instance, world.jobs(pipeline)["a"], [])
    world.end("a", pipeline)
    assert world.statuses(pipeline)["b"] == "pending"


def test_a_retry_is_for_its_reasons_only(world: World) -> None:
    """`retry: when` names the failures that are repeated."""
    text = "a: {script: x, retry: {max: 2, when: [runner_system_failure, stuck_or_timeout_failure]}}"
    pipeline = world.pipeline(text)
    for reason in ("runner_system_failure", "stuck_or_timeout_failure"):
        world.end("a", pipeline, "failed", reason)
        assert world.statuses(pipeline) == {"a": "pending"}
    world.end("a", pipeline, "failed", "runner_system_failure")
    assert pipeline.status == "failed" and len(world.instance.pipeline_jobs(pipeline, retried=True)) == 3


# --------------------------------------------------------------------------------------------------- giving up


def test_a_job_that_nobody_can_take_is_given_up_after_an_hour(world: World) -> None:
    """Without a suitable runner a job is stuck, and fails after an hour; with one it waits a day."""
    pipeline = world.pipeline("stuck: {script: x, tags: [nobody]}\nwaiting: {script: x, tags: [busy]}")
    world.runner(tag_list=["busy"])
    world.clock.pass_by(minutes=61)
    pipelines.give_up(world.instance)
    jobs = world.jobs(pipeline)
    assert (jobs["stuck"].status, jobs["stuck"].failure_reason) == ("failed", "stuck_or_timeout_failure")
    assert jobs["waiting"].status == "pending"
    world.clock.pass_by(hours=24)
    pipelines.give_up(world.instance)
    assert jobs["waiting"].failure_reason == "stuck_or_timeout_failure"


def test_a_running_job_that_falls_silent_is_given_up(world: World) -> None:
    """A job whose runner has not called for an hour fails."""
    job = world.begin("echo", world.pipeline())
    world.clock.pass_by(minutes=59)
    pipelines.give_up(world.instance)
    assert job.status == "running"
    world.clock.pass_by(minutes=2)
    pipelines.give_up(world.instance)
    assert (job.status, job.failure_reason) == ("failed", "stuck_or_timeout_failure")


def test_a_job_without_acknowledgement_goes_back(world: World) -> None:
    """A job that its runner never confirmed is offered again after two minutes."""
    one = world.runner()
    job = world.jobs(world.pipeline())["echo"]
    job.awaits_acknowledgement, job.contacted_at, job.runner_id = True, world.clock(), one.id
    assert job_queue.next_job(world.instance, one) is None
    world.clock.pass_by(minutes=3)
    pipelines.give_up(world.instance)
    assert job_queue.next_job(world.instance, one) is job


def test_limits_may_be_shorter(world: World) -> None:
    """The times after which jobs are given up are told to the instance."""
    world.instance.options = replace(world.instance.options, limits=Limits(pending_without_runner=10))
    pipeline = world.pipeline()
    world.clock.pass_by(seconds=11)
    pipelines.give_up(world.instance)
    assert pipeline.status == "failed"


def test_news_changes_the_queue_value(world: World) -> None:
    """A runner's queue value changes when a job comes or a runner is changed, and only then."""
    one = world.runner()
    before = world.instance.queue_value(one)
    assert world.instance.queue_value(one) == before
    world.pipeline()
    assert world.instance.queue_value(one) != before
