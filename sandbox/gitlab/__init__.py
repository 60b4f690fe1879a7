"""A GitLab to practise on: REST API, runner protocol and git over HTTP, in memory, on loopback.

It answers with GitLab's own status codes, error bodies and pagination headers, in two flavours
(``self-managed`` and ``gitlab.com``), reads the ``.gitlab-ci.yml`` of its projects, and hands jobs to
whoever speaks the runner protocol: the runner stand-in, or a stock ``gitlab-runner``.
It is no security boundary: anybody on this machine can talk to it.
"""
