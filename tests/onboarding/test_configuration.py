"""Notebook 50 without a server: what would be written into which config.toml, and how a file is replaced."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook.clients.gitlab import GitLabClient
from runbook.clients.host_file import HostFile
from runbook.eci import vocabulary as eci
from runbook.errors import ConfigTomlError, PlanError
from runbook.onboarding import configuration, runner_section
from runbook.onboarding.configuration import Facts
from runbook.onboarding.configuration_facts import certificate_path
from runbook.onboarding.registration import RegisteredRunner, TokenState
from runbook.plan import Action, Plan
from runbook.report import Report
from runbook.runner import keys
from runbook.runner.config_toml import Document
from runbook.runner.version import Version
from runbook.settings import Settings

TOKEN = "glrt-T0ken-ours-0123456789"
CLUSTER_TOKEN = "T0ken.of.the.cluster"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
URL = "https://gitlab.example.com"
OTHER = f"""\
concurrent = 4  # few

[[runners]]
  name = "docker"  # theirs
  url = "{URL}"
  token = "T0ken-theirs"
  executor = "docker"
  environment = ["THEIR_SECRET=T0ken-in-environment"]
"""

Write = Callable[..., Settings]


class Noon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 12, tzinfo=UTC)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@pytest.fixture
def card(tmp_path: Path) -> Write:
    """Makes the settings of a card whose config.toml is in a folder of this test; arguments replace whole sections."""

    def made(place: str = "host", **sections: Any) -> Settings:
        folder = tmp_path / "gitlab-runner"
        folder.mkdir(exist_ok=True)
        values: dict[str, Any] = {
            "name": "test",
            "region": "cn-hangzhou",
            "cache": {"bucket": "b"},
            "gitlab": {"url": URL},
            "smoke": {"project": "a/b"},
            "runner": {"version": "17.9"},
            "config": {
                "place": place,
                "path": str(folder / "config.toml"),
                "copy_path": str(tmp_path / "var" / "config.toml"),
                "result_path": str(tmp_path / "var" / "config.toml.new"),
            },
        }
        return Settings.parse(values | sections, where="card.yaml", dry_run=False)

    return made


def runner(**changes: Any) -> RegisteredRunner:
    values: dict[str, Any] = {
        "id": 7,
        "description": "eci",
        "runner_type": "instance_type",
        "tag_list": ["eci-smoke"],
        "maintenance_note": "runbook: cluster=test",
        "paused": False,
    }
    return RegisteredRunner.from_api(values | changes)


def look(settings: Settings, **changes: Any) -> Facts:
    """The facts of the card's file as it is now, with both tokens stored and the runner known and active."""
    config = settings.config
    file = HostFile.read(Path(config.path if config.place == "host" else config.copy_path))
    copied = config.place == "copy"
    values: dict[str, Any] = {
        "file": file,
        "document": None if file.data is None else Document.parse(file.data, str(file.path)),
        "result": HostFile.read(Path(config.result_path)) if copied else None,
        "script": HostFile.read(Path(config.result_path + ".install.sh")) if copied else None,
        "version": Version(17, 9, 2),
        "version_source": "the test",
        "gitlab_url": URL,
        "clone_url": settings.gitlab.clone_url,
        "host": "https://10.0.0.1:6443",
        "certificate": CERTIFICATE,
        "certificate_path": certificate_path(settings),
        "certificate_file": None if copied else HostFile.read(Path(certificate_path(settings))),
        "needs_eci_label": False,
        "runner_token": TOKEN,
        "kubernetes_token": CLUSTER_TOKEN,
        "runner_token_state": TokenState.VALID,
        "runner": runner(),
    }
    return Facts(**(values | changes))


def plan(settings: Settings, **changes: Any) -> Plan:
    return configuration.plan(look(settings, **changes), settings)


def apply(settings: Settings, *, dry_run: bool = False, **changes: Any) -> Report:
    """Look, plan and apply. The runner is active already, so that GitLab is not asked for anything."""
    nobody = GitLabClient("http://127.0.0.1:9", "unused")
    return configuration.apply(plan(settings, **changes), nobody, dry_run=dry_run, clock=Noon())


