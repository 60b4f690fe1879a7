"""Notebook 40 against the GitLab stand-in, in both of its flavours."""

from __future__ import annotations

import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.clients import connect, secrets
from runbook.clients.gitlab import GitLabClient
from runbook.errors import GitLabError, SecretError
from runbook.onboarding import registration
from runbook.onboarding.registration import Mark, RegisteredRunner
from runbook.plan import Plan
from runbook.report import Report, Status
from runbook.settings import Settings
from sandbox.gitlab.process import GitLab
from sandbox.practice import PracticeCluster

Card = Callable[..., Settings]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    """A self-managed GitLab of these tests' own."""
    with GitLab(tmp_path_factory.mktemp("gitlab")) as gitlab:
        yield gitlab


@pytest.fixture
def card(server: GitLab, tmp_path: Path) -> Iterator[Card]:
    """Makes a card with a mark of this test's own; `token` names one of the stand-in's. Its runners go afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"

    def make(token: str = "root", *, on: GitLab | None = None, dry_run: bool = False, **runner: Any) -> Settings:
        (tmp_path / "access").write_text((on or server).token(token))
        return Settings.parse(
            {
                "name": name,
                "region": "cn-hangzhou",
                "cache": {"enabled": False},
                "gitlab": {"url": (on or server).url, "token": f"file:{tmp_path / 'access'}"},
                "runner": {"token": f"file:{tmp_path / 'runner' / 'token'}", "tags": ["docker", "k8s"], **runner},
                "smoke": {"project": "practice/smoke"},
            },
            where="test card",
            dry_run=dry_run,
        )

    yield make
    administrator = GitLabClient(server.url, server.token("root"))
    for runner in runners(server):
        administrator.delete(f"/runners/{runner['id']}", what="a runner of the test")


def run(settings: Settings, *, reset_token: bool = False) -> tuple[Plan, Report]:
    """The notebook's three calls."""
    gitlab = connect.gitlab(settings)
    plan = registration.plan(registration.look(gitlab, settings), settings, reset_token=reset_token)
    return plan, registration.apply(plan, gitlab, settings, dry_run=settings.dry_run)


def ours(settings: Settings) -> RegisteredRunner:
    return registration.find(connect.gitlab(settings), settings)


def place(settings: Settings) -> Path:
    return Path(settings.runner.token.removeprefix("file:"))


def runners(server: GitLab) -> list[dict[str, Any]]:
    """All runners, as the administrator sees them."""
    return GitLabClient(server.url, server.token("root")).list("/runners/all", what="all runners")


OWNERS = {
    "instance": {"type": "instance"},
    "group": {"type": "group", "group": "practice"},
    "project": {"type": "project", "project": "practice/smoke"},
}


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_a_new_runner_is_kept_from_production(card: Card, owner: dict[str, str]) -> None:
    """Instance, group and project runner alike are created paused, with the smoke tag only, without untagged jobs."""
    settings = card(**owner, description="eci", maximum_timeout=7200, protected=True)
    _, report = run(settings)
    assert report.ok
    runner = ours(settings)
    assert (runner.type, runner.paused, runner.tags, runner.run_untagged) == (
        f"{owner['type']}_type",
        True,
        ("eci-smoke",),
        False,
    )
    assert (runner.description, runner.maximum_timeout, runner.access_level) == ("eci", 7200, "ref_protected")
    assert runner.mark == Mark(settings.name)


def test_its_token_is_stored_for_its_owner_alone_and_shown_nowhere(card: Card) -> None:
    """The token that GitLab shows once lies at the card's place with mode 0600, and in no plan or report."""
    settings = card()
    plan, report = run(settings)
    token = place(settings).read_text().strip()
    assert token.startswith("glrt-")
    assert stat.S_IMODE(place(settings).stat().st_mode) == 0o600
    assert stat.S_IMODE(place(settings).parent.stat().st_mode) == 0o700
    facts = registration.look(connect.gitlab(settings), settings)
    assert (
        token not in f"{plan}{plan._repr_html_()}{report}{report._repr_html_()}{facts}{facts.as_dict()}{plan.changes}"
    )


