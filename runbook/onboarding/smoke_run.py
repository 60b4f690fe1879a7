"""One smoke pipeline from its temporary branch to its removal: started, followed live, its pods watched while they live.

The watch on the pods is also the pause of the loop: the API server is asked for what happens in the next second, so that
the final state of a pod that is deleted at its job's end is not missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runbook.clients.kubernetes import KINDS, known
from runbook.clients.permissions import Permission
from runbook.errors import GitLabError, PlanError, RunbookError
from runbook.moments import Clock, duration, parse
from runbook.onboarding import connection
from runbook.onboarding.registration import RegisteredRunner
from runbook.onboarding.smoke_evidence import (
    Evidence,
    JobSeen,
    PodEvent,
    PodSeen,
    job_of,
    state_of,
    without_environment,
)
from runbook.plan import Action, Plan
from runbook.report import Unknown
from runbook.runner.trace import Follower
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

COMMIT = "Smoke job of the ECI runner (temporary branch)"
"""Title of the commit on the temporary branch: with the branch's name it tells a leftover from somebody else's branch."""

PICKUP = 120.0
"""Seconds that a job may wait before we ask whether its runner is there at all; it asks GitLab every few seconds."""

DELETION = 120.0
"""Seconds that the runner has to delete its pods after the pipeline's end."""

CANCELLATION = 90.0
"""Seconds that a cancelled pipeline has to end, so that its pods go before we do."""


@dataclass(frozen=True)
class ProjectSeen:
    """The project that the smoke job runs in. `role` is GitLab's access level of the token's user; None where it is not said."""

    id: int
    path: str
    default_branch: str
    ci_path: str
    ci_exists: bool
    archived: bool
    ci_enabled: bool
    role: int | None


@dataclass(frozen=True)
class Task:
    """What `run` needs to know of the plan it carries out."""

    project: ProjectSeen
    branch: str
    content: str
    runner: RegisteredRunner
    nodes: tuple[connection.Node, ...] | Unknown


def run(
    plan: Plan,
    gitlab: GitLabClient,
    cluster: Cluster,
    settings: Settings,
    clock: Clock,
    *,
    dry_run: bool,
    patience: float = PICKUP,
    show: Callable[[str], None] = print,
) -> Evidence:
    """Start the pipeline, show its traces as they grow, and collect what its pods were. The branch is removed in any case.

    A dry run, a plan with nothing to do and one with blockers start nothing, and say so. Raises PlanError where an
    earlier notebook has not been applied; GitLabError where GitLab refuses. `patience` is seconds that a job may wait
    before we ask whether its runner is there.
    """
    reason = _not_run(plan, dry_run=dry_run)
    if reason:
        return Evidence(not_run=reason)
    if plan.waiting_for:
        raise PlanError(
            "The smoke job cannot run yet.",
            where=plan.waiting_for,
            remedy="Run that notebook with dry_run = False first.",
            page="#smoke-jobs",
        )
    task = next(change.desired for change in plan.changes if isinstance(change.desired, Task))
    leftovers = [change.name for change in plan.pending if change.action is Action.DELETE]
    return _Run(task, gitlab, cluster, settings, clock, patience, show).carry_out(leftovers)


def _not_run(plan: Plan, *, dry_run: bool) -> str:
    if plan.blockers:
        return "the plan cannot be applied"
    if plan.empty:
        return "nothing to change: the runner is proved already"
    if dry_run:
        return f"waits for {plan.waiting_for}" if plan.waiting_for else "dry run: nothing was started"
    return ""


