"""Who may do what in a project's bucket, as AWS policies: the graph, Sentinel Hub's deliveries, readers, BYOC.

Plain mappings that serialize to the JSON which AWS takes. Each grants what its holder is known to ask for, and nothing
outside the project's prefix.

A key that does not exist is told as 404 only to who may list it, else as 403: S3 checks s3:ListBucket with the key as
s3:prefix (ceph/ceph#68577 matches AWS in this). So whoever reads may list, under the same prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from eo_assets.errors import StoreError

Document = dict[str, Any]
VERSION = "2012-10-17"
UNFINISHED_DAYS = 7
"""Parts of uploads that were never finished are paid for, and no listing shows them."""

SERVICES: Mapping[str, str] = {
    "sentinel-hub.com": "arn:aws:iam::614251495211:root",
    "dataspace.copernicus.eu": "arn:aws:iam::ddf4c98b5e6647f0a246f0624c8341d9:root",
}
"""Who reads a bucket for BYOC, by deployment. The first is named by public client code, the second by CDSE's page."""

YOUR_ACCOUNT = "YOUR-SENTINEL-HUB-ACCOUNT-ID"
"""What a document says until somebody puts the account's id in its place."""

READING = ("s3:GetObject",)
WRITING = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
DELIVERING = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
LISTING = ("s3:ListBucket",)

_BUCKET = re.compile(r"(?!xn--)[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::[0-9a-f]{12,32}:(?:root|(?:role|user)/[\w+=,.@/-]+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix of a bucket, without slashes at its ends; empty is the whole bucket."""

    bucket: str
    prefix: str = ""

    def under(self, folder: str) -> Place:
        """A folder of it."""
        return Place(self.bucket, f"{self.prefix}/{folder}".strip("/"))

    @property
    def address(self) -> str:
        """As a project file names it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def bucket_arn(self) -> str:
        """The bucket itself: what listing is allowed on."""
        return f"arn:aws:s3:::{self.bucket}"

    def objects(self, pattern: str = "*") -> str:
        """The objects under the prefix whose keys go on like this; `*` is anything, slashes too."""
        return f"{self.bucket_arn}/{self.prefix}/{pattern}" if self.prefix else f"{self.bucket_arn}/{pattern}"


def place_of(address: str) -> Place:
    """The place at `s3://bucket/prefix`.

    Raises:
        StoreError: it is a local folder, no name that a bucket can have, or a prefix that a policy would read as a
            pattern.
    """
    url = urlsplit(address)
    if url.scheme != "s3":
        raise StoreError(f"{address}: not in a bucket, so no policy is needed; name s3://bucket or s3://bucket/prefix")
    if not _BUCKET.fullmatch(url.netloc) or ".." in url.netloc or _ADDRESS.fullmatch(url.netloc):
        raise StoreError(
            f"{address}: {url.netloc or 'nothing'} can't be the name of a bucket: 3 to 63 lower-case letters, digits, "
            "dots and hyphens, a letter or digit at both ends"
        )
    prefix = address.removeprefix(f"s3://{url.netloc}").strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise StoreError(f"{address}: an empty or dotted part of the prefix; write s3://bucket/prefix with plain names")
    if wild := sorted(set(prefix) & set("*?${}#")):
        raise StoreError(f"{address}: {wild[0]} in a prefix means other prefixes too; choose one without it")
    return Place(url.netloc, prefix)


def graph(place: Place) -> Document:
    """For the user or role that runs the graph: list, read, write and delete, large files in parts."""
    return _document(
        _listing("ListTheProject", place, LISTING),
        _allow("ReadAndWriteTheProject", WRITING, place.objects()),
    )


def reader(place: Place) -> Document:
    """For people and programs that only look: list and read."""
    return _document(
        _listing("ListTheProject", place, LISTING),
        _allow("ReadTheProject", READING, place.objects()),
    )


def delivery(place: Place, folder: str = "tiffs") -> Document:
    """For the role that Sentinel Hub takes to deliver: put under the tiffs' folder, get the tiles that a request names.

    It can neither read imagery nor delete.
    """
    tiffs = place.under(folder)
    return _document(
        _listing("ListDeliveries", tiffs, LISTING),
        _location(place),
        _allow("Deliver", DELIVERING, tiffs.objects()),
        _allow("ReadTheTilesOfARequest", READING, tiffs.objects("*.gpkg")),
    )


def delivery_trust(principal: str, external_id: str) -> Document:
    """Who may take that role: the service, and only on behalf of your account there, which is the external id."""
    condition = {"StringEquals": {"sts:ExternalId": external_id}}
    statement = {"Sid": "SentinelHubForOneAccount", "Effect": "Allow", "Principal": {"AWS": principal}}
    return {"Version": VERSION, "Statement": [{**statement, "Action": "sts:AssumeRole", "Condition": condition}]}


def byoc_reading(place: Place, principal: str, folder: str = "maps") -> Document:
    """The policy ON the bucket by which Sentinel Hub reads maps that are published as a BYOC collection.

    Its documentation asks for the listing of the whole bucket, which tells names; objects are read from the maps only.
    """
    everyone = {"Principal": {"AWS": principal}}
    actions = ("s3:GetBucketLocation", "s3:ListBucket")
    return _document(
        {**_allow("SentinelHubFindsMaps", actions, place.bucket_arn), **everyone},
        {**_allow("SentinelHubReadsMaps", READING, place.under(folder).objects()), **everyone},
    )


def lifecycle(place: Place) -> Document:
    """The bucket's lifecycle rule: uploads that were begun and never finished are removed after a week."""
    return {
        "Rules": [
            {
                "ID": "abort-unfinished-uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{place.prefix}/" if place.prefix else ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_DAYS},
            }
        ]
    }