def test_a_dry_run_sends_nothing_and_stores_nothing(server: GitLab, card: Card) -> None:
    """The plan shows the runner that would be created; GitLab and the token's place stay as they were."""
    before = runners(server)
    plan, report = run(card(dry_run=True))
    assert plan.summary == "2 to create" and "+run_untagged: false" in plan.changes[0].diff
    assert report.ok and report["applied"].status is Status.SKIP
    assert runners(server) == before and not place(card()).exists()


def test_applied_again_there_is_nothing_to_change(server: GitLab, card: Card) -> None:
    """The second run finds the runner by its mark and its token by asking GitLab: nothing is made twice."""
    run(card())
    count = len(runners(server))
    plan, report = run(card())
    assert plan.summary == "nothing to change" and report["applied"].observed == "nothing to change"
    assert len(runners(server)) == count


def test_a_dry_run_of_what_is_done_proves_it_again(card: Card) -> None:
    """As a scheduled check it asks GitLab for the runner and tries the stored token, and changes nothing."""
    run(card())
    _, report = run(card(dry_run=True))
    assert [report[id].status for id in ("runner-registered", "runner-token", "runner-unproved")] == [Status.PASS] * 3


def test_a_changed_card_updates_the_runner_in_place(card: Card) -> None:
    """Description and timeout change on the same runner; the plan shows both values."""
    run(card())
    before = ours(card())
    plan, report = run(card(description="eci pool", maximum_timeout=1800))
    assert "-description: eci\n" in plan.changes[0].diff and "+description: eci pool" in plan.changes[0].diff
    after = ours(card())
    assert report.ok and (after.id, after.description, after.maximum_timeout) == (before.id, "eci pool", 1800)


def test_what_people_wrote_into_the_note_stays(card: Card) -> None:
    """Only the line with the mark is ours."""
    settings = card()
    run(settings)
    gitlab, runner = connect.gitlab(settings), ours(settings)
    gitlab.put(f"/runners/{runner.id}", {"maintenance_note": f"ask Ana first\n{Mark(settings.name)}"}, what="the note")
    run(card(description="renamed"))
    assert ours(settings).note == f"ask Ana first\n{Mark(settings.name)}"


def test_a_runner_that_notebook_50_unpaused_stays_active(card: Card) -> None:
    """Whether it is paused is not this notebook's to change once it is made."""
    settings = card()
    run(settings)
    registration.pause(connect.gitlab(settings), ours(settings), paused=False)
    assert run(settings)[0].summary == "nothing to change"
    assert not ours(settings).paused


def test_a_proved_runner_keeps_its_real_tags(card: Card) -> None:
    """After the proof a rerun does not take it back to the smoke tag, and a changed tag of the card reaches it."""
    settings = card(run_untagged=True)
    run(settings)
    proved = registration.prove(connect.gitlab(settings), settings, "2026-11-24T15:04:05Z")
    assert (proved.tags, proved.run_untagged, proved.locked, proved.paused) == (("docker", "k8s"), True, False, False)
    assert run(settings)[0].summary == "nothing to change"
    run(card(tags=["docker", "eci"], run_untagged=True))
    assert ours(settings).tags == ("docker", "eci") and ours(settings).proved


def test_an_unproved_runner_that_somebody_opened_is_taken_back(card: Card) -> None:
    """Real tags set by hand before the proof are taken away again, and the plan shows it first."""
    settings = card()
    run(settings)
    connect.gitlab(settings).put(f"/runners/{ours(settings).id}", {"tag_list": ["docker"]}, what="its tags")
    plan, report = run(settings)
    assert "-- docker" in plan.changes[0].diff and "+- eci-smoke" in plan.changes[0].diff
    assert report.ok and ours(settings).tags == ("eci-smoke",)


