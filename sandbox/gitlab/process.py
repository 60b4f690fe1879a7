"""A practice GitLab as a child process: `with GitLab(directory) as gitlab: gitlab.url`."""

from __future__ import annotations

from sandbox.server_process import ServerProcess


class GitLab(ServerProcess):
    """`python -m sandbox.gitlab`: ``GitLab(directory, flavour="gitlab.com", registration_tokens="off")``."""

    module = "sandbox.gitlab"
    name = "the practice GitLab"

    @property
    def registration_token(self) -> str:
        return str(self._ready["registration_token"])

    @property
    def projects(self) -> dict[str, int]:
        """Path to id."""
        return dict(self._ready["projects"])

    @property
    def groups(self) -> dict[str, int]:
        """Path to id."""
        return dict(self._ready["groups"])

    def token(self, name: str) -> str:
        """The personal access token of that name; see `sandbox.gitlab.seed`."""
        return str(self._ready["tokens"][name])
