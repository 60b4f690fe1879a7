"""The words ECI and its virtual node use on a pod: annotation keys, labels, conditions, event reasons.

Each constant bears one line: what it does, after a letter for how well it is known.

    [D] vendor document or SDK    [O] observed on real pods    [I] inferred by us    [?] unverified

All pages are under https://help.aliyun.com/zh/eci/user-guide/; the sections name the page their words come from.
ECI reads a pod's annotations once, when the pod is created: a later change has no effect [D].
"""

from __future__ import annotations

PREFIX = "k8s.aliyun.com/"
"""[D] Prefix of nearly every ECI annotation."""


# -- annotations that ECI reads: which instance ------------------------------------------------------ pod-annotations-1

USE_SPECS = PREFIX + "eci-use-specs"
"""[D] At most five specs in order of preference, `2-4Gi,ecs.c6.xlarge`; replaces the sum of requests and limits."""

COMPUTE_CATEGORY = PREFIX + "eci-compute-category"
"""[D] `economy` or `general`, or both in order of preference; only for specs given as vCPU and memory."""

INSTANCE_FAMILY = PREFIX + "eci-instance-family"
"""[D] ECS families to take, `ecs.c6,ecs.g6`; the pod is then billed by the ECS type that was used."""

INSTANCE_GENERATION = PREFIX + "eci-instance-generation"
"""[D] ECS generations to take, `6,5`; the pod is then billed by the ECS type that was used."""

EXTRA_EPHEMERAL_STORAGE = PREFIX + "eci-extra-ephemeral-storage"
"""[D] Ephemeral storage on top of the free 30 GiB, `20Gi`; billed by GiB."""

VSWITCH = PREFIX + "eci-vswitch"
"""[D] At most ten vSwitches of one VPC, and so the zones to try; ECI also writes the one it used here [O]."""

SCHEDULE_STRATEGY = PREFIX + "eci-schedule-strategy"
"""[D] `VSwitchOrdered` or `VSwitchRandom` (default): how the vSwitches are tried."""

SECURITY_GROUP = PREFIX + "eci-security-group"
"""[D] At most five security groups of one VPC; ECI also writes the one it used here [O]."""

RAM_ROLE_NAME = PREFIX + "eci-ram-role-name"
"""[D] RAM role whose temporary credentials the metadata server gives to every container of the pod."""

CUSTOM_TAGS = PREFIX + "eci-custom-tags"
"""[D] At most three tags for the instance and so for the bill, `env:test,name:alice`."""

WITH_EIP = PREFIX + "eci-with-eip"
"""[D] `true` gives the pod a public address of its own, released with it."""


# -- annotations that ECI reads: spot -------------------------------- create-a-preemptible-elastic-container-instance-1

SPOT_STRATEGY = PREFIX + "eci-spot-strategy"
"""[D] `SpotAsPriceGo` or `SpotWithPriceLimit` makes the instance a spot one."""

SPOT_PRICE_LIMIT = PREFIX + "eci-spot-price-limit"
"""[D] Highest price an hour and instance, at most three decimals; only with `SpotWithPriceLimit`."""

SPOT_DURATION = PREFIX + "eci-spot-duration"
"""[D] Protection period in hours: `1` (default) or `0`."""

SPOT_FALLBACK = PREFIX + "eci-spot-fallback"
"""[D] `true` takes a pay-as-you-go instance where no spot stock is left (default `false`)."""

SPOT_RELEASE_STRATEGY = PREFIX + "eci-spot-release-strategy"
"""[D] `api-evict` has the pod evicted before its release; needs ack-virtual-node 2.11.0."""

SPOT_AS_PRICE_GO = "SpotAsPriceGo"
"""[D] Value of SPOT_STRATEGY: pay the market price, at most the ECS type's pay-as-you-go price."""

SPOT_WITH_PRICE_LIMIT = "SpotWithPriceLimit"
"""[D] Value of SPOT_STRATEGY: pay the market price up to SPOT_PRICE_LIMIT."""

NO_SPOT = "NoSpot"
"""[D] Value of the API's SpotStrategy, not of the annotation: an ordinary pay-as-you-go instance."""


# -- annotations that ECI reads: faults and waiting ------------------------ configure-a-fault-handling-policy-for-a-pod

FAIL_STRATEGY = PREFIX + "eci-fail-strategy"
"""[D] `fail-back` (default, retry while Pending), `fail-over` (the same) or `fail-fast` (show the error at once)."""

FAIL_BACK = "fail-back"
"""[D] Value of FAIL_STRATEGY: the pod stays Pending and is tried again."""

