"""The cluster card: everything the notebooks need to know about one cluster, its GitLab and its runner, in one YAML file.

`Settings.load` reads the file, and only the file. Any string in it may be a reference (`env:NAME`, `file:PATH`,
`secret:NAMESPACE/NAME/KEY`); references stay references here, `runbook.clients.secrets` resolves them. A field that
holds a secret accepts nothing else, so that no secret ever stands in a card.

The sentence under each field is its documentation: data/clusters/schema.json is made of it, and a test holds
data/clusters/example.yaml to it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from runbook import html, quantities
from runbook.errors import QuantityError, SettingsError
from runbook.report import text_pairs

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root: the second place where a relative path is looked up, after the working directory."""

REFERENCE = re.compile(r"(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+|secret:[^/\s]+/[^/\s]+/[^/\s]+)")

EXAMPLE = "data/clusters/example.yaml"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
REGION_PATTERN = r"^[a-z]{2}-[a-z0-9-]+$"
VERSION_PATTERN = r"^\d+\.\d+(\.\d+)?$"
URL_PATTERN = r"^(https?://[^\s/]+|env:|file:|secret:)"
FOLDER_PATTERN = r"^/"
OPTIONS_PATTERN = r"^-o "
ENGINE_PATTERN = r"^(duckdb|local(\[\d+\])?|spark://.+)$"
HISTORY_PATTERN = r"^(file://|oss://|s3://|env:|file:|secret:|[^:]+$)"


def is_reference(text: str) -> bool:
    """Whether a string of the card stands for a value kept elsewhere."""
    return REFERENCE.fullmatch(text) is not None


def locate(path: str | Path) -> Path:
    """An existing file for a relative path: from the working directory, else from the repository's root.

    A path that exists in neither place is returned as seen from the root, where new files belong.
    """
    path = Path(path).expanduser()
    if path.is_absolute() or path.exists():
        return path
    return ROOT / path


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError("a secret is named, never given: write env:NAME, file:PATH or secret:NAMESPACE/NAME/KEY")
    return text


def _storable(text: str) -> str:
    if not is_reference(text) or text.startswith("env:"):
        raise ValueError("a token is written here, so it must be file:PATH or secret:NAMESPACE/NAME/KEY")
    return text


def _quantity(text: str) -> str:
    return _parsed_by(quantities.memory, text)


def _container_size(text: str) -> str:
    return _parsed_by(quantities.Size.parse, text)


def _parsed_by(parser: Callable[[str], object], text: str) -> str:
    try:
        parser(text)
    except QuantityError as error:
        raise ValueError(f"{error.problem.rstrip('.')}; write {error.allowed}") from None
    return text


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Secret = Annotated[Text, AfterValidator(_reference)]
"""A reference to a secret that exists."""
TokenPlace = Annotated[Text, AfterValidator(_storable)]
"""A place where a notebook writes a token: `file:PATH` (mode 0600) or `secret:NAMESPACE/NAME/KEY`."""
Size = Annotated[Text, AfterValidator(_container_size)]
"""A container's cpu and memory, `2/6Gi`."""
StorageQuantity = Annotated[Text, AfterValidator(_quantity)]
Name = Annotated[Text, StringConstraints(pattern=NAME_PATTERN, max_length=253)]
"""A Kubernetes object name."""
Url = Annotated[Text, StringConstraints(pattern=URL_PATTERN)]
"""An address, http:// or https://, or a reference to one."""


class CardLoader(yaml.SafeLoader):
    """YAML as SafeLoader reads it, but a key that stands twice in one section is a mistake, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class ClusterKind(StrEnum):
    """What the cluster is; `auto` lets notebook 10 find out."""

    AUTO = "auto"
    ACK_SERVERLESS = "ack-serverless"
    ACK = "ack"


class Kubernetes(_Card):
    """How the machine that runs the notebooks reaches the cluster."""

    kubeconfig: Text | None = None
    """Path of the kubeconfig file. Without it: the file that KUBECONFIG names, else ~/.kube/config."""
    context: Text | None = None
    """Context in the kubeconfig. Without it: its current-context."""
    in_cluster: bool = False
    """Use the ServiceAccount of the pod that the notebooks run in; kubeconfig and context are then left out."""
    kind: ClusterKind = ClusterKind.AUTO
    """auto | ack-serverless | ack (virtual nodes beside ECS nodes: job pods need the label alibabacloud.com/eci)."""
    namespace: Name = "gitlab-ci"
    """Namespace of the job pods. Notebook 20 creates it."""
    request_timeout: Annotated[float, Field(gt=0, le=600)] = 15
    """Seconds that one call to the API server may take before it counts as down."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Kubernetes:
        if self.in_cluster and (self.kubeconfig or self.context):
            raise ValueError("in_cluster: true leaves no room for kubeconfig or context; remove one of them")
        return self


