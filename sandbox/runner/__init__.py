"""A stand-in for `gitlab-runner`: reads the same config.toml, talks GitLab's runner protocol, runs jobs in pods as the version it plays does.

Its pods come from `runbook.runner.pods`. With GITLAB_RUNNER set to a real binary, `process.Runner` runs that one instead.
"""