FAIL_OVER = "fail-over"
"""[D] Value of FAIL_STRATEGY: the same as `fail-back`."""

FAIL_FAST = "fail-fast"
"""[D] Value of FAIL_STRATEGY: the pod shows `ProviderFailed` at once."""

MAX_PENDING_MINUTE = PREFIX + "eci-max-pending-minute"
"""[D] Minutes (10 to 1440) that image pull and volume mount may take; scheduling does not count."""

MAX_PENDING_MINUTE_RANGE = (10, 1440)
"""[D] Smallest and largest MAX_PENDING_MINUTE."""

MAX_PENDING_MINUTE_DEFAULT = 240
"""[D] MAX_PENDING_MINUTE where the pod says nothing: four hours that are billed."""


# -- annotations that ECI reads: images ------------------------------ use-imagecache-to-accelerate-the-creation-of-pods

AUTO_IMAGE_CACHE = PREFIX + "eci-auto-imc"
"""[D] `true` (default): use a matching image cache, and make one where none matches."""

IMAGE_CACHE_ID = PREFIX + "eci-imc-id"
"""[D] The image cache to use, `imc-…`; wins over AUTO_IMAGE_CACHE."""

IMAGE_CACHE_LEGACY = PREFIX + "eci-image-cache"
"""[D] Older name of AUTO_IMAGE_CACHE, still in the vendor's GitLab sample."""

IMAGE_CACHE_ID_LEGACY = PREFIX + "eci-image-snapshot-id"
"""[D] Older name of IMAGE_CACHE_ID."""

ACR_INSTANCE_IDS = PREFIX + "acr-instance-ids"
"""[D] Container Registry instances to pull from without a password, `cri-…` or `cn-beijing:cri-…`."""

PLAIN_HTTP_REGISTRY = PREFIX + "plain-http-registry"
"""[D] Registries (with port) that speak HTTP."""

INSECURE_REGISTRY = PREFIX + "insecure-registry"
"""[D] Registries (with port) whose certificate is not verified."""


# -- annotations that ECI writes --------------------------------------------------------------------- pod-annotations-1

INSTANCE_ID = PREFIX + "eci-instance-id"
"""[D] `eci-…`: joins the pod to the API, to the metadata server and to the bill."""

INSTANCE_ID_PREFIX = "eci-"
"""[O] Start of an ECI instance id; ACS writes ids that begin with `acs-` under another key."""

INSTANCE_SPEC = PREFIX + "eci-instance-spec"
"""[D] The billed spec: `2.0-4.0Gi` is billed by vCPU and memory, `ecs.c6.large` by that ECS type."""

INSTANCE_CPU = PREFIX + "eci-instance-cpu"
"""[O] vCPU of the instance, `2.0` (older nodes: `2.000`)."""

INSTANCE_MEMORY = PREFIX + "eci-instance-mem"
"""[O] Memory of the instance in GiB, `4.0` (older nodes: `4.00`)."""

INSTANCE_ZONE = PREFIX + "eci-instance-zone"
"""[O] Zone of the instance, `cn-shenzhen-d`."""

INSTANCE_COMPUTE_CATEGORY = PREFIX + "eci-instance-compute-category"
"""[D] `economy` or `general`."""

REQUEST_ID = PREFIX + "eci-request-id"
"""[D] Id of the creation request, to quote in a support ticket."""

CLIENT_TOKEN = PREFIX + "eci-client-token"
"""[O] Idempotence token of the creation request."""

VPC = PREFIX + "eci-vpc"
"""[O] VPC of the instance."""

ENI_INSTANCE_ID = PREFIX + "eni-instance-id"
"""[O] Network interface of the instance."""

MATCHED_IMAGE_CACHE = PREFIX + "eci-matched-image-cache"
"""[D] The image cache that was used, `imc-…`."""

CREATED_BY_TEMPLATE = PREFIX + "eci-created-by-template"
"""[D] `true` on pods that the present virtual node makes."""

SCHEDULE_RESULT = PREFIX + "eci-schedule-result"
"""[D] `finished` once an instance is found; marked as retired."""

PLATFORM_VERSION = PREFIX + "eci-platform-version"
"""[D] `1.1.0` on the present platform, `1.0.0` or absent on the older one."""

KUBERNETES_VERSION = PREFIX + "k8s-version"
"""[O] Version of the cluster, `v1.22.3-aliyun.1`."""

VIRTUAL_NODE_VERSION = PREFIX + "vk-version"
"""[O] Version of the virtual node, `v2.8.5-…`."""

CLUSTER_DNS = PREFIX + "cluster-dns"
"""[O] Address of the cluster's DNS service."""

