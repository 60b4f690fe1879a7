"""The action register: what people may write, and what they are told where it cannot be."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.errors import SettingsError
from runbook.review import actions
from runbook.review.actions import Action, Baseline, Cohort, Money, Register, Status
from runbook.settings import ROOT
from tests.cost.priced_pods import SCOPE

README = (ROOT / "data" / "reviews" / "README.md").read_text(encoding="utf-8")
PLAIN = {"id": "fewer-runs", "what": "run less", "proposed": date(2026, 11, 30)}


def parsed(*rows: dict[str, Any], **more: Any) -> Register:
    return actions.parse(
        {"cluster": "practice", "actions": list(rows), **more}, where="register.yaml", cluster="practice"
    )


def refused(*rows: dict[str, Any], **more: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        parsed(*rows, **more)
    return str(caught.value)


def test_the_readme_explains_every_field() -> None:
    """The tables name the fields of an action and of a cohort, and its example is a register."""
    for model in (Action, Cohort, Money, Baseline):
        for field in model.model_fields:
            assert f"`{field}`" in README, field
    (example,) = re.findall(r"```yaml\n(.+?)```", README, re.DOTALL)
    register = actions.parse(yaml.safe_load(example), where="README.md", cluster="hangzhou")
    assert [action.status for action in register.actions] == [Status.DONE, Status.REJECTED, Status.OPEN]


def test_nobody_has_written_it_yet(tmp_path: Path) -> None:
    """A register that is not there, or empty, holds no actions and is no mistake."""
    assert actions.read(tmp_path / "practice.yaml", "practice").actions == []
    (tmp_path / "practice.yaml").write_text("# nothing yet\n")
    assert actions.read(tmp_path / "practice.yaml", "practice").actions == []


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    """The YAML of proposals is a register: copied as it is, it gives the same actions."""
    proposed = Action(
        id="size-a", what="grp/演示: 4 → 2", proposed=date(2026, 11, 30), money_a_month=Money(low=1, likely=2, high=3),
        risk="low", effort="small", cohort=Cohort(project="grp/demo", baseline=Baseline(
            mean=0.5, error=0.1, count=9, first=date(2026, 11, 1), last=date(2026, 11, 30))),
    )  # fmt: skip
    path = tmp_path / "practice.yaml"
    path.write_text(actions.as_yaml([proposed], SCOPE), encoding="utf-8")
    assert actions.read(path, "practice").actions == [proposed]
    assert "owner: ''" in path.read_text() and "status: open" in path.read_text()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (PLAIN | {"status": "finished"}, "action fewer-runs: status: Input should be 'open', 'done' or 'rejected'"),
        (PLAIN | {"status": "done"}, "give both or none"),
        (PLAIN | {"done": date(2026, 12, 1)}, "give both or none"),
        (PLAIN | {"status": "rejected"}, "a rejected action says why"),
        (PLAIN | {"money_a_month": {"low": 3, "likely": 2, "high": 1}}, "low, likely and high must come in this order"),
        (PLAIN | {"ower": "Li"}, "action fewer-runs: ower: there is no such field"),
        (PLAIN | {"id": "Fewer Runs"}, "id: String should match pattern"),
        ({"id": "x", "what": "y"}, "action x: proposed: is missing (Last day of the review that proposed it"),
        (
            PLAIN | {"cohort": {"per": "hour"}},
            "cohort.per: Input should be 'run' or 'day' (run: the mean cost of a pod",
        ),
    ],
)
def test_a_mistake_is_named(row: dict[str, Any], said: str) -> None:
    """The page names the action, the field, what is wrong, and what the field is for."""
    assert said in refused(row)


def test_all_mistakes_are_told_at_once() -> None:
    """Two mistakes make one page with two lines, and it says where to read."""
    page = refused(PLAIN | {"status": "x"}, PLAIN | {"id": "other", "risk": "x"})
    assert "2 mistakes" in page and "action fewer-runs: status" in page and "action other: risk" in page
    assert "troubleshooting.md#review-register" in page


def test_an_id_stands_once() -> None:
    """Two actions of one id cannot be told apart."""
    assert "fewer-runs stands more than once" in refused(PLAIN, PLAIN)


def test_another_clusters_register_is_refused() -> None:
    """A register copied from another cluster would be measured against the wrong pods."""
    assert "another cluster's" in refused(PLAIN, cluster="shanghai")


@pytest.mark.parametrize(
    "text", ["actions: [", "cluster: practice\ncluster: practice\n", "- a\n", "proposed: 2026-13-45"]
)
def test_what_is_no_register_is_a_page(tmp_path: Path, text: str) -> None:
    """Broken YAML, a key that stands twice, a list, an impossible day: a page with the file's name, not a traceback."""
    path = tmp_path / "practice.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        actions.read(path, "practice")
    assert str(path) in str(caught.value)