def written(settings: Settings) -> dict[str, Any]:
    """Our section as it stands in the file now."""
    values = tomllib.loads(Path(settings.config.path).read_text())
    section: dict[str, Any] = next(row for row in values["runners"] if row.get("executor") == "kubernetes")
    return section


def config(settings: Settings, text: str, mode: int = 0o600) -> Path:
    """Put a config.toml where the card says."""
    path = Path(settings.config.path if settings.config.place == "host" else settings.config.copy_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


def everything(*values: Plan | Report | Facts) -> str:
    """All that a person or a log could see of these values."""
    return "".join(f"{value}{value!r}{value._repr_html_()}" for value in values)


# -- what is written


def test_the_article(card: Write) -> None:
    """The article's requests come to 3.25 vCPU / 7.5 GiB and are billed as 4 vCPU / 8 GiB: said with a price before anything is written."""
    settings = card()
    path = config(settings, OTHER)
    note = plan(settings).notes["job with one service"]
    assert "3.25 vCPU / 7.5 GiB → 4 vCPU / 8 GiB" in note
    assert re.search(r"CNY 0\.88\d* an hour", note)
    assert path.read_text() == OTHER


def test_every_key_of_a_full_card(card: Write) -> None:
    """Each field of the card that concerns the runner arrives at its key."""
    settings = card(
        kubernetes={"namespace": "ci", "kind": "ack"},
        gitlab={"url": URL, "clone_url": "http://10.0.0.9", "tls_ca_file": "/etc/gitlab-runner/gitlab.crt"},
        pods={
            "image": "alpine:3",
            "helper_image": "registry/helper:1",
            "spot": {"strategy": "SpotWithPriceLimit", "price_limit": 0.25, "duration": 0, "fallback": False},
            "max_pending_minutes": 20,
            "poll_timeout": 900,
            "cleanup_grace_seconds": 5,
            "custom_tags": {"team": "ci", "env": "test"},
            "annotations": {"k8s.aliyun.com/eci-ram-role-name": "ci"},
            "labels": {"team": "ci"},
        },
    )
    config(settings, OTHER)
    assert apply(settings, needs_eci_label=True).ok
    section = written(settings)
    kubernetes = section["kubernetes"]
    assert section["name"] == "eci"
    assert (section["url"], section["id"], section["token"]) == (URL, 7, TOKEN)
    assert (section["limit"], section["environment"]) == (10, ["CI_SERVICE_HOST=127.0.0.1"])
    assert (section["clone_url"], section["tls-ca-file"]) == ("http://10.0.0.9", "/etc/gitlab-runner/gitlab.crt")
    assert kubernetes["host"] == "https://10.0.0.1:6443"
    assert kubernetes["bearer_token"] == CLUSTER_TOKEN
    assert Path(kubernetes["ca_file"]).read_text() == CERTIFICATE
    assert (kubernetes["namespace"], kubernetes["image"], kubernetes["helper_image"]) == (
        "ci",
        "alpine:3",
        "registry/helper:1",
    )
    assert (kubernetes["pull_policy"], kubernetes["poll_timeout"]) == ("if-not-present", 900)
    assert kubernetes["cleanup_grace_period_seconds"] == 5
    requests = {key: value for key, value in kubernetes.items() if key.endswith("_request")}
    assert requests == {
        "cpu_request": "2",
        "memory_request": "6Gi",
        "service_cpu_request": "1",
        "service_memory_request": "1Gi",
        "helper_cpu_request": "250m",
        "helper_memory_request": "512Mi",
    }
    labels, annotations = kubernetes["pod_labels"], kubernetes["pod_annotations"]
    assert (labels["ci-job-id"], labels[eci.LABEL_ECI], labels["team"]) == ("$CI_JOB_ID", "true", "ci")
    assert {key: annotations[key] for key in annotations if key.startswith(eci.PREFIX)} == {
        eci.SPOT_STRATEGY: "SpotWithPriceLimit",
        eci.SPOT_PRICE_LIMIT: "0.250",
        eci.SPOT_DURATION: "0",
        eci.SPOT_FALLBACK: "false",
        eci.MAX_PENDING_MINUTE: "20",
        eci.CUSTOM_TAGS: "team:ci,env:test",
        eci.RAM_ROLE_NAME: "ci",
    }
    assert annotations["ci-job-name"] == "$CI_JOB_NAME"
    assert kubernetes["volumes"]["pvc"] == [{"name": "gitlab-cache-pvc", "mount_path": "/cache"}]
    assert tomllib.loads(Path(settings.config.path).read_text())["concurrent"] == 10


@pytest.mark.parametrize(
    "version", [Version(13, 6), Version(14, 7, 1), Version(16, 0), Version(17, 9, 2), Version(19, 4)]
)
def test_only_keys_that_the_version_knows(card: Write, version: Version) -> None:
    """Whatever is written is read by the runner's version; what it does not know is left out and named."""
    settings = card(pods={"specs": ["4-8Gi"], "spot": {}})
    config(settings, OTHER)
    planned = plan(settings, version=version)
    assert apply(settings, version=version).ok
    section = written(settings)
    assert list(keys.mistakes(section, version, keys.RUNNER)) == []
    assert ("id" in section) == (version >= Version(15, 3))
    assert ("id (since 15.3)" in planned.notes.get("left out", "")) == (version < Version(15, 3))


def test_explicit_specs(card: Write) -> None:
    """Explicit ECI specs replace the requests, in the file as in the price."""
    settings = card(pods={"specs": ["2-4Gi", "ecs.c6.large"]})
    config(settings, OTHER)
    assert "2 vCPU / 4 GiB" in plan(settings).notes["job with one service"]
    apply(settings)
    kubernetes = written(settings)["kubernetes"]
    assert kubernetes["pod_annotations"][eci.USE_SPECS] == "2-4Gi,ecs.c6.large"
    assert not any(key.endswith("_request") for key in kubernetes)


def test_spot_has_no_list_price(card: Write) -> None:
    """For spot instances the plan says why there is no list price."""
    settings = card(pods={"spot": {}})
    config(settings, OTHER)
    assert "price unknown" in plan(settings).notes["job without"]
    assert "market price" in plan(settings).notes["job without"]


def test_the_kubeconfig_way(card: Write) -> None:
    """With access.account kubeconfig the section names neither host nor token, as in the article, and what was there is taken out."""
    config(card(), OTHER)
    apply(card())
    settings = card(access={"account": "kubeconfig"})
    planned = plan(settings, kubernetes_token=None)
    assert not planned.waiting_for
    assert ".kube/config" in planned.notes["cluster's account"]
    apply(settings, kubernetes_token=None)
    assert not {"host", "ca_file", "bearer_token"} & set(written(settings)["kubernetes"])


@pytest.mark.parametrize(
    ("top", "sections", "concurrent"),
    [
        ("", {}, 10),
        ("concurrent = 4\n", {}, 10),
        ("concurrent = 40\n", {}, 40),
        ("concurrent = 40\n", {"concurrent": 20}, 20),
        ("concurrent = 0\n", {"limit": 0}, 1),
        ("concurrent = 7\n", {"limit": 0}, 7),
    ],
)
def test_concurrent(card: Write, top: str, sections: dict[str, int], concurrent: int) -> None:
    """concurrent is raised to the limit and never lowered, unless the card names it; it is never 0, which gitlab-runner refuses."""
    place = card().config.model_dump()
    settings = card(config=place | sections)
    config(settings, top)
    apply(settings)
    assert tomllib.loads(Path(settings.config.path).read_text())["concurrent"] == concurrent


# -- what stays


def test_applied_twice(card: Write) -> None:
    """The second run changes nothing: neither the file nor its backups."""
    settings = card()
    path = config(settings, OTHER)
    apply(settings)
    before = {file: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    again = apply(settings)
    assert again["applied"].observed == "nothing to change"
    assert {file: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("final", [True, False])
def test_other_lines_stay_byte_for_byte(card: Write, ending: str, bom: str, final: bool) -> None:
    """With CRLF or not, with a byte order mark or not, with a final newline or not: the other lines stay, and ours follow their form."""
    text = OTHER.replace("concurrent = 4", "concurrent = 40")
    text = bom + (text if final else text.removesuffix("\n")).replace("\n", ending)
    settings = card()
    path = config(settings, text)
    report = apply(settings)
    assert report.ok
    assert bool(bom) == ("config-toml-bom" in {check.id for check in report.checks})
    after = path.read_bytes()
    assert after.startswith(text.encode())
    assert after.endswith(ending.encode()) is final
    assert after.count(b"\n") == after.count(ending.encode())


def test_what_people_added_stays_and_what_the_card_dropped_goes(card: Write) -> None:
    """A comment and a key of their own survive the next run; a field that left the card leaves the file."""
    settings = card(pods={"spot": {}, "helper_image": "registry/helper:1"})
    path = config(settings, OTHER)
    apply(settings)
    path.write_text(
        path.read_text().replace("    namespace = ", "    # ours\n    privileged = false\n    namespace = ")
    )
    apply(card(pods={"build": "4/8Gi"}))
    kubernetes = written(settings)["kubernetes"]
    assert "    # ours\n    privileged = false\n" in path.read_text()
    assert (kubernetes["cpu_request"], kubernetes["memory_request"]) == ("4", "8Gi")
    assert "helper_image" not in kubernetes
    assert not [key for key in kubernetes["pod_annotations"] if "spot" in key]


def test_known_again_after_the_runner_rewrote_the_file(card: Write) -> None:
    """gitlab-runner writes the file anew, without comments, in its own order, with a rotated token: the section is still ours."""
    settings = card()
    path = config(settings, OTHER)
    apply(settings)
    text = re.sub(r"#.*", "", path.read_text()).replace(TOKEN, "glrt-T0ken-rotated-123456")
    path.write_text(text)
    planned = plan(settings, rotated_token="glrt-T0ken-rotated-123456", runner_token_state=TokenState.REFUSED)
    assert planned.empty
    assert "rotated" in planned.notes["token"]


def test_taken_over_by_its_token(card: Write) -> None:
    """A section that `gitlab-runner register` wrote is taken over when it holds the stored token; its other keys stay."""
    settings = card()
    registered = (
        f'[[runners]]\n  name = "k8s"\n  url = "{URL}/"\n  token = "{TOKEN}"\n  executor = "kubernetes"\n  [runners.cache]\n'
        '    [runners.cache.s3]\n  [runners.kubernetes]\n    host = ""\n    image = ""\n    namespace = ""\n'
        '    namespace_overwrite_allowed = ""\n    [runners.kubernetes.affinity]\n    [runners.kubernetes.volumes]\n'
    )
    path = config(settings, registered)
    assert apply(settings).ok
    section = written(settings)
    assert len(tomllib.loads(path.read_text())["runners"]) == 1
    assert (section["name"], section["url"]) == ("eci", f"{URL}/")
    assert section["kubernetes"]["namespace_overwrite_allowed"] == ""
    assert section["kubernetes"]["volumes"]["pvc"] == [{"name": "gitlab-cache-pvc", "mount_path": "/cache"}]


# -- why it stops


def section(name: str, **values: str) -> str:
    lines = "".join(f'  {key} = "{value}"\n' for key, value in {"url": URL, "executor": "kubernetes", **values}.items())
    return f'[[runners]]\n  name = "{name}"\n{lines}'


def marked(name: str, card_name: str, token: str = "T0ken-x") -> str:
    mark = f'  [runners.kubernetes.pod_annotations]\n    ci-cluster-card = "{card_name}"\n'
    return section(name, token=token) + mark


@pytest.mark.parametrize(
    ("text", "id", "words"),
    [
        (marked("a", "test") + marked("b", "test"), "config-toml-sections", ["a at line 1", "b at line 8"]),
        (marked("a", "test") + section("b", token=TOKEN), "config-toml-sections", ["a at line 1", "b at line 8"]),
        (marked("a", "other", TOKEN), "config-toml-sections", ["card other"]),
        (section("eci", token="T0ken-x"), "config-toml-sections", ["eci at line 1", "neither our mark nor its token"]),
        (OTHER + "  [runners.kubernetes]\n    cpu_request = 2\n", "config-toml-loads", ["line 10", "text in quotes"]),
    ],
)
def test_blockers_in_the_file(card: Write, text: str, id: str, words: list[str]) -> None:
    """Two sections of ours, one of another card, a namesake, or a value that stops the runner: nothing is written, and the line is named."""
    settings = card()
    path = config(settings, text)
    report = apply(settings, dry_run=True)
    assert report[id].status == "fail"
    assert all(word in report[id].observed for word in words)
    with pytest.raises(PlanError):
        plan(settings).raise_for_blockers()
    assert apply(settings).ok is False
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("pods", "id"),
    [
        ({"economy": True, "build": "16/32Gi"}, "pod-size"),
        ({"build": "900/1Gi"}, "pod-size"),
        ({"custom_tags": {"a:b": "c"}}, "custom-tags"),
    ],
)
def test_what_eci_would_refuse(card: Write, pods: dict[str, Any], id: str) -> None:
    """A size, a combination or a tag that ECI would refuse of every pod stops the plan before it is written."""
    settings = card(pods=pods)
    path = config(settings, OTHER)
    assert apply(settings)[id].status == "fail"
    assert path.read_text() == OTHER


def test_waiting_for_earlier_notebooks(card: Write) -> None:
    """Without the tokens a rehearsal names the notebooks that make them and is no failure; applying is refused and writes nothing."""
    settings = card()
    path = config(settings, OTHER)
    absent: dict[str, Any] = {
        "runner_token": None,
        "kubernetes_token": None,
        "runner_token_state": TokenState.ABSENT,
        "runner": None,
    }
    rehearsal = apply(settings, dry_run=True, **absent)
    assert rehearsal.ok
    assert "notebook 20" in rehearsal["applied"].observed
    assert "notebook 40" in rehearsal["applied"].observed
    with pytest.raises(PlanError, match="waits for"):
        apply(settings, **absent)
    assert path.read_text() == OTHER


def test_a_refused_token_is_not_written(card: Write) -> None:
    """A stored token that GitLab refuses is not put into the file; notebook 40 has to make a good one first."""
    settings = card()
    config(settings, OTHER)
    assert "refuses" in plan(settings, runner_token_state=TokenState.REFUSED, runner=None).waiting_for


def test_no_secret_is_seen(card: Write) -> None:
    """Neither facts, plan nor report show a token of ours or of another runner, in a terminal or in JupyterLab."""
    settings = card()
    config(settings, OTHER)
    facts, planned = look(settings), plan(settings)
    report = apply(settings)
    replaced = plan(settings, kubernetes_token="T0ken-new")
    seen = everything(facts, planned, report, replaced) + json.dumps(facts.as_dict())
    assert "T0ken" not in seen
    assert "(hidden, new)" in str(replaced)
    assert "their" not in planned.changes[1].diff.lower()


# -- the runner in GitLab


@pytest.mark.parametrize(
    ("changes", "action", "words"),
    [
        ({"paused": True}, Action.UPDATE, "eci-smoke only"),
        ({"paused": False}, Action.KEEP, "active"),
        ({"paused": True, "tag_list": ["docker", "eci-smoke"]}, Action.KEEP, "stays paused"),
        ({"paused": True, "run_untagged": True}, Action.KEEP, "stays paused"),
        ({"paused": True, "maintenance_note": "runbook: cluster=test proved=x"}, Action.KEEP, "somebody paused it"),
    ],
)
def test_unpausing(card: Write, changes: dict[str, Any], action: Action, words: str) -> None:
    """The runner is unpaused only while the smoke job is all that it can take; an active one stays active."""
    settings = card()
    config(settings, OTHER)
    [change] = [change for change in plan(settings, runner=runner(**changes)).changes if change.kind == "Runner"]
    assert change.action is action
    assert words in change.reason


# -- the file on this host


def test_mode_owner_and_backup(card: Write) -> None:
    """The new file has the old one's mode and owner, and the old one stays beside it under a name with the time."""
    settings = card()
    path = config(settings, OTHER, 0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    owner = (path.stat().st_uid, path.stat().st_gid)
    report = apply(settings)
    backup = path.with_name("config.toml.20261124T120000Z.bak")
    for file in (path, backup):
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert (file.stat().st_uid, file.stat().st_gid) == owner
    assert backup.read_text() == OTHER
    assert report.facts["backup"] == str(backup)
    assert report["config-toml-mode"].status == "warn"
    assert {file.name for file in path.parent.iterdir()} == {path.name, backup.name, "kubernetes-ca-test.crt"}


def test_changed_between_read_and_write(card: Write) -> None:
    """When the manager writes the file between our reading and our writing, its version stays and nothing of ours is left behind."""
    settings = card(access={"account": "kubeconfig"})
    path = config(settings, OTHER)
    planned = plan(settings)
    path.write_text(OTHER + "# rotated\n")
    with pytest.raises(ConfigTomlError, match="changed by somebody else"):
        configuration.apply(planned, GitLabClient("http://127.0.0.1:9", "unused"), dry_run=False, clock=Noon())
    assert path.read_text() == OTHER + "# rotated\n"
    assert not [file.name for file in path.parent.iterdir() if file.name.endswith(".new")]


def test_a_link_stays_a_link(card: Write, tmp_path: Path) -> None:
    """Where config.toml is a symbolic link, the file that it leads to is replaced, in its own folder, and the link stays."""
    settings = card()
    real = tmp_path / "elsewhere" / "real.toml"
    real.parent.mkdir()
    real.write_text(OTHER)
    link = Path(settings.config.path)
    link.symlink_to("../elsewhere/real.toml")
    assert apply(settings).ok
    assert link.is_symlink()
    assert 'name = "eci"' in real.read_text()
    assert (real.parent / "real.toml.20261124T120000Z.bak").read_text() == OTHER


def test_where_there_is_no_file(card: Write) -> None:
    """Without a config.toml one is made, mode 0600, when gitlab-runner's folder is there; without the folder nothing is made."""
    settings = card()
    assert apply(settings).ok
    path = Path(settings.config.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    elsewhere = card(config={"place": "host", "path": str(path.parent / "absent" / "config.toml")})
    report = apply(elsewhere)
    assert "there is no folder" in report["config-toml-place"].observed
    assert not (path.parent / "absent").exists()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: path.chmod(0o400), "lets nobody write"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere.toml")), "which is not there"),
    ],
)
def test_files_that_must_not_be_replaced(card: Write, prepare: Callable[[Path], object], words: str) -> None:
    """A read-only file and a link to nowhere stop the plan with the reason."""
    settings = card()
    path = config(settings, OTHER)
    prepare(path)
    assert words in apply(settings)["config-toml-place"].observed
    assert not list(path.parent.glob("*.bak"))


def test_a_folder_in_its_place(card: Write) -> None:
    """A folder named config.toml is an error that names it."""
    settings = card()
    Path(settings.config.path).mkdir()
    with pytest.raises(ConfigTomlError, match="cannot be read") as refused:
        look(settings)
    assert settings.config.path in str(refused.value)


def test_not_toml_names_file_and_line(card: Write) -> None:
    """A damaged config.toml is refused with its path and line."""
    settings = card()
    path = config(settings, OTHER + "oops\n")
    with pytest.raises(ConfigTomlError, match="not TOML") as refused:
        look(settings)
    assert f"{path}, line 9" in str(refused.value)


def test_only_a_path_of_the_runners_host_is_written(card: Write) -> None:
    """The CA certificate's path in the file is absolute, and the file lies there, readable; one that the card names is kept."""
    settings = card()
    config(settings, OTHER)
    apply(settings)
    path = Path(written(settings)["kubernetes"]["ca_file"])
    assert path.is_absolute()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.write_text("another")
    named = card(access={"ca_file": str(path)})
    assert [change.action for change in plan(named).changes if change.kind == "CA certificate"] == [Action.KEEP]
    assert [change.action for change in plan(settings).changes if change.kind == "CA certificate"] == [Action.UPDATE]


# -- a copy of the file


def test_no_copy_yet(card: Write) -> None:
    """Without a copy the report fails with the command that makes one."""
    settings = card("copy")
    report = apply(settings)
    assert "sudo cat" in report["config-toml-copy"].remedy
    assert settings.config.path in report["config-toml-copy"].remedy


def test_a_copy(card: Write) -> None:
    """The result and its installer are written beside the copy, which stays; the command is printed; a second run changes nothing."""
    settings = card("copy")
    copy = config(settings, OTHER)
    report = apply(settings)
    result, script = Path(settings.config.result_path), Path(settings.config.result_path + ".install.sh")
    assert copy.read_text() == OTHER
    assert f"sudo sh {script} {result}" in report["config-toml-installed"].observed
    assert stat.S_IMODE(result.stat().st_mode) == 0o600
    assert "T0ken" not in script.read_text() + everything(report)
    assert apply(settings)["applied"].observed == "nothing to change"


def installed(settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run the printed script as the runner's host would."""
    result = settings.config.result_path
    return subprocess.run(
        ["sh", f"{result}.install.sh", result], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_installer(card: Write) -> None:
    """On the runner's host the script replaces the file in place, keeps its mode, leaves a backup, and writes the CA certificate."""
    settings = card("copy")
    host_file = Path(settings.config.path)
    host_file.write_text(OTHER)
    host_file.chmod(0o640)
    config(settings, OTHER)
    apply(settings)
    done = installed(settings)
    assert done.returncode == 0, done.stderr
    assert host_file.read_bytes() == Path(settings.config.result_path).read_bytes()
    assert stat.S_IMODE(host_file.stat().st_mode) == 0o640
    assert [file.read_text() for file in host_file.parent.glob("config.toml.*.bak")] == [OTHER]
    assert Path(written(settings)["kubernetes"]["ca_file"]).read_text() == CERTIFICATE
    config(settings, host_file.read_text())
    assert apply(settings)["applied"].observed == "nothing to change"


def test_the_installer_guards_what_changed(card: Write) -> None:
    """If the runner's file has changed since the copy was taken, or the result is not the notebook's, the script changes nothing."""
    settings = card("copy")
    host_file = Path(settings.config.path)
    host_file.write_text(OTHER + "# changed\n")
    config(settings, OTHER)
    apply(settings)
    done = installed(settings)
    assert done.returncode != 0
    assert "has changed since it was copied" in done.stderr
    host_file.write_text(OTHER)
    Path(settings.config.result_path).write_text("broken")
    assert "not the file that the notebook wrote" in installed(settings).stderr
    assert host_file.read_text() == OTHER
    assert [file.name for file in host_file.parent.iterdir()] == ["config.toml"]


# -- where pods go


@pytest.mark.parametrize(
    ("kind", "nodes", "label"),
    [
        ("auto", ["virtual-kubelet-cn-hangzhou-h"], False),
        ("auto", ["virtual-kubelet-cn-hangzhou-h", "cn-hangzhou.10.0.0.1"], True),
        ("auto", None, True),
        ("ack", ["virtual-kubelet-cn-hangzhou-h"], True),
        ("ack-serverless", ["cn-hangzhou.10.0.0.1"], False),
    ],
)
def test_the_label_for_clusters_with_ecs_nodes(card: Write, kind: str, nodes: list[str] | None, label: bool) -> None:
    """Pods bear the ECI label where the cluster has ECS nodes too, or where that could not be read."""
    listed = None if nodes is None else [{"metadata": {"name": name}} for name in nodes]
    assert runner_section.needs_eci_label(card(kubernetes={"kind": kind}), listed) is label
