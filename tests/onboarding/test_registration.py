"""Notebook 40's judgements: facts in, plans out; no GitLab."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import PlanError
from runbook.onboarding import registration
from runbook.onboarding.registration import Mark, RegisteredRunner, RegistrationFacts, StoredToken, TokenState
from runbook.plan import Action, Plan
from runbook.report import Unknown
from runbook.settings import Settings

ALL_SCOPES = ("api",)


def card(dry_run: bool = True, **runner: Any) -> Settings:
    """A card for an instance runner with the article's tags."""
    return Settings.parse(
        {
            "name": "practice",
            "region": "cn-hangzhou",
            "cache": {"enabled": False},
            "gitlab": {"url": "https://gitlab.example.com"},
            "runner": {"tags": ["k8s", "docker"], **runner},
            "smoke": {"project": "ci/smoke"},
        },
        where="test card",
        dry_run=dry_run,
    )


def runner(note: str = "runbook: cluster=practice", **fields: Any) -> RegisteredRunner:
    """A runner as notebook 40 creates it."""
    return RegisteredRunner.from_api(
        {
            "id": 7,
            "runner_type": "instance_type",
            "description": "eci",
            "tag_list": ["eci-smoke"],
            "run_untagged": False,
            "locked": True,
            "paused": True,
            "access_level": "not_protected",
            "maximum_timeout": None,
            "maintenance_note": note,
            **fields,
        }
    )


def facts(*runners: RegisteredRunner, token: StoredToken | None = None, **others: Any) -> RegistrationFacts:
    values: dict[str, Any] = {
        "url": "https://gitlab.example.com",
        "gitlab_com": False,
        "version": "17.9.2",
        "user": "root",
        "administrator": True,
        "scopes": ALL_SCOPES,
        "owner_id": None,
        "runners": runners,
        "token": token or StoredToken(TokenState.ABSENT),
    }
    return RegistrationFacts(**{**values, **others})


def valid(id: int | None = 7) -> StoredToken:
    return StoredToken(TokenState.VALID, id)


def actions(plan: Plan) -> list[tuple[str, Action]]:
    return [(change.kind, change.action) for change in plan.changes]


# -- the mark


@pytest.mark.parametrize(
    ("note", "mark"),
    [
        ("runbook: cluster=practice", Mark("practice")),
        ("ask Ana\nrunbook: cluster=practice proved=https://gitlab.example.com/p/-/pipelines/3\nthanks", Mark("practice", "https://gitlab.example.com/p/-/pipelines/3")),
        ("runbook: cluster=practice  \r", Mark("practice")),
        ("see runbook: cluster=practice", None),
        ("runbook: cluster=", None),
        ("", None),
        (None, None),
    ],
)  # fmt: skip
def test_the_mark_is_a_line_of_its_own(note: str | None, mark: Mark | None) -> None:
    """A sentence that merely mentions it is no mark."""
    assert Mark.read(note) == mark


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=300))
def test_a_mark_written_into_any_note_is_read_back_and_the_words_stay(words: str) -> None:
    """Whatever people wrote, the mark is found again, and written twice it is there once."""
    mark = Mark("practice", "2026-11-24T15:04:05Z")
    note = mark.written_into(words)
    assert Mark.read(note) == mark and mark.written_into(note) == note
    assert words.rstrip() in note or Mark.read(words) is not None


def test_a_note_without_room_is_refused_before_gitlab_cuts_it() -> None:
    """GitLab keeps 1024 characters; the error names the length."""
    with pytest.raises(PlanError, match="too long"):
        Mark("practice").written_into("x" * 1020)


# -- what GitLab shall say


def test_before_the_proof_a_runner_has_the_smoke_tag_only() -> None:
    """Production jobs cannot land on it: no real tag, no untagged jobs, locked."""
    wished = registration.attributes(card(run_untagged=True), proved=False)
    assert (wished["tag_list"], wished["run_untagged"], wished["locked"]) == (["eci-smoke"], False, True)


def test_after_the_proof_it_has_what_the_card_says() -> None:
    """Tags are compared and sent in one order, since GitLab has none."""
    wished = registration.attributes(card(run_untagged=True, protected=True, maximum_timeout=3600), proved=True)
    assert wished == {
        "description": "eci",
        "tag_list": ["docker", "k8s"],
        "run_untagged": True,
        "locked": False,
        "access_level": "ref_protected",
        "maximum_timeout": 3600,
    }


def test_a_new_runner_is_created_paused_with_its_mark() -> None:
    """The very request holds all that keeps it from production; there is no moment in between."""
    wanted = registration.plan(facts(), card()).changes[0].desired
    assert wanted["paused"] is True and wanted["run_untagged"] is False and wanted["tag_list"] == ["eci-smoke"]
    assert wanted["maintenance_note"] == "runbook: cluster=practice" and wanted["runner_type"] == "instance_type"


def test_a_group_runner_carries_its_groups_id() -> None:
    """The create-runner workflow wants a number, whatever the card names."""
    settings = card(type="group", group="ci")
    wanted = registration.plan(facts(owner_id=42), settings).changes[0].desired
    assert wanted["group_id"] == 42 and "project_id" not in wanted


