"""`aws ...` as a person types it, answered through boto3: the CLI is no dependency of this project.

Operations and their parameters are those of AWS's own API models, so a line that names one that is not there fails;
of the CLI's own commands there are `s3 mb`, `s3 cp` of one file and `s3 rb --force`, without what they print.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jmespath
from botocore import xform_name

from tests.moto_server import Moto


def answer(moto: Moto, words: Sequence[str], folder: Path) -> str:
    """What the command prints: all of the answer, or what `--query` finds in it. Files are found in `folder`."""
    service, operation, *rest = words
    if service == "s3":
        _s3(moto, operation, rest, folder)
        return ""
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    query, form = options.pop("--query", "@"), options.pop("--output", "json")
    assert options.pop("--region", "eu-central-1") == "eu-central-1"
    if (service, operation) == ("ecr", "get-login-password"):
        return "a-password"
    client = moto.client({"s3api": "s3"}.get(service, service))
    said = getattr(client, operation.replace("-", "_"))(**_parameters(client, operation, options, folder))
    said.pop("ResponseMetadata", None)
    found = jmespath.search(query, said)
    if form != "text":
        return json.dumps(found, default=str)
    return "\t".join(map(str, found)) if isinstance(found, list) else str(found)


def _parameters(client: Any, operation: str, options: dict[str, str], folder: Path) -> dict[str, str]:
    name = client.meta.method_to_api_mapping[operation.replace("-", "_")]
    shape = client.meta.service_model.operation_model(name).input_shape
    known = {f"--{xform_name(member, '-')}": member for member in (shape.members if shape else ())}
    assert set(options) <= set(known), f"{operation} has no {set(options) - set(known)}"
    return {known[option]: _value(value, folder) for option, value in options.items()}


def _value(value: str, folder: Path) -> str:
    return (folder / value.removeprefix("file://")).read_text() if value.startswith("file://") else value


def _s3(moto: Moto, operation: str, rest: Sequence[str], folder: Path) -> None:
    client = moto.client("s3")
    match operation, *rest:
        case "mb", place, "--region", region:
            client.create_bucket(
                Bucket=urlsplit(place).netloc, CreateBucketConfiguration={"LocationConstraint": region}
            )
        case "cp", source, place if place.endswith("/"):
            there = urlsplit(place)
            key = there.path.lstrip("/") + Path(source).name
            client.put_object(Bucket=there.netloc, Key=key, Body=(folder / source).read_bytes())
        case "rb", "--force", place:
            bucket = urlsplit(place).netloc
            with contextlib.suppress(KeyError):
                for held in client.list_objects_v2(Bucket=bucket)["Contents"]:
                    client.delete_object(Bucket=bucket, Key=held["Key"])
            client.delete_bucket(Bucket=bucket)
        case _:
            raise AssertionError(f"aws s3 {operation} {' '.join(rest)}: not known here")
