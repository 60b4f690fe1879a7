"""The cluster card: what a good one says, and what a reader is told about each kind of mistake in a bad one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from runbook.errors import SettingsError
from runbook.settings import ROOT, Settings, is_reference, json_schema, locate

CLUSTERS = ROOT / "data" / "clusters"
EXAMPLE_TEXT = (CLUSTERS / "example.yaml").read_text(encoding="utf-8")
LEFT_OUT = re.compile(r"^( *)#(?=(?:- )?\w+:)", re.MULTILINE)
"""In example.yaml a `#` without a space after it takes a field out."""

CARD: dict[str, Any] = {
    "name": "test",
    "region": "cn-hangzhou",
    "cache": {"bucket": "ci-cache"},
    "gitlab": {"url": "https://gitlab.example.com", "token": "env:GITLAB_TOKEN"},
    "runner": {"tags": ["docker", "k8s"]},
    "pods": {},
    "smoke": {"project": "ops/smoke"},
}

Edit = Callable[[dict[str, Any]], object]


def error_of(edit: Edit) -> SettingsError:
    """The error that a good card gives after one edit."""
    card = copy.deepcopy(CARD)
    edit(card)
    with pytest.raises(SettingsError) as caught:
        Settings.parse(card, where="card.yaml")
    return caught.value


def put(path: str, value: object) -> Edit:
    """An edit: `value` at the dotted `path`."""

    def edit(card: dict[str, Any]) -> None:
        *sections, key = path.split(".")
        for section in sections:
            card = card.setdefault(section, {})
        card[key] = value

    return edit


MISTAKES: list[tuple[str, Edit, str, str, object, str]] = [
    ("unknown key", put("colour", "red"), "There is no field colour.", "colour", None, "region"),
    ("misspelt key", put("regoin", "x"), "There is no field regoin. Did you mean region?", "regoin", None, "region"),
    (
        "misspelt key in a section",
        put("runner.tag", ["x"]),
        "There is no field tag in the section runner. Did you mean tags?",
        "runner.tag",
        None,
        "tags",
    ),
    ("missing field", lambda card: card.pop("region"), "region is missing.", "region", None, "cn-hangzhou"),
    ("missing section", lambda card: card.pop("smoke"), "smoke is missing.", "smoke", None, "proves the runner"),
    ("empty required value", put("gitlab.url", ""), "gitlab.url is empty.", "gitlab.url", "", "Address of GitLab"),
    ("only blanks", put("smoke.project", "  "), "smoke.project is empty.", "smoke.project", "  ", "Full path"),
    ("value left out", put("region", None), "region must be text.", "region", None, "cn-hangzhou"),
    ("number for text", put("pods.image", 3.2), "pods.image must be text.", "pods.image", 3.2, "in quotes"),
    (
        "text for a list",
        put("runner.tags", "docker"),
        "runner.tags must be a list.",
        "runner.tags",
        "docker",
        "[docker, k8s]",
    ),
    ("empty list entry", put("runner.tags", ["a", ""]), "runner.tags.1 is empty.", "runner.tags.1", "", ""),
    (
        "text for a number",
        put("smoke.timeout", "long"),
        "smoke.timeout must be a whole number.",
        "smoke.timeout",
        "long",
        "whole number",
    ),
    (
        "fraction for a number",
        put("smoke.timeout", 90.5),
        "smoke.timeout must be a whole number.",
        "smoke.timeout",
        90.5,
        "whole",
    ),
    (
        "text for a truth value",
        put("runner.locked", "maybe"),
        "runner.locked must be true or false.",
        "runner.locked",
        "maybe",
        "true or false",
    ),
    (
        "word that is not one",
        put("runner.type", "shared"),
        "runner.type is none of the words it may be.",
        "runner.type",
        "shared",
        "'group'",
    ),
    (
        "number too small",
        put("runner.maximum_timeout", 10),
        "runner.maximum_timeout is too small.",
        "runner.maximum_timeout",
        10,
        "600 or more",
    ),
    (
        "number too large",
        put("pods.max_pending_minutes", 2000),
        "pods.max_pending_minutes is too large.",
        "pods.max_pending_minutes",
        2000,
        "1440 or less",
    ),
    (
        "too many",
        put("pods.specs", list("123456")),
        "pods.specs has too many entries.",
        "pods.specs",
        list("123456"),
        "at most 5",
    ),
    ("bad name", put("name", "My Cluster"), "name is not written as it must be.", "name", "My Cluster", "lower-case"),
    (
        "bad address",
        put("gitlab.url", "gitlab.example.com"),
        "gitlab.url is not written as it must be.",
        "gitlab.url",
        "gitlab.example.com",
        "https://",
    ),
    (
        "bad size",
        put("pods.build", "2 cores"),
        "pods.build: A size is CPU and memory; write CPU/memory",
        "pods.build",
        "2 cores",
        "Requests",
    ),
    ("bad quantity", put("cache.size", "50GB"), "cache.size: The suffix `GB`", "cache.size", "50GB", "Capacity"),
    (
        "section that is text",
        put("kubernetes", "here"),
        "kubernetes must be a section with its own fields.",
        "kubernetes",
        "here",
        "indented",
    ),
    ("empty section", put("kubernetes", None), "kubernetes is an empty section", "kubernetes", None, ""),
    ("bucket missing", lambda card: card["cache"].clear(), "cache.bucket is missing", "cache", None, ""),
    (
        "half a key pair",
        put("cache.access_key_id", "env:ID"),
        "cache.access_key_id and cache.access_key_secret belong together",
        "cache",
        None,
        "",
    ),
    (
        "group missing",
        put("runner.type", "group"),
        "runner.group is missing: runner.type is group.",
        "runner",
        None,
        "",
    ),
    (
        "two ways in",
        put("kubernetes", {"in_cluster": True, "context": "c"}),
        "kubernetes: in_cluster: true leaves no room",
        "kubernetes",
        None,
        "",
    ),
    (
        "limit without strategy",
        put("pods.spot", {"price_limit": 1}),
        "pods.spot: price_limit and strategy",
        "pods.spot",
        None,
        "Spot",
    ),
    (
        "economy and spot",
        put("pods", {"economy": True, "spot": {}}),
        "pods: economy and spot exclude each other",
        "pods",
        None,
        "job pod",
    ),
    (
        "token in the environment",
        put("runner.token", "env:T"),
        "runner.token: a token is written here",
        "runner.token",
        None,
        "Where notebook 40",
    ),
    (
        "no number",
        put("cost.discounts", [{"percent": "a tenth"}]),
        "cost.discounts.0.percent must be a number.",
        "cost.discounts.0.percent",
        "a tenth",
        "Percent off the list price.",
    ),
    (
        "no day",
        put("cost.discounts", [{"percent": 10, "first": "1.11.2026"}]),
        "cost.discounts.0.first must be a day.",
        "cost.discounts.0.first",
        "1.11.2026",
        "2026-11-01",
    ),
    (
        "unknown key in a list",
        put("cost.other", [{"name": "NAT", "amount": 1, "first": "2026-11-01", "every": "month"}]),
        "There is no field every in the section cost.other.0.",
        "cost.other.0.every",
        None,
        "per",
    ),
    (
        "days in the wrong order",
        put("cost.discounts", [{"percent": 10, "first": "2026-11-01", "last": "2026-10-31"}]),
        "cost.discounts.0: last (2026-10-31) lies before first (2026-11-01)",
        "cost.discounts.0",
        None,
        "",
    ),
    (
        "number that is too large to be percent",
        put("cost.tax_percent", 100),
        "cost.tax_percent is too large.",
        "cost.tax_percent",
        100,
        "less than 100",
    ),
    (
        "engine that is none",
        put("cost.engine", "pandas"),
        "cost.engine is not written as it must be.",
        "cost.engine",
        "pandas",
        "spark://host:7077",
    ),
    (
        "no time zone",
        put("cost.timezone", "China"),
        "cost.timezone is no time zone",
        "cost",
        None,
        "",
    ),
    ("key that is no text", put("runner", {7: "x"}), "runner.7 is a key that is not text", "runner.7", 7, "text"),
    ("dry_run in the card", put("dry_run", False), "dry_run does not belong in a card.", "dry_run", None, ""),
]


@pytest.mark.parametrize(
    ("edit", "problem", "field", "value", "allowed"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES]
)
def test_a_mistake_is_named(edit: Edit, problem: str, field: str, value: object, allowed: str) -> None:
    """One mistake gives one page: what is wrong, in which field, which value, what may stand there, where to read."""
    error = error_of(edit)
    assert error.problem.startswith(problem)
    assert error.where == f"card.yaml: {field}"
    assert error.value == value
    assert allowed in (error.allowed or "")
    assert error.remedy
    if field != "dry_run":
        assert "example.yaml" in error.remedy
    assert error.page == "notebooks/troubleshooting.md#cluster-card"


@pytest.mark.parametrize("row", MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_field_is_named_once(row: tuple[Any, ...]) -> None:
    """The sentence of an error does not stammer: it names the field at most once."""
    problem = error_of(row[1]).problem
    words = re.findall(r"[\w.]+(?=:)", problem)
    assert len(words) == len(set(words))


def test_all_mistakes_are_told_at_once() -> None:
    """A card with several mistakes is corrected in one go: each has its line, with value and what is allowed."""
    error = error_of(
        lambda card: [put("region", "")(card), put("regon", "x")(card), put("runner.type", "shared")(card)]
    )
    assert error.problem == "The cluster card has 3 mistakes."
    text = str(error)
    assert "- region is empty." in text
    assert "- runner.type is none of the words it may be. ('shared'; allowed: 'instance', 'group' or 'project')" in text
    assert "- There is no field regon. Did you mean region?" in text


SECRETS = [
    "glpat-VERYSECRET0123",
    "glrt-VERYSECRET0123",
    "LTAI5tVERYSECRET",
    "https://root:VERYSECRET@gitlab.example.com",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "path",
    [
        "gitlab.token",
        "runner.token",
        "access.token",
        "cache.access_key_id",
        "runner.group_token",
        "runner.type",
        "smoke.timeout",
        "runner.tags",
        "pods.build",
    ],
)
def test_a_given_secret_is_refused_and_not_repeated(path: str, secret: str) -> None:
    """A secret that stands in the card is refused wherever it stands, and the error does not spread it."""
    text = str(error_of(put(path, secret)))
    assert path in text
    assert "VERYSECRET" not in text


@pytest.mark.parametrize("value", [True, 0, 42, ["glpat-VERYSECRET0123"], {"value": "VERYSECRET"}])
def test_a_secret_of_the_wrong_type_is_not_repeated(value: object) -> None:
    """A secret written without quotes may look like a number: it is not shown either."""
    error = error_of(put("gitlab.token", value))
    assert error.value is None
    assert "VERYSECRET" not in str(error)


@pytest.mark.parametrize("reference", ["env:GITLAB_TOKEN", "file:var/token", "secret:ns/name/key"])
def test_the_three_references(reference: str) -> None:
    """env, file and secret references are taken as they are: loading a card resolves nothing."""
    card = copy.deepcopy(CARD)
    put("gitlab.token", reference)(card)
    put("gitlab.url", "file:var/url")(card)
    settings = Settings.parse(card, where="card.yaml")
    assert settings.gitlab.token == reference
    assert is_reference(settings.gitlab.url)


@pytest.mark.parametrize("text", ["", "env:", "env:1X", "secret:ns/name", "secret:ns//key", "glpat-x", "ENV:X"])
def test_what_is_no_reference(text: str) -> None:
    """Text that only resembles a reference is not one."""
    assert not is_reference(text)


def test_a_missing_file(tmp_path: Path) -> None:
    """A card that is not there is named with the path as given, and with how to make one."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path / "none.yaml")
    assert caught.value.where == f"parameter cluster: {tmp_path / 'none.yaml'}"
    assert "cp data/clusters/example.yaml" in str(caught.value)