class RunnerAccess(_Card):
    """How gitlab-runner will reach the cluster: often another address than this machine's, and a smaller account."""

    host: Url | None = None
    """URL of the API server as the runner sees it, https://… (the private one in the VPC). Without it: the same as here."""
    ca_file: Text | None = None
    """Where the API server's CA certificate lies on the runner's host; notebook 50 writes it beside config.toml if absent."""
    account: Literal["service-account", "kubeconfig"] = "service-account"
    """service-account: the smallest Role and a token of its own. kubeconfig: the article's way, the admin's kubeconfig."""
    service_account: Name = "gitlab-runner"
    """Name of that ServiceAccount, its Role and its RoleBinding."""
    token: TokenPlace = "file:var/runner/kubernetes-token"
    """Where notebook 20 puts the ServiceAccount's token, and notebook 50 takes it from."""


class CacheVolume(_Card):
    """The build cache: an OSS bucket as a PersistentVolume, mounted into every job pod."""

    enabled: bool = True
    """false leaves notebook 30 without work and job pods without a cache volume."""
    driver: Literal["csi", "flexvolume"] = "csi"
    """csi: ossplugin.csi.alibabacloud.com. flexvolume: alicloud/oss, the article's form, for clusters that still have it."""
    volume: Name = "gitlab-cache-pv"
    """Name of the PersistentVolume."""
    claim: Name = "gitlab-cache-pvc"
    """Name of the PersistentVolumeClaim in the job pods' namespace."""
    size: StorageQuantity = "50Gi"
    """Capacity that both state. OSS does not enforce it."""
    bucket: Text | None = None
    """Name of the OSS bucket (required when enabled)."""
    endpoint: Text | None = None
    """OSS endpoint without the bucket. Without it: oss-REGION-internal.aliyuncs.com, the free one inside the VPC."""
    path: Annotated[Text, StringConstraints(pattern=FOLDER_PATTERN)] = "/"
    """Folder in the bucket."""
    options: Annotated[Text, StringConstraints(pattern=OPTIONS_PATTERN)] = "-o max_stat_cache_size=0 -o allow_other"
    """Mount options of ossfs; each begins with -o."""
    secret: Name = "gitlab-cache-oss"
    """Secret in the job pods' namespace with the keys akId and akSecret."""
    access_key_id: Secret | None = None
    """Reference to the AccessKey id that notebook 30 puts into that Secret. Without it: the Secret must be there already."""
    access_key_secret: Secret | None = None
    """Reference to the AccessKey secret that belongs to it."""
    mount_path: Annotated[Text, StringConstraints(pattern=FOLDER_PATTERN, min_length=2)] = "/cache"
    """Where job pods see the volume. gitlab-runner keeps its cache at /cache."""

    @model_validator(mode="after")
    def _complete(self) -> CacheVolume:
        if self.enabled and not self.bucket:
            raise ValueError("cache.bucket is missing; name the OSS bucket, or set cache.enabled: false")
        if (self.access_key_id is None) != (self.access_key_secret is None):
            raise ValueError("cache.access_key_id and cache.access_key_secret belong together: give both or none")
        return self


class GitLab(_Card):
    """The GitLab server, and the account that registers the runner."""

    url: Url
    """Address of GitLab, https://… , as this machine sees it."""
    token: Secret = "env:GITLAB_TOKEN"
    """Reference to a personal access token. Scopes: create_runner and read_api; api for the smoke job and for updates."""
    ca_file: Text | None = None
    """CA certificate file for a GitLab with a private CA, on this machine."""
    clone_url: Url | None = None
    """Address of GitLab as job pods see it, when it differs from url (written as clone_url)."""
    runner_url: Url | None = None
    """Address of GitLab as gitlab-runner's host sees it, when it differs from url (written as url)."""
    tls_ca_file: Text | None = None
    """Where that CA certificate lies on the runner's host (written as tls-ca-file)."""


