"""GitLab as a runner sees it: verify, ask for a job, send its trace, say how it ended.

Source: GitLab Runner, ``network/gitlab.go``; GitLab's API documentation of ``/runners`` and ``/jobs``.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from runbook.runner.behaviours import Behaviour
from runbook.runner.version import Version

Payload = dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 60
FEATURES = (
    "variables", "image", "services", "artifacts", "cache", "fallback_cache_keys", "shared", "upload_multiple_artifacts",
    "upload_raw_artifacts", "refspecs", "masking", "trace_checksum", "trace_size", "trace_reset", "return_exit_code",
    "raw_variables", "artifacts_exclude", "cancelable", "multi_build_steps", "service_variables", "service_multiple_aliases",
)  # fmt: skip
NEWER_FEATURES = {"two_phase_job_commit": Version(18, 5), "cancel_gracefully": Version(17, 0)}


@dataclass(frozen=True)
class Answer:
    """What GitLab said. `payload` is its JSON where it sent an object, else {}."""

    status: int
    payload: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def job_status(self) -> str:
        """`Job-Status`: running, canceling, canceled, failed; "" where GitLab said nothing."""
        return self.headers.get("Job-Status", "")


class Coordinator:
    """One runner's way to its GitLab. Sessions are not shared between threads: each job makes its own.

    Raises requests.RequestException where GitLab cannot be reached.
    """

    def __init__(self, runner: Mapping[str, Any], version: Version, *, revision: str, system_id: str) -> None:
        self._runner = runner
        self._version = version
        self._revision = revision
        self._system_id = system_id if Behaviour.SYSTEM_ID.of(version) else ""
        self._base = str(runner["url"]).rstrip("/") + "/api/v4/"
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"gitlab-runner {version}"
        # given with each request: REQUESTS_CA_BUNDLE in the environment would win over the session's own setting
        self._verify: str | bool = str(runner.get("tls-ca-file") or "") or True
        if runner.get("tls-cert-file"):
            self._session.cert = (str(runner["tls-cert-file"]), str(runner.get("tls-key-file", "")))
        self._last_update = ""

    def another(self) -> Coordinator:
        """The same with a session of its own, for another thread."""
        return Coordinator(self._runner, self._version, revision=self._revision, system_id=self._system_id)

    @property
    def info(self) -> Payload:
        """How the runner describes itself; GitLab's list of managers shows it."""
        features = dict.fromkeys(FEATURES, True)
        features |= {name: True for name, since in NEWER_FEATURES.items() if self._version >= since}
        return {
            "name": "gitlab-runner",
            "version": str(self._version),
            "revision": self._revision,
            "platform": "linux",
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "executor": str(self._runner.get("executor", "")),
            "shell": str(self._runner.get("shell") or "bash"),
            "features": features,
            "config": {"gpus": ""},
        }

    def verify(self) -> Answer:
        """Is this token one of a runner? 200, or 403."""
        return self._send("POST", "runners/verify", self._me())

    def request_job(self) -> Answer:
        """201 with a job, 204 without one, 403 for a token that is none."""
        body = {"info": self.info, **self._me()}
        if self._last_update:
            body["last_update"] = self._last_update
        answer = self._send("POST", "jobs/request", body)
        self._last_update = answer.headers.get("X-GitLab-Last-Update", self._last_update)
        return answer

    def update_job(self, job_id: int, token: str, **fields: Any) -> Answer:
        """``PUT /jobs/:id``: `state`, and at the end `failure_reason`, `exit_code`, `checksum`, `output`."""
        body = {"token": token, "info": self.info, **{key: value for key, value in fields.items() if value is not None}}
        return self._send("PUT", f"jobs/{job_id}", body)

    def patch_trace(self, job_id: int, token: str, content: bytes, start: int) -> Answer:
        """Append *content*, which begins at byte *start* of the trace. 202, or 416 with the `Range` that GitLab has."""
        headers = {
            "JOB-TOKEN": token,
            "Content-Range": f"{start}-{start + len(content) - 1}",
            "Content-Type": "text/plain",
        }
        response = self._session.patch(
            f"{self._base}jobs/{job_id}/trace",
            params={"debug_trace": "false"},
            data=content,
            headers=headers,
            timeout=REQUEST_TIMEOUT_SECONDS,
            verify=self._verify,
        )
        return Answer(response.status_code, {}, response.headers)

    def _me(self) -> Payload:
        me: Payload = {"token": str(self._runner.get("token", ""))}
        return {**me, "system_id": self._system_id} if self._system_id else me

    def _send(self, method: str, path: str, body: Payload) -> Answer:
        response = self._session.request(
            method, self._base + path, json=body, timeout=REQUEST_TIMEOUT_SECONDS, verify=self._verify
        )
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        payload = response.json() if is_json and response.content else {}
        return Answer(response.status_code, payload if isinstance(payload, dict) else {}, response.headers)