BAD_FILES = [
    (b"", "empty or not a mapping"),
    (b"# nothing\n", "empty or not a mapping"),
    (b"- a\n- b\n", "empty or not a mapping"),
    (b"name: [a\n", "not YAML"),
    (b"name: a\n\tregion: b\n", "not YAML"),
    (b"name: a\nname: b\n", "the key name stands twice"),
    (b"gitlab:\n  url: a\n  url: b\n", "the key url stands twice"),
    (b"name: 2026-13-45\n", "not YAML"),
    (b"name: !!python/object:os.system x\n", "not YAML"),
    (b"name: caf\xe9\n", "not UTF-8"),
]


@pytest.mark.parametrize(("content", "problem"), BAD_FILES, ids=[problem for _, problem in BAD_FILES])
def test_a_file_that_is_no_card(tmp_path: Path, content: bytes, problem: str) -> None:
    """Whatever stands in the file, the answer is a page that names the file, never a parser's stack."""
    path = tmp_path / "card.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        Settings.load(path)
    assert problem in caught.value.problem
    assert str(path) in str(caught.value.where)


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    """A YAML mistake is named with its line, as an editor counts."""
    path = tmp_path / "card.yaml"
    path.write_text("name: a\nregion: b\nname: c\n")
    with pytest.raises(SettingsError) as caught:
        Settings.load(path)
    assert str(caught.value.where).endswith("line 3")


