"""Notebook 80: does a job really run on this cluster? A pipeline on a temporary branch proves it, and only then is the runner
given the card's real tags.

`look` reads, `plan` decides, `run` starts the pipeline and follows it, `smoke_proofs.judge` says what it proves, and `release`
lets the runner take jobs. The branch is removed whatever happens.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

from runbook import html
from runbook.eci import quote as quotes
from runbook.errors import GitLabError
from runbook.moments import Clock, duration, parse
from runbook.onboarding import connection, registration, smoke_proofs, smoke_run
from runbook.onboarding.registration import RegisteredRunner
from runbook.onboarding.smoke_evidence import ALIAS, MARK, READ, WRITE, Evidence
from runbook.onboarding.smoke_run import CANCELLATION, COMMIT, ProjectSeen, Task, is_page
from runbook.plan import Action, Change, Plan, unified_diff, yaml_diff
from runbook.quantities import Size
from runbook.report import Check, Report, Unknown, text_pairs
from runbook.runner.pods import HELPER_IMAGE
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

TITLE = "Smoke job"
DEVELOPER = 30
"""GitLab's access level of those who may push branches and start pipelines."""

HEADER = "# Made by the notebook 80-run-smoke-job on a temporary branch, which it removes again.\n"

run = smoke_run.run
judge = smoke_proofs.judge


# -- the pipeline -----------------------------------------------------------------------------------------------------


def pipeline(settings: Settings) -> str:
    """The `.gitlab-ci.yml` of the temporary branch: one job writes the cache and asks the service, the next reads the cache."""
    smoke = settings.smoke
    say = f'say() {{ printf \'{MARK}:%s=%s\\n\' "$1" "$2"; }}'
    end = 'say end "$CI_JOB_ID"'

    def cache(policy: str) -> dict[str, Any]:
        kept = {"key": f"{MARK}-{settings.name}", "paths": [".smoke/"], "policy": policy}
        return {"cache": kept} if settings.cache.enabled else {}

    write: dict[str, Any] = {
        "stage": "write",
        "services": [{"name": smoke.service_image, "alias": ALIAS}],
        **cache("push"),
        "script": [
            say,
            'answers() { ( nc -z -w 2 "$1" "$2" || bash -c "exec 3<>/dev/tcp/$1/$2" ) 2>/dev/null; }',
            f"tries=0; until answers 127.0.0.1 {smoke.service_port} || [ $tries -ge {smoke.service_start} ]; "
            "do tries=$((tries+1)); sleep 1; done",
            f"if answers 127.0.0.1 {smoke.service_port}; then say service-local answered; else say service-local silent; fi",
            f"if answers {ALIAS} {smoke.service_port}; then say service-alias answered; else say service-alias silent; fi",
            'mkdir -p .smoke; printf %s "$CI_PIPELINE_ID" > .smoke/mark',
            end,
        ],
    }
    read: dict[str, Any] = {
        "stage": "read",
        **cache("pull"),
        "script": [say, 'say cache "$(cat .smoke/mark 2>/dev/null || printf missing)"', end],
    }
    document = {
        "workflow": {"rules": [{"if": '$CI_PIPELINE_SOURCE == "api"'}]},
        "stages": ["write", "read"],
        "variables": {"POSTGRES_HOST_AUTH_METHOD": "trust"},
        "default": {"image": smoke.image or settings.pods.image, "tags": [settings.runner.smoke_tag]},
        WRITE: write,
        READ: read,
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)


# -- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LintSeen:
    """What GitLab says of the pipeline file: its errors, its warnings, and the jobs that it would make."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What there is before the smoke job. `branches` are temporary branches that an interrupted run left behind."""

    gitlab: str
    project: ProjectSeen
    runner: RegisteredRunner | None
    available: bool | Unknown
    """Whether the project's jobs may go to our runner."""
    runner_version: str
    """Of the gitlab-runner program: that of the machine that asked for jobs last, else the card's; empty where neither is."""
    contacted: datetime | None
    """When a gitlab-runner with this runner's token last asked GitLab for a job."""
    lint: LintSeen
    taken: tuple[str, ...]
    branches: tuple[str, ...]
    nodes: tuple[connection.Node, ...] | Unknown

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    def summary(self) -> dict[str, str]:
        """The lines that the notebook shows."""
        runner = self.runner
        state = "none with our mark" if runner is None else f"{runner.id} {runner.description}"
        if runner is not None:
            state += f" ({'paused' if runner.paused else 'active'}, tags {', '.join(runner.tags) or 'none'})"
        nodes = self.nodes if isinstance(self.nodes, Unknown) else [node.name for node in self.nodes if node.virtual]
        return {
            "project": f"{self.project.path} on {self.gitlab}",
            "runner": state,
            "gitlab-runner": f"{self.runner_version or 'version unknown'}, {_last_seen(self.contacted)}",
            "virtual nodes": str(nodes) if isinstance(nodes, Unknown) else ", ".join(nodes) or "none",
            "CI lint": "; ".join(self.lint.errors) or f"valid: jobs {', '.join(self.lint.jobs)}",
            **({"left behind": ", ".join(self.branches)} if self.branches else {}),
        }

    def __str__(self) -> str:
        return text_pairs("Before the smoke job", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()))