def principal_of(service: str, principal: str | None = None) -> str:
    """The ARN that a deployment comes as, unless another one is given. A StoreError for what is neither."""
    if principal is not None:
        if not _PRINCIPAL.fullmatch(principal):
            raise StoreError(f"--principal {principal}: not a principal; write arn:aws:iam::ACCOUNT:root or :role/NAME")
        return principal
    if service not in SERVICES:
        raise StoreError(
            f"--service {service}: who reads for it is not known; use one of {', '.join(SERVICES)}, or give --principal"
        )
    return SERVICES[service]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the policy of a role may depend on. `folder` is another one than a project has by default."""

    place: Place
    service: str = "sentinel-hub.com"
    principal: str | None = None
    external_id: str = YOUR_ACCOUNT
    folder: str | None = None


def _trust(asked: Asked) -> Document:
    if asked.service == "dataspace.copernicus.eu" and asked.principal is None:
        raise StoreError(
            "--role delivery-trust: CDSE takes no role, it delivers with a key pair; make the pair's policy with "
            "--role delivery"
        )
    return delivery_trust(principal_of(asked.service, asked.principal), asked.external_id)


ROLES: Mapping[str, Callable[[Asked], Document]] = {
    "graph": lambda asked: graph(asked.place),
    "delivery": lambda asked: delivery(asked.place, asked.folder or "tiffs"),
    "delivery-trust": _trust,
    "reader": lambda asked: reader(asked.place),
    "bucket": lambda asked: byoc_reading(
        asked.place, principal_of(asked.service, asked.principal), asked.folder or "maps"
    ),
    "lifecycle": lambda asked: lifecycle(asked.place),
}
"""What there is a document for, see deploy/README.md."""


def _document(*statements: Document) -> Document:
    return {"Version": VERSION, "Statement": list(statements)}


def _allow(name: str, actions: Sequence[str], resource: str) -> Document:
    return {"Sid": name, "Effect": "Allow", "Action": list(actions), "Resource": resource}


def _listing(name: str, place: Place, actions: Sequence[str]) -> Document:
    statement = _allow(name, actions, place.bucket_arn)
    if not place.prefix:
        return statement
    return {**statement, "Condition": {"StringLike": {"s3:prefix": [place.prefix, f"{place.prefix}/*"]}}}


def _location(place: Place) -> Document:
    return _allow("FindTheRegion", ("s3:GetBucketLocation",), place.bucket_arn)