class Runner(_Card):
    """The runner as GitLab knows it."""

    type: Literal["instance", "group", "project"] = "instance"
    """Who may use it. instance needs an administrator; gitlab.com refuses it."""
    group: Text | None = None
    """Full path or id of the group, for type group."""
    project: Text | None = None
    """Full path or id of the project, for type project."""
    description: Text = "eci"
    """What people see in GitLab, and the runner's name in config.toml."""
    tags: list[Text] = ["docker", "k8s"]
    """Tags of the jobs it takes once it is proved (notebook 80)."""
    run_untagged: bool = False
    """Whether it then also takes jobs without tags."""
    smoke_tag: Text = "eci-smoke"
    """The one tag it has until then."""
    locked: bool = False
    """Whether it is locked to its projects once proved. The article activates it unlocked."""
    protected: bool = False
    """Whether it takes only jobs of protected branches and tags."""
    maximum_timeout: Annotated[int, Field(ge=600)] | None = None
    """Seconds that a job may take on this runner at most (600 or more). Without it: the project's own limit."""
    token: TokenPlace = "file:var/runner/gitlab-runner-token"
    """Where notebook 40 puts the runner's token, which GitLab shows only once, and notebook 50 takes it from."""
    existing_token: bool = False
    """true: a runner's token is at that place already (made in GitLab's pages); notebook 40 creates nothing."""
    version: Annotated[Text, StringConstraints(pattern=VERSION_PATTERN)] | None = None
    """Version of the gitlab-runner program. Without it: asked from GitLab's list of runner managers."""

    @model_validator(mode="after")
    def _owner(self) -> Runner:
        for kind in ("group", "project"):
            if self.type == kind and not getattr(self, kind):
                raise ValueError(f"runner.{kind} is missing: runner.type is {kind}")
        return self


class Spot(_Card):
    """Spot instances: cheaper, and reclaimed when Alibaba needs them back."""

    strategy: Literal["SpotAsPriceGo", "SpotWithPriceLimit"] = "SpotAsPriceGo"
    """SpotAsPriceGo pays the market price; SpotWithPriceLimit at most price_limit."""
    price_limit: Annotated[float, Field(gt=0)] | None = None
    """Highest price of an instance an hour, for SpotWithPriceLimit."""
    duration: Literal[0, 1] = 1
    """Protection hours after the start in which the instance is not reclaimed."""
    fallback: bool = True
    """Create a pay-as-you-go instance when no spot instance is in stock."""

    @model_validator(mode="after")
    def _limit(self) -> Spot:
        if (self.strategy == "SpotWithPriceLimit") != (self.price_limit is not None):
            raise ValueError("price_limit and strategy SpotWithPriceLimit belong together: give both or none")
        return self


class JobPods(_Card):
    """What a job pod is made of, and so which ECI instance it becomes."""

    image: Text = "alpine:3.20"
    """Image of jobs that name none."""
    helper_image: Text | None = None
    """gitlab-runner-helper from your own registry; the default one is pulled from registry.gitlab.com for every pod."""
    pull_policy: Literal["always", "if-not-present", "never"] = "if-not-present"
    """if-not-present lets ECI use image caches."""
    build: Size | None = "2/6Gi"
    """Requests of the build container, cpu/memory."""
    service: Size | None = "1/1Gi"
    """Requests of each service container."""
    helper: Size | None = "250m/512Mi"
    """Requests of the helper container."""
    specs: list[Text] = Field(default=[], max_length=5)
    """Explicit ECI specs, tried in this order (at most 5): 4-8Gi, or an ECS type such as ecs.c6.xlarge. They win over requests."""
    economy: bool = False
    """Use the economy compute category (0.25 to 8 vCPU)."""
    spot: Spot | None = None
    """Spot instances. Without it: pay-as-you-go."""
    max_pending_minutes: Annotated[int, Field(ge=10, le=1440)] = 10
    """ECI gives up a pod whose images are not there after this time, 10 to 1440; it is billed while it waits (ECI's default: 240)."""
    poll_timeout: Annotated[int, Field(ge=60)] = 600
    """Seconds that gitlab-runner waits for the pod (its default 180 is short for an uncached ECI start)."""
    cleanup_grace_seconds: Annotated[int, Field(ge=0, le=300)] = 1
    """Seconds that a pod has to end after its job (runner 14.5 or newer). Its shells ignore SIGTERM: Kubernetes' 30 would be paid idle."""
    service_host: bool = True
    """Give jobs CI_SERVICE_HOST=127.0.0.1, where services of a pod answer."""
    custom_tags: dict[Text, Text] = Field(default={}, max_length=3)
    """At most 3 tags on the ECI instance, for the bill (eci-custom-tags)."""
    annotations: dict[Text, Text] = {}
    """Further pod annotations, written as they are."""
    labels: dict[Text, Text] = {}
    """Further pod labels, written as they are."""

    @model_validator(mode="after")
    def _one_kind_of_discount(self) -> JobPods:
        if self.economy and self.spot:
            raise ValueError("economy and spot exclude each other: ECI refuses a spot instance of a compute category")
        return self