def test_two_runners_with_our_mark_stop_everything(server: GitLab, card: Card) -> None:
    """Both ids are named, and nothing is created, updated or stored."""
    settings = card()
    run(settings)
    first = ours(settings)
    body = {
        "runner_type": "instance_type",
        "tag_list": ["x"],
        "run_untagged": False,
        "maintenance_note": str(Mark(settings.name)),
    }
    second = connect.gitlab(settings).post("/user/runners", body, what="a second one")["id"]
    before = runners(server)
    plan, report = run(card(description="changed"))
    assert plan.blockers[0].id == "runner-mark" and not report.ok
    assert str(first.id) in plan.blockers[0].observed and str(second) in plan.blockers[0].observed
    assert runners(server) == before
    with pytest.raises(GitLabError, match="More than one runner"):
        ours(settings)


def test_a_lost_token_stops_and_offers_the_reset_with_its_consequence(card: Card) -> None:
    """Without its token the runner is kept, and the report says what reset_token = True would do, and to whom."""
    settings = card()
    run(settings)
    place(settings).unlink()
    _, report = run(settings)
    check = report["runner-token"]
    assert check.status is Status.FAIL and "reset_token = True" in check.remedy and "no more jobs" in check.remedy
    assert not place(settings).exists()


def test_a_reset_stores_the_new_token_of_the_same_runner(card: Card) -> None:
    """The reset makes a new token, stores it at once, and the old one is refused from then on."""
    settings = card()
    run(settings)
    runner, old = ours(settings), place(settings).read_text().strip()
    place(settings).unlink()
    _, report = run(settings, reset_token=True)
    assert report.ok and ours(settings).id == runner.id
    new = place(settings).read_text().strip()
    gitlab = connect.gitlab(settings)
    assert registration.verify(gitlab, new).runner_id == runner.id
    assert registration.verify(gitlab, old).state is registration.TokenState.REFUSED


def test_a_reset_is_not_done_where_it_is_not_needed(card: Card) -> None:
    """reset_token = True leaves a good token alone."""
    settings = card()
    run(settings)
    token = place(settings).read_text()
    plan, _ = run(settings, reset_token=True)
    assert plan.summary == "nothing to change" and place(settings).read_text() == token


def test_a_refused_token_is_not_taken_for_a_good_one(card: Card) -> None:
    """A token that GitLab does not know stops the plan like a lost one."""
    settings = card()
    run(settings)
    place(settings).write_text("glrt-not-a-token-of-anybody")
    _, report = run(settings)
    assert "refuses the stored token" in report["runner-token"].observed
    assert "glrt-not-a-token" not in str(report)


def test_the_valid_token_of_another_runner_is_not_overwritten(card: Card, tmp_path: Path) -> None:
    """Somebody else's token at our place stops the creation, and is still there afterwards."""
    settings = card()
    body = {"runner_type": "instance_type", "tag_list": ["x"], "run_untagged": False}
    other = connect.gitlab(settings).post("/user/runners", body, what="another runner")
    place(settings).parent.mkdir()
    place(settings).write_text(other["token"])
    plan, report = run(settings)
    assert f"runner {other['id']}" in plan.blockers[0].observed and not report.ok
    assert place(settings).read_text() == other["token"]


def test_a_place_that_cannot_be_written_stops_before_a_runner_is_made(
    server: GitLab, card: Card, tmp_path: Path
) -> None:
    """A folder where the file should be: no runner is created for a token that could not be kept."""
    place(card()).mkdir(parents=True)
    before = runners(server)
    with pytest.raises(SecretError, match="directory"):
        run(card())
    assert runners(server) == before


def test_a_token_that_is_there_already_is_verified_and_its_runner_taken_over(card: Card) -> None:
    """runner.existing_token creates nothing: the runner made in GitLab's pages gets the mark and the smoke tag."""
    settings = card(existing_token=True)
    body = {"runner_type": "instance_type", "tag_list": ["docker"], "run_untagged": True, "description": "by hand"}
    made = connect.gitlab(settings).post("/user/runners", body, what="a runner made by hand")
    place(settings).parent.mkdir()
    place(settings).write_text(made["token"] + "\n")
    plan, report = run(settings)
    assert [change.action.value for change in plan.changes] == ["update", "keep"] and report.ok
    assert (ours(settings).id, ours(settings).tags, ours(settings).run_untagged) == (made["id"], ("eci-smoke",), False)
    assert run(settings)[0].summary == "nothing to change"


