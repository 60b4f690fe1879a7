"""Why a pod ended, from everything it shows: phase, reasons, conditions, events, states of its containers.

    judge(signs) -> Ending(how, evidence, container, exit_code)

`RULES` is the whole judgement: the first row that finds evidence decides. A job's pod normally ends as DELETED: its
shells wait on standard input, so it still runs when GitLab Runner deletes it. Whether the *job* succeeded is GitLab's word alone.
"""

from __future__ import annotations

from enum import StrEnum


class End(StrEnum):
    """How a pod's life ended, as far as the pod itself tells."""

    RUNNING = "running"
    DONE = "done"
    DELETED = "deleted"
    FAILED = "failed"
    RECLAIMED = "reclaimed"
    OUT_OF_MEMORY = "out_of_memory"
    NO_STOCK = "no_stock"
    REFUSED = "refused"
    IMAGE_PULL = "image_pull"
    PENDING_LIMIT = "pending_limit"
    DEADLINE = "deadline"
    EVICTED = "evicted"
    LOST = "lost"
    UNKNOWN = "unknown"


MEANING = {
    End.RUNNING: "it has not ended yet",
    End.DONE: "every container ended with exit code 0",
    End.DELETED: "deleted while it ran: the usual end of a job's pod, whatever became of the job",
    End.FAILED: "a container ended with another exit code, and nothing else explains it",
    End.RECLAIMED: "the spot instance was taken away (`BidFailed`)",
    End.OUT_OF_MEMORY: "a container was killed for want of memory (`OOMKilled`)",
    End.NO_STOCK: "ECI had no instance of this spec in the zones asked for; never billed",
    End.REFUSED: "ECI took no order for another cause: quota, balance, an annotation; never billed",
    End.IMAGE_PULL: "an image could not be pulled",
    End.PENDING_LIMIT: "image pull and volumes took longer than `eci-max-pending-minute`",
    End.DEADLINE: "the pod's `activeDeadlineSeconds` were over",
    End.EVICTED: "evicted through the API, or preempted",
    End.LOST: "its node or instance went away without a word",
    End.UNKNOWN: "it is gone, and nobody saw how",
}
"""What each end means, for the documentation and for tables."""