class ConfigToml(_Card):
    """Where gitlab-runner's configuration file is, and its limits."""

    place: Literal["host", "copy"] = "copy"
    """host: this is the runner's host and we may write the file. copy: work on a copy; the notebook prints the commands."""
    path: Text = "/etc/gitlab-runner/config.toml"
    """The file on the runner's host."""
    copy_path: Text = "var/runner/config.toml"
    """The copied-out file, for place copy."""
    result_path: Text = "var/runner/config.toml.new"
    """The file that the notebook writes, for place copy."""
    limit: Annotated[int, Field(ge=0)] = 10
    """Jobs at once on this runner; 0 is no limit."""
    concurrent: Annotated[int, Field(ge=1)] | None = None
    """Jobs at once of the whole gitlab-runner process. Without it: raised to limit where it is lower, never lowered."""


class Smoke(_Card):
    """The job that proves the runner."""

    project: Text
    """Full path or id of the project that the smoke job runs in; a temporary branch is made there and removed."""
    branch: Text = "eci-smoke"
    """Name of that branch; a number is added."""
    image: Text | None = None
    """Image of the job. Without it: pods.image."""
    service_image: Text = "postgres:10-alpine"
    """Image of the service that must answer at 127.0.0.1."""
    service_port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """Port at which it answers."""
    service_start: Annotated[int, Field(ge=1, le=600)] = 60
    """Seconds that it may take until it answers."""
    timeout: Annotated[int, Field(ge=60)] = 1800
    """Seconds that the pipeline may take."""


class PodHistory(_Card):
    """Where the records of pods are kept."""

    url: Annotated[Text, StringConstraints(pattern=HISTORY_PATTERN)] = "var/history"
    """A folder (a path, file:///path), or a folder of a bucket: oss://bucket/path, s3://bucket/path."""
    endpoint: Text | None = None
    """Address of the object store, such as oss-cn-hangzhou-internal.aliyuncs.com; OSS needs one. Without it: AWS S3."""
    region: Text | None = None
    """Region of the bucket, for S3."""
    access_key_id: Secret | None = None
    """Reference to the AccessKey id for the bucket. Without it: what the S3 client finds by itself."""
    access_key_secret: Secret | None = None
    """Reference to the AccessKey secret that belongs to it."""

    @model_validator(mode="after")
    def _complete(self) -> PodHistory:
        if (self.access_key_id is None) != (self.access_key_secret is None):
            raise ValueError("history.access_key_id and history.access_key_secret belong together: give both or none")
        if self.url.startswith("oss://") and not self.endpoint:
            raise ValueError("history.endpoint is missing: a history on OSS needs the address of OSS")
        return self


class AlibabaCloud(_Card):
    """How Alibaba Cloud's own API is asked: instances that ECI still knows, prices, the bill. Reading rights are enough."""

    access_key_id: Secret | None = None
    """Reference to an AccessKey id. Without it: the SDK's own chain (environment, RRSA, ~/.aliyun/config.json, RAM role)."""
    access_key_secret: Secret | None = None
    """Reference to the AccessKey secret that belongs to it."""
    security_token: Secret | None = None
    """Reference to the token of a temporary AccessKey."""
    eci_endpoint: Text | None = None
    """Host of the ECI API. Without it: eci.REGION.aliyuncs.com (inside the VPC: eci-vpc.REGION.aliyuncs.com)."""
    ecs_endpoint: Text | None = None
    """Host of the ECS API. Without it: ecs.REGION.aliyuncs.com."""
    bss_endpoint: Text | None = None
    """Host of the bill's API. Without it: business.aliyuncs.com, for site intl business.ap-southeast-1.aliyuncs.com."""

    @model_validator(mode="after")
    def _pair(self) -> AlibabaCloud:
        if (self.access_key_id is None) != (self.access_key_secret is None):
            raise ValueError("alibaba.access_key_id and alibaba.access_key_secret belong together: give both or none")
        if self.security_token and not self.access_key_id:
            raise ValueError(
                "alibaba.security_token belongs to an AccessKey: give access_key_id and access_key_secret too"
            )
        return self


