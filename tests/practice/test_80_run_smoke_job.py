"""Notebook 80 against a practice cluster of its own: green, again, and every way in which it may not be green.

The played clock runs twenty times as fast, so that a pod's thirty seconds of grace are one and a half.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook.clients import connect
from runbook.clients.gitlab import GitLabClient
from runbook.clients.kubernetes import Cluster
from runbook.errors import GitLabError
from runbook.moments import Clock, wait_for
from runbook.onboarding import access, cache_volume, configuration, registration, smoke_job
from runbook.onboarding.smoke_evidence import Evidence
from runbook.report import Report, Status, Unknown
from runbook.settings import Settings
from sandbox.eci_node import NodeSettings
from sandbox.practice import PracticeCluster

FAST = NodeSettings(time_factor=20, schedule_seconds=5, pull_seconds=15, buckets=("practice-ci-cache",))
NOTEBOOK = "onboarding/80-run-smoke-job"


class World:
    """The practice cluster with clients for it, and the runner brought back to where notebook 50 leaves it."""

    def __init__(self, practice: PracticeCluster) -> None:
        self.practice = practice
        self.settings = Settings.load(practice.card, dry_run=False)
        self.gitlab: GitLabClient = connect.gitlab(self.settings)
        self.cluster: Cluster = connect.kubernetes(self.settings)
        self.clock: Clock = connect.clock()
        self.said: list[str] = []

    def register(self) -> None:
        facts = registration.look(self.gitlab, self.settings, self.cluster)
        plan = registration.plan(facts, self.settings)
        registration.apply(plan, self.gitlab, self.settings, self.cluster, dry_run=False).raise_for_failures()

    def configure(self) -> None:
        """What notebooks 20, 30, 40 and 50 do."""
        s, cluster = self.settings, self.cluster
        access.apply(access.plan(access.look(cluster, s), s), cluster, dry_run=False).raise_for_failures()
        volume = cache_volume.plan(cache_volume.look(cluster, s), s)
        cache_volume.apply(volume, cluster, s, dry_run=False).raise_for_failures()
        self.register()
        written = configuration.plan(configuration.look(cluster, self.gitlab, s), s)
        configuration.apply(written, self.gitlab, dry_run=False).raise_for_failures()

    def unprove(self) -> None:
        """The runner as notebook 50 leaves it: active, smoke tag only, no proof in its mark."""
        runner = registration.find(self.gitlab, self.settings)
        wanted = {
            **registration.attributes(self.settings, proved=False),
            "paused": False,
            "maintenance_note": str(registration.Mark(self.settings.name)),
        }
        self.gitlab.put(f"/runners/{runner.id}", wanted, what="the runner")

    def run(self, settings: Settings | None = None, *, again: bool = False, **options: Any) -> tuple[Evidence, Report]:
        """What the notebook's cells do, with dry_run = False."""
        settings = settings or self.settings
        self.said.clear()
        plan = smoke_job.plan(smoke_job.look(self.gitlab, self.cluster, settings, self.clock), settings, again=again)
        arguments = {"dry_run": False, "show": self.said.append, **options}
        evidence = smoke_job.run(plan, self.gitlab, self.cluster, settings, self.clock, **arguments)
        return evidence, smoke_job.release(plan, evidence, self.gitlab, settings, dry_run=False)

    def with_smoke(self, **changes: Any) -> Settings:
        """The card with another smoke section; a timeout may be shorter here than a card allows."""
        return self.settings.model_copy(update={"smoke": self.settings.smoke.model_copy(update=changes)})

    def left(self) -> dict[str, list[str]]:
        """What a run may not leave: temporary branches, pods of runners, and pipelines that still run."""
        rows = self.gitlab.list("/projects/practice%2Fsmoke/repository/branches", what="branches", search="eci-smoke")
        pods = self.cluster.list("Pod", self.settings.kubernetes.namespace)
        pipelines = self.gitlab.list("/projects/practice%2Fsmoke/pipelines", what="pipelines")
        return {
            "branches": [row["name"] for row in rows],
            "pods": [pod["metadata"]["name"] for pod in pods],
            "pipelines": [row["web_url"] for row in pipelines if row["status"] in ("running", "pending", "created")],
        }

    def make_branch(self, name: str, message: str) -> None:
        """A branch with one commit of its own."""
        actions = [{"action": "create", "file_path": "left.txt", "content": "x"}]
        body = {"branch": name, "start_branch": "main", "commit_message": message, "actions": actions}
        self.gitlab.post("/projects/practice%2Fsmoke/repository/commits", body, what=f"the branch {name}")

    def tags(self) -> tuple[str, ...]:
        return registration.find(self.gitlab, self.settings).tags