CLUSTER_DOMAIN = PREFIX + "cluster-domain"
"""[O] Domain of the cluster, `cluster.local`."""

PROVIDER_CREATE = "ProviderCreate"
"""[O] `done` once the instance has been created; bears no prefix."""

POD_STREAM_PORT = "kubernetes.io/pod-stream-port"
"""[O] `10250`: port of the instance that serves exec and logs."""


# -- labels, taint and node names ----------------------------------------------------- schedule-pods-to-virtual-kubelet

LABEL_ECI = "alibabacloud.com/eci"
"""[D] `true` on a pod or namespace sends pods to ECI where the cluster also has ECS nodes, not in ACK Serverless."""

LABEL_ECI_LEGACY = "eci"
"""[D] Older form of LABEL_ECI on a pod, still honoured, discouraged."""

LABEL_NAMESPACE_LEGACY = "virtual-node-affinity-injection"
"""[D] `enabled` on a namespace: older form of LABEL_ECI there, discouraged."""

NODE_NAME_PREFIX = "virtual-kubelet-"
"""[D] A virtual node is named by this and its zone; ACS names its nodes alike."""

NODE_LABEL_TYPE = "type"
"""[O] `virtual-kubelet` on a virtual node."""

NODE_LABEL_TYPE_VALUE = "virtual-kubelet"
"""[O] Value of NODE_LABEL_TYPE."""

NODE_TAINT = "virtual-kubelet.io/provider"
"""[D] Taint of virtual nodes in ACK clusters: `=alibabacloud:NoSchedule`; in ACK Serverless unknown [?]."""

NODE_TAINT_VALUE = "alibabacloud"
"""[D] Value of NODE_TAINT."""

SERVER_VERSION_MARK = "-aliyun."
"""[O] Part of the version that an ACK API server reports, `v1.36.3-aliyun.1`."""


# -- environment of a container --------------------------- ignore-specific-containers-when-the-system-adjusts-resources

ENV_RESOURCE_IGNORE = "__ECI_RESOURCE_IGNORE__"
"""[D] `TRUE` leaves the container out of the sum that becomes the spec."""

ENV_CONTAINER_TYPE = "ECI_CONTAINER_TYPE"
"""[D] `sidecar` has the container killed once the normal ones have ended (declaring-container-types)."""

ENV_VALUE_INSTANCE_ID = "__ECI_ID__"
"""[D] A variable with this value is given the instance id instead (obtain-the-metadata-from-a-container-1)."""

METADATA_URL = "http://100.100.100.200/latest/meta-data/"
"""[D] Metadata server inside an instance: `instance-id`, `zone-id`, `region-id`, `private-ipv4`, `hostname`."""


# -- conditions of a pod -------------------------------------------------------------------------- eci-custom-condition

CONDITION_CREATED = "ContainerInstanceCreated"
"""[D] False, with a reason of the next group, while there is no instance."""

CONDITION_SANDBOX_READY = "SandboxReady"
"""[D] False when the host under the instance failed or restarts."""

CONDITION_EXPIRED = "ContainerInstanceExpired"
"""[D] True before a spot instance is released; needs ack-virtual-node 2.11.0."""

CONDITION_SUFFICIENT_DISK = "ContainerHasSufficientDisk"
"""[O] Seen True on real pods."""


# -- reasons of CONDITION_CREATED; a real reason may carry a prefix (`ContainerGroup.NoStock`): compare with `is_reason`

REASON_CREATING = "Creating"
"""[D] The instance is being made."""

REASON_NO_STOCK = "NoStock"
"""[D] The zones asked for have no instance of this spec."""

REASON_STOCK_EXHAUST = "StockExhaust"
"""[D] The zones asked for are about to run out."""

REASON_STOCK_CLOSE = "StockClose"
"""[D] The zone is closed or limited to those who already have instances there."""

REASON_FAILED_SCHEDULING = "FailedScheduling"
"""[D] No place was found for another cause."""

REASON_THROTTLING = "Throttling"
"""[D] Too many calls; ECI tries again."""

REASON_DISK_QUOTA_FULL = "DiskCapacityQuotaFull"
"""[D] The account's disk quota is used up."""

REASON_SPOT_TO_BE_RELEASED = "SpotToBeReleased"
"""[D] The spot instance is about to be reclaimed."""

REASON_SPOT_DEGRADED = "SpotDegraded"
"""[D] A pay-as-you-go instance was taken in place of a spot one."""

REASON_INSTANCE_TYPE_MATCHED = "AutoInstanceTypeMatch"
"""[D] The sum was rounded up to a spec."""

