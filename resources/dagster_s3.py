"""The bucket as Dagster itself is given it: dagster-aws's S3 resource and compute logs, and what a sensor lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, cast

import boto3
from botocore.config import Config
from dagster import Field, StringSource
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._serdes import ConfigurableClassData
from dagster_aws.s3 import S3Resource
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

from resources.core_dumps import forbid_core_dumps
from resources.object_keys import hidden, joined, literal_head, matches, unfinished
from resources.object_store import Listed, Matching
from resources.s3_access import S3Access
from resources.s3_settings import settings

ATTEMPTS = 5
"""Of a request of Dagster's, the first one counted."""


def s3_key(project: str) -> str:
    """The key of a project's S3 resource."""
    return f"{project}_s3"


def s3_client(access: S3Access) -> Any:
    """A boto3 client of the same endpoint, region, addressing and credentials as everything else."""
    forbid_core_dumps()
    found = settings(access)
    config = Config(
        s3={"addressing_style": "virtual" if found.virtual else "path"},
        retries={"max_attempts": ATTEMPTS, "mode": "standard"},
    )
    session = boto3.session.Session(profile_name=access.profile)
    return session.client("s3", region_name=found.region, endpoint_url=found.endpoint, config=config)


class BucketResource(S3Resource):
    """dagster-aws's own, which knows neither AWS_REGION nor where a bucket's name goes."""

    addressing: str | None = None

    def get_client(self) -> Any:
        """What is left open is settled where the client is used."""
        return s3_client(_access(self.endpoint_url, self.region_name, self.profile_name, self.addressing))


def s3_resource(access: S3Access) -> S3Resource:
    """The resource of a bucket; nothing is looked up yet."""
    return BucketResource(
        endpoint_url=access.endpoint,
        region_name=access.region,
        profile_name=access.profile,
        addressing=access.addressing,
    )


class BucketLogs(S3ComputeLogManager):
    """dagster-aws's own compute logs, with a client like all others: it knows no profiles. Named in dagster.yaml."""

    def __init__(
        self,
        bucket: str,
        inst_data: ConfigurableClassData | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        addressing: str | None = None,
        **others: Any,
    ) -> None:
        # It makes a client without the profile, which sends nothing; where the chain has no key otherwise that takes a
        # second or two on a machine that is no instance of EC2.
        super().__init__(bucket, inst_data=inst_data, endpoint_url=endpoint_url, region=region, **others)
        self._s3_session = s3_client(_access(endpoint_url, region, profile, addressing))
        self._region = self._s3_session.meta.region_name

    def download_url_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> None:
        """No signed address, which would let in whoever sees it: the UI shows the text, and where the object lies."""
        return

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What `dagster.yaml` may say of it."""
        mine = dict.fromkeys(("profile", "addressing"), Field(StringSource, is_required=False))
        return {**super().config_type(), **mine}  # type: ignore[no-untyped-call]


def _access(endpoint: str | None, region: str | None, profile: str | None, addressing: str | None) -> S3Access:
    return S3Access(endpoint, region, profile, cast("Literal['path', 'virtual'] | None", addressing))


def matching_with(client: Any, project_folder: str) -> Matching:
    """A listing of the project folder `s3://bucket/prefix` by key and ETag, with a boto3 client."""
    bucket, _, prefix = project_folder.removeprefix("s3://").partition("/")

    def matching(pattern: str) -> list[Listed]:
        head, rest = literal_head(pattern)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{joined(prefix, head)}/")
        objects = (found for page in pages for found in page.get("Contents", ()))
        listed = (_listed(found, len(prefix) + 1 if prefix else 0) for found in objects)
        skipped = len(PurePosixPath(head).parts)
        return [
            found
            for found in listed
            if matches(PurePosixPath(found.key).parts[skipped:], rest)
            and not hidden(found.key)
            and not unfinished(found.key)
        ]

    return matching


def _listed(found: dict[str, Any], skipped: int) -> Listed:
    return Listed(found["Key"][skipped:], found["Size"], found["ETag"].strip('"'), found["LastModified"].timestamp())