NOTHING: dict[str, list[str]] = {"branches": [], "pods": [], "pipelines": []}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A practice cluster in which no notebook has run yet."""
    with PracticeCluster(tmp_path_factory.mktemp("smoke") / "cluster", node=FAST) as practice:
        yield World(practice)


@pytest.fixture(scope="module")
def configured(bare: World) -> World:
    """The same after notebooks 20 to 50."""
    bare.configure()
    return bare


@pytest.fixture
def world(configured: World) -> Iterator[World]:
    """The same, the runner not proved and everything whole; at the end nothing may be left."""
    configured.unprove()
    yield configured
    configured.practice.node.faults.restock()
    configured.practice.node.faults.heal_pulls()
    assert configured.left() == NOTHING


def test_before_the_runner_is_registered_a_rehearsal_waits(bare: World, run_notebook: Callable[..., Any]) -> None:
    """A dry run on a fresh cluster names the notebook that comes first and is no failure; it still shows CI lint's answer."""
    done = run_notebook(NOTEBOOK, cluster=bare.practice.card)
    assert done.exit_code == 0, done.last_lines
    assert "waits for 40-register-runner" in done.text
    assert "valid: jobs write-cache (tags eci-smoke), read-cache (tags eci-smoke)" in done.text


def test_before_the_runner_is_registered_applying_is_refused(bare: World, run_notebook: Callable[..., Any]) -> None:
    """With dry_run = False the same ends non-zero, and the last lines say what to run first."""
    done = run_notebook(NOTEBOOK, cluster=bare.practice.card, dry_run=False)
    assert done.exit_code != 0
    assert "40-register-runner" in done.last_lines
    assert bare.left() == NOTHING


def test_a_runner_that_never_comes_is_told(bare: World) -> None:
    """Registered and active, but no gitlab-runner asks for jobs: the job does not wait for its timeout, and says why."""
    bare.register()
    registration.pause(bare.gitlab, registration.find(bare.gitlab, bare.settings), paused=False)
    evidence, report = bare.run(patience=4)
    assert "no gitlab-runner has ever asked for jobs" in evidence.stopped
    assert report["smoke-jobs"].status is Status.FAIL
    assert "systemctl status gitlab-runner" in report["smoke-jobs"].observed
    assert evidence.status == "canceled"
    assert bare.left() == NOTHING
    assert bare.tags() == ("eci-smoke",)


def test_green_by_papermill(world: World, run_notebook: Callable[..., Any], secrets: list[str]) -> None:
    """Applied by papermill: live traces, every proof, then the card's tags, unlocked and active; no secret anywhere."""
    done = run_notebook(NOTEBOOK, cluster=world.practice.card, dry_run=False)
    assert done.exit_code == 0, done.last_lines
    for words in ("eci-smoke:service-local=answered", "Successfully extracted cache", "the runner is proved"):
        assert words in done.text
    runner = registration.find(world.gitlab, world.settings)
    assert (runner.tags, runner.locked, runner.paused, runner.run_untagged) == (("docker", "k8s"), False, False, False)
    assert "/practice/smoke/-/pipelines/" in runner.note
    assert not [secret for secret in secrets if secret in done.text]


@pytest.fixture
def secrets(configured: World) -> list[str]:
    """The secrets of this practice cluster: what no notebook may show."""
    folder: Path = configured.practice.folder
    files = ["gitlab/root-token", "runner/kubernetes-token", "runner/gitlab-runner-token", "oss/access-key-secret"]
    return [(folder / name).read_text().strip() for name in files]


@pytest.fixture(scope="module")
def green(configured: World) -> tuple[Evidence, Report, str]:
    """One green run that several tests look at: its evidence, its report, and what it showed while it ran."""
    configured.unprove()
    evidence, report = configured.run()
    return evidence, report, "\n".join(configured.said)