REASON_UNKNOWN_ERROR = "UnknownError"
"""[D] The service is under load and tries again."""

NO_STOCK_REASONS = frozenset({REASON_NO_STOCK, REASON_STOCK_EXHAUST, REASON_STOCK_CLOSE})
"""[D] The reasons that mean: nothing of this spec is left where you looked."""


# -- reasons of events ----------------------------------------------------- custom-events-of-elastic-container-instance

EVENT_SOURCE = "EciService"
"""[D] Component of ECI's own events (older nodes: `eci-provider`); events about containers come from `kubelet`."""

EVENT_NO_STOCK = REASON_NO_STOCK
"""[D] Warning: the spec is out of stock in the zones asked for."""

EVENT_STOCK_EXHAUST = REASON_STOCK_EXHAUST
"""[D] Warning: the zones asked for are about to run out."""

EVENT_STOCK_CLOSE = REASON_STOCK_CLOSE
"""[D] Warning: the zone is closed."""

EVENT_QUOTA_EXCEEDED = "QuotaExceeded"
"""[D] Warning: the account's vCPU quota in this region is used up."""

EVENT_INSUFFICIENT_BALANCE = "InsufficientBalance"
"""[D] Warning: the account has not enough money."""

EVENT_FAILED_SCHEDULING = REASON_FAILED_SCHEDULING
"""[D] Warning: no place was found."""

EVENT_SPOT_TO_BE_RELEASED = REASON_SPOT_TO_BE_RELEASED
"""[D] Warning, minutes before a spot instance is reclaimed: three on real pods [O], five by another page."""

EVENT_SPOT_DEGRADED = REASON_SPOT_DEGRADED
"""[D] Warning: a pay-as-you-go instance was taken in place of a spot one."""

EVENT_OOM_KILLED = "OOMKilled"
"""[D] Warning: a container ran out of memory."""

EVENT_USER_INSTANCE_TYPE = "UserInstanceTypeSpec"
"""[O] Normal: names the spec that the pod asked for by USE_SPECS."""

EVENT_INSTANCE_TYPE_MATCHED = REASON_INSTANCE_TYPE_MATCHED
"""[D] Normal: names the spec to which the sum was rounded up."""

EVENT_IMAGE_CACHE_HIT = "SuccessfulHitImageCache"
"""[O] Normal: an image cache was used."""

EVENT_IMAGE_CACHE_MISSED = "ImageCacheMissed"
"""[O] Warning: no image cache matched."""

EVENT_IMAGE_CACHE_CREATED = "ImageCacheAutoCreated"
"""[O] Normal: an image cache is being made beside the pod."""

EVENT_STOP_CHARGE = "StopCharge"
"""[O] Normal: charging ended; cleaning up goes on."""

EVENT_PROVIDER_CREATE_FAILED = "ProviderCreateFailed"
"""[O] Warning: the virtual node could not make the instance; the message is the API's."""

EVENT_PROVIDER_INVOKE_FAILED = "ProviderInvokeFailed"
"""[O] Warning: a call of the virtual node failed; the message is the API's."""


# -- status of a pod ------------------------------------------------------ lifecycle-of-an-elastic-container-instance-2

STATUS_BID_FAILED = "BidFailed"
"""[O] `status.reason` of a Failed pod whose spot instance was reclaimed."""

STATUS_SCHEDULE_FAILED = "ContainerInstanceScheduleFailed"
"""[D] `status.reason` of a pod that found no stock under `fail-fast`."""

STATUS_PROVIDER_FAILED = "ProviderFailed"
"""[D] What kubectl shows for such a pod."""

WAITING_ERR_IMAGE_PULL = "ErrImagePull"
"""[D] Waiting reason of a container whose image cannot be pulled; ECI stays Pending, and billed, meanwhile."""

WAITING_IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
"""[O] Waiting reason between two tries to pull an image."""


# -- image caches ---------------------------------------------------------------------------- kubernetes-imagecache-api

IMAGE_CACHE_GROUP = "eci.alibabacloud.com"
"""[D] API group of the cluster-scoped kind ImageCache."""

IMAGE_CACHE_VERSION = "v1"
"""[D] API version of ImageCache."""

IMAGE_CACHE_PLURAL = "imagecaches"
"""[D] Resource name of ImageCache."""

IMAGE_CACHE_READY = "Ready"
"""[D] `status.phase` of an ImageCache that can be used."""


def is_reason(observed: str | None, reason: str) -> bool:
    """Whether a reason seen on a pod is `reason`, with or without a dotted prefix such as `ContainerGroup.` [D]."""
    return observed is not None and observed.rpartition(".")[2] == reason
