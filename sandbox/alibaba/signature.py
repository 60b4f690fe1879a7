"""Signatures of requests: ACS3-HMAC-SHA256 as today's SDKs sign, and HMAC-SHA1 (version 1.0) as the older ones did.

https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from sandbox.alibaba.errors import ApiError

_ALGORITHM = "ACS3-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=(?P<key>[^,]+),SignedHeaders=(?P<headers>[^,]+),Signature=(?P<signature>[0-9a-f]+)"
)
_MOST_SKEW = timedelta(minutes=15)


def check(
    method: str,
    query: Mapping[str, str],
    form: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    secrets: Mapping[str, str],
    now: datetime,
) -> str:
    """The AccessKey id that signed a request. `secrets` are the known AccessKey secrets by id. Raises ApiError."""
    if "Signature" in query or "Signature" in form:
        return _check_v1(method, {**query, **form}, secrets, now)
    authorization = headers.get("authorization")
    if not authorization:
        raise ApiError("MissingAccessKeyId", "AccessKeyId is mandatory for this action.")
    match = _AUTHORIZATION.fullmatch(authorization.strip())
    if match is None:
        raise ApiError("IncompleteSignature", "The request signature does not conform to Aliyun standards.")
    key, secret = match["key"], _secret(match["key"], secrets)
    _check_age(headers.get("x-acs-date", ""), now)
    digest = hashlib.sha256(body).hexdigest()
    if headers.get("x-acs-content-sha256") != digest:
        raise _mismatch("the hash of the body differs from x-acs-content-sha256")
    signed = match["headers"].split(";")
    canonical = "\n".join(
        [
            method,
            "/",
            "&".join(f"{_escape(name)}={_escape(query[name])}" for name in sorted(query)),
            "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in signed),
            match["headers"],
            digest,
        ]
    )
    to_sign = f"{_ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    if not hmac.compare_digest(_hex(secret, to_sign), match["signature"]):
        raise _mismatch(to_sign)
    return key


def _check_v1(method: str, parameters: Mapping[str, str], secrets: Mapping[str, str], now: datetime) -> str:
    key = parameters.get("AccessKeyId", "")
    if not key:
        raise ApiError("MissingAccessKeyId", "AccessKeyId is mandatory for this action.")
    secret = _secret(key, secrets)
    _check_age(parameters.get("Timestamp", ""), now)
    listed = "&".join(f"{_escape(n)}={_escape(parameters[n])}" for n in sorted(parameters) if n != "Signature")
    to_sign = f"{method}&%2F&{_escape(listed)}"
    expected = base64.b64encode(hmac.new(f"{secret}&".encode(), to_sign.encode(), hashlib.sha1).digest()).decode()
    if not hmac.compare_digest(expected, parameters["Signature"]):
        raise _mismatch(to_sign)
    return key


def _secret(key: str, secrets: Mapping[str, str]) -> str:
    if key not in secrets:
        raise ApiError("InvalidAccessKeyId.NotFound", "Specified access key is not found.", 404)
    return secrets[key]


def _check_age(text: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise ApiError("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.") from None
    if abs(now - signed_at) > _MOST_SKEW:
        raise ApiError("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")


def _mismatch(to_sign: str) -> ApiError:
    return ApiError(
        "SignatureDoesNotMatch",
        f"Specified signature is not matched with our calculation. server string to sign is:{to_sign}",
    )


def _hex(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _escape(text: str) -> str:
    return quote(text, safe="~")