def test_everything_is_proved_by_what_was_seen(green: tuple[Evidence, Report, str]) -> None:
    """The evidence of a green run: pods on virtual nodes with instances, 4 vCPU / 8 GiB billed, a cost, cache, service, alias."""
    evidence, report, _ = green
    assert report.verdict == "green; the runner is proved"
    assert {check.status for check in report.checks} == {Status.PASS}
    assert isinstance(evidence.pods, tuple)
    for pod in evidence.pods:
        assert pod.gone
        assert pod.node.startswith("virtual-kubelet-cn-hangzhou-")
        assert (pod.billed_spec, pod.instance_id[:4]) == ("4.0-8.0Gi", "eci-")
        assert "env" not in pod.manifest["spec"]["containers"][0] or not pod.manifest["spec"]["containers"][0]["env"]
    cost = report["smoke-cost"].observed
    assert re.match(r"CNY 0\.\d+ by the list", cost)
    assert cost.count("observed, from ContainerInstanceCreated to the event StopCharge") == 2
    json.dumps(evidence.as_dict(), default=str)


def test_the_trace_is_followed_while_it_grows(green: tuple[Evidence, Report, str]) -> None:
    """The pod's states and the first job's lines are shown before the second job begins."""
    _, _, shown = green
    begin = shown.index("write-cache │ Running with gitlab-runner")
    assert begin < shown.index("read-cache: running") < shown.index("read-cache │ Running with gitlab-runner")
    assert re.search(r"pod runner-\S+: Pending on virtual-kubelet-\S+, ContainerInstanceCreated: Creating", shown)
    assert re.search(r"pod runner-\S+: Running on virtual-kubelet-", shown)


def test_the_second_time_there_is_nothing_to_change(world: World) -> None:
    """A proved runner is left alone: no pipeline is started."""
    registration.prove(world.gitlab, world.settings, "an-earlier-pipeline")
    count = len(world.gitlab.list("/projects/practice%2Fsmoke/pipelines", what="pipelines"))
    evidence, report = world.run()
    assert report.verdict == "green; nothing to change"
    assert evidence.pipeline_id is None
    assert len(world.gitlab.list("/projects/practice%2Fsmoke/pipelines", what="pipelines")) == count


def test_a_proved_runner_is_proved_again_with_a_borrowed_tag(world: World) -> None:
    """`again` gives the runner its smoke tag for the time of the run, and takes it back."""
    before = registration.prove(world.gitlab, world.settings, "an-earlier-pipeline")
    evidence, report = world.run(again=True)
    assert report.ok, str(report)
    after = registration.find(world.gitlab, world.settings)
    assert after.tags == before.tags == ("docker", "k8s")
    assert after.note != before.note
    assert evidence.url in after.note


def test_an_image_that_cannot_be_pulled(world: World) -> None:
    """The pod's waiting reason and the registry's answer are in the check; the runner keeps its smoke tag."""
    image = "registry.example.com/team/absent:1"
    world.practice.node.faults.pull(image, failure="manifest unknown")
    _, report = world.run(world.with_smoke(image=image))
    check = report["smoke-jobs"]
    assert check.status is Status.FAIL
    assert "manifest unknown" in check.observed
    assert re.search(r"build: (ErrImagePull|ImagePullBackOff)", check.observed)
    assert report["smoke-released"].status is Status.SKIP
    assert world.tags() == ("eci-smoke",)


def test_no_stock(world: World) -> None:
    """ECI has no instance: the pod stays Pending, the time ends, the reason is shown, and everything is taken back."""
    world.practice.node.faults.no_stock()
    evidence, report = world.run(world.with_smoke(timeout=6))
    assert evidence.stopped.startswith("the time is over: 6 s")
    check = report["smoke-jobs"]
    assert "NoStock" in check.observed
    assert "more specs" in check.remedy
    assert any("NoStock" in line for line in world.said)
    assert world.tags() == ("eci-smoke",)


