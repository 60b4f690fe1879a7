"""The action register: what was decided at the meeting, who does it, and what became of it.

    data/reviews/<cluster>.yaml      people write it, and git remembers; a review only reads it
    proposed-actions.yaml            a review writes it beside its page: what to copy into the register

`read` validates the register like the cluster card: every mistake at once, as a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from runbook.answer import Scope
from runbook.errors import SettingsError
from runbook.settings import CardLoader, locate

FORMAT = "data/reviews/README.md"
PROPOSED = "proposed-actions.yaml"
"""File name of what a review proposes."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]


class Status(StrEnum):
    """What was decided."""

    OPEN = "open"
    DONE = "done"
    REJECTED = "rejected"


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class Money(_Written):
    """Money a month that an action is expected to save: the likely amount, and the interval it lies in."""

    low: float
    """The least that is expected."""
    likely: float
    """The amount to plan with."""
    high: float
    """The most that is expected."""

    @model_validator(mode="after")
    def _in_order(self) -> Money:
        if not self.low <= self.likely <= self.high:
            raise ValueError("low, likely and high must come in this order")
        return self


class Baseline(_Written):
    """What the cohort cost before the action: the mean of so many runs or days."""

    mean: float
    """Mean cost of a run, or of a day."""
    error: Annotated[float, Field(ge=0)] = 0.0
    """Standard error of the mean."""
    count: Annotated[int, Field(ge=1)]
    """How many runs or days it rests on."""
    first: date
    """First day it was measured on."""
    last: date
    """Last day it was measured on."""


class Cohort(_Written):
    """Whose cost tells whether the action worked: pods that have all of what is given. Nothing given is every pod."""

    project: Text | None = None
    """Path of the project."""
    job: Text | None = None
    """Name of the job."""
    image: Text | None = None
    """Image of the build container."""
    reason: Text | None = None
    """Why the work came to nothing, in the words of failures.csv, such as out_of_memory."""
    allocated: bool | None = None
    """true: pods with a project; false: pods without one."""
    per: Literal["run", "day"] = "run"
    """run: the mean cost of a pod; day: the mean cost of a day."""
    baseline: Baseline | None = None
    """What it cost before. Without it: what it cost on the days before `done`, as far as the review's periods reach."""


class Action(_Written):
    """One action: what to do, who does it, what it brings, and what became of it."""

    id: Id
    """Its name for good, in small letters, digits and `-`: the next review knows the action by it."""
    what: Text
    """What to do, in one sentence."""
    owner: str = ""
    """Who does it. Empty until the meeting names somebody."""
    status: Status = Status.OPEN
    """open | done | rejected."""
    proposed: date
    """Last day of the review that proposed it, or the day of the meeting."""
    done: date | None = None
    """First whole day on which it held, for status done: what the cohort cost is measured from then on."""
    because: str = ""
    """Why it was rejected, for status rejected; or any other remark."""
    money_a_month: Money | None = None
    """What it is expected to save a month, before tax, in the site's currency."""
    risk: Literal["low", "medium", "high"] = "medium"
    """low | medium | high: what may break."""
    effort: Literal["small", "medium", "large"] = "medium"
    """small (minutes) | medium (a day) | large (more)."""
    cohort: Cohort = Cohort()
    """Whose cost tells whether it worked."""

    @model_validator(mode="after")
    def _decided(self) -> Action:
        if (self.status is Status.DONE) != (self.done is not None):
            raise ValueError("status: done and the day `done` belong together: give both or none")
        if self.status is Status.REJECTED and not self.because.strip():
            raise ValueError("a rejected action says why: fill in `because`")
        return self


class Register(_Written):
    """All actions of one cluster."""

    cluster: Text
    """Name in the cluster's card."""
    actions: list[Action] = []
    """The actions, in any order; none is ever removed, so that nothing is proposed twice."""

    @model_validator(mode="after")
    def _once(self) -> Register:
        ids = [action.id for action in self.actions]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        if twice:
            raise ValueError(f"an id stands once: {', '.join(twice)} stands more than once")
        return self

    def __getitem__(self, id: str) -> Action:
        return next(action for action in self.actions if action.id == id)

    def __contains__(self, id: object) -> bool:
        return any(action.id == id for action in self.actions)