def test_a_card_with_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    """A card saved by a Windows editor is a card."""
    path = tmp_path / "card.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump(CARD).replace("\n", "\r\n").encode())
    assert Settings.load(path).name == "test"


@pytest.mark.parametrize("value", ["False", 1, None])
def test_dry_run_is_a_truth_value(value: Any) -> None:
    """`dry_run` given as text or number is refused: "False" must never mean true."""
    with pytest.raises(SettingsError, match="dry_run must be a truth value"):
        Settings.parse(CARD, where="card.yaml", dry_run=value)


def test_a_relative_path_is_found_from_anywhere(tmp_path: Path) -> None:
    """Paths are looked up from the working directory, else from the repository's root."""
    assert locate("data/clusters/example.yaml").samefile(CLUSTERS / "example.yaml")
    assert locate(tmp_path) == tmp_path
    assert locate("var/not/yet") == (Path("var/not/yet") if Path("var/not/yet").exists() else ROOT / "var/not/yet")


def test_the_card_has_two_faces_without_secrets() -> None:
    """A card shows its name and mode as text and as HTML, and none of its references."""
    settings = Settings.parse(CARD, where="card.yaml")
    for face in (str(settings), repr(settings), settings._repr_html_()):
        assert "test" in face
        assert "dry run" in face
        assert "GITLAB_TOKEN" not in face
    assert "apply" in str(Settings.parse(CARD, where="card.yaml", dry_run=False))


