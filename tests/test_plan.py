"""A plan says what would change before anything does: its summary, its diffs, its blockers, and what became of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import PlanError
from runbook.plan import Action, Change, Plan, applied_check, change_for, projection, unified_diff, yaml_diff
from runbook.report import Check, Status

CREATE = Change(Action.CREATE, "Role", "ci/gitlab-runner", "what the runner may do", "+rules: []")
UPDATE = Change(Action.UPDATE, "Secret", "ci/oss")
KEEP = Change(Action.KEEP, "Namespace", "ci")
DELETE = Change(Action.DELETE, "Branch", "eci-smoke-1")
BLOCKER = Check.failed("cache", "The claim is ours", "bound to another volume", expected="ours", remedy="Rename it.")

CLAIM: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "cache", "namespace": "ci"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "50Gi"}}},
}
LIVE: dict[str, Any] = {
    **CLAIM,
    "metadata": {**CLAIM["metadata"], "uid": "1", "labels": {"by": "others"}},
    "spec": {**CLAIM["spec"], "volumeMode": "Filesystem"},
    "status": {"phase": "Bound"},
}


@pytest.mark.parametrize(
    ("changes", "blockers", "summary"),
    [
        ([], (), "nothing to change"),
        ([KEEP, KEEP], (), "nothing to change"),
        ([CREATE, UPDATE, KEEP, CREATE], (), "2 to create, 1 to update, 1 kept"),
        ([DELETE], (), "1 to delete"),
        ([CREATE], (BLOCKER,), "cannot be applied"),
    ],
)
def test_the_summary_counts(changes: list[Change], blockers: tuple[Check, ...], summary: str) -> None:
    """One line says how many objects would be created, updated, deleted and kept."""
    assert Plan("Access", changes, blockers).summary == summary


@pytest.mark.parametrize(
    ("plan", "dry_run", "status", "words"),
    [
        (Plan("Access", [KEEP]), True, Status.PASS, "nothing to change"),
        (Plan("Access", [KEEP]), False, Status.PASS, "nothing to change"),
        (
            Plan("Access", [CREATE, KEEP]),
            True,
            Status.SKIP,
            "rehearsed: 1 to create, 1 kept; run again with dry_run = False",
        ),
        (Plan("Access", [CREATE, KEEP]), False, Status.PASS, "1 created, 1 kept"),
        (Plan("Access", [CREATE], waiting_for="20-grant-access"), True, Status.SKIP, "waits for 20-grant-access"),
        (Plan("Access", [CREATE], (BLOCKER,)), False, Status.SKIP, "stopped before anything was changed"),
    ],
)
def test_what_became_of_a_plan(plan: Plan, dry_run: bool, status: Status, words: str) -> None:
    """The check `applied` tells a rehearsal from an application, and neither from a plan that waits or is blocked."""
    check = applied_check(plan, dry_run=dry_run)
    assert check.id == "applied"
    assert check.status is status
    assert words in check.observed


def test_a_rehearsal_that_waits_is_no_failure() -> None:
    """A dry run before the earlier notebook has been applied says so and is green."""
    assert Plan("Access", [CREATE], waiting_for="20-grant-access").report(dry_run=True).ok


def test_a_blocker_fails_the_report_of_a_rehearsal_too() -> None:
    """What must not be applied is said at the first look, not at the application."""
    report = Plan("Access", [CREATE], (BLOCKER,)).report(dry_run=True)
    assert report.failures == [BLOCKER]


def test_a_blocked_plan_raises_its_remedy() -> None:
    """Applying a blocked plan is refused with what was seen, what is allowed and what to do."""
    with pytest.raises(PlanError) as caught:
        Plan("Cache", [CREATE], (BLOCKER,)).raise_for_blockers()
    assert "bound to another volume" in caught.value.problem
    assert (caught.value.allowed, caught.value.remedy) == ("ours", "Rename it.")
    good = Plan("Cache", [CREATE])
    assert good.raise_for_blockers() is good


def test_both_faces_show_every_change() -> None:
    """Action, object, reason and diff are in the text and in the HTML; notes and what it waits for stand above."""
    plan = Plan("Access", [CREATE, KEEP], waiting_for="10", notes={"size": "4 vCPU / 8 GiB"})
    for face in (str(plan), plan._repr_html_()):
        for words in ("ci/gitlab-runner", "what the runner may do", "+rules: []", "4 vCPU / 8 GiB", "keep"):
            assert words in face
    assert "waits for: 10" in str(plan)
    assert "<script>" not in Plan("<script>", [Change(Action.KEEP, "<script>", "x")])._repr_html_()


def test_what_is_carried_out_is_not_displayed() -> None:
    """`desired` may hold a secret's content: no face of the change shows it."""
    change = Change(Action.CREATE, "Secret", "ci/token", desired={"data": "VERYSECRET"})
    plan = Plan("Access", [change])
    assert "VERYSECRET" not in repr(change) + str(plan) + plan._repr_html_()