def test_a_silent_service(world: World) -> None:
    """A service that does not listen at its port fails its check, its alias warns, and the cache is still proved."""
    _, report = world.run(world.with_smoke(service_port=5433, service_start=2))
    assert report["smoke-jobs"].status is Status.PASS, str(report)
    assert report["smoke-service"].status is Status.FAIL
    assert report["smoke-service-alias"].status is Status.WARN
    assert report["smoke-cache"].status is Status.PASS
    assert world.tags() == ("eci-smoke",)


def test_an_interrupted_run_takes_everything_back(world: World) -> None:
    """The stop button in the middle of a trace: pipeline cancelled, pods gone, branch removed, then the interruption."""

    def stop(line: str) -> None:
        if "Preparing environment" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.run(show=stop)
    assert world.tags() == ("eci-smoke",)


def test_an_account_that_may_not_see_pods_proves_nothing(world: World) -> None:
    """Without `list` and `watch` on pods the jobs run, but what was not seen is not proved, and the reason is the missing right."""
    kubeconfig = world.practice.restricted_kubeconfig("blind")
    blind = Settings.model_validate(
        {**world.settings.model_dump(), "kubernetes": {"kubeconfig": str(kubeconfig), "namespace": "gitlab-ci"}}
    )
    plan = smoke_job.plan(smoke_job.look(world.gitlab, connect.kubernetes(blind), blind, world.clock), blind)
    evidence = smoke_job.run(
        plan, world.gitlab, connect.kubernetes(blind), blind, world.clock, dry_run=False, show=world.said.append
    )
    report = smoke_job.release(plan, evidence, world.gitlab, blind, dry_run=False)
    assert isinstance(evidence.pods, Unknown)
    assert report["smoke-jobs"].status is Status.PASS
    assert report["smoke-virtual-node"].status is Status.FAIL
    assert "may not list pods" in report["smoke-virtual-node"].observed
    assert world.tags() == ("eci-smoke",)
    wait_for(
        lambda: world.left()["pods"],
        lambda pods: not pods,
        what="the pods that this account could not see are gone",
        timeout=30,
        clock=world.clock,
    )


def test_a_refused_pipeline_leaves_nothing(world: World) -> None:
    """A branch that exists already is GitLab's refusal, in its own words; what was begun is taken back."""
    facts = smoke_job.look(world.gitlab, world.cluster, world.settings, world.clock)
    plan = smoke_job.plan(facts, world.settings)
    world.make_branch("eci-smoke-1", "Somebody else's work [skip ci]")
    with pytest.raises(GitLabError) as caught:
        smoke_job.run(
            plan, world.gitlab, world.cluster, world.settings, world.clock, dry_run=False, show=world.said.append
        )
    assert "eci-smoke-1" in str(caught.value)
    rows = world.gitlab.list("/projects/practice%2Fsmoke/repository/branches", what="branches", search="eci-smoke")
    assert [row["name"] for row in rows] == ["eci-smoke-1"], "the branch is somebody else's"
    world.gitlab.delete("/projects/practice%2Fsmoke/repository/branches/eci-smoke-1", what="the branch")


def test_a_runner_for_protected_branches_only(world: World) -> None:
    """Such a runner would never take the job of an unprotected branch: nothing is started, and the wildcard to protect is named."""
    runner = registration.find(world.gitlab, world.settings)
    world.gitlab.put(f"/runners/{runner.id}", {"access_level": "ref_protected"}, what="the runner")
    with pytest.raises(GitLabError) as caught:
        world.run()
    assert "Protect the wildcard eci-smoke-*" in str(caught.value)


def test_a_branch_that_an_interrupted_run_left_is_removed(world: World) -> None:
    """A temporary branch older than any run is found by its name and its commit, and removed by the next run."""
    world.make_branch("eci-smoke-7", f"{smoke_job.COMMIT}\n\n[skip ci]")
    young = smoke_job.look(world.gitlab, world.cluster, world.settings, world.clock)
    assert young.branches == ()
    old = world.with_smoke(timeout=-1000)
    facts = smoke_job.look(world.gitlab, world.cluster, old, world.clock)
    assert facts.branches == ("eci-smoke-7",)
    plan = smoke_job.plan(replace(young, branches=facts.branches), world.settings)
    smoke_job.run(plan, world.gitlab, world.cluster, world.settings, world.clock, dry_run=False, show=world.said.append)
