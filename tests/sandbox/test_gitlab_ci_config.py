"""`.gitlab-ci.yml` as the GitLab stand-in reads it: what it makes, and what it refuses by name."""

from __future__ import annotations

import pytest

from sandbox.gitlab import ci_config, expressions
from sandbox.gitlab.durations import parse_duration
from sandbox.gitlab.job_spec import JobSpec


def jobs(text: str, ref: str = "main", *, tag: bool = False, **variables: str) -> dict[str, JobSpec]:
    return {job.name: job for job in ci_config.select(ci_config.parse(text), variables, ref, tag=tag)}


def errors(text: str) -> list[str]:
    with pytest.raises(ci_config.NoPipeline) as caught:
        ci_config.parse(text)
    return caught.value.errors


VARIABLES = {"BRANCH": "main", "EMPTY": "", "TAG": "v1.2", "PATTERN": "/^ma/"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$BRANCH", True),
        ("$EMPTY", False),
        ("$MISSING", False),
        ("$MISSING == null", True),
        ('$EMPTY == ""', True),
        ('$BRANCH == "main"', True),
        ("$BRANCH == 'main'", True),
        ('$BRANCH != "main"', False),
        ('"main" == $BRANCH', True),
        ("$BRANCH == $BRANCH", True),
        ("$TAG =~ /^v[0-9]/", True),
        ("$TAG =~ /^V/", False),
        ("$TAG =~ /^V/i", True),
        ("$TAG !~ /^x/", True),
        ("$MISSING =~ /x/", False),
        ("$BRANCH =~ $PATTERN", True),
        (r'"a/b" =~ /a\/b/', True),
        ("$BRANCH && $TAG", True),
        ("$BRANCH && $MISSING", False),
        ("$MISSING || $TAG", True),
        ("$MISSING && $BRANCH || $TAG", True),
        ("$MISSING && ($BRANCH || $TAG)", False),
        ('($BRANCH == "x" || $BRANCH == "main") && $TAG', True),
    ],
)
def test_expressions(expression: str, expected: bool) -> None:
    """`rules: - if:` compares, matches, negates and groups as GitLab's language does."""
    assert expressions.parse(expression)(VARIABLES) is expected


@pytest.mark.parametrize("text", ["", "$A ==", "== $A", "($A", "$A)", "$A & $B", "$A =~ /(/", "A"])
def test_broken_expressions(text: str) -> None:
    """What is no expression is an error when it is read, not when it is used."""
    with pytest.raises(expressions.ExpressionError):
        expressions.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (90, 90),
        ("1 day", 86400),
        ("2h 30m", 9000),
        ("1 week", 604800),
        ("3 mins 4 sec", 184),
        ("1.5 hours", 5400),
    ],
)
def test_durations(text: str | int, seconds: int) -> None:
    """Durations are read as people write them."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "3 lightyears"])
def test_no_durations(text: str) -> None:
    """What is no duration is refused."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_defaults_globals_and_extends_reach_the_job() -> None:
    """A job has what `default:`, `extends:` and YAML anchors give it, and its own words win."""
    text = """
default: {image: alpine, tags: [a], retry: 1}
.base: &base
  variables: {A: 1, B: 2}
  before_script: [base]
build:
  extends: .base
  variables: {B: 3}
  script: make
test:
  <<: *base
  image: {name: ubuntu, entrypoint: [sh]}
  tags: [b]
  script: [[one, two], three]
"""
    made = jobs(text)
    build, test = made["build"], made["test"]
    assert (build.image, build.tags, build.retry_max, build.variables) == (
        {"name": "alpine"},
        ("a",),
        1,
        {"A": "1", "B": "3"},
    )
    assert (test.image, test.tags, test.script) == (
        {"name": "ubuntu", "entrypoint": ["sh"]},
        ("b",),
        ("one", "two", "three"),
    )
    assert build.before_script == test.before_script == ("base",)


def test_rules_choose_when_and_variables() -> None:
    """The first rule that applies decides; no rule that applies leaves the job out."""
    text = """
a:
  script: a
  rules:
    - if: $KIND == "manual"
      when: manual
      allow_failure: true
      variables: {WHY: asked}
    - if: $CI_COMMIT_BRANCH
b: {script: b, rules: [{if: $NEVER, when: always}]}
c: {script: c, rules: [{if: $CI_COMMIT_BRANCH, when: never}, {when: always}]}
"""
    plain = jobs(text, CI_COMMIT_BRANCH="main")
    assert plain.keys() == {"a"} and plain["a"].when == "on_success"
    asked = jobs(text, KIND="manual")
    assert asked.keys() == {"a", "c"}
    assert (asked["a"].when, asked["a"].allow_failure, asked["a"].variables["WHY"]) == ("manual", True, "asked")


