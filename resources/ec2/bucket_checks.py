"""A project's bucket as AWS knows it: is it there, in which region, who may read and deliver, is it private."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eo_assets.core.bucket_policies import Place, byoc_reading, delivery, principal_of
from eo_assets.core.policy_grants import missing_grants
from eo_assets.errors import ClusterError
from resources.ec2.account import AwsAccount
from resources.ec2.findings import Row

ABOUT = "bucket"
REGIONS: Mapping[str, str] = {
    "services.sentinel-hub.com": "eu-central-1",
    "services-uswest2.sentinel-hub.com": "us-west-2",
}
"""Where deployments on AWS are, by host (from documentation: docs.sentinel-hub.com). Others are in their own clouds."""

OTHER_CLOUDS = ("creodias.sentinel-hub.com", "sh.dataspace.copernicus.eu")
READS_AS: Mapping[str, str] = {
    "services.sentinel-hub.com": "sentinel-hub.com",
    "services-uswest2.sentinel-hub.com": "sentinel-hub.com",
    "sh.dataspace.copernicus.eu": "dataspace.copernicus.eu",
}
"""Whose account of `bucket_policies.SERVICES` a deployment reads maps by, by host."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A service that a project names, by the host of its address. `role`: the ARN of the role that it delivers by."""

    name: str
    host: str
    delivers: bool
    publishes: bool
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in a bucket and how its account is reached; `tiffs` and `maps` are folders of the project."""

    place: Place
    aws: AwsAccount
    tiffs: str
    maps: str


def region_of(bucket: Bucket) -> str:
    """Where the bucket is. A ClusterError if it is not there, or not ours to look at."""
    from botocore.exceptions import ClientError

    name = bucket.place.bucket
    with bucket.aws.asked(f"looking for the bucket {name}"):
        try:
            said = bucket.aws.client("s3").head_bucket(Bucket=name)["ResponseMetadata"]
        except ClientError as error:
            said, code = error.response["ResponseMetadata"], error.response["Error"].get("Code")
            if code in ("404", "NoSuchBucket"):
                raise ClusterError(
                    f"there is no bucket {name}: make it with `aws s3 mb s3://{name} --region {bucket.aws.region}`"
                ) from None
            if code in ("403", "AccessDenied"):
                raise ClusterError(
                    f"the bucket {name} is another account's, or these credentials may not list it: choose another "
                    f"name in storage.project_folder, or give them what `eo-assets bucket-policy s3://{name}` prints"
                ) from None
            if code not in ("301", "PermanentRedirect"):
                raise
    told = said.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if told is None:  # Servers that are not AWS leave it out.
        with bucket.aws.asked(f"looking for the region of {name}"):
            told = bucket.aws.client("s3").get_bucket_location(Bucket=name)["LocationConstraint"]
    return {"": "us-east-1", "EU": "eu-west-1"}.get(told or "", str(told))


def regions(found: str, cluster: str | None, deployments: Sequence[Deployment]) -> Iterator[Row]:
    """Is the bucket where the cluster is, and where the services that deliver to it and read from it are?"""
    if cluster is not None:
        remedy = "every gigabyte between regions costs and takes time: set cluster.region to the bucket's"
        same = found == cluster
        yield Row(ABOUT, "region of the cluster", same, f"bucket {found}, cluster {cluster}", "" if same else remedy)
    for one in deployments:
        wanted = REGIONS.get(one.host)
        what = f"region of {one.name}"
        if wanted is not None:
            good = found == wanted
            remedy = (
                "" if good else f"it reads and delivers in its own region: put the project into a bucket in {wanted}"
            )
            yield Row(ABOUT, what, good, f"bucket {found}, {one.host} {wanted}", remedy)
        elif one.host in OTHER_CLOUDS:
            yield Row(
                ABOUT, what, False, f"bucket {found}, on AWS; {one.host} is in a cloud of its own",
                "name a bucket of that cloud in storage.project_folder and storage.s3, or another service",
            )  # fmt: skip
        else:
            yield Row(ABOUT, what, None, f"bucket {found}; where {one.host} is, is not known here")


def reading(bucket: Bucket, deployments: Sequence[Deployment]) -> Iterator[Row]:
    """May the services that publish maps read them? The policy on the bucket, against what BYOC needs."""
    publishing = [one for one in deployments if one.publishes]
    if not publishing:
        return
    held = _policy(bucket)
    for one in publishing:
        what, reader = f"{one.name} reads maps", READS_AS.get(one.host)
        if reader is None:
            yield Row(ABOUT, what, None, f"whom {one.host} comes as is not known here", _policy_remedy(bucket, None))
            continue
        wanted = byoc_reading(bucket.place, principal_of(reader), bucket.maps)
        lacking = missing_grants([held] if held else [], wanted)
        found = "no policy on the bucket" if held is None else f"its policy lacks {'; '.join(lacking)}"
        if lacking:
            yield Row(ABOUT, what, False, found, _policy_remedy(bucket, reader))
        else:
            yield Row(ABOUT, what, True, "the policy on the bucket allows it")


def _policy_remedy(bucket: Bucket, reader: str | None) -> str:
    service = f"--service {reader}" if reader else "--principal ARN"
    folder = f" --folder {bucket.maps}" if bucket.maps != "maps" else ""
    return (
        f"eo-assets bucket-policy s3://{bucket.place.bucket}/{bucket.place.prefix} --role bucket {service}{folder} "
        f"> policy.json; aws s3api put-bucket-policy --bucket {bucket.place.bucket} --policy file://policy.json"
    )


def _policy(bucket: Bucket) -> dict[str, Any] | None:
    said = _told(bucket, "get_bucket_policy", "NoSuchBucketPolicy")
    return None if said is None else dict(json.loads(said["Policy"]))


def delivering(bucket: Bucket, deployments: Sequence[Deployment]) -> Iterator[Row]:
    """The role that a service delivers by: is it there, may the service take it, may it write the tiffs?"""
    for one in deployments:
        if not one.delivers:
            continue
        what = f"{one.name} delivers"
        if one.role is None:
            if one.host in REGIONS:
                remedy = f"give services.{one.name}.iam_role_arn; deploy/README.md says how the role is made"
                yield Row(ABOUT, what, False, "no role is named", remedy)
            else:
                yield Row(ABOUT, what, None, "by a key pair: what it may, only a delivery shows")
            continue
        yield _role(bucket, one, what)


def _role(bucket: Bucket, one: Deployment, what: str) -> Row:
    from botocore.exceptions import ClientError

    name, iam = str(one.role).rsplit("/", 1)[-1], bucket.aws.client("iam")
    folder = "" if bucket.tiffs.split("/")[0] == "tiffs" else f" --folder {bucket.tiffs}"
    policy = f"eo-assets bucket-policy s3://{bucket.place.bucket}/{bucket.place.prefix} --role"
    allow = (
        f"{policy} delivery{folder} > delivery.json; aws iam put-role-policy --role-name {name} "
        "--policy-name eo-assets --policy-document file://delivery.json"
    )
    trust_it = f"{policy} delivery-trust --external-id YOUR-ACCOUNT-THERE > trust.json; aws iam"
    make = f"{trust_it} create-role --role-name {name} --assume-role-policy-document file://trust.json; {allow}"
    let_in = f"{trust_it} update-assume-role-policy --role-name {name} --policy-document file://trust.json"
    with bucket.aws.asked(f"looking for the role {name}"):
        try:
            trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        except ClientError as error:
            if error.response["Error"].get("Code") != "NoSuchEntity":
                raise
            return Row(ABOUT, what, False, f"there is no role {name}", make)
        rights = list(_rights(iam, name))
    reader = READS_AS.get(one.host)
    trusted = (
        {"Statement": [{"Action": "sts:AssumeRole", "Principal": {"AWS": principal_of(reader)}}]} if reader else None
    )
    external = [{**said, "Condition": {}} for said in _statements(trust)]
    if trusted is not None and missing_grants([{"Statement": external}], trusted):
        return Row(ABOUT, what, False, f"the service may not take the role {name}", let_in)
    if lacking := missing_grants(rights, delivery(bucket.place, bucket.tiffs)):
        return Row(ABOUT, what, False, f"the role {name} lacks {'; '.join(lacking)}", allow)
    return Row(ABOUT, what, True, f"by the role {name}; whether the service takes it, only a delivery shows")


def _statements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    said = document["Statement"]
    return list(said) if isinstance(said, list) else [said]


def _rights(iam: Any, role: str) -> Iterator[dict[str, Any]]:
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        yield iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        yield iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def keeping(bucket: Bucket) -> Iterator[Row]:
    """Is it closed to the public, and does it keep what is deleted? Neither stops a run."""
    name = bucket.place.bucket
    said = _told(bucket, "get_public_access_block", "NoSuchPublicAccessBlockConfiguration")
    switches = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    closed = said is not None and all(said["PublicAccessBlockConfiguration"].get(one) for one in switches)
    block = ",".join(f"{one}=true" for one in switches)
    yield Row(
        ABOUT, "private", closed or None, "public access is blocked" if closed else "public access is not blocked",
        "" if closed else f"aws s3api put-public-access-block --bucket {name} "
        f"--public-access-block-configuration {block}",
    )  # fmt: skip
    versions = _told(bucket, "get_bucket_versioning", "")
    if versions is not None and versions.get("Status") == "Enabled":
        yield Row(
            ABOUT, "versions", None, "it keeps what is deleted or replaced, and that is paid for",
            "give it a lifecycle rule with NoncurrentVersionExpiration, or suspend versioning",
        )  # fmt: skip


def _told(bucket: Bucket, question: str, nothing: str) -> Any:
    """The answer to a question about the bucket; None if AWS answers that there is none."""
    from botocore.exceptions import ClientError

    with bucket.aws.asked(f"{question.replace('_', ' ')} of {bucket.place.bucket}"):
        try:
            return getattr(bucket.aws.client("s3"), question)(Bucket=bucket.place.bucket)
        except ClientError as error:
            if error.response["Error"].get("Code") == nothing:
                return None
            raise