class _Dated(_Card):
    """What holds from `first` to `last`, both included."""

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        first, last = getattr(self, "first", None), getattr(self, "last", None)
        if first and last and last < first:
            raise ValueError(f"last ({last}) lies before first ({first})")
        return self


class Discount(_Dated):
    """What a contract takes off the list price of ECI, from a day on."""

    percent: Annotated[Decimal, Field(ge=0, le=100)]
    """Percent off the list price."""
    item: Literal["all", "cpu", "mem", "instance_type", "systemdisk"] = "all"
    """The billing item that it holds for, in the words of the bill; a discount for one item goes before one for all."""
    first: date | None = None
    """First day. Without it: always."""
    last: date | None = None
    """Last day, included. Without it: until further notice."""


class SavingsPlan(_Dated):
    """A general-purpose savings plan that covers vCPU and memory of ECI (never spot)."""

    per_hour: Annotated[Decimal, Field(gt=0)]
    """Committed spend an hour, after its discount, in the site's currency; paid whether used or not."""
    percent: Annotated[Decimal, Field(ge=0, lt=100)]
    """Percent that covered usage costs less than by the list."""
    first: date
    """First day."""
    last: date
    """Last day, included."""


class OtherCost(_Dated):
    """A part of what CI costs that is no ECI instance: NAT gateway, EIP, SLB, OSS, disks, image caches."""

    name: Text
    """What it is, as a finance person would call it."""
    service: Literal["nat", "eip", "slb", "oss", "disk", "image-cache", "other"] = "other"
    """Which service of Alibaba Cloud."""
    amount: Decimal
    """What it costs each `per`, before tax, in the site's currency."""
    per: Literal["hour", "day", "month", "once"] = "month"
    """How often; a month is spread over its days, once falls on the first day."""
    first: date
    """First day."""
    last: date | None = None
    """Last day, included. Without it: until further notice."""


class AlwaysOn(_Card):
    """The alternative that the review compares with: ECS instances that run all the time."""

    instance_type: Text = "ecs.c6.4xlarge"
    """ECS type of one such server."""
    vcpu: Annotated[int, Field(ge=1)] | None = None
    """Its vCPU. Without it: from the price list."""
    memory_gib: Annotated[Decimal, Field(gt=0)] | None = None
    """Its memory in GiB. Without it: from the price list."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How many. Without it: as many as the busiest hours of the period need."""
    per_hour: Annotated[Decimal, Field(gt=0)] | None = None
    """What one costs an hour. Without it: from the price list."""


class Used(_Card):
    """Where CPU and memory that jobs really used are read from."""

    source: Literal["job", "eci", "prometheus"] = "job"
    """job: what jobs report of their cgroup; eci: ECI's metric API; prometheus: its HTTP API."""
    prometheus_url: Annotated[Text, StringConstraints(pattern=URL_PATTERN)] | None = None
    """Address of Prometheus, for source prometheus; may be a reference."""
    prometheus_token: Secret | None = None
    """Reference to a bearer token for it."""
    url: Annotated[Text, StringConstraints(pattern=HISTORY_PATTERN)] = "var/used"
    """Where what was used is kept: a folder, or a folder of the history's bucket."""


