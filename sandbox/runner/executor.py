"""The Kubernetes executor: makes a job's pod, waits for it, runs stages in it by exec or attach, deletes it.

Source: GitLab Runner, ``executors/kubernetes``; what a pod that goes away looks like is pinned by recordings of 14.7.1 and 13.6.0.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes import client

from runbook.errors import RunbookError
from runbook.runner import names, overwrites, pods, volumes
from runbook.runner.behaviours import Behaviour
from runbook.runner.variables import Assignment, Variables, of_job
from runbook.runner.version import Version
from sandbox.runner import cluster
from sandbox.runner.attach import AttachStrategy
from sandbox.runner.endings import (
    IMAGE_PULL_FAILURE,
    SCRIPT_FAILURE,
    BuildFailure,
    ImageNotPulled,
    JobEnded,
    SystemFailure,
    script_failed,
)
from sandbox.runner.script import HELPER, Stage
from sandbox.runner.streams import Container, Ending
from sandbox.runner.trace import Trace

POLL_INTERVAL_SECONDS = 3
POLL_TIMEOUT_SECONDS = 180
NEW_NAMESPACE_ATTEMPTS = 10
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff")
SHELL_PROFILE_PAGE = "https://docs.gitlab.com/runner/shells/index.html#shell-profile-loading"
BUILD_SCRIPT = "gitlab-runner-build"
HEALTHCHECK_PORT = "HEALTHCHECK_TCP_PORT"


class KubernetesExecutor:
    """One job on the cluster. Raises JobEnded; `close` must be called whatever happens.

    *stop* ends everything that waits; what it means is known to whoever set it.
    """

    def __init__(
        self,
        runner: Mapping[str, Any],
        job: Mapping[str, Any],
        version: Version,
        given: Assignment,
        trace: Trace,
        stop: threading.Event,
    ) -> None:
        self.runner, self.job, self.version, self.trace, self.stop = runner, job, version, trace, stop
        self.given = given
        self.kubernetes: Mapping[str, Any] = runner.get("kubernetes", {})
        self.variables: Variables = of_job(runner, job, version, given)
        self.scripts: Mapping[str, str] = {}
        self._pod: Any = None
        self._leftovers: list[Callable[[], Any]] = []
        self._attach: AttachStrategy | None = None
        self._has_namespace = False

    @property
    def attaches(self) -> bool:
        """True for the attach strategy, False for exec."""
        return volumes.attaches(self.runner, self.job, self.version)

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks at the pod."""
        return float(self.kubernetes.get("poll_interval") or POLL_INTERVAL_SECONDS)

    def prepare(self) -> None:
        """Check what can be checked without a pod, connect, say what will be done. Raises SystemFailure."""
        try:
            wanted = overwrites.apply(self.kubernetes, self.variables, self.version)
            self._manifest()
            self.configuration = cluster.configuration(self.kubernetes, wanted.bearer_token)
        except RunbookError as error:
            raise SystemFailure(error.problem) from None
        except ValueError as error:
            raise SystemFailure(f"getting Kubernetes config: {error}") from None
        self.api: Any = client.CoreV1Api(client.ApiClient(self.configuration))
        for line in wanted.messages:
            self.trace.println(line)
        self.namespace = pods.namespace(self.runner, self.job, self.version, wanted)
        if not wanted.namespace and self.namespace == "default":
            self.trace.warning("Namespace is empty, therefore assuming 'default'.")
        self.trace.println(f"Using Kubernetes namespace: {self.namespace}")
        self.trace.println(f"Using Kubernetes executor with image {self.variables.get('CI_JOB_IMAGE')} ...")
        if self.attaches:
            self.trace.println("Using attach strategy to execute scripts...")

    def run(self, stage: Stage, script: str) -> None:
        """Run a stage's script in its container; the first one makes the pod. Raises JobEnded."""
        if self._pod is None:
            self._start()
        if self._attach is not None:
            self._attach.run(stage, script)
        else:
            self._exec(stage, script)

    def cleanup(self) -> None:
        """Delete the pod and whatever has no owner to go with."""
        if self._attach is not None:
            self._attach.close()
        if self._pod is not None:
            leftover = self._deletion(
                self.api.delete_namespaced_pod, self._pod.metadata.name, **self._deletion_options()
            )
            self._leftovers.append(leftover)
            self._pod = None
        for delete in self._leftovers:
            delete()
        self._leftovers.clear()

    def close(self) -> None:
        """`cleanup`, and the namespace that was made for this job."""
        self.cleanup()
        if self._has_namespace:
            try:
                self.api.delete_namespace(self.namespace)
            except cluster.FAULTS as error:
                self.trace.error(f"Error tearing down namespace: {cluster.message(error)}")
            self._has_namespace = False

    # --- the pod ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Make the pod, with the next pull policy where an image could not be had."""
        configured = self.kubernetes.get("pull_policy")
        policies: list[str] = configured if isinstance(configured, list) else []
        attempts = max(1, len(policies))
        for attempt in range(attempts):
            self.given = dataclasses.replace(self.given, pull_attempt=attempt)
            try:
                self._create()
                self._wait_until_running()
                break
            except ImageNotPulled as error:
                if attempt + 1 == attempts:
                    raise
                self.trace.warning(f'Failed to pull image with policy "{policies[attempt]}": {error.message}')
                self.trace.println(f'Attempt #{attempt + 2}: Trying "{policies[attempt + 1]}" pull policy')
                self.cleanup()
        if self.attaches:
            self._attach = AttachStrategy(self)
        self._await_services()

    def _await_services(self) -> None:
        """Wait for the ports that services name by HEALTHCHECK_TCP_PORT in their own variables (>= 16.9)."""
        if not Behaviour.SERVICE_HEALTHCHECK.of(self.version):
            return
        rows = [row for service in self.job.get("services") or () for row in service.get("variables") or ()]
        ports = [str(row["value"]) for row in rows if row.get("key") == HEALTHCHECK_PORT]
        if not ports:
            return
        self.trace.println("Waiting for services to be up and running...")
        command = [HELPER, "health-check", *(word for port in ports for word in ("--port", port))]
        ending = self._in_helper(command)
        if ending.exit_code:
            raise SystemFailure(f"waiting for services: health-check ended with exit code {ending.exit_code}")

    def _in_helper(self, command: list[str]) -> Ending:
        try:
            return self.container("helper").run(command, stdin=b"", out=self.trace.write, stop=self.stop)
        except cluster.FAULTS as error:
            raise SystemFailure(cluster.message(error)) from None

    def _create(self) -> None:
        try:
            self._create_namespace()
            self._create_pull_secret()
            self._create_scripts_config_map()
            manifest = self._manifest()
            self._warn_without_watch()
            self._pod = self._create_pod(manifest)
        except cluster.FAULTS as error:
            raise SystemFailure(f"setting up build pod: {cluster.message(error)}") from None
        except RunbookError as error:
            raise SystemFailure(f"setting up build pod: {error.problem}") from None
        self._adopt()

    def _create_namespace(self) -> None:
        if self._has_namespace or not pods.has_own_namespace(self.runner, self.version):
            return
        self.api.create_namespace({"metadata": {"name": self.namespace}})
        self._has_namespace = True

    def _create_pod(self, manifest: dict[str, Any]) -> Any:
        """Create the pod; in a namespace that was made a moment ago, wait until it has its ServiceAccount."""
        for attempt in range(NEW_NAMESPACE_ATTEMPTS):
            try:
                return self.api.create_namespaced_pod(
                    self.namespace, manifest, _request_timeout=cluster.REQUEST_TIMEOUT_SECONDS
                )
            except cluster.FAULTS as error:
                too_early = self._has_namespace and "serviceaccount" in cluster.message(error)
                if not too_early or attempt + 1 == NEW_NAMESPACE_ATTEMPTS or self.stop.wait(self.poll_interval):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _manifest(self) -> dict[str, Any]:
        suffix = "".join(random.choices(names.POD_NAME_ALPHABET, k=names.POD_NAME_SUFFIX_LENGTH))
        self.given = dataclasses.replace(self.given, suffix=suffix)
        return pods.job_pod(self.runner, self.job, self.version, self.given)

    def _create_pull_secret(self) -> None:
        registries = {
            row["url"]: {"username": row["username"], "password": row["password"]}
            for row in self.job.get("credentials") or ()
            if row.get("type") == "registry"
        }
        if not registries:
            return
        body = {
            "metadata": self._named_like_the_pod(""),
            "type": "kubernetes.io/dockercfg",
            "data": {".dockercfg": base64.b64encode(json.dumps(registries).encode()).decode()},
        }
        secret = self.api.create_namespaced_secret(self.namespace, body)
        self.given = dataclasses.replace(self.given, pull_secret=secret.metadata.name)
        self._leftovers.append(self._deletion(self.api.delete_namespaced_secret, secret.metadata.name))

    def _create_scripts_config_map(self) -> None:
        if not self.attaches or Behaviour.SCRIPTS_IN_EMPTY_DIR.of(self.version):
            return
        stem = pods.unique_name(self.runner, self.job, self.version, self.given)
        body = {"metadata": {"generateName": f"{stem}-scripts"}, "data": dict(self.scripts)}
        made = self.api.create_namespaced_config_map(self.namespace, body)
        self.given = dataclasses.replace(self.given, scripts_config_map=made.metadata.name)
        self._leftovers.append(self._deletion(self.api.delete_namespaced_config_map, made.metadata.name))

    def _adopt(self) -> None:
        """Make the pod the owner of what was made for it, so that it goes with the pod even if this process dies."""
        meta = self._pod.metadata
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
        made = (
            (self.given.pull_secret, self.api.read_namespaced_secret, self.api.replace_namespaced_secret),
            (
                self.given.scripts_config_map,
                self.api.read_namespaced_config_map,
                self.api.replace_namespaced_config_map,
            ),
        )
        try:
            for name, read, replace in made:
                if name:
                    found = read(name, self.namespace)
                    found.metadata.owner_references = [owner]
                    replace(name, self.namespace, found)
        except cluster.FAULTS as error:
            raise SystemFailure(f"error setting ownerReferences: {cluster.message(error)}") from None
        self._leftovers.clear()

    def _named_like_the_pod(self, infix: str) -> dict[str, str]:
        stem = pods.unique_name(self.runner, self.job, self.version, self.given) + infix
        if Behaviour.RANDOM_POD_NAME.of(self.version):
            return {"name": names.pod_name(stem, self.given.suffix)}
        return {"generateName": stem}

    def _warn_without_watch(self) -> None:
        """From 17.9 a runner asks whether it may list and watch pods, and falls back to polling where it may not."""
        if not Behaviour.RUNNER_LABELS.of(self.version):
            return
        review: Any = client.AuthorizationV1Api(self.api.api_client)
        for verb in ("list", "watch"):
            attributes = {"namespace": self.namespace, "verb": verb, "resource": "pods"}
            body = {"spec": {"resourceAttributes": attributes}}
            if not review.create_self_subject_access_review(body).status.allowed:
                self.trace.warning(
                    f"Unable to create pod watcher: not allowed to {verb} pods in {self.namespace}; falling back to polling"
                )
                return

    def _deletion_options(self) -> dict[str, Any]:
        background = Behaviour.BACKGROUND_DELETION.of(self.version)
        grace = self.kubernetes.get("cleanup_grace_period_seconds")
        return {
            "propagation_policy": "Background" if background else "Foreground",
            **({"grace_period_seconds": int(grace)} if grace is not None else {}),
        }

    def _deletion(self, call: Callable[..., Any], name: str, **options: Any) -> Callable[[], None]:
        def delete() -> None:
            try:
                call(name, self.namespace, _request_timeout=cluster.REQUEST_TIMEOUT_SECONDS, **options)
            except cluster.FAULTS as error:
                if not cluster.is_not_found(error):
                    self.trace.error(f"Error cleaning up pod: {cluster.message(error)}")

        return delete

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait_until_running(self) -> None:
        timeout = float(self.kubernetes.get("poll_timeout") or POLL_TIMEOUT_SECONDS)
        for _ in range(int(timeout // self.poll_interval) + 1):
            if self._is_running():
                return
            if self.stop.wait(self.poll_interval):
                raise SystemFailure("waiting for pod running: context canceled")
        self._print_warning_events()
        raise SystemFailure("waiting for pod running: timed out waiting for pod to start")

    def _is_running(self) -> bool:
        try:
            pod = self.read_pod()
        except cluster.FAULTS as error:
            raise SystemFailure(f"waiting for pod running: {cluster.message(error)}") from None
        phase = pod.status.phase
        if phase == "Running" and (not Behaviour.RUNNER_LABELS.of(self.version) or _is_ready(pod, "build")):
            return True
        if phase in ("Failed", "Succeeded"):
            self._print_warning_events()
            what = "pod status is failed" if phase == "Failed" else "pod already succeeded before it begins running"
            raise SystemFailure(f"waiting for pod running: {what}")
        self._check_waiting_containers(pod)
        name = f"{self.namespace}/{self._pod.metadata.name}"
        lines = [f"Waiting for pod {name} to be running, status is {phase}\n"]
        for condition in pod.status.conditions or ():
            if condition.reason:
                lines.append(f'\t{condition.reason}: "{condition.message or ""}"\n')
        self.trace.write("".join(lines).encode())
        return False

    def _check_waiting_containers(self, pod: Any) -> None:
        for status in (*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ())):
            waiting = status.state.waiting if status.state else None
            if status.ready or waiting is None:
                continue
            if waiting.reason == "InvalidImageName":
                raise BuildFailure(f"waiting for pod running: image pull failed: {waiting.message}")
            if waiting.reason in NOT_PULLED:
                self._print_warning_events()
                reason = IMAGE_PULL_FAILURE if Behaviour.IMAGE_PULL_REASON.of(self.version) else SCRIPT_FAILURE
                image = f'pulling image "{status.image}": ' if Behaviour.IMAGE_PULL_REASON.of(self.version) else ""
                raise ImageNotPulled(
                    f"waiting for pod running: {image}image pull failed: {waiting.message}", reason=reason
                )

    def _print_warning_events(self) -> None:
        if not Behaviour.WARNING_EVENTS.of(self.version) or self.kubernetes.get("print_pod_warning_events") is False:
            return
        selector = f"involvedObject.name={self._pod.metadata.name},type=Warning"
        try:
            events = self.api.list_namespaced_event(self.namespace, field_selector=selector)
        except cluster.FAULTS:
            # a runner only writes to its debug log that it may not list events
            return
        for event in events.items:
            self.trace.warning(f"Event retrieved from the cluster: {event.message}")

    def read_pod(self) -> Any:
        """The pod as the API server has it. Raises one of cluster.FAULTS."""
        return self.api.read_namespaced_pod(
            self._pod.metadata.name, self.namespace, _request_timeout=cluster.REQUEST_TIMEOUT_SECONDS
        )

    def container(self, name: str) -> Container:
        """A container of the pod, to run commands in."""
        return Container(self.configuration, self.namespace, self._pod.metadata.name, name)

    # --- exec strategy ------------------------------------------------------------------------------------------------

    def _exec(self, stage: Stage, script: str) -> None:
        command = [BUILD_SCRIPT] if stage.container == "helper" else pods.shell_command()
        try:
            ending = self.container(stage.container).run(
                command, stdin=script.encode(), out=self.trace.write, stop=self.stop
            )
        except cluster.FAULTS as error:
            raise SystemFailure(cluster.message(error)) from None
        if self.stop.is_set():
            raise SystemFailure("build aborted")
        if ending.exit_code:
            raise script_failed(ending.exit_code)
        if ending.exit_code is None and ending.status is not None:
            raise SystemFailure(ending.message)
        # a stream that just ended is taken for success, as Go's client takes it: the recorded false green


def with_advice(error: JobEnded) -> JobEnded:
    """What went wrong before the first script ran, as a runner words it."""
    advised = error.within("prepare environment")
    advised.message += f". Check {SHELL_PROFILE_PAGE} for more information"
    return advised


def _is_ready(pod: Any, container: str) -> bool:
    return any(status.name == container and status.ready for status in pod.status.container_statuses or ())