def place(folder: str, cluster: str) -> Path:
    """Where the register of a cluster lies: `folder` is the card's cost.reviews."""
    return locate(folder) / f"{cluster}.yaml"


def read(path: Path, cluster: str) -> Register:
    """The register at `path`; an empty one where nobody has written it yet. Raises SettingsError with all its mistakes."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Register(cluster=cluster)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The action register cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}.",
            where=str(path), remedy="Make it a readable UTF-8 file.", page="#review-register",
        ) from None  # fmt: skip
    try:
        values = yaml.load(text, Loader=CardLoader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise SettingsError(
            f"The action register is not YAML: {getattr(error, 'problem', None) or 'a value in it cannot be read'}.",
            where=f"{path}, line {mark.line + 1}" if mark else str(path),
            remedy=f"Compare with {FORMAT}.", page="#review-register",
        ) from None  # fmt: skip
    return parse(values, where=str(path), cluster=cluster)


def parse(values: Any, *, where: str, cluster: str) -> Register:
    """Validate what a register holds. Raises SettingsError with every mistake at once."""
    if values is None:
        return Register(cluster=cluster)
    if not isinstance(values, dict):
        raise _refused("The action register is no mapping.", where, allowed="the keys cluster and actions")
    try:
        register = Register.model_validate(values)
    except ValidationError as error:
        lines = [_mistake(dict(item), values) for item in error.errors()]
        many = (
            f"The action register has {len(lines)} mistakes."
            if len(lines) > 1
            else "The action register has a mistake."
        )
        raise _refused(many, "\n".join([where, *(f"- {line}" for line in lines)])) from None
    if register.cluster != cluster:
        raise _refused("The action register is another cluster's.", where, value=register.cluster, allowed=cluster)
    return register


def _refused(problem: str, where: str, *, value: object = None, allowed: str | None = None) -> SettingsError:
    return SettingsError(
        problem, where=where, value=value, allowed=allowed, remedy=f"{FORMAT} explains every field.", page="#review-register"
    )  # fmt: skip


def _mistake(item: dict[str, Any], values: dict[str, Any]) -> str:
    """One line: the action by its id where it has one, the field, what is wrong, and what the field is for."""
    path = list(item["loc"])
    owner = ""
    if path[:1] == ["actions"] and len(path) > 1:
        found = values["actions"][path[1]] if isinstance(values.get("actions"), list) else None
        named = found.get("id") if isinstance(found, dict) else None
        owner, path = f"action {named or path[1] + 1}: ", path[2:]
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = "there is no such field"
    if item["type"] == "missing":
        message = "is missing"
    meaning = _meaning([part for part in path if isinstance(part, str)])
    return f"{owner}{'.'.join(map(str, path))}{': ' if path else ''}{message}" + (f" ({meaning})" if meaning else "")


def _meaning(path: Sequence[str]) -> str:
    """The sentence of an action's field."""
    model: type[BaseModel] | None = Action
    said = ""
    for part in path:
        field = model.model_fields.get(part) if model else None
        if field is None:
            return ""
        said = field.description or ""
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return said.rstrip(".")


def as_yaml(actions: Sequence[Action], scope: Scope) -> str:
    """The actions as the register wants them, ready to be copied; what has its default is left out, but owner and status."""
    rows = []
    for action in actions:
        row = action.model_dump(exclude_defaults=True)
        rows.append(
            {"id": row.pop("id"), "what": row.pop("what"), "owner": action.owner, "status": action.status.value} | row
        )
    head = (
        f"# What the review of {scope.window} proposes. Copy what was decided into the register, and fill in the owner.\n"
        f"# {FORMAT} explains every field.\n"
    )
    body = {"cluster": scope.cluster, "actions": rows}
    return head + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)