class _PodWatch:
    """The pods of one namespace from now on: asked in steps of one second, which are also the pause of whoever waits."""

    def __init__(self, cluster: Cluster, namespace: str, clock: Clock) -> None:
        self._cluster, self._namespace, self._clock = cluster, namespace, clock
        self._path = KINDS["Pod"].path(namespace)
        self.last: dict[str, dict[str, Any]] = {}
        """The last state of each pod by its UID, without environments."""
        self.deleted: set[str] = set()
        version = known(self._version)
        self.unknown = version if isinstance(version, Unknown) else None
        self._since = "" if isinstance(version, Unknown) else version

    def step(self) -> list[dict[str, Any]]:
        """Take in what happens in the next second; the pods that changed, in each state that they went through."""
        if self.unknown:
            self._clock.sleep(1)
            return []
        query = {"watch": "1", "resourceVersion": self._since, "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
        what = Permission("watch", "pods", namespace=self._namespace)
        answer = known(lambda: self._cluster.request("GET", self._path, query, what=what))
        if isinstance(answer, Unknown):
            self.unknown = answer
            return []
        return [pod for line in bytes(answer.data).splitlines() for pod in self._taken(json.loads(line))]

    def _taken(self, change: Mapping[str, Any]) -> list[dict[str, Any]]:
        if change["type"] == "ERROR":  # the server has forgotten this version: begin anew
            return self._caught_up()
        self._since = change["object"]["metadata"]["resourceVersion"]
        if change["type"] == "BOOKMARK":
            return []
        pod = without_environment(change["object"])
        self.last[pod["metadata"]["uid"]] = pod
        if change["type"] == "DELETED":
            self.deleted.add(pod["metadata"]["uid"])
        return [pod]

    def _caught_up(self) -> list[dict[str, Any]]:
        self._since = self._version()
        there = [without_environment(pod) for pod in self._cluster.list("Pod", self._namespace)]
        by_uid = {pod["metadata"]["uid"]: pod for pod in there}
        self.deleted |= set(self.last) - set(by_uid)
        self.last |= by_uid
        return there

    def _version(self) -> str:
        what = Permission("list", "pods", namespace=self._namespace)
        answer = self._cluster.request("GET", self._path, {"limit": "1"}, what=what)
        return str(json.loads(answer.data)["metadata"]["resourceVersion"])


class _Run:
    """One pipeline from its branch to its removal."""

    def __init__(
        self,
        task: Task,
        gitlab: GitLabClient,
        cluster: Cluster,
        settings: Settings,
        clock: Clock,
        patience: float,
        show: Callable[[str], None],
    ) -> None:
        self.task, self.gitlab, self.cluster, self.settings = task, gitlab, cluster, settings
        self.clock, self.patience, self.show = clock, patience, show
        self.root = f"/projects/{task.project.id}"
        self.watch = _PodWatch(cluster, settings.kubernetes.namespace, clock)
        self.evidence = Evidence(runner_id=task.runner.id)
        self.followers: dict[int, Follower] = {}
        self.said: dict[str, str] = {}
        self.begun = clock.now()
        self.made_branch = False

    def carry_out(self, leftovers: Sequence[str]) -> Evidence:
        try:
            for name in leftovers:
                self._delete_branch(name)
            self._borrow_smoke_tag()
            self._create_branch()
            self._start()
            self._follow()
        finally:
            self._clean_up()
        return self._with_pods()

    # -- beginning

    def _create_branch(self) -> None:
        project, task = self.task.project, self.task
        action = {
            "action": "update" if project.ci_exists else "create",
            "file_path": project.ci_path,
            "content": task.content,
        }
        body = {
            "branch": task.branch,
            "start_branch": project.default_branch,
            "commit_message": COMMIT,
            "actions": [action],
        }
        self.gitlab.post(f"{self.root}/repository/commits", body, what=f"making the branch {task.branch}")
        self.made_branch = True
        self.show(f"branch {task.branch} of {project.path}")
        if task.runner.access_level == "ref_protected" and not self._branch_is_protected():
            raise GitLabError(
                "The runner takes jobs of protected branches only, and the temporary branch is not protected.",
                where=f"{project.path}: {task.branch}",
                remedy=f"Protect the wildcard {self.settings.smoke.branch}-* in the project (Settings > Repository > Protected branches).",
                page="#smoke-project",
            )

    def _branch_is_protected(self) -> bool:
        path = f"{self.root}/repository/branches/{quote(self.task.branch, safe='')}"
        return bool(self.gitlab.get(path, what=f"the branch {self.task.branch}").get("protected"))

    def _borrow_smoke_tag(self) -> None:
        """A runner that is proved once more has its real tags only: the smoke tag comes back for the time of the run."""
        runner, tag = self.task.runner, self.settings.runner.smoke_tag
        if tag not in runner.tags:
            self._set_tags([*runner.tags, tag])

    def _set_tags(self, tags: Sequence[str]) -> None:
        what = f"updating runner {self.task.runner.id}"
        self.gitlab.put(f"/runners/{self.task.runner.id}", {"tag_list": list(tags)}, what=what, scope="manage_runner")

    def _start(self) -> None:
        answer = self.gitlab.post(f"{self.root}/pipeline", {"ref": self.task.branch}, what="starting the pipeline")
        self.evidence = replace(
            self.evidence, pipeline_id=int(answer["id"]), url=str(answer["web_url"]), status=str(answer["status"])
        )
        self.begun = self.clock.now()
        self.show(f"pipeline {answer['id']}  {answer['web_url']}")
        self._take_in_jobs()

    # -- following

    def _follow(self) -> None:
        """Until every job has ended, the time is over, or no runner comes for a job."""
        asked = self.begun
        while True:
            self._observe()
            if all(job.finished for job in self.evidence.jobs):
                return
            if self._elapsed() > self.settings.smoke.timeout:
                self._stop(f"the time is over: {duration(self.settings.smoke.timeout)} (smoke.timeout)")
                return
            if (self.clock.now() - asked).total_seconds() > self.patience:
                asked = self.clock.now()
                absence = self._runner_absent()
                if absence:
                    self._stop(absence)
                    return

    def _observe(self) -> None:
        """One step: a second of pod changes, then the jobs, then the new lines of their traces."""
        for pod in self.watch.step():
            if job_of(pod, self.evidence.jobs):
                self._say(f"pod {pod['metadata']['name']}", state_of(pod))
        self._take_in_jobs()

    def _take_in_jobs(self) -> None:
        path = f"{self.root}/pipelines/{self.evidence.pipeline_id}/jobs"
        rows = self.gitlab.list(path, what=f"the jobs of pipeline {self.evidence.pipeline_id}")
        known_jobs = {job.id: job for job in self.evidence.jobs}
        jobs = [self._job(row, known_jobs.get(int(row["id"]))) for row in sorted(rows, key=lambda row: row["id"])]
        self.evidence = replace(self.evidence, jobs=tuple(jobs))

    def _job(self, row: Mapping[str, Any], before: JobSeen | None) -> JobSeen:
        job = JobSeen(
            id=int(row["id"]),
            name=str(row["name"]),
            status=str(row["status"]),
            url=str(row.get("web_url") or ""),
            failure_reason=str(row.get("failure_reason") or ""),
            runner_id=(row.get("runner") or {}).get("id"),
            queued=row.get("queued_duration"),
            trace=before.trace if before else "",
        )
        if not job.finished:
            self._say(job.name, job.status)
        if job.status == "running" or (job.finished and not (before and before.finished)):
            job = replace(job, trace=self._trace(job.id))
            follower = self.followers.setdefault(job.id, Follower())
            for line in follower.new_lines(job.trace, finished=job.finished):
                self.show(f"  {job.name} │ {line}")
        self._say(job.name, job.status)
        return job

    def _trace(self, job_id: int) -> str:
        with self.gitlab.reading(f"the trace of job {job_id}"):
            lazy = self.gitlab.api.projects.get(self.task.project.id, lazy=True).jobs.get(job_id, lazy=True)
            content = lazy.trace()
        return bytes(content or b"").decode("utf-8", "replace")

    def _say(self, subject: str, state: str) -> None:
        if self.said.get(subject) != state:
            self.said[subject] = state
            self.show(f"{duration(round(self._elapsed())):>10}  {subject}: {state}")

    def _elapsed(self) -> float:
        return (self.clock.now() - self.begun).total_seconds()

    def _runner_absent(self) -> str:
        """Why a job still waits, if it is because its runner is not there; a busy runner is only said to be so."""
        waiting = [job for job in self.evidence.jobs if job.status in ("pending", "waiting_for_resource")]
        if not waiting:
            return ""
        id, names = self.task.runner.id, ", ".join(job.name for job in waiting)
        if self.gitlab.get(f"/runners/{id}", what=f"runner {id}").get("paused"):
            return f"{names} waits, and runner {id} is paused"
        contacted = contacted_at(latest_manager(self.gitlab, id))
        silent = (self.clock.now() - contacted).total_seconds() if contacted else None
        if silent is None or silent > self.patience:
            heard = (
                f"has asked for jobs of runner {id} for {duration(silent)}"
                if silent
                else f"has ever asked for jobs of runner {id}"
            )
            return (
                f"{names} waits, and no gitlab-runner {heard}: is it running on its host (systemctl status gitlab-runner), "
                "with the config.toml of notebook 50?"
            )
        self.show(f"{names} still waits; its gitlab-runner is there: all its places (limit, concurrent) may be taken")
        return ""

    def _stop(self, why: str) -> None:
        self.show(f"stopped: {why}")
        self.evidence = replace(self.evidence, stopped=why)

    # -- ending

    def _clean_up(self) -> None:
        """Cancel what still runs, wait for the pods to go, remove the branch, give the tags back. What fails is told, not raised."""
        failures = []
        for step in (self._cancel, self._wait_for_pods, self._remove_branch, self._return_tags):
            try:
                step()
            except RunbookError as error:
                failures.append(f"{error.problem} ({error.where})")
                self.show(f"cleaning up: {failures[-1]}")
        self.evidence = replace(self.evidence, cleanup=tuple(failures))

    def _cancel(self) -> None:
        if self.evidence.pipeline_id is None:
            return
        path = f"{self.root}/pipelines/{self.evidence.pipeline_id}"
        if not all(job.finished for job in self.evidence.jobs) or not self.evidence.jobs:
            self.gitlab.post(f"{path}/cancel", {}, what=f"cancelling pipeline {self.evidence.pipeline_id}")
            deadline = self._elapsed() + CANCELLATION
            while not all(job.finished for job in self.evidence.jobs) and self._elapsed() < deadline:
                self._observe()
        answer = self.gitlab.get(path, what=f"pipeline {self.evidence.pipeline_id}")
        self.evidence = replace(self.evidence, status=str(answer["status"]))

    def _wait_for_pods(self) -> None:
        deadline = self._elapsed() + DELETION
        while self._remaining() and self._elapsed() < deadline:
            self.watch.step()

    def _remaining(self) -> list[str]:
        return [
            pod["metadata"]["name"]
            for uid, pod in self.watch.last.items()
            if uid not in self.watch.deleted and job_of(pod, self.evidence.jobs)
        ]

    def _remove_branch(self) -> None:
        if self.made_branch:
            self._delete_branch(self.task.branch)

    def _delete_branch(self, name: str) -> None:
        try:
            self.gitlab.delete(
                f"{self.root}/repository/branches/{quote(name, safe='')}", what=f"removing the branch {name}"
            )
        except GitLabError as error:
            if not is_page(error, "#gitlab-not-found"):
                raise

    def _return_tags(self) -> None:
        if self.settings.runner.smoke_tag not in self.task.runner.tags:
            self._set_tags(self.task.runner.tags)

    def _with_pods(self) -> Evidence:
        """The evidence with the last state of each pod, its events, and what the nodes are."""
        jobs = self.evidence.jobs
        pods = [
            PodSeen(job.id, pod, gone=uid in self.watch.deleted)
            for uid, pod in self.watch.last.items()
            if (job := job_of(pod, jobs))
        ]
        unknown = self.watch.unknown
        nodes = self.task.nodes
        return replace(
            self.evidence,
            pods=unknown or tuple(pods),
            events=self._events({pod.uid for pod in pods}),
            virtual_nodes={} if isinstance(nodes, Unknown) else {node.name: node.virtual for node in nodes},
            leftovers=unknown or tuple(self._remaining()),
        )

    def _events(self, uids: set[str]) -> tuple[PodEvent, ...] | Unknown:
        """Events outlive their pods by about an hour, so they are read once, at the end."""
        rows = known(lambda: self.cluster.list("Event", self.settings.kubernetes.namespace))
        if isinstance(rows, Unknown):
            return rows
        return tuple(PodEvent.of(row) for row in rows if row.get("involvedObject", {}).get("uid") in uids)


def is_page(error: GitLabError, anchor: str) -> bool:
    """Whether an error's page is this one: how a 404 that is an answer is told from one that is a fault."""
    return bool(error.page and error.page.endswith(anchor))


def latest_manager(gitlab: GitLabClient, runner_id: int) -> Mapping[str, Any]:
    """The machine that asked last for jobs with this runner's token, as GitLab describes it; empty where none has."""
    try:
        rows = gitlab.list(f"/runners/{runner_id}/managers", what=f"the machines of runner {runner_id}")
    except GitLabError as error:
        if is_page(error, "#gitlab-not-found"):  # an older GitLab keeps no such list
            return gitlab.get(f"/runners/{runner_id}", what=f"runner {runner_id}")  # type: ignore[no-any-return]
        raise
    return max(rows, key=lambda row: str(row.get("contacted_at") or ""), default={})


def contacted_at(manager: Mapping[str, Any]) -> datetime | None:
    """When that machine asked last."""
    stamp = manager.get("contacted_at")
    return parse(str(stamp)) if stamp else None
