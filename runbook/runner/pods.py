"""The pod that a runner makes of its configuration and a job: `[[runners]]` in, manifest out.

The runner stand-in creates this pod; notebook 50 shows which ECI instance it would be billed as. Both ask here, so both see the same pod.
Pinned by a recorded pod of 14.7.1; what newer versions do is in `behaviours`. Source: GitLab Runner,
``executors/kubernetes/kubernetes.go``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from runbook.errors import ConfigTomlError
from runbook.runner import names, overwrites, pod_spec, security, volumes
from runbook.runner.behaviours import Behaviour
from runbook.runner.overwrites import Overwrites, Resources
from runbook.runner.variables import Assignment, Variables, flag_is_on, of_environment, of_job, of_payload
from runbook.runner.version import Version

Row = Mapping[str, Any]
Manifest = dict[str, Any]

HELPER_IMAGE = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v{version}"
SHELLS = (
    "/usr/local/bin/bash",
    "/usr/bin/bash",
    "/bin/bash",
    "/usr/local/bin/sh",
    "/usr/bin/sh",
    "/bin/sh",
    "/busybox/sh",
)
PULL_POLICIES = {"always": "Always", "if-not-present": "IfNotPresent", "never": "Never"}
RUNNER_LABEL = re.compile(r"(^|.*\.)runner\.gitlab\.com(/|$)")
CONTAINER_ARGUMENTS = {"build", "helper"}

NO_IMAGE = "no image specified and no default set in config"


def job_pod(runner: Row, job: Row, version: Version, given: Assignment | None = None) -> Manifest:
    """The manifest of the pod that a runner of *version* creates for *job*.

    Args:
        runner: one `[[runners]]` section as plain values, keys as in config.toml.
        job: what GitLab answers to ``POST /jobs/request``; `sample_job` makes a small one.
        given: what the manager adds: its slot, random characters, names of objects it made before.

    Raises:
        ConfigTomlError: what the runner itself would refuse, in its words: no image, an overwrite beyond its limit, a policy or image that
            is not allowed.
    """
    given = given or Assignment()
    manifest: Manifest = _unshared(_Job(runner, job, version, given).manifest())
    return manifest


def sample_job(
    *, image: str = "", services: Sequence[str] = (), timeout: int = 3600, job_id: int = 1
) -> dict[str, Any]:
    """The smallest job that a runner makes a pod of: to show what a configuration would give. *timeout* in seconds."""
    path = "group/project"
    variables = {
        "CI_JOB_ID": str(job_id),
        "CI_JOB_NAME": "sample",
        "CI_JOB_STAGE": "test",
        "CI_PIPELINE_ID": "1",
        "CI_PROJECT_ID": "1",
        "CI_PROJECT_NAME": "project",
        "CI_PROJECT_PATH": path,
        "CI_PROJECT_NAMESPACE": "group",
        "CI_PROJECT_NAMESPACE_ID": "1",
        "CI_PROJECT_ROOT_NAMESPACE": "group",
    }
    return {
        "id": job_id,
        "job_info": {"name": "sample", "stage": "test", "project_id": 1, "project_name": "project"},
        "git_info": {
            "repo_url": f"https://gitlab.example.com/{path}.git",
            "sha": "0" * 40,
            "before_sha": "0" * 40,
            "ref": "main",
        },
        "runner_info": {"timeout": timeout},
        "variables": [{"key": key, "value": value, "public": True} for key, value in variables.items()],
        "image": {"name": image} if image else {},
        "services": [{"name": name} for name in services],
    }


def unique_name(runner: Row, job: Row, version: Version, given: Assignment) -> str:
    """``runner-<short token>-project-<id>-concurrent-<n>``: the stem of the names of pod, secret and ConfigMap."""
    project = int(job.get("job_info", {}).get("project_id", 0))
    return names.project_unique_name(str(runner.get("token", "")), project, given.project_concurrent, version)


def namespace(runner: Row, job: Row, version: Version, wanted: Overwrites) -> str:
    """Where the pod goes: ``ci-job-<id>`` with `namespace_per_job` (>= 16.10), else as configured or overwritten, else ``default``."""
    if has_own_namespace(runner, version):
        return f"ci-job-{job.get('id', 0)}"
    return wanted.namespace or "default"


def has_own_namespace(runner: Row, version: Version) -> bool:
    """True if each job gets a namespace that the runner makes and deletes."""
    return bool(runner.get("kubernetes", {}).get("namespace_per_job")) and Behaviour.NAMESPACE_PER_JOB.of(version)


def helper_image(runner: Row, variables: Variables, version: Version) -> str:
    """`helper_image` with its variables expanded, or GitLab's own for this version."""
    configured = str(runner.get("kubernetes", {}).get("helper_image", ""))
    return variables.expand(configured) if configured else HELPER_IMAGE.format(version=version)