def test_an_object_that_is_not_there_is_created() -> None:
    """Without a live object the whole manifest is the diff."""
    change = change_for(CLAIM, None, reason="the cache")
    assert (change.action, change.kind, change.name) == (Action.CREATE, "PersistentVolumeClaim", "ci/cache")
    assert "+    storage: 50Gi" in change.diff.replace("+      storage", "+    storage")
    assert change.desired is CLAIM


def test_what_others_added_is_left_alone() -> None:
    """Defaults of the server and labels of other people are no difference."""
    assert change_for(CLAIM, LIVE).action is Action.KEEP


def test_a_difference_is_an_update_with_its_diff() -> None:
    """Only the fields that we name are compared, and the diff shows them before and after."""
    smaller = copy.deepcopy(LIVE)
    smaller["spec"]["resources"]["requests"]["storage"] = "20Gi"
    change = change_for(CLAIM, smaller)
    assert change.action is Action.UPDATE
    assert "storage: 20Gi" in change.diff
    assert "storage: 50Gi" in change.diff
    assert "uid" not in change.diff


@pytest.mark.parametrize("part", ["data", "stringData"])
def test_a_secrets_content_is_not_in_its_diff(part: str) -> None:
    """A diff of a Secret names its keys and hides their values, new ones and old ones."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "oss"}, part: {"akSecret": "TmV3U2VjcmV0"}}
    live = {**secret, part: {"akSecret": "T2xkU2VjcmV0"}, "metadata": {"name": "oss", "labels": {"a": "b"}}}
    for change in (change_for(secret, None), change_for(secret, live)):
        assert change.action is not Action.KEEP
        assert "akSecret" in change.diff or change.action is Action.UPDATE
        assert "TmV3U2VjcmV0" not in change.diff
        assert "T2xkU2VjcmV0" not in change.diff


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_projected_on_itself_is_itself(value: Any) -> None:
    """An object as we want it shows no difference to what we want."""
    assert projection(value, value) == value


@given(
    st.dictionaries(st.text(max_size=2), VALUES, max_size=3), st.dictionaries(st.text(max_size=2), VALUES, max_size=3)
)
def test_more_keys_are_no_difference(desired: dict[str, Any], others: dict[str, Any]) -> None:
    """Whatever keys others have added beside ours, ours are seen as they are."""
    assert projection({**others, **desired}, desired) == desired


def test_lists_of_other_lengths_differ_as_a_whole() -> None:
    """A list that is longer or shorter is another list; one of the same length is compared entry by entry."""
    assert projection(["a", "b"], ["a"]) == ["a", "b"]
    assert projection([{"name": "x", "extra": 1}], [{"name": "x"}]) == [{"name": "x"}]


def test_equal_texts_have_no_diff() -> None:
    """No difference is an empty text, so that a plan can ask for it."""
    assert unified_diff("a\n", "a\n") == ""
    assert yaml_diff({"a": 1}, {"a": 1}) == ""


def test_a_diff_names_what_it_is_about() -> None:
    """A diff's head says whose before and after it is; nothing stands for *not there*."""
    assert yaml_diff(None, {"a": 1}, "ci/role").splitlines() == [
        "--- ci/role now",
        "+++ ci/role then",
        "@@ -0,0 +1 @@",
        "+a: 1",
    ]
