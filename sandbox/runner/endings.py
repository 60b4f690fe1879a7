"""How a job may end for a runner, as exceptions: a job whose stages raise none of them succeeded."""

from __future__ import annotations

SCRIPT_FAILURE = "script_failure"
SYSTEM_FAILURE = "runner_system_failure"
IMAGE_PULL_FAILURE = "image_pull_failure"
TIMEOUT = "job_execution_timeout"
CANCELED = "job_canceled"
UNKNOWN = "unknown_failure"


class JobEnded(Exception):
    """The job failed. `reason` is the failure reason for GitLab, `exit_code` that of the script where there is one."""

    def __init__(self, message: str, *, reason: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.exit_code = exit_code

    @property
    def line(self) -> str:
        """The last line of the trace."""
        return f"ERROR: Job failed: {self.message}"

    def within(self, what: str) -> JobEnded:
        """The same ending with what was being done before its message."""
        return type(self)(f"{what}: {self.message}", reason=self.reason, exit_code=self.exit_code)


class BuildFailure(JobEnded):
    """What the job did, or what a runner takes for it: GitLab calls it `script_failure` unless `reason` says more."""

    def __init__(self, message: str, *, reason: str = SCRIPT_FAILURE, exit_code: int | None = None) -> None:
        super().__init__(message, reason=reason, exit_code=exit_code)


class SystemFailure(JobEnded):
    """What happened around the job: cluster, pod, network."""

    def __init__(self, message: str, *, reason: str = SYSTEM_FAILURE, exit_code: int | None = None) -> None:
        super().__init__(message, reason=reason, exit_code=exit_code)

    @property
    def line(self) -> str:
        return f"ERROR: Job failed (system failure): {self.message}"


def script_failed(exit_code: int) -> BuildFailure:
    """The script ended with *exit_code*."""
    return BuildFailure(f"command terminated with exit code {exit_code}", exit_code=exit_code)


def took_too_long(duration: str) -> BuildFailure:
    """The job's timeout is over; *duration* as Go prints it."""
    return BuildFailure(f"execution took longer than {duration} seconds", reason=TIMEOUT)


def canceled() -> BuildFailure:
    """Someone canceled the job in GitLab."""
    return BuildFailure("canceled", reason=CANCELED)


def interrupted() -> SystemFailure:
    """The runner itself is being stopped."""
    return SystemFailure("aborted: terminated")


class ImageNotPulled(BuildFailure):
    """An image that the node cannot have; the next pull policy may be tried."""