# -- plans


@pytest.mark.parametrize(
    "seen",
    [
        runner(),
        runner(paused=False),
        runner(
            note="runbook: cluster=practice proved=x",
            tag_list=["docker", "k8s"],
            locked=False,
            paused=False,
            maximum_timeout=0,
        ),
    ],
    ids=["created", "unpaused by notebook 50", "proved by notebook 80"],
)
def test_in_each_stage_of_its_life_there_is_nothing_to_change(seen: RegisteredRunner) -> None:
    """A rerun of notebook 40 takes back nothing that 50 and 80 have done."""
    plan = registration.plan(facts(seen, token=valid()), card())
    assert plan.summary == "nothing to change"
    assert actions(plan) == [("Runner", Action.KEEP), ("Token", Action.KEEP)]


def test_an_update_sends_only_what_differs() -> None:
    """The diff shows both values, the request holds no more."""
    plan = registration.plan(facts(runner(), token=valid()), card(description="pool"))
    [change] = plan.pending
    assert change.desired[1] == {"description": "pool"}
    assert "-description: eci" in change.diff and "+description: pool" in change.diff


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (StoredToken(TokenState.ABSENT), "no token is stored"),
        (StoredToken(TokenState.REFUSED), "GitLab refuses the stored token"),
        (valid(8), "runner 8"),
    ],
)
def test_a_token_that_is_not_the_runners_stops_the_plan(token: StoredToken, says: str) -> None:
    """Lost, refused, somebody else's: each is said, none is replaced unasked."""
    [blocker] = registration.plan(facts(runner(), token=token), card()).blockers
    assert blocker.id == "runner-token" and says in blocker.observed


def test_a_reset_that_is_asked_for_replaces_a_lost_token_and_says_what_follows() -> None:
    """The consequence stands in the plan."""
    plan = registration.plan(facts(runner()), card(), reset_token=True)
    [change] = plan.pending
    assert (change.kind, change.action) == ("Token", Action.UPDATE) and "notebook 50" in change.reason


def test_a_reset_never_replaces_another_runners_token() -> None:
    """reset_token is no licence to overwrite what is valid."""
    assert registration.plan(facts(runner(), token=valid(8)), card(), reset_token=True).blockers


def test_a_token_whose_runner_an_old_gitlab_does_not_name_is_accepted() -> None:
    """Before 15.8 the answer to a verification holds no id."""
    assert registration.plan(facts(runner(), token=valid(None)), card()).empty


def test_two_marks_name_both_ids() -> None:
    """The plan stops, and says what distinguishes the two."""
    [blocker] = registration.plan(facts(runner(), runner(id=9), token=valid()), card()).blockers
    assert blocker.observed == "runners 7 and 9 both carry it" and "9 eci" in blocker.remedy


def test_runners_that_cannot_be_listed_stop_the_plan() -> None:
    """Without certainty nothing is made, since it could be made twice."""
    [blocker] = registration.plan(facts(runners=Unknown("403")), card()).blockers
    assert blocker.id == "runner-mark" and "read_api" in blocker.remedy


def test_scopes_are_compared_with_what_this_plan_needs() -> None:
    """A token that may only read is enough where nothing changes, and not where something does."""
    reading = ("read_api",)
    assert not registration.plan(facts(runner(), token=valid(), scopes=reading), card()).blockers
    [blocker] = registration.plan(facts(runner(), token=valid(), scopes=reading), card(description="x")).blockers
    assert blocker.id == "gitlab-scope" and "manage_runner" in blocker.expected


def test_a_card_without_tags_and_without_untagged_jobs_is_refused() -> None:
    """GitLab would refuse it only at the very end, in notebook 80."""
    [blocker] = registration.plan(facts(), card(tags=[])).blockers
    assert blocker.id == "runner-tags"


def test_gitlab_com_is_told_before_it_is_asked() -> None:
    """An instance runner of your own is not to be had there."""
    [blocker] = registration.plan(facts(gitlab_com=True), card()).blockers
    assert "gitlab.com" in blocker.observed and "group" in blocker.expected


def test_a_missing_namespace_waits_in_a_dry_run_and_stops_an_apply() -> None:
    """A token that goes into a Secret needs notebook 20 first."""
    seen = facts(missing_namespace="ci")
    rehearsed = registration.plan(seen, card(token="secret:ci/runner/token"))
    assert rehearsed.waiting_for == "notebook 20 (namespace ci)" and not rehearsed.blockers
    [blocker] = registration.plan(seen, card(dry_run=False, token="secret:ci/runner/token")).blockers
    assert blocker.id == "namespace"


def test_facts_can_be_saved() -> None:
    """A support case is a file."""
    saved = json.loads(json.dumps(facts(runner(), token=valid(), user=Unknown("403")).as_dict()))
    assert saved["user"] == "unknown (403)" and saved["runners"][0]["id"] == 7 and saved["token"]["state"] == "valid"