def job_url(job: Row) -> str:
    """Address of the job's page, from the address it is cloned from."""
    parts = urlsplit(str(job.get("git_info", {}).get("repo_url", "")))
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.removesuffix('.git')}/-/jobs/{job.get('id', 0)}"


def go_duration(seconds: int) -> str:
    """Seconds as Go prints a duration: 3600 -> ``1h0m0s``, 90 -> ``1m30s``."""
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"


def shell_command() -> list[str]:
    """The command of `build` and `helper`: the first shell that the image has, waiting on its standard input."""
    tests = "\nelif ".join(f"[ -x {path} ]; then\n\texec {path} " for path in SHELLS)
    return ["sh", "-c", f"if {tests}\nelse\n\techo shell not found\n\texit 1\nfi\n\n"]


class _Job:
    """One job's pod in the making: what every part of it needs to know."""

    def __init__(self, runner: Row, job: Row, version: Version, given: Assignment) -> None:
        self.runner, self.job, self.version, self.given = runner, job, version, given
        self.kubernetes: Row = runner.get("kubernetes", {})
        self.variables = of_job(runner, job, version, given)
        self.overwrites: Overwrites = overwrites.apply(self.kubernetes, self.variables, version)
        self.mounts = volumes.mounts(runner, job, self.variables, version)
        self.services = self._services()
        self.aliases = [self._aliases(service) for service in self.services]

    def has(self, behaviour: Behaviour) -> bool:
        return behaviour.of(self.version)

    def manifest(self) -> Manifest:
        metadata = {
            **self._name(),
            "namespace": namespace(self.runner, self.job, self.version, self.overwrites),
            "labels": self._labels(),
            "annotations": self._annotations(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {key: value for key, value in metadata.items() if value != {}},
            "spec": pod_spec.patched(self._spec(), self.runner, self.job, self.version),
        }

    def _name(self) -> Manifest:
        stem = unique_name(self.runner, self.job, self.version, self.given)
        if self.has(Behaviour.RANDOM_POD_NAME):
            return {"name": names.pod_name(stem, self.given.suffix)}
        return {"generateName": stem}

    def _labels(self) -> dict[str, str]:
        stem = unique_name(self.runner, self.job, self.version, self.given)
        labels = {"pod": names.label_value(stem)}
        protected = self.has(Behaviour.RUNNER_LABELS)
        if protected:
            info = self.job.get("job_info", {})
            own = {
                "project.runner.gitlab.com/id": str(info.get("project_id", 0)),
                "project.runner.gitlab.com/namespace-id": self.variables.get("CI_PROJECT_NAMESPACE_ID"),
                "project.runner.gitlab.com/name": str(info.get("project_name", "")),
                "project.runner.gitlab.com/namespace": self.variables.get("CI_PROJECT_NAMESPACE"),
                "project.runner.gitlab.com/root-namespace": self.variables.get("CI_PROJECT_ROOT_NAMESPACE"),
                "job.runner.gitlab.com/pod": stem,
                "manager.runner.gitlab.com/name": str(self.runner.get("name", "")),
                "manager.runner.gitlab.com/id-short": names.short_token(
                    str(self.runner.get("token", "")), self.version
                ),
            }
            labels |= {key: names.label_value(value) for key, value in own.items()}
        for key, value in self.overwrites.pod_labels.items():
            if not (protected and RUNNER_LABEL.match(key)):
                labels[key] = names.label_value(self._expand_for_metadata(value))
        return labels

    def _annotations(self) -> dict[str, str]:
        annotations: dict[str, str] = {}
        if self.has(Behaviour.JOB_ANNOTATIONS):
            info, git = self.job.get("job_info", {}), self.job.get("git_info", {})
            annotations |= {
                "job.runner.gitlab.com/id": str(self.job.get("id", 0)),
                "job.runner.gitlab.com/url": job_url(self.job),
                "job.runner.gitlab.com/sha": str(git.get("sha", "")),
                "job.runner.gitlab.com/before_sha": str(git.get("before_sha", "")),
                "job.runner.gitlab.com/ref": str(git.get("ref", "")),
                "job.runner.gitlab.com/name": str(info.get("name", "")),
                "project.runner.gitlab.com/id": str(info.get("project_id", 0)),
            }
        if self.has(Behaviour.TIMEOUT_ANNOTATION):
            annotations["job.runner.gitlab.com/timeout"] = go_duration(self._timeout())
        return annotations | {
            key: self._expand_for_metadata(value) for key, value in self.overwrites.pod_annotations.items()
        }

    def _expand_for_metadata(self, value: str) -> str:
        # only what GitLab sent is expanded here: `environment` of config.toml and the runner's own variables are not
        return Variables(of_payload(self.job.get("variables", ()))).expanded().expand(value)

    def _spec(self) -> Manifest:
        kubernetes, runner, job, version = self.kubernetes, self.runner, self.job, self.version
        spec: Manifest = {
            "volumes": volumes.volumes(runner, job, self.variables, version, self.given),
            "serviceAccountName": self.overwrites.service_account,
            "restartPolicy": "Never",
            "nodeSelector": dict(self.overwrites.node_selector),
            "tolerations": [_toleration(key, effect) for key, effect in self.overwrites.node_tolerations.items()],
            "initContainers": self._init_containers(),
            "containers": [self._build(), self._helper(), *self._service_containers()],
            "terminationGracePeriodSeconds": self._grace_period(),
            "activeDeadlineSeconds": self._deadline(),
            "imagePullSecrets": self._pull_secrets(),
            "securityContext": security.pod(kubernetes),
            "hostAliases": self._host_aliases(),
            "dnsPolicy": security.dns_policy(kubernetes),
            "dnsConfig": security.camel(kubernetes.get("dns_config", {})),
            "runtimeClassName": kubernetes.get("runtime_class_name") if self.has(Behaviour.RUNTIME_CLASS) else None,
            "priorityClassName": kubernetes.get("priority_class_name") if self.has(Behaviour.PRIORITY_CLASS) else None,
            "schedulerName": kubernetes.get("scheduler_name") if self.has(Behaviour.SCHEDULER_NAME) else None,
            "automountServiceAccountToken": (
                kubernetes.get("automount_service_account_token") if self.has(Behaviour.AUTOMOUNT_TOKEN) else None
            ),
        }
        kept = {key: value for key, value in spec.items() if value not in (None, "", [], {})}
        kept["affinity"] = security.camel(kubernetes.get("affinity", {}))
        if self.has(Behaviour.POD_RESOURCES):
            kept["resources"] = self.overwrites.resources["pod"]
        return kept

    def _timeout(self) -> int:
        return int(self.job.get("runner_info", {}).get("timeout", 0))

    def _grace_period(self) -> int | None:
        unset = None if self.has(Behaviour.NO_DEFAULT_GRACE_PERIOD) else 0
        seconds = self.kubernetes.get("pod_termination_grace_period_seconds", unset)
        return None if seconds is None else int(seconds)

    def _deadline(self) -> int | None:
        asked = flag_is_on("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", self.runner, self.job, self.version)
        return self._timeout() + 1 if asked and self._timeout() else None

    def _pull_secrets(self) -> list[Manifest]:
        if self.kubernetes.get("use_service_account_image_pull_secrets"):
            return []
        secrets = [*self.kubernetes.get("image_pull_secrets", ()), self.given.pull_secret]
        return [{"name": secret} for secret in secrets if secret]

    def _image(self) -> str:
        image = str((self.job.get("image") or {}).get("name") or self.kubernetes.get("image", ""))
        if not image:
            raise ConfigTomlError(NO_IMAGE, where="[runners.kubernetes] image", allowed="the name of an image")
        expanded = self.variables.expand(image)
        internal = [self.variables.expand(str(self.kubernetes.get("image", "")))]
        _check_allowed(expanded, "images", self.kubernetes.get("allowed_images", ()), internal)
        return expanded

    def _build(self) -> Manifest:
        image = self.job.get("image") or {}
        return self._container(
            "build",
            self._image(),
            command=self._entry("build", image),
            env=self.variables.public(),
            resources=self.overwrites.resources["build"],
            policies=image.get("pull_policy") or (),
        )

    def _helper(self) -> Manifest:
        env = Variables(()) if self.has(Behaviour.HELPER_WITHOUT_VARIABLES) else self.variables.public()
        return self._container(
            "helper",
            helper_image(self.runner, self.variables, self.version),
            command=self._entry("helper", {}),
            env=env,
            resources=self.overwrites.resources["helper"],
        )

    def _entry(self, name: str, image: Row) -> Manifest:
        if name == "build" and flag_is_on("FF_KUBERNETES_HONOR_ENTRYPOINT", self.runner, self.job, self.version):
            return {"args": shell_command()}
        return {"command": shell_command(), **({"args": list(image["command"])} if image.get("command") else {})}

    def _service_containers(self) -> list[Manifest]:
        container_names = names.service_container_names(self.aliases, self.version)
        rows = list(zip(container_names, self.services, strict=True))
        if self.has(Behaviour.ALIAS_CONTAINER_NAMES):
            rows.sort(key=lambda row: row[0])
        return [self._service(name, service) for name, service in rows]

    def _service(self, name: str, service: Row) -> Manifest:
        image = self.variables.expand(str(service["name"]))
        _check_allowed(image, "services", self.kubernetes.get("allowed_services", ()), [])
        env = self.variables.public()
        if self.has(Behaviour.SERVICE_VARIABLES):
            env = Variables((*env.rows, *of_payload(service.get("variables") or ()))).expanded()
        entry = {"command": list(service.get("entrypoint") or ()), "args": list(service.get("command") or ())}
        return self._container(
            name,
            image,
            command={key: value for key, value in entry.items() if value},
            env=env,
            resources=overwrites.service_resources(
                service, self.kubernetes, self.overwrites.resources["service"], self.version
            ),
            policies=service.get("pull_policy") or (),
        )

    def _container(
        self,
        name: str,
        image: str,
        *,
        command: Manifest,
        env: Variables,
        resources: Resources,
        policies: Iterable[str] = (),
    ) -> Manifest:
        role = name if name in CONTAINER_ARGUMENTS else "service"
        container: Manifest = {
            "name": name,
            "image": image,
            **command,
            "env": [{"name": row.key, "value": row.value} for row in env],
            "resources": resources,
            "volumeMounts": self.mounts,
            "securityContext": security.container(self.kubernetes, role, self.version),
            "lifecycle": security.camel(self.kubernetes.get("container_lifecycle", {})),
            "stdin": True,
            **self._pull_policy(policies),
        }
        return {key: value for key, value in container.items() if key == "resources" or value not in ([], {})}

    def _pull_policy(self, of_job: Iterable[str] = ()) -> Manifest:
        configured = self.kubernetes.get("pull_policy") or ()
        configured = [configured] if isinstance(configured, str) else list(configured)
        wanted = (list(of_job) if self.has(Behaviour.SERVICE_POLICIES) else []) or configured
        for policy in wanted:
            if policy not in PULL_POLICIES:
                raise ConfigTomlError(
                    f"unsupported pull policy: {policy}",
                    where="pull_policy",
                    value=policy,
                    allowed=", ".join(PULL_POLICIES),
                )
        allowed = list(self.kubernetes.get("allowed_pull_policies", ())) or configured
        usable = [policy for policy in wanted if policy in allowed]
        if wanted and not usable:
            raise ConfigTomlError(
                f"the configured PullPolicies ({', '.join(wanted)}) are not allowed by AllowedPullPolicies ({', '.join(allowed)})",
                where="allowed_pull_policies",
                value=wanted,
                allowed=", ".join(allowed),
            )
        return (
            {"imagePullPolicy": PULL_POLICIES[usable[min(self.given.pull_attempt, len(usable) - 1)]]} if usable else {}
        )

    def _init_containers(self) -> list[Manifest]:
        if not (self.has(Behaviour.INIT_PERMISSIONS) and volumes.attaches(self.runner, self.job, self.version)):
            return []
        log = volumes.log_file(self.runner, self.job, self.version)
        container: Manifest = {
            "name": "init-permissions",
            "image": helper_image(self.runner, self.variables, self.version),
            "command": ["sh", "-c", f"touch {log} && (chmod 777 {log} || exit 0)"],
            "resources": self.overwrites.resources["helper"] if self.has(Behaviour.INIT_RESOURCES) else {},
            "volumeMounts": self.mounts,
            **self._pull_policy(),
        }
        if self.has(Behaviour.INIT_SECURITY_CONTEXT):
            container["securityContext"] = security.container(self.kubernetes, "init_permissions", self.version)
        return [container]

    def _services(self) -> list[Row]:
        configured = [
            {**service, "variables": [row._asdict() for row in of_environment(service.get("environment", ()))]}
            for service in self.kubernetes.get("services", ())
        ]
        return [service for service in (*configured, *(self.job.get("services") or ())) if service.get("name")]

    def _aliases(self, service: Row) -> list[str]:
        return names.alias_tokens(str(service.get("alias") or ""), self.version)

    def _host_aliases(self) -> list[Manifest]:
        if not self.has(Behaviour.HOST_ALIASES):
            return []
        hosts: list[str] = []
        for service, aliases in zip(self.services, self.aliases, strict=True):
            if service.get("ports"):
                continue
            for alias in aliases:
                if not names.is_host_name(alias):
                    raise ConfigTomlError(
                        f"provided host alias {alias} for service {service['name']} is invalid DNS.",
                        where="services: alias",
                        value=alias,
                        allowed="lower case letters, digits, `-` and `.`",
                    )
            hosts += [*names.image_host_names(self.variables.expand(str(service["name"]))), *aliases]
        rows: list[Manifest] = [{"ip": "127.0.0.1", "hostnames": list(dict.fromkeys(hosts))}] if hosts else []
        if self.has(Behaviour.CONFIG_HOST_ALIASES):
            rows += [
                {"ip": row["ip"], "hostnames": list(row["hostnames"])}
                for row in self.kubernetes.get("host_aliases", ())
            ]
        return rows


def _unshared(value: Any) -> Any:
    """A copy in which no part stands in two places, so that a caller may change one container alone."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _toleration(key: str, effect: str) -> Manifest:
    name, equals, value = key.partition("=")
    row = {"key": name, "operator": "Equal" if equals else "Exists", "value": value, "effect": effect}
    return {field: text for field, text in row.items() if text}


def _check_allowed(image: str, option: str, patterns: Iterable[str], internal: Iterable[str]) -> None:
    allowed = list(patterns)
    if not allowed or image in internal or any(_glob(pattern).fullmatch(image) for pattern in allowed):
        return
    raise ConfigTomlError(
        f'The "{image}" image is not present on list of allowed {option}',
        where=f"allowed_{option}",
        value=image,
        allowed=", ".join(allowed),
    )


def _glob(pattern: str) -> re.Pattern[str]:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern)))
