"""What a runner version does: one row a behaviour, with the first version that has it.

Rows marked *recorded* were seen on real binaries (14.7.1, 13.6.0); the others were read in GitLab Runner's source, tag by tag, unless the
note says *assumed*.
"""

from __future__ import annotations

from enum import Enum

from runbook.runner.version import Version


class Behaviour(Enum):
    """A difference between runner versions: ``Behaviour.JOB_ANNOTATIONS.of(version)``."""

    def __init__(self, since: tuple[int, int], note: str) -> None:
        self.since = Version(*since)
        self.note = note

    def of(self, version: Version) -> bool:
        """True if *version* behaves so."""
        return version >= self.since

    ATTACH_STRATEGY = (14, 0), "scripts are attached, not exec'ed, by default; 13.6 execs, 14.7 attaches (recorded)"
    INIT_PERMISSIONS = (14, 2), "an init container `init-permissions` opens the log file to all users (recorded)"
    HOST_ALIASES = (12, 8), "service names resolve to 127.0.0.1 through podSpec.hostAliases"
    CONFIG_HOST_ALIASES = (13, 7), "[[runners.kubernetes.host_aliases]] are appended"
    DROP_NET_RAW = (13, 5), "NET_RAW is dropped from every container (recorded)"
    EXIT_CODE_SENT = (
        (14, 0),
        "the final update carries exit_code and the trace's checksum (recorded: 14.7.1 does, 13.6.0 does not)",
    )
    RUNTIME_CLASS = (14, 9), "runtime_class_name"
    NO_DEFAULT_GRACE_PERIOD = (
        (15, 0),
        "terminationGracePeriodSeconds is left out when unset; 14.7 writes 0 (recorded); assumed from 15.0",
    )
    SYSTEM_ID = (15, 7), ".runner_system_id beside config.toml names the manager"
    INIT_SECURITY_CONTEXT = (
        (15, 2),
        "init_permissions_container_security_context; before, init-permissions had none (recorded)",
    )
    INIT_RESOURCES = (14, 8), "init-permissions has the helper's resources; 14.7 gave it none (recorded)"
    SERVICE_VARIABLES = (14, 9), "services[].variables reach the service's environment; assumed from 14.9"
    HELPER_WITHOUT_VARIABLES = (
        (15, 0),
        "the helper container has no job variables in its environment; 14.7 has (recorded); assumed from 15.0",
    )
    SHARED_BUILDS_DIR = (
        (15, 0),
        "a builds_dir on anything but an emptyDir is shared by concurrent jobs; assumed from 15.0",
    )
    MOUNT_VARIABLES = (15, 1), "variables in mount_path and sub_path are expanded"
    SERVICE_POLICIES = (15, 2), "pull policies of .gitlab-ci.yml are honoured within allowed_pull_policies"
    POD_LABELS_OVERWRITE = (15, 1), "KUBERNETES_POD_LABELS_* variables"
    PRIORITY_CLASS = (15, 1), "priority_class_name"
    SCHEDULER_NAME = (15, 5), "scheduler_name"
    NODE_SELECTOR_OVERWRITE = (15, 6), "KUBERNETES_NODE_SELECTOR_* variables"
    SCRIPTS_IN_EMPTY_DIR = (
        (15, 8),
        "scripts are written into an emptyDir by exec; until 15.7 they were a ConfigMap (recorded)",
    )
    MULTIPLE_ALIASES = (15, 8), "services[].alias may hold several names"
    JOB_ANNOTATIONS = (15, 9), "job.runner.gitlab.com/* and project.runner.gitlab.com/id annotations"
    SHORT_TOKEN_WITHOUT_PREFIX = (
        (15, 10),
        "the short token leaves out glrt- and its kin and has 9 characters; assumed from 15.10",
    )
    TOKENS_MASKED = (16, 0), "tokens are masked by the prefixes that GitLab names; assumed from 16.0"
    IMAGE_PULL_REASON = (16, 1), "an image that cannot be pulled is reported as image_pull_failure"
    RANDOM_POD_NAME = (16, 2), "the manager names the pod itself; before, the API server did by generateName (recorded)"
    CLEANUP_ALWAYS = (
        (15, 0),
        "a last stage cleans up, even without file variables; 14.7 skips it then (recorded); assumed from 15.0",
    )
    CLAIM_VARIABLES = (16, 3), "variables in the name of a pvc volume are expanded"
    BACKGROUND_DELETION = (16, 4), "pods are deleted with background propagation; before, foreground"
    EMPTY_DIR_SIZE_LIMIT = (16, 6), "size_limit of empty_dir volumes"
    SERVICE_RESOURCES = (16, 9), "KUBERNETES_SERVICE_* resources inside services[].variables"
    SERVICE_HEALTHCHECK = (16, 9), "HEALTHCHECK_TCP_PORT of a service is awaited"
    AUTOMOUNT_TOKEN = (16, 9), "automount_service_account_token"
    TOLERATIONS_OVERWRITE = (16, 9), "KUBERNETES_NODE_TOLERATIONS_* variables"
    NAMESPACE_PER_JOB = (16, 10), "namespace_per_job makes ci-job-<id>"
    BASE_DIRS = (17, 2), "logs_base_dir and scripts_base_dir"
    OOM_IS_SYSTEM_FAILURE = (17, 6), "OOMKilled of build or helper is a runner_system_failure"
    RUNNER_LABELS = (17, 9), "labels *.runner.gitlab.com/*, which pod_labels cannot overwrite"
    ALIAS_CONTAINER_NAMES = (17, 9), "a service container bears its alias; before, svc-<i> (recorded)"
    POD_FAILED_IS_SYSTEM_FAILURE = (
        (17, 9),
        "a pod that fails or is deleted under a job is a runner_system_failure; 14.7.1: script_failure (recorded)",
    )
    TIMEOUT_ANNOTATION = (17, 11), "annotation job.runner.gitlab.com/timeout"
    WARNING_EVENTS = (18, 0), "warning events of the pod are printed into the trace"
    POD_RESOURCES = (18, 10), "pod_cpu_* and pod_memory_* become podSpec.resources"
