"""An OSS bucket as a Kubernetes volume: its endpoint, its source, its manifests. Pure: values in, values out.

Static volumes only, which is all that ACK Serverless offers for OSS. Two forms are known: the CSI driver
`ossplugin.csi.alibabacloud.com`, and `alicloud/oss`, the FlexVolume driver of older clusters (deprecated since
Kubernetes 1.20). Sources: the vendor's pages on statically provisioned OSS volumes and on OSS endpoints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from runbook.report import Check
from runbook.settings import Settings

Manifest = dict[str, Any]

CSI_DRIVER = "ossplugin.csi.alibabacloud.com"
FLEX_DRIVER = "alicloud/oss"
SECRET_KEYS = ("akId", "akSecret")
"""Keys of the Secret that both drivers read, in this very spelling."""
VOLUME_LABEL = "alicloud-pvname"
"""Label by which the vendor's own pages select a volume."""
ACCESS_MODES = ["ReadWriteMany"]


# -- the endpoint ---------------------------------------------------------------------------------------------

_ENDPOINT = re.compile(r"(?P<old>vpc100-)?oss-(?P<region>[a-z]{2}-[a-z0-9-]+?)(?P<internal>-internal)?\.aliyuncs\.com")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_OWN_NAMES = ("-finance", "-gov")
"""Regions whose OSS endpoints bear names of their own, so that a mismatch proves nothing."""

ENDPOINT_TITLE = "The OSS endpoint is the free internal one of the cluster's region"


def endpoint(settings: Settings) -> str:
    """The OSS endpoint as it goes into the volume: the card's without a scheme, else the region's internal one."""
    written = settings.cache.endpoint
    return _SCHEME.sub("", written).rstrip("/") if written else internal_endpoint(settings.region)


def internal_endpoint(region: str) -> str:
    """The endpoint inside the VPC, whose traffic is free."""
    return f"oss-{region}-internal.aliyuncs.com"


def check_endpoint(written: str, *, region: str, bucket: str | None) -> Check:
    """Judge one endpoint by its form alone; `written` is what the card or a volume says."""
    modern = internal_endpoint(region)
    bare = _SCHEME.sub("", written).rstrip("/")
    if bucket and bare.startswith(f"{bucket}."):
        return _endpoint_failed(
            f"{written} is the bucket's own domain, not an endpoint: the driver puts the bucket before it once more",
            modern,
        )
    if "/" in bare or ":" in bare:
        return _endpoint_failed(f"{written} is more than a host name", modern)
    form = _ENDPOINT.fullmatch(bare)
    if form is None:
        return _endpoint_warned(
            f"{written} has no form that is known here; only a probe shows whether it works", modern
        )
    if form["region"] != region and not region.endswith(_OWN_NAMES):
        if form["internal"] or form["old"]:
            return _endpoint_failed(
                f"{written} is the internal endpoint of {form['region']}; it cannot be reached from {region}", modern
            )
        return _endpoint_warned(f"{written} is the public endpoint of {form['region']}: every byte is paid for", modern)
    if form["old"]:
        return _endpoint_warned(f"{written} is the deprecated form; the modern one is {modern}", modern)
    if not form["internal"]:
        return _endpoint_warned(
            f"{written} is the public endpoint: every byte that is read is paid for, and pods need a way out of the VPC",
            modern,
        )
    if bare != written:
        return _endpoint_warned(f"{written} has a scheme; an endpoint is a bare host name", modern)
    return Check.passed("oss-endpoint", ENDPOINT_TITLE, written)


def _endpoint_failed(observed: str, modern: str) -> Check:
    return Check.failed(
        "oss-endpoint",
        ENDPOINT_TITLE,
        observed,
        expected=modern,
        remedy=f"Set cache.endpoint: {modern}, or leave it out.",
    )


def _endpoint_warned(observed: str, modern: str) -> Check:
    return Check.warned(
        "oss-endpoint",
        ENDPOINT_TITLE,
        observed,
        expected=modern,
        remedy=f"Set cache.endpoint: {modern}, or leave it out.",
    )


# -- the source -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a PersistentVolume stands for. It holds no key: `inline_key` only says that the volume itself holds one."""

    driver: str
    bucket: str = ""
    path: str = "/"
    endpoint: str = ""
    options: str = ""
    secret: str = ""
    """Secret of the AccessKey as NAMESPACE/NAME, or empty."""
    inline_key: bool = False

    @property
    def data(self) -> tuple[str, str]:
        """Where the files are: bucket and folder. Two sources with the same data show the same files."""
        return self.bucket, "/" + self.path.strip("/")

    def as_dict(self) -> dict[str, object]:
        """For a diff: the words of the CSI driver."""
        words: dict[str, object] = {
            "driver": self.driver,
            "bucket": self.bucket,
            "path": self.data[1],
            "url": self.endpoint,
            "otherOpts": self.options,
            "secret": self.secret,
        }
        return words | ({"AccessKey": "in the volume itself"} if self.inline_key else {})

    def __str__(self) -> str:
        bucket, path = self.data
        return f"oss://{bucket}{path} ({self.driver})" if bucket else self.driver