class Cost(_Card):
    """What prices, discounts and other costs the analysis works with, and how it speaks."""

    language: Literal["en", "zh"] = "en"
    """Language of sentences and charts: en or zh."""
    timezone: Text = "Asia/Shanghai"
    """Time zone of days and hours; Alibaba's bill has days of China's."""
    engine: Annotated[Text, StringConstraints(pattern=ENGINE_PATTERN)] = "duckdb"
    """What answers questions: duckdb (embedded), or a Spark master's address such as spark://host:7077 or local[2]."""
    prices: Annotated[Text, StringConstraints(pattern=HISTORY_PATTERN)] = "var/prices"
    """Where archived prices are kept: a folder, or a folder of the history's bucket."""
    bills: Annotated[Text, StringConstraints(pattern=HISTORY_PATTERN)] = "var/bills"
    """Where the bill is kept, fetched or exported as CSV: a folder, or a folder of the history's bucket."""
    bill_rounding: Literal["none", "hour", "instance"] = "none"
    """Whether amounts below 0.01 are rounded to 0.01: none, each settled hour, or each instance. Documented, but not for which."""
    discounts: list[Discount] = []
    """Contracted discounts on ECI."""
    savings_plans: list[SavingsPlan] = []
    """Savings plans that cover ECI."""
    tax_percent: Annotated[Decimal, Field(ge=0, lt=100)] = Decimal(0)
    """Tax that is added to every amount where it is shown with tax; prices and the bill's pretax amounts are without."""
    other: list[OtherCost] = []
    """The rest of what CI costs at Alibaba Cloud."""
    budget: Annotated[Decimal, Field(gt=0)] | None = None
    """What a month may cost, before tax, in the site's currency."""
    always_on: AlwaysOn = AlwaysOn()
    used: Used = Used()
    reviews: Text = "data/reviews"
    """Folder of what people write for the meeting: owners and status of actions."""
    reports: Text = "var/reports"
    """Folder where pages, charts and CSV files go."""

    @model_validator(mode="after")
    def _knows_its_zone(self) -> Cost:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("cost.timezone is no time zone: write one such as Asia/Shanghai or UTC") from None
        return self


class Settings(_Card):
    """One cluster card."""

    name: Name
    """Short name of this cluster; it marks what the notebooks make."""
    region: Annotated[Text, StringConstraints(pattern=REGION_PATTERN)]
    """Alibaba Cloud region, such as cn-hangzhou."""
    site: Literal["cn", "intl"] = "cn"
    """Whose price list: cn (aliyun.com, CNY) or intl (alibabacloud.com, USD)."""
    kubernetes: Kubernetes = Kubernetes()
    access: RunnerAccess = RunnerAccess()
    cache: CacheVolume
    gitlab: GitLab
    runner: Runner = Runner()
    pods: JobPods = JobPods()
    config: ConfigToml = ConfigToml()
    smoke: Smoke
    history: PodHistory = PodHistory()
    alibaba: AlibabaCloud = AlibabaCloud()
    cost: Cost = Cost()
    dry_run: Annotated[bool, Field(exclude=True)] = True
    """Not written in the card: the notebooks' parameter. True plans and rehearses, False applies."""
    card: Annotated[str, Field(exclude=True)] = ""
    """Not written in the card: the path it was read from."""

    @classmethod
    def load(cls, cluster: str | Path, *, dry_run: bool = True) -> Settings:
        """Read and validate one card. Raises SettingsError with every mistake of the file at once."""
        path = locate(cluster)
        where = str(cluster)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise SettingsError(
                f"The cluster card cannot be read: {error.strerror or error}.",
                where=f"parameter cluster: {where}",
                allowed="the path of a YAML file, seen from the working directory or from the repository's root",
                remedy=f"cp {EXAMPLE} data/clusters/NAME.yaml, fill it in, and name it here",
                page="#cluster-card",
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(
                "The cluster card is not UTF-8 text.", where=where, remedy="Save it as UTF-8.", page="#cluster-card"
            ) from None
        try:
            values = yaml.load(text, Loader=CardLoader)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
            mark = getattr(error, "problem_mark", None)
            at = f", line {mark.line + 1}" if mark else ""
            raise SettingsError(
                f"The cluster card is not YAML: {getattr(error, 'problem', None) or 'a value in it cannot be read'}.",
                where=f"{where}{at}",
                remedy=f"Compare with {EXAMPLE}.",
                page="#cluster-card",
            ) from None
        return cls.parse(values, where=where, dry_run=dry_run)

    @classmethod
    def parse(cls, values: Any, *, where: str, dry_run: bool = True) -> Settings:
        """Validate what a card holds. `where` names it in errors. Raises SettingsError."""
        if not isinstance(values, dict):
            raise SettingsError(
                "The cluster card is empty or not a mapping.",
                where=where,
                allowed="top-level keys such as name, region, kubernetes, gitlab",
                remedy=f"Start from {EXAMPLE}.",
                page="#cluster-card",
            )
        for reserved in ("dry_run", "card"):
            if reserved in values:
                raise SettingsError(
                    f"{reserved} does not belong in a card.",
                    where=f"{where}: {reserved}",
                    remedy="Give dry_run as the notebook's parameter." if reserved == "dry_run" else "Remove the line.",
                    page="#cluster-card",
                )
        if not isinstance(dry_run, bool):
            raise SettingsError(
                "dry_run must be a truth value.",
                where="parameter dry_run",
                value=dry_run,
                allowed="True or False (papermill: -p dry_run False)",
            )
        try:
            return cls.model_validate({**values, "dry_run": dry_run, "card": where})
        except ValidationError as error:
            raise _settings_error(error, where) from None

    def summary(self) -> dict[str, str]:
        """The lines that a notebook shows of its card: no reference is resolved, no secret is here to be shown."""
        kube = self.kubernetes
        source = "in-cluster" if kube.in_cluster else (kube.kubeconfig or "default kubeconfig")
        owner = self.runner.group or self.runner.project
        return {
            "card": self.card,
            "region": f"{self.region} ({self.site} price list)",
            "cluster": f"{source}{f', context {kube.context}' if kube.context else ''}, namespace {kube.namespace}",
            "GitLab": self.gitlab.url,
            "runner": f"{self.runner.description} ({self.runner.type}{f' {owner}' if owner else ''})",
            "mode": "dry run: nothing is changed" if self.dry_run else "apply: changes are carried out",
        }

    def __str__(self) -> str:
        return text_pairs(f"Cluster {self.name}", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()), title=f"Cluster <b>{escape(self.name)}</b>")


