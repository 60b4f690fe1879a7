"""What a job pod says about its job, so that its history is known after GitLab Runner has deleted it.

Only from 17.9 on does a runner label its pods itself, and never with the job's id or name. So the configuration adds labels
(a selector can find them; the runner makes their values fit: at most 63 characters, anything unusual becomes ``_``) and annotations (the
value as it is). A value is a job variable that the runner fills in.
"""

from __future__ import annotations

PREFIX = "ci-"

JOB_ID = "ci-job-id"
PIPELINE_ID = "ci-pipeline-id"
PROJECT_ID = "ci-project-id"
JOB_NAME = "ci-job-name"
JOB_STAGE = "ci-job-stage"
PROJECT_PATH = "ci-project-path"
REF = "ci-commit-ref"

CARD = "ci-cluster-card"
"""Annotation with the name of the cluster card that the runner's section in config.toml was written from: the section is known again by it."""

LABELS = {
    JOB_ID: "$CI_JOB_ID",
    PIPELINE_ID: "$CI_PIPELINE_ID",
    PROJECT_ID: "$CI_PROJECT_ID",
    JOB_STAGE: "$CI_JOB_STAGE",
}

ANNOTATIONS = {
    JOB_ID: "$CI_JOB_ID",
    JOB_NAME: "$CI_JOB_NAME",
    JOB_STAGE: "$CI_JOB_STAGE",
    PIPELINE_ID: "$CI_PIPELINE_ID",
    PROJECT_PATH: "$CI_PROJECT_PATH",
    REF: "$CI_COMMIT_REF_NAME",
}