def source_of(volume: Manifest) -> Source:
    """The source of a live PersistentVolume, whichever form it has."""
    spec = volume.get("spec", {})
    if csi := spec.get("csi"):
        return _source(csi.get("driver", ""), csi.get("volumeAttributes") or {}, csi.get("nodePublishSecretRef"))
    if flex := spec.get("flexVolume"):
        return _source(flex.get("driver", ""), flex.get("options") or {}, flex.get("secretRef"))
    others = [
        key
        for key, value in spec.items()
        if isinstance(value, dict) and key not in ("capacity", "claimRef", "nodeAffinity")
    ]
    return Source(", ".join(others) or "unknown")


def wanted_source(settings: Settings) -> Source:
    """The source that the card asks for."""
    card = settings.cache
    return Source(
        driver=CSI_DRIVER if card.driver == "csi" else FLEX_DRIVER,
        bucket=card.bucket or "",
        path=card.path,
        endpoint=endpoint(settings),
        options=card.options,
        secret=f"{settings.kubernetes.namespace}/{card.secret}",
    )


def _source(driver: str, options: dict[str, str], secret: dict[str, str] | None) -> Source:
    return Source(
        driver=driver,
        bucket=options.get("bucket", ""),
        path=options.get("path") or "/",
        endpoint=options.get("url", ""),
        options=options.get("otherOpts", ""),
        secret=f"{secret.get('namespace', '')}/{secret.get('name', '')}" if secret else "",
        inline_key=any(key in options for key in SECRET_KEYS),
    )


def without_keys(volume: Manifest) -> Manifest:
    """The volume with AccessKeys that stand in it hidden: what may be kept in facts and shown."""
    spec = dict(volume.get("spec", {}))
    for kind, field in (("csi", "volumeAttributes"), ("flexVolume", "options")):
        if field in (spec.get(kind) or {}):
            shown = {key: "(hidden)" if key in SECRET_KEYS else text for key, text in spec[kind][field].items()}
            spec[kind] = {**spec[kind], field: shown}
    metadata = {
        key: value for key, value in volume.get("metadata", {}).items() if key not in ("managedFields", "annotations")
    }
    return {**volume, "metadata": metadata, "spec": spec}


# -- the manifests --------------------------------------------------------------------------------------------


def persistent_volume(settings: Settings) -> Manifest:
    """The PersistentVolume, kept for the card's claim alone (`claimRef`) and never deleted with it (`Retain`)."""
    card, source = settings.cache, wanted_source(settings)
    namespace, secret = source.secret.split("/")
    attributes = {
        "bucket": source.bucket,
        "url": source.endpoint,
        "path": source.data[1],
        "otherOpts": source.options,
    }
    reference = {"name": secret, "namespace": namespace}
    form = (
        {
            "csi": {
                "driver": CSI_DRIVER,
                "volumeHandle": card.volume,
                "nodePublishSecretRef": reference,
                "volumeAttributes": attributes,
            }
        }
        if card.driver == "csi"
        else {"flexVolume": {"driver": FLEX_DRIVER, "secretRef": reference, "options": attributes}}
    )
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": card.volume, "labels": {VOLUME_LABEL: card.volume}},
        "spec": {
            "capacity": {"storage": card.size},
            "accessModes": ACCESS_MODES,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": settings.kubernetes.namespace,
                "name": card.claim,
            },
            **form,
        },
    }


def persistent_volume_claim(settings: Settings, volume: Manifest | None) -> Manifest:
    """The claim on the card's volume. A volume that is there already lends it its class and size, so that it binds."""
    card = settings.cache
    spec = (volume or {}).get("spec", {})
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": card.claim, "namespace": settings.kubernetes.namespace},
        "spec": {
            "accessModes": spec.get("accessModes") or ACCESS_MODES,
            "storageClassName": spec.get("storageClassName", ""),
            "volumeName": card.volume,
            "resources": {"requests": {"storage": (spec.get("capacity") or {}).get("storage") or card.size}},
        },
    }


def secret_type(settings: Settings) -> str:
    """The kubelet hands a Secret to a FlexVolume driver only if its type is the driver's name."""
    return "Opaque" if settings.cache.driver == "csi" else FLEX_DRIVER