def test_a_runner_that_works_for_others_is_not_taken_over(card: Card) -> None:
    """An unmarked runner that a machine runs keeps its tags; the report says how to agree."""
    settings = card(existing_token=True)
    gitlab = connect.gitlab(settings)
    body = {"runner_type": "instance_type", "tag_list": ["docker"], "run_untagged": True}
    made = gitlab.post("/user/runners", body, what="a runner in use")
    gitlab.post("/runners/verify", {"token": made["token"], "system_id": "s_busy"}, what="its machine calls")
    place(settings).parent.mkdir()
    place(settings).write_text(made["token"])
    _, report = run(settings)
    assert "s_busy" in report["runner-in-use"].observed and str(Mark(settings.name)) in report["runner-in-use"].remedy
    gitlab.put(f"/runners/{made['id']}", {"maintenance_note": str(Mark(settings.name))}, what="agreeing")
    assert run(settings)[1].ok


def test_trying_a_stored_token_leaves_no_machine_in_gitlabs_list(card: Card) -> None:
    """The list of machines, by which the runner's version is known, has only real machines."""
    settings = card()
    run(settings)
    run(settings)
    gitlab = connect.gitlab(settings)
    assert gitlab.list(f"/runners/{ours(settings).id}/managers", what="machines") == []


@pytest.mark.parametrize(("content", "says"), [(None, "no token is there"), ("glrt-wrong", "refuses the token")])
def test_an_existing_token_that_is_missing_or_wrong_is_said(card: Card, content: str | None, says: str) -> None:
    """With existing_token: true nothing is created in the place of a token that should be there."""
    settings = card(existing_token=True)
    if content:
        place(settings).parent.mkdir()
        place(settings).write_text(content)
    assert says in run(settings)[1]["runner-token"].observed


SCOPES = [
    ("root-runners", "instance", None),
    ("maintainer-runners", "project", None),
    ("root-read-api", "instance", "create the runner: api or create_runner"),
    ("root-create-runner", "instance", "read_api"),
    ("maintainer-read-api", "project", "create the runner: api or create_runner"),
]


@pytest.mark.parametrize(("token", "owner", "missing"), SCOPES, ids=[f"{token} {owner}" for token, owner, _ in SCOPES])
def test_the_scopes_that_each_step_needs_are_enough_and_said_before_trying(
    server: GitLab, card: Card, token: str, owner: str, missing: str | None
) -> None:
    """create_runner, manage_runner and read_api together suffice; what is lacking is named and nothing is made."""
    before = len(runners(server))
    settings = card(token, **OWNERS[owner])
    try:
        _, report = run(settings)
        text = str(report)
    except GitLabError as error:
        text = str(error)
    if missing is None:
        assert report.ok and len(runners(server)) == before + 1
    else:
        assert missing in text and len(runners(server)) == before


def test_an_instance_runner_needs_an_administrator_and_that_is_said_before_trying(server: GitLab, card: Card) -> None:
    """A maintainer's token gets a page about roles, not a refused request."""
    before = len(runners(server))
    _, report = run(card("maintainer"))
    assert not report.ok and "administrator" in str(report)
    assert len(runners(server)) == before


def test_gitlab_com_refuses_instance_runners_and_that_is_said_before_trying(tmp_path: Path, card: Card) -> None:
    """On the gitlab.com flavour nobody is an administrator; a group runner works."""
    with GitLab(tmp_path / "gitlab.com", flavour="gitlab.com") as gitlab_com:
        _, refused = run(card(on=gitlab_com))
        assert not refused.ok and "group" in str(refused)
        _, report = run(card(on=gitlab_com, type="group", group="practice"))
        assert report.ok


def test_a_group_that_is_not_there_is_named(card: Card) -> None:
    """404 names the field of the card and its value."""
    with pytest.raises(GitLabError) as failed:
        run(card(type="group", group="practice/none"))
    assert "runner.group: practice/none" in str(failed.value)


def test_a_card_that_names_another_project_does_not_make_the_runner_wander(card: Card) -> None:
    """A marked project runner of another project is found by an administrator, and stops the plan."""
    run(card(**OWNERS["project"]))
    plan, report = run(card(type="project", project="practice/article"))
    assert plan.blockers[0].id == "runner-type" and not report.ok


