"""Prometheus' HTTP API, as far as range queries go; Thanos, Mimir, VictoriaMetrics and Alibaba's own service speak it too.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

from runbook.errors import PrometheusError

MOST_POINTS = 11_000
"""Points of one series that Prometheus answers at most."""
_PAGE = "#prometheus"


@dataclass(frozen=True)
class Series:
    """One series of a range query: its labels, and its samples in the order of time. NaN and infinite ones are left out."""

    labels: Mapping[str, str]
    samples: tuple[tuple[datetime, float], ...]


class Prometheus:
    """One Prometheus. `token` is a bearer token; it is never shown. Nothing is sent before the first query."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 60) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def __repr__(self) -> str:
        return f"Prometheus({self.url!r})"

    def query_range(self, query: str, *, start: datetime, end: datetime, step: int) -> list[Series]:
        """The series of a PromQL expression from `start` to `end`, a point each `step` seconds. Raises PrometheusError."""
        asked = {
            "query": query,
            "start": f"{start.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": str(step),
        }
        body = self._post("/api/v1/query_range", asked)
        data = body.get("data") or {}
        if data.get("resultType") != "matrix":
            raise PrometheusError(
                "Prometheus answered a range query with something else than series.",
                where=self.url,
                value=data.get("resultType"),
                allowed="matrix",
                page=_PAGE,
            )
        return [_series(one) for one in data.get("result") or []]

    def _post(self, path: str, form: Mapping[str, str]) -> dict[str, Any]:
        """A query may be longer than an address may be: it goes into the body."""
        try:
            answer = self._session.post(self.url + path, data=form, timeout=self._timeout)
        except requests.RequestException as error:
            raise PrometheusError(
                "Prometheus cannot be reached.",
                where=self.url,
                value=type(error).__name__,
                remedy=f"Try it from this machine: curl -sI {self.url}/-/ready",
                page=_PAGE,
            ) from None
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or body.get("status") not in ("success", "error"):
            problem, remedy = _STATUS.get(answer.status_code, _NOT_PROMETHEUS)
            raise PrometheusError(problem, where=self.url, value=answer.status_code, remedy=remedy, page=_PAGE)
        if body["status"] == "error":
            said = str(body.get("error") or "")[:500]
            raise PrometheusError(
                f"Prometheus refused the query ({body.get('errorType')}): {said}", where=self.url, page=_PAGE
            )
        return body


_NOT_PROMETHEUS = (
    "The address answered, but not as Prometheus does.",
    "cost.used.prometheus_url of the card is Prometheus itself, with its path if it has one, without /api/v1.",
)
_STATUS = {
    401: ("Prometheus does not accept the token (401).", "Look at cost.used.prometheus_token of the card."),
    403: ("Prometheus forbids this to the token (403).", "Let it query the series of the runner's namespace."),
}


def _series(row: Mapping[str, Any]) -> Series:
    samples = ((datetime.fromtimestamp(float(at), UTC), float(value)) for at, value in row.get("values") or [])
    finite = tuple((at, value) for at, value in samples if math.isfinite(value))
    return Series({str(name): str(value) for name, value in (row.get("metric") or {}).items()}, finite)
