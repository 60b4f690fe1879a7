"""Errors as Alibaba Cloud's gateway and services answer them."""

from __future__ import annotations


class ApiError(Exception):
    """An answer with an error code. `status` is HTTP's."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def missing(parameter: str) -> ApiError:
    return ApiError(f"Missing{parameter}", f"{parameter} is mandatory for this action.")


def invalid(parameter: str, message: str = "") -> ApiError:
    return ApiError(f"InvalidParameter.{parameter}", message or f"The specified parameter {parameter} is not valid.")


THROTTLED = ApiError("Throttling.User", "Request was denied due to user flow control.")