# -- with the practice cluster


@pytest.fixture
def shared(settings: Settings) -> Iterator[Settings]:
    """The practice cluster's card with a mark, a namespace and a token's place (a Secret) of this test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    runner = settings.runner.model_copy(update={"token": f"secret:{name}/runner/gitlab-token"})
    kubernetes = settings.kubernetes.model_copy(update={"namespace": name})
    mine = settings.model_copy(update={"name": name, "runner": runner, "kubernetes": kubernetes})
    yield mine
    gitlab = connect.gitlab(mine)
    for one in gitlab.list("/runners/all", what="all runners"):
        note = gitlab.get(f"/runners/{one['id']}", what="a runner")["maintenance_note"]
        if Mark.read(note) == Mark(name):
            gitlab.delete(f"/runners/{one['id']}", what="the runner of the test")
    connect.kubernetes(mine).delete("Namespace", name, dry_run=False)


def run_with_cluster(settings: Settings) -> tuple[Plan, Report]:
    gitlab, cluster = connect.gitlab(settings), connect.kubernetes(settings)
    plan = registration.plan(registration.look(gitlab, settings, cluster), settings)
    return plan, registration.apply(plan, gitlab, settings, cluster, dry_run=settings.dry_run)


def test_before_notebook_20_a_dry_run_waits_and_an_apply_makes_no_runner(shared: Settings) -> None:
    """A token that is to go into a Secret of a missing namespace is not asked for."""
    plan, report = run_with_cluster(shared.model_copy(update={"dry_run": True}))
    assert "notebook 20" in plan.waiting_for and report.ok
    _, refused = run_with_cluster(shared)
    assert refused["namespace"].status is Status.FAIL
    with pytest.raises(GitLabError, match="no runner with our mark"):
        ours(shared)


def test_a_token_can_be_kept_in_a_secret(shared: Settings) -> None:
    """The Secret is made for it, and a second run finds it there."""
    cluster = connect.kubernetes(shared)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shared.kubernetes.namespace}}
    cluster.create(namespace, dry_run=False)
    assert run_with_cluster(shared)[1].ok
    assert secrets.resolve(shared.runner.token, cluster).startswith("glrt-")
    assert run_with_cluster(shared)[0].summary == "nothing to change"


def test_papermill_rehearses_applies_and_then_has_nothing_to_change(
    practice: PracticeCluster, shared: Settings, tmp_path: Path, run_notebook: Callable[..., Any]
) -> None:
    """The notebook itself, three times: what it leaves holds neither the runner's token nor ours."""
    place = tmp_path / "runner" / "token"
    mine = shared.model_copy(update={"runner": shared.runner.model_copy(update={"token": f"file:{place}"})})
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(mine.model_dump(mode="json", exclude_none=True)))
    said = [
        run_notebook("onboarding/40-register-runner", cluster=tmp_path / "card.yaml", dry_run=dry)
        for dry in (True, False, False)
    ]
    assert [run.exit_code for run in said] == [0, 0, 0], said[-1].last_lines
    assert "dry_run = False to apply" in said[0].text and "Runner registration: nothing to change" in said[2].text
    for token in (place.read_text().strip(), practice.gitlab.token("root")):
        assert not any(token in run.text for run in said)


def test_papermill_ends_non_zero_where_the_token_is_lost(
    shared: Settings, tmp_path: Path, run_notebook: Callable[..., Any]
) -> None:
    """The last lines of the log say what reset_token = True would do, and with it the notebook is green."""
    place = tmp_path / "token"
    mine = shared.model_copy(update={"runner": shared.runner.model_copy(update={"token": f"file:{place}"})})
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(mine.model_dump(mode="json", exclude_none=True)))
    assert run(mine)[1].ok
    place.unlink()
    name, parameters = "onboarding/40-register-runner", {"cluster": tmp_path / "card.yaml", "dry_run": False}
    lost = run_notebook(name, **parameters)
    assert lost.exit_code == 1 and "reset_token = True" in lost.last_lines
    assert run_notebook(name, **parameters, reset_token=True).exit_code == 0
    assert place.exists()