def _last_seen(contacted: datetime | None) -> str:
    return f"last asked for jobs {contacted:%Y-%m-%d %H:%M:%S} UTC" if contacted else "has not asked for jobs yet"


def _plain(value: Any) -> Any:
    if isinstance(value, Unknown | datetime):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return asdict(value) if isinstance(value, RegisteredRunner | ProjectSeen | LintSeen | connection.Node) else value


def look(gitlab: GitLabClient, cluster: Cluster, settings: Settings, clock: Clock) -> Facts:
    """Read the project, our runner, the temporary branches, the virtual nodes, and GitLab's opinion of the pipeline.

    Raises GitLabError where the project is not there, or where two runners carry our mark.
    """
    project = _project(gitlab, settings)
    runner = _runner(gitlab, settings)
    taken, left = _branches(gitlab, settings, project, clock.now())
    manager = smoke_run.latest_manager(gitlab, runner.id) if runner else {}
    return Facts(
        gitlab=gitlab.url,
        project=project,
        runner=runner,
        available=_available(gitlab, project, runner) if runner else Unknown("there is no runner yet"),
        runner_version=str(manager.get("version") or settings.runner.version or ""),
        contacted=smoke_run.contacted_at(manager),
        lint=_lint(gitlab, settings, project),
        taken=taken,
        branches=left,
        nodes=connection.read_nodes(cluster),
    )


def _project(gitlab: GitLabClient, settings: Settings) -> ProjectSeen:
    path = quote(settings.smoke.project, safe="")
    answer = gitlab.get(f"/projects/{path}", what=f"smoke.project: {settings.smoke.project}")
    access = answer.get("permissions") or {}
    levels = [one["access_level"] for one in (access.get("project_access"), access.get("group_access")) if one]
    default, ci_path = answer.get("default_branch") or "", answer.get("ci_config_path") or ".gitlab-ci.yml"
    return ProjectSeen(
        id=int(answer["id"]),
        path=str(answer["path_with_namespace"]),
        default_branch=default,
        ci_path=ci_path,
        ci_exists=bool(default) and _file_exists(gitlab, int(answer["id"]), ci_path, default),
        archived=bool(answer.get("archived")),
        ci_enabled=answer.get("builds_access_level", "enabled") != "disabled",
        role=max(levels, default=None) if access else None,
    )


def _file_exists(gitlab: GitLabClient, project: int, path: str, ref: str) -> bool:
    try:
        address = f"/projects/{project}/repository/files/{quote(path, safe='')}"
        gitlab.get(address, what=f"{path} on {ref}", ref=ref)
    except GitLabError as error:
        if is_page(error, "#gitlab-not-found"):
            return False
        raise
    return True


def _runner(gitlab: GitLabClient, settings: Settings) -> RegisteredRunner | None:
    try:
        return registration.find(gitlab, settings)
    except GitLabError as error:
        if is_page(error, "#runner-mark") and error.value is None:  # a value names the two that carry the mark
            return None
        raise


def _available(gitlab: GitLabClient, project: ProjectSeen, runner: RegisteredRunner) -> bool | Unknown:
    try:
        rows = gitlab.list(f"/projects/{project.id}/runners", what=f"the runners of {project.path}")
    except GitLabError as error:
        if is_page(error, "#gitlab-role"):  # listing them is for Maintainers
            return Unknown(error.problem)
        raise
    return runner.id in {int(row["id"]) for row in rows}