def test_only_and_except_look_at_the_ref() -> None:
    """Simple `only` and `except` know branches, tags, names and patterns."""
    text = """
branches: {script: x, only: [branches]}
tags: {script: x, only: [tags]}
release: {script: x, only: [/^release-/]}
not-main: {script: x, except: {refs: [main]}}
"""
    assert jobs(text).keys() == {"branches"}
    assert jobs(text, "release-1").keys() == {"branches", "release", "not-main"}
    assert jobs(text, "v1", tag=True).keys() == {"tags", "not-main"}


def test_tags_are_filled_in() -> None:
    """Tags may carry variables of the pipeline."""
    assert jobs("a: {script: x, tags: ['$KIND', '${KIND}-2', fix]}", KIND="eci")["a"].tags == ("eci", "eci-2", "fix")


def test_workflow_rules_may_refuse_the_pipeline() -> None:
    """`workflow: rules` decide whether there is a pipeline at all."""
    text = "workflow: {rules: [{if: $GO}]}\na: {script: x}"
    assert jobs(text, GO="yes").keys() == {"a"}
    with pytest.raises(ci_config.NoPipeline, match="filtered out"):
        jobs(text)


def test_an_empty_pipeline_is_refused() -> None:
    """Rules that leave no job make no pipeline."""
    with pytest.raises(ci_config.NoPipeline, match="would have been empty"):
        jobs("a: {script: x, rules: [{if: $NEVER}]}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Please provide content of .gitlab-ci.yml"),
        ("a: [", "Invalid YAML"),
        ("- a", "Invalid configuration format"),
        ("stages: [a]", "jobs config should contain at least one visible job"),
        ("image: x\nfoo: bar\na: {script: x}", "root config contains unknown keys: foo"),
        ("include: x.yml\na: {script: x}", "include is not supported by the practice GitLab"),
        ("a: {image: x}", "jobs:a config should implement the script:, run:, or trigger: keyword"),
        ("a: {script: x, scirpt: y}", "jobs:a config contains unknown keys: scirpt"),
        ("a: {script: x, parallel: 2}", "jobs:a:parallel is not supported by the practice GitLab"),
        ("a: {script: x, trigger: b}", "jobs:a:trigger is not supported by the practice GitLab"),
        (
            "a: {script: x, rules: [{changes: [b]}]}",
            "jobs:a:rules:rule:changes is not supported by the practice GitLab",
        ),
        ("a: {script: x, rules: [{if: '$A =='}]}", "jobs:a:rules:rule if invalid expression syntax"),
        ("a: {script: x, rules: [{if: $A, oops: 1}]}", "jobs:a:rules:rule config contains unknown keys: oops"),
        ("a: {script: x, rules: [], only: [main]}", "jobs:a config key may not be used with `rules`: only"),
        ("a: {script: x, only: {changes: [b]}}", "jobs:a:only:changes is not supported by the practice GitLab"),
        (
            "a: {script: x, stage: z}",
            "a job: chosen stage z does not exist; available stages are .pre, build, test, deploy, .post",
        ),
        ("a: {script: x, tags: b}", "jobs:a:tags config should be an array of strings"),
        ("a: {script: x, when: later}", "jobs:a when should be one of: on_success, on_failure, always, manual, never"),
        ("a: {script: x, retry: 3}", "jobs:a:retry max must be between 0 and 2"),
        ("a: {script: x, retry: {when: bored}}", "jobs:a:retry when contains unknown values: bored"),
        ("a: {script: x, timeout: soon}", "jobs:a:timeout config should be a duration"),
        ("a: {script: x, dependencies: [b]}", "a job: undefined dependency: b"),
        ("a: {script: x, needs: [b]}", "a job: undefined need: b"),
        ("a: {script: x, extends: .b}", "a: unknown keys in `extends` (.b)"),
        ("a: {script: x, cache: {key: a/b}}", 'jobs:a:cache:key config cannot contain the "/" character'),
        ("a: {script: x, cache: {policy: grab}}", "jobs:a:cache:policy should be one of: pull-push, push, pull"),
        (
            "a: {script: x, artifacts: {reports: {dotenv: e}}}",
            "jobs:a:artifacts:reports:dotenv is not supported by the practice GitLab",
        ),
        ("a: {script: x, artifacts: {expire_in: soon}}", "jobs:a:artifacts expire in should be a duration"),
        ("a: {script: x, services: [{alias: b}]}", "jobs:a:services:service config should be a hash or a string"),
        ("a: {script: x, variables: [b]}", "jobs:a:variables config should be a hash of key value pairs"),
        ("default: {retry: 1}\nretry: 2\na: {script: x}", "root config contains unknown keys: retry"),
        ("image: x\ndefault: {image: y}\na: {script: x}", "image is defined in top-level and `default:` entry"),
    ],
)
def test_lint_errors(text: str, message: str) -> None:
    """Whatever is wrong or not understood is named; nothing is passed over in silence."""
    assert any(error.startswith(message) for error in errors(text)), errors(text)


def test_every_error_is_reported_at_once() -> None:
    """Several mistakes in one file are several errors."""
    assert len(errors("a: {script: x, parallel: 2, tags: b}\nc: {image: x}")) == 3