def json_schema() -> dict[str, Any]:
    """The card's JSON Schema, for editors: data/clusters/schema.json."""
    schema = Settings.model_json_schema()
    for runtime_only in ("dry_run", "card"):
        schema["properties"].pop(runtime_only)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@dataclass(frozen=True)
class _Mistake:
    """One thing that is wrong in a card.

    `field` is its dotted path, `problem` a sentence, `allowed` what may stand there, `meaning` the field's own sentence,
    `value` what stood there, where it may be shown.
    """

    field: str
    problem: str
    allowed: str | None = None
    meaning: str | None = None
    value: object = None

    def line(self) -> str:
        value = repr(self.value) if self.value not in (None, "") else ""
        allowed = f"allowed: {self.allowed}" if self.allowed else ""
        details = "; ".join(part for part in (value, allowed) if part)
        return f"{self.problem} ({details})" if details else self.problem


def _settings_error(error: ValidationError, where: str) -> SettingsError:
    mistakes = [_mistake(item) for item in error.errors(include_input=True)]
    remedy = f"{EXAMPLE} explains every field."
    if len(mistakes) > 1:
        return SettingsError(
            f"The cluster card has {len(mistakes)} mistakes.",
            where="\n".join([where, *(f"- {mistake.line()}" for mistake in mistakes)]),
            remedy=remedy,
            page="#cluster-card",
        )
    (only,) = mistakes
    return SettingsError(
        only.problem,
        where=f"{where}: {only.field}" if only.field else where,
        value=only.value,
        allowed="\n".join(part for part in (only.allowed, only.meaning) if part) or None,
        remedy=remedy,
        page="#cluster-card",
    )


_SENTENCES: dict[str, tuple[str, str | None]] = {
    "missing": ("is missing", None),
    "string_type": ("must be text", "text, in quotes where it looks like a number or a truth value"),
    "string_too_short": ("is empty", None),
    "string_too_long": ("is too long", "at most {max_length} characters"),
    "int_type": ("must be a whole number", "a whole number"),
    "int_parsing": ("must be a whole number", "a whole number"),
    "int_from_float": ("must be a whole number", "a whole number"),
    "float_type": ("must be a number", "a number"),
    "float_parsing": ("must be a number", "a number"),
    "decimal_type": ("must be a number", "a number"),
    "decimal_parsing": ("must be a number", "a number"),
    "finite_number": ("must be a number", "a number"),
    "date_type": ("must be a day", "a day such as 2026-11-01"),
    "date_parsing": ("must be a day", "a day such as 2026-11-01"),
    "date_from_datetime_parsing": ("must be a day", "a day such as 2026-11-01"),
    "date_from_datetime_inexact": ("must be a day", "a day such as 2026-11-01, without a time"),
    "bool_type": ("must be true or false", "true or false"),
    "bool_parsing": ("must be true or false", "true or false"),
    "list_type": ("must be a list", "a list, such as [docker, k8s]"),
    "dict_type": ("must be a mapping", "names and values, a line each"),
    "model_type": ("must be a section with its own fields", "a section: its fields on the next lines, indented"),
    "literal_error": ("is none of the words it may be", "{expected}"),
    "enum": ("is none of the words it may be", "{expected}"),
    "greater_than": ("is too small", "more than {gt}"),
    "greater_than_equal": ("is too small", "{ge} or more"),
    "less_than": ("is too large", "less than {lt}"),
    "less_than_equal": ("is too large", "{le} or less"),
    "too_long": ("has too many entries", "at most {max_length} entries"),
    "string_pattern_mismatch": ("is not written as it must be", "{form}"),
    "invalid_key": ("is a key that is not text; put it in quotes", "text"),
}
"""What a reader is told for each kind of mistake that pydantic finds: what is wrong, and what may stand there."""

