"""Rate limits as gitlab.com has them: `RateLimit-*` on every answer, 429 with `Retry-After` above the limit."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import PlainTextResponse, Response

from sandbox.gitlab.instance import GITLAB_COM, Clock, Options

_PERIOD = 60
# Requests a minute and user on gitlab.com, as published in 2021.
GITLAB_COM_LIMIT = 2000


@dataclass
class Throttle:
    """Counts requests of each caller in fixed minutes. `limit` None counts nothing."""

    limit: int | None
    now: Clock
    _counts: dict[tuple[str, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Options, now: Clock) -> Throttle:
        default = GITLAB_COM_LIMIT if options.flavour == GITLAB_COM else None
        return cls(options.requests_per_minute or default, now)

    def admit(self, caller: str) -> tuple[Response | None, Mapping[str, str]]:
        """The 429 for a caller who asked too often (else None), and the headers for any answer."""
        if self.limit is None:
            return None, {}
        moment = self.now()
        window = int(moment.timestamp()) // _PERIOD
        self._counts = {key: count for key, count in self._counts.items() if key[1] == window}
        observed = self._counts[(caller, window)] = self._counts.get((caller, window), 0) + 1
        reset = (window + 1) * _PERIOD
        wait = max(1, math.ceil(reset - moment.timestamp()))
        headers = {
            "RateLimit-Limit": str(self.limit), "RateLimit-Name": "throttle_authenticated_api",
            "RateLimit-Observed": str(observed), "RateLimit-Remaining": str(max(0, self.limit - observed)),
            "RateLimit-Reset": str(reset),
            "RateLimit-ResetTime": dt.datetime.fromtimestamp(reset, dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        }  # fmt: skip
        if observed <= self.limit:
            return None, headers
        return PlainTextResponse("Retry later\n", 429, {**headers, "Retry-After": str(wait)}), headers
