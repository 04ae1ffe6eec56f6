"""The bucket as Dagster itself is given it: dagster-aws's S3 resource, and what a sensor lists with its client."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from dagster_aws.s3 import S3Resource

from resources.object_keys import hidden, joined, literal_head, matches, unfinished
from resources.object_store import Listed, Matching
from resources.s3_access import S3Access


def s3_key(project: str) -> str:
    """The key of a project's S3 resource."""
    return f"{project}_s3"


def s3_resource(access: S3Access) -> S3Resource:
    """A client of the same endpoint and credentials as everything else; what `access` leaves open boto3 finds too."""
    return S3Resource(endpoint_url=access.endpoint, region_name=access.region, profile_name=access.profile)


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