_FORMS = {
    NAME_PATTERN: "lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit",
    REGION_PATTERN: "a region id, such as cn-hangzhou",
    VERSION_PATTERN: "two or three numbers with points, such as 17.9.2",
    URL_PATTERN: "an address such as https://gitlab.example.com, or a reference to one",
    FOLDER_PATTERN: "an absolute path, beginning with /",
    OPTIONS_PATTERN: "options that begin with -o",
    ENGINE_PATTERN: "duckdb, local[2], or spark://host:7077",
    HISTORY_PATTERN: "a path, file:///path, oss://bucket/path or s3://bucket/path",
}
"""The patterns of the card's fields, in words."""


def _mistake(item: ErrorDetails) -> _Mistake:
    path = [str(part) for part in item["loc"] if part != "[key]"]
    field, kind = ".".join(path), item["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    value = None if _hidden(path, item["input"]) else item["input"]
    context = item.get("ctx", {})
    if kind == "value_error":
        return _Mistake(field, _sentence(field, str(context["error"])), None, _described(path), value)
    if kind == "model_type" and item["input"] is None:
        return _Mistake(field, f"{field} is an empty section: fill it in, or remove the line.", None, _described(path))
    said, allowed = _SENTENCES.get(kind, (f"is refused ({item['msg']})", None))
    form = _FORMS.get(str(context.get("pattern")), "")
    allowed = allowed.format(**context, form=form) if allowed else None
    return _Mistake(field, f"{field} {said}.", allowed, _described(path), value)


def _sentence(field: str, message: str) -> str:
    """A validator's message as a sentence that names the field once."""
    subject = "" if not field or field in message else f"{field}: "
    return f"{subject}{message.rstrip('.')}."


def _unknown_key(path: list[str]) -> _Mistake:
    names = _field_names(path[:-1])
    near = difflib.get_close_matches(path[-1], names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    section = f" in the section {'.'.join(path[:-1])}" if path[:-1] else ""
    return _Mistake(".".join(path), f"There is no field {path[-1]}{section}.{hint}", ", ".join(names) or None)


def _hidden(path: list[str], value: object) -> bool:
    """Whether a value is left out of an error: a mapping is noise, and what may be a secret stays unseen."""
    if value is None or isinstance(value, dict):
        return True
    if any(part in _SECRET_FIELDS for part in path):
        return True
    return any(_LOOKS_SECRET.search(str(text)) for text in (value if isinstance(value, list) else [value]))


_SECRET_FIELDS = frozenset({"token", "prometheus_token", "access_key_id", "access_key_secret", "security_token"})
_LOOKS_SECRET = re.compile(r"\bgl[a-z]{1,5}-|\bGR1348941|\bLTAI|-----BEGIN|://[^/\s]*:[^/\s]*@")
"""Tokens of GitLab, AccessKey ids of Alibaba Cloud, keys in PEM, an address with a password in it."""


def _model_at(path: list[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Settings
    for part in path:
        if part.isdecimal():  # an entry of a list
            continue
        field = model.model_fields.get(part)
        inner = (
            [t for t in _annotations(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
            if field
            else []
        )
        if not inner:
            return None
        model = inner[0]
    return model


def _annotations(annotation: Any) -> list[Any]:
    """An annotation, and those that it is made of: `list[X] | None` holds X."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _annotations(part))]


def _field_names(path: list[str]) -> list[str]:
    model = _model_at(path)
    return [name for name in model.model_fields if name not in ("dry_run", "card")] if model else []


def _described(path: list[str]) -> str | None:
    """The field's own sentence; of a section, its model's."""
    model = _model_at(path[:-1]) if path else None
    field = model.model_fields.get(path[-1]) if model else None
    section = _model_at(path)
    return (field.description if field else None) or (section.__doc__ if section is not Settings and section else None)


if __name__ == "__main__":  # python -m runbook.settings > data/clusters/schema.json
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