def _branches(
    gitlab: GitLabClient, settings: Settings, project: ProjectSeen, now: datetime
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that are taken, and those among them that are ours and older than any run."""
    stem = settings.smoke.branch
    rows = gitlab.list(f"/projects/{project.id}/repository/branches", what=f"branches of {project.path}", search=stem)
    ours = [row for row in rows if re.fullmatch(rf"{re.escape(stem)}-\d+", str(row["name"]))]
    old = [
        row["name"]
        for row in ours
        if row["commit"].get("title") == COMMIT
        and (now - parse(row["commit"]["committed_date"])).total_seconds() > settings.smoke.timeout + CANCELLATION
    ]
    return tuple(str(row["name"]) for row in rows), tuple(old)


def _lint(gitlab: GitLabClient, settings: Settings, project: ProjectSeen) -> LintSeen:
    body = {"content": pipeline(settings), "include_jobs": True}
    answer = gitlab.post(f"/projects/{project.id}/ci/lint", body, what="CI lint of the smoke pipeline")
    jobs = tuple(f"{job['name']} (tags {', '.join(job.get('tag_list') or [])})" for job in answer.get("jobs") or [])
    errors = tuple(answer.get("errors") or ()) or (() if answer.get("valid") else ("GitLab calls it invalid",))
    return LintSeen(errors, tuple(answer.get("warnings") or ()), jobs)


# -- plan -------------------------------------------------------------------------------------------------------------


def plan(facts: Facts, settings: Settings, *, again: bool = False) -> Plan:
    """The pipeline that would be started, and what the runner would become; nothing once the runner is proved.

    `again` proves it once more.
    """
    waiting = _waiting_for(facts)
    blockers = [] if waiting else [check for check in _blockers(facts, settings) if check]
    notes = needs(facts, settings)
    if waiting or facts.runner is None:
        return Plan(TITLE, _pipeline_changes(facts, settings, None), waiting_for=waiting, notes=notes)
    if facts.runner.proved and not again:
        keep = Change(Action.KEEP, "Runner", str(facts.runner.id), f"proved by {_proof_of(facts.runner)}")
        return Plan(TITLE, [keep], notes={"already proved": "run with again = True to prove it once more"})
    release = _release_change(facts.runner, settings)
    return Plan(TITLE, [*_pipeline_changes(facts, settings, facts.runner), release], blockers, notes=notes)


def needs(facts: Facts, settings: Settings) -> dict[str, str]:
    """What the job needs from outside the cluster, and what it will cost an hour: said before it starts."""
    pods = settings.pods
    own_helper = HELPER_IMAGE.format(version=facts.runner_version or "VERSION, that of gitlab-runner")
    sizes = [("build", pods.build), ("service", pods.service), ("helper", pods.helper)]
    quote_ = quotes.of(
        [(name, Size.parse(size)) for name, size in sizes if size] if not pods.specs else [],
        region=settings.region,
        site=settings.site,
        spot=pods.spot is not None,
        compute_category="economy" if pods.economy else None,
        use_specs=pods.specs,
    )
    return {
        "image": _pulled_from(settings.smoke.image or pods.image),
        "service image": _pulled_from(settings.smoke.service_image),
        "helper image": _pulled_from(pods.helper_image or own_helper),
        "GitLab": f"{settings.gitlab.clone_url or facts.gitlab} must be reachable from the pods, to clone",
        "instance": quote_.headline,
        "time": f"at most {duration(settings.smoke.timeout)}",
    }


def _pulled_from(image: str) -> str:
    first, slash, _ = image.partition("/")
    registry = first if slash and ("." in first or ":" in first or first == "localhost") else "Docker Hub"
    return f"{image} (from {registry}, or from an image cache)"


def _waiting_for(facts: Facts) -> str:
    if facts.runner is None:
        return "40-register-runner: GitLab has no runner with our mark"
    if facts.runner.paused:
        return f"50-configure-runner: runner {facts.runner.id} is paused until it is configured"
    return ""


def _pipeline_changes(facts: Facts, settings: Settings, runner: RegisteredRunner | None) -> list[Change]:
    leftovers = [Change(Action.DELETE, "Branch", name, "left behind by an interrupted run") for name in facts.branches]
    number = next(n for n in range(1, len(facts.taken) + 2) if f"{settings.smoke.branch}-{n}" not in facts.taken)
    name, content = f"{settings.smoke.branch}-{number}", pipeline(settings)
    task = Task(facts.project, name, content, runner, facts.nodes) if runner else None
    diff = unified_diff("", content, facts.project.ci_path)
    branch = Change(Action.CREATE, "Branch", f"{facts.project.path} {name}", "removed at the end", diff)
    tag = settings.runner.smoke_tag
    start = Change(Action.CREATE, "Pipeline", f"{facts.project.path} {name}", f"2 jobs tagged {tag}", desired=task)
    return [*leftovers, branch, start]


def _release_change(runner: RegisteredRunner, settings: Settings) -> Change:
    now = {**runner.attributes, "paused": runner.paused}
    then = {**registration.attributes(settings, proved=True), "paused": False}
    diff = yaml_diff(now, then, f"runner {runner.id}")
    action = Action.UPDATE if diff or not runner.proved else Action.KEEP
    return Change(action, "Runner", str(runner.id), "only when everything is proved", diff)


def _proof_of(runner: RegisteredRunner) -> str:
    return runner.mark.proved if runner.mark else ""


def _blockers(facts: Facts, settings: Settings) -> list[Check | None]:
    return [_project_blocker(facts.project), _runner_blocker(facts, settings), _lint_blocker(facts)]


def _project_blocker(project: ProjectSeen) -> Check | None:
    title = "The smoke project can run pipelines"
    expected = "a project with a default branch, CI/CD enabled, not archived, in which the token's user is a Developer"
    faults = {
        "it is archived": project.archived,
        "its CI/CD is switched off": not project.ci_enabled,
        "it has no commit yet": not project.default_branch,
        f"its pipeline file is kept elsewhere ({project.ci_path})": "@" in project.ci_path or "://" in project.ci_path,
        "the token's user is not a Developer there": project.role is not None and 0 < project.role < DEVELOPER,
    }
    found = [fault for fault, true in faults.items() if true]
    if not found:
        return None
    return Check.failed(
        "smoke-project",
        title,
        f"{project.path}: {', '.join(found)}",
        expected=expected,
        remedy="Change that in GitLab, or name another project in smoke.project.",
    )


def _runner_blocker(facts: Facts, settings: Settings) -> Check | None:
    if facts.available is not False or facts.runner is None:
        return None
    remedies = {
        "instance_type": "Enable instance runners for the project (Settings > CI/CD > Runners).",
        "group_type": "Choose a smoke.project inside the runner's group.",
        "project_type": "Enable the runner for the project (Settings > CI/CD > Runners), or set smoke.project to the runner's own.",
    }
    return Check.failed(
        "smoke-project",
        "The smoke project may use the runner",
        f"runner {facts.runner.id} ({facts.runner.type}) is not among the runners of {facts.project.path}",
        expected="a project whose jobs may go to this runner",
        remedy=remedies.get(facts.runner.type, f"Name another project in smoke.project of {settings.card}."),
    )


def _lint_blocker(facts: Facts) -> Check | None:
    if not facts.lint.errors:
        return None
    return Check.failed(
        "smoke-lint",
        "GitLab accepts the smoke pipeline",
        "\n".join(facts.lint.errors),
        expected="a valid pipeline file",
        remedy="The images, tags and ports come from the card (smoke, pods.image, runner.smoke_tag): correct what GitLab names.",
    )


# -- release ----------------------------------------------------------------------------------------------------------


def release(plan: Plan, evidence: Evidence, gitlab: GitLabClient, settings: Settings, *, dry_run: bool) -> Report:
    """Give the runner the card's tags, if everything is proved; the last report of the notebook either way."""
    if evidence.not_run:
        lint = Check.passed("smoke-lint", "GitLab accepts the smoke pipeline")
        known_valid = plan.pending and not plan.blockers
        return plan.report([lint] if known_valid else [], dry_run=dry_run)
    proof = judge(evidence, settings)
    checks = [*proof.checks, _released(proof, evidence, gitlab, settings)]
    outcome = "the runner is proved" if proof.ok else "the runner keeps waiting"
    return replace(proof, checks=checks, outcome=outcome)


def _released(proof: Report, evidence: Evidence, gitlab: GitLabClient, settings: Settings) -> Check:
    title = "The runner takes the card's jobs"
    if not proof.ok:
        count = len(proof.failures)
        seen = f"{count} proof{'s' * (count > 1)} failed: its tags stay as they were"
        return Check.skipped("smoke-released", title, seen)
    runner = registration.prove(gitlab, settings, evidence.url)
    wanted = {**registration.attributes(settings, proved=True), "paused": False}
    now = {**runner.attributes, "paused": runner.paused}
    words = f"tags {', '.join(runner.tags) or 'none'}, {'also' if runner.run_untagged else 'no'} untagged jobs, " + (
        f"{'locked' if runner.locked else 'unlocked'}, {'paused' if runner.paused else 'active'}"
    )
    if now == wanted:
        return Check.passed("smoke-released", title, f"runner {runner.id}: {words}")
    return Check.failed(
        "smoke-released",
        title,
        f"runner {runner.id}: {words}",
        expected=", ".join(f"{key} {value}" for key, value in wanted.items() if now[key] != value),
        remedy="GitLab answered the update with something else; look at the runner's page and run this notebook again.",
    )