def test_a_card_cannot_be_changed() -> None:
    """Settings are a value: nobody changes them behind a notebook's back."""
    settings = Settings.parse(CARD, where="card.yaml")
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"  # type: ignore[misc]


def kinds(annotation: Any) -> Iterator[Any]:
    """An annotation and what it is made of: `list[Discount]` gives Discount too."""
    yield annotation
    for part in get_args(annotation):
        yield from kinds(part)


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None, type[BaseModel] | None]]:
    """Every field of the card: dotted path, its sentence, and the model below it if it is a section, or a list of them."""
    for name, field in model.model_fields.items():
        if name in ("dry_run", "card") and not path:
            continue
        inner = next(
            (kind for kind in kinds(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None
        )
        yield path + name, field.description, inner
        if inner:
            yield from fields_of(inner, f"{path}{name}.")


def test_every_field_of_the_model_has_a_sentence() -> None:
    """A field without documentation does not get into the card."""
    for path, description, section in fields_of(Settings):
        assert description or (section and section.__doc__), path


def test_the_example_holds_every_field_and_no_other() -> None:
    """example.yaml, with every left-out field put in, has exactly the fields of the model."""

    def keys(values: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, value in values.items():
            yield path + name
            if f"{path}{name}" in sections:
                for section in value if isinstance(value, list) else [value]:
                    yield from keys(section, f"{path}{name}.")

    sections = {path for path, _, section in fields_of(Settings) if section}
    complete = yaml.safe_load(LEFT_OUT.sub(r"\1", EXAMPLE_TEXT))
    assert list(keys(complete)) == [path for path, _, _ in fields_of(Settings)]


def test_the_example_explains_every_field_in_the_models_words() -> None:
    """Above each field of example.yaml stands the field's own sentence."""
    explained: dict[str, str] = {}
    comment: list[str] = []
    path: list[tuple[int, str]] = []
    for line in EXAMPLE_TEXT.splitlines():
        field = re.match(r"^( *#?(?:- )?)(\w+):", line)
        if field:
            indent = len(field[1].replace("#", ""))
            path = [*((depth, name) for depth, name in path if depth < indent), (indent, field[2])]
            explained[".".join(name for _, name in path)] = " ".join(comment)
            comment = []
        elif line.strip().startswith("# "):
            comment.append(line.strip()[2:])
        else:
            comment = []
    for name, description, section in fields_of(Settings):
        sentence = " ".join((description or (section and section.__doc__) or "").split())
        assert explained[name].endswith(sentence), name


def test_the_example_is_a_card_as_it_stands_and_with_everything_in_it() -> None:
    """example.yaml can be loaded as it is, and with every left-out field put in."""
    assert Settings.load(CLUSTERS / "example.yaml").name == "hangzhou"
    everything = yaml.safe_load(LEFT_OUT.sub(r"\1", EXAMPLE_TEXT))
    complete = Settings.parse(everything, where="example.yaml")
    assert complete.pods.spot is not None
    assert complete.cost.discounts[0].last == date(2026, 12, 31)


def test_the_examples_values_are_the_defaults() -> None:
    """What example.yaml shows for a field with a default is that default, so that copying it changes nothing."""
    keys = {f"{section}.{half}" for section in ("cache", "alibaba") for half in ("access_key_id", "access_key_secret")}
    own = {"kubernetes.kubeconfig", *keys}
    example = Settings.load(CLUSTERS / "example.yaml")
    smallest = Settings.parse({**CARD, "runner": {}, "pods": {}}, where="card.yaml")
    for path, _, section in fields_of(Settings):
        top, _, name = path.partition(".")
        if section or "." in name or not name or path in own or path in ("cache.bucket", "smoke.project", "gitlab.url"):
            continue
        assert getattr(getattr(example, top), name) == getattr(getattr(smallest, top), name), path


def test_the_schema_file_is_that_of_the_model() -> None:
    """data/clusters/schema.json is current; `python -m runbook.settings > data/clusters/schema.json` writes it."""
    assert json.loads((CLUSTERS / "schema.json").read_text(encoding="utf-8")) == json_schema()


@pytest.mark.parametrize("card", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_cards_of_the_repository_fit_model_and_schema(card: Path) -> None:
    """Every card in data/clusters is valid by the model and by the JSON Schema that editors use, and names its schema."""
    Settings.load(card)
    jsonschema.validate(yaml.safe_load(card.read_text(encoding="utf-8")), json_schema())
    assert card.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
