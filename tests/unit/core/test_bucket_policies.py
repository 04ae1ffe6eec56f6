"""What each policy allows and denies, judged by a small evaluator of IAM: allowed only where a statement says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eo_assets.cli import main
from eo_assets.core import bucket_policies as policies
from eo_assets.core.bucket_policies import ROLES, Asked, Place, place_of
from eo_assets.errors import StoreError

DEPLOY = Path(__file__).parents[3] / "deploy/aws"
ADDRESS = "s3://your-bucket/your-project"
PLACE = Place("your-bucket", "your-project")
DOCUMENTS = {
    "graph.json": ("graph",),
    "reader.json": ("reader",),
    "delivery.json": ("delivery",),
    "delivery-trust.json": ("delivery-trust",),
    "bucket-sentinel-hub.json": ("bucket",),
    "bucket-cdse.json": ("bucket", "--service", "dataspace.copernicus.eu"),
    "lifecycle.json": ("lifecycle",),
}

OBJECT = {
    "GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts", "PutObjectAcl",
    "GetObjectAcl", "DeleteObjectVersion",
}  # fmt: skip


def _like(pattern: str, value: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value, re.DOTALL) is not None


def allowed(document: dict[str, Any], action: str, key: str = "", prefix: str | None = None, bucket: str = "") -> bool:
    """Is an action allowed on a key, or a listing under a prefix?"""
    resource = f"arn:aws:s3:::{bucket or PLACE.bucket}" + (f"/{key}" if action in OBJECT else "")
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if (
            f"s3:{action}" in statement["Action"]
            and _like(statement["Resource"], resource)
            and (wanted is None or (prefix is not None and any(_like(pattern, prefix) for pattern in wanted)))
        ):
            return True
    return False


MINE, OTHERS = "your-project/features/2020/33UUU_3_7/.zarray", "your-project-2/features/2020/.zarray"

# (action, key, prefix of a listing): what obstore, GDAL and boto3 ask for.
CALLS_OF_THE_GRAPH = [
    ("GetObject", MINE, None),  # GET, HEAD, a range, the source of a copy
    ("PutObject", MINE, None),  # PUT, with If-None-Match and If-Match, each part of an upload
    ("DeleteObject", MINE, None),  # DELETE, and each key of a bulk delete
    ("AbortMultipartUpload", MINE, None),
    ("ListBucket", "", "your-project/"),
    ("ListBucket", "", "your-project"),
    ("ListBucket", "", "your-project/features/2020/_commits/"),
    ("ListBucket", "", MINE),  # asked of a key that is not there, so that 404 is told and not 403
]
CALLS_OF_A_READER = [call for call in CALLS_OF_THE_GRAPH if call[0] in ("GetObject", "ListBucket")]
NOBODYS = [
    ("ListBucketMultipartUploads", "", "your-project/"),
    ("GetObject", OTHERS, None),
    ("PutObject", OTHERS, None),
    ("DeleteObject", OTHERS, None),
    ("GetObject", "secrets.txt", None),
    ("ListBucket", "", "your-project-2/"),
    ("PutObjectAcl", MINE, None),
    ("PutBucketAcl", "", None),
    ("PutBucketPolicy", "", None),
    ("DeleteBucket", "", None),
    ("DeleteObjectVersion", MINE, None),
    ("PutLifecycleConfiguration", "", None),
]


@pytest.mark.parametrize("call", CALLS_OF_THE_GRAPH, ids=lambda call: call[0])
def test_the_graph_may_do_all_that_its_clients_ask_for(call: tuple[str, str, str | None]) -> None:
    assert allowed(policies.graph(PLACE), *call)


@pytest.mark.parametrize("role", ["graph", "reader", "delivery"])
@pytest.mark.parametrize("call", [*NOBODYS, ("ListBucket", "", ""), ("ListBucket", "", None)], ids=str)
def test_no_role_reaches_beyond_the_project(role: str, call: tuple[str, str, str | None]) -> None:
    assert not allowed(ROLES[role](Asked(PLACE)), *call)


@pytest.mark.parametrize("call", CALLS_OF_THE_GRAPH, ids=str)
def test_nobody_reaches_another_bucket(call: tuple[str, str, str | None]) -> None:
    assert not allowed(policies.graph(PLACE), *call, bucket="your-bucket-2")


def test_a_reader_may_look_and_nothing_else() -> None:
    document = policies.reader(PLACE)
    assert all(allowed(document, *call) for call in CALLS_OF_A_READER)
    assert not any(allowed(document, *call) for call in CALLS_OF_THE_GRAPH if call not in CALLS_OF_A_READER)


def test_a_delivery_is_put_and_the_tiles_of_a_request_are_read() -> None:
    document = policies.delivery(PLACE)
    delivered = "your-project/tiffs/2020/1a2b/33UUU_3_7/B04.tif"
    assert allowed(document, "PutObject", delivered)
    assert allowed(document, "AbortMultipartUpload", delivered)
    assert allowed(document, "GetObject", "your-project/tiffs/2020/_orders/7f.gpkg")
    assert allowed(document, "ListBucket", prefix="your-project/tiffs/2020/1a2b/")
    assert not allowed(document, "GetObject", delivered), "it brings imagery and takes none away"
    assert not allowed(document, "DeleteObject", delivered)
    assert not allowed(document, "PutObject", "your-project/maps/utm32633_result.tiff")
    assert not allowed(document, "PutObject", "your-project/tiffs-of-others/B04.tif")
    assert not allowed(document, "ListBucket", prefix="your-project/maps/")


def test_the_bucket_lets_the_service_read_maps_and_only_those() -> None:
    document = policies.byoc_reading(PLACE, policies.principal_of("sentinel-hub.com"))
    assert allowed(document, "GetObject", "your-project/maps/utm32633_result.tiff")
    assert allowed(document, "ListBucket")
    assert allowed(document, "GetBucketLocation")
    assert not any(allowed(document, action, MINE) for action in OBJECT)
    assert {statement["Principal"]["AWS"] for statement in document["Statement"]} == {"arn:aws:iam::614251495211:root"}


def test_cdse_comes_as_somebody_else_and_so_may_anybody() -> None:
    asked = Asked(PLACE, service="dataspace.copernicus.eu")
    named = {statement["Principal"]["AWS"] for statement in ROLES["bucket"](asked)["Statement"]}
    assert named == {"arn:aws:iam::ddf4c98b5e6647f0a246f0624c8341d9:root"}
    own = "arn:aws:iam::123456789012:role/reader"
    assert policies.principal_of("elsewhere.org", own) == own


def test_the_role_of_deliveries_is_taken_for_one_account_only() -> None:
    (statement,) = ROLES["delivery-trust"](Asked(PLACE, external_id="7e57"))["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": "7e57"}}


def test_a_whole_bucket_is_listed_without_a_condition() -> None:
    document = policies.graph(place_of("s3://your-bucket/"))
    assert allowed(document, "ListBucket")
    assert allowed(document, "GetObject", "features/2020/.zarray")
    assert policies.lifecycle(Place("your-bucket"))["Rules"][0]["Filter"] == {"Prefix": ""}


def test_unfinished_uploads_are_removed_under_the_prefix() -> None:
    (rule,) = policies.lifecycle(PLACE)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rule["Filter"] == {"Prefix": "your-project/"}
    assert "Expiration" not in rule, "nothing that is whole is ever removed by it"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/data/project", "not in a bucket, so no policy is needed; name s3://bucket"),
        ("gs://bucket/prefix", "not in a bucket"),
        ("s3://", "nothing can't be the name of a bucket"),
        ("s3://Maps", "Maps can't be the name of a bucket: 3 to 63 lower-case letters"),
        ("s3://ab", "can't be the name of a bucket"),
        ("s3://10.0.0.1", "can't be the name of a bucket"),
        ("s3://a..b", "can't be the name of a bucket"),
        ("s3://user:pass@bucket", "can't be the name of a bucket"),
        ("s3://bucket/a//b", "empty or dotted part"),
        ("s3://bucket/../b", "empty or dotted part"),
        ("s3://bucket/a*", "means other prefixes too"),
        ("s3://bucket/${aws:username}", "means other prefixes too"),
    ],
)
def test_what_is_no_place_in_a_bucket_is_refused(address: str, told: str) -> None:
    with pytest.raises(StoreError, match=re.escape(told)):
        place_of(address)


@pytest.mark.parametrize("name", ["*", "arn:aws:iam::12:root", "arn:aws:s3:::bucket"])
def test_what_is_no_principal_is_refused(name: str) -> None:
    with pytest.raises(StoreError, match="not a principal; write arn:aws:iam::ACCOUNT:root"):
        policies.principal_of("sentinel-hub.com", name)


def test_a_service_that_nobody_knows_needs_a_principal() -> None:
    with pytest.raises(StoreError, match=r"use one of sentinel-hub\.com, dataspace\.copernicus\.eu, or give"):
        policies.principal_of("creodias")


@pytest.mark.parametrize("file", DOCUMENTS)
def test_what_ships_is_what_the_command_prints(file: str) -> None:
    role, *options = DOCUMENTS[file]
    printed = CliRunner().invoke(main, ["bucket-policy", ADDRESS, "--role", role, *options])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.output) == json.loads((DEPLOY / file).read_text())


def test_every_role_and_nothing_else_ships() -> None:
    assert {path.name for path in DEPLOY.iterdir()} == {*DOCUMENTS, "stack.json"}
    assert {options[0] for options in DOCUMENTS.values()} == set(ROLES)


def test_a_local_folder_is_told_and_not_a_stack() -> None:
    printed = CliRunner().invoke(main, ["bucket-policy", "demo-project"])
    assert printed.exit_code == 2
    assert "demo-project: not in a bucket, so no policy is needed" in printed.output


def test_cdse_delivers_with_keys() -> None:
    options = ["--role", "delivery-trust", "--service", "dataspace.copernicus.eu"]
    printed = CliRunner().invoke(main, ["bucket-policy", ADDRESS, *options])
    assert printed.exit_code == 2
    assert "CDSE takes no role, it delivers with a key pair" in printed.output


def test_folders_that_a_project_has_elsewhere_are_named() -> None:
    options = ["--role", "bucket", "--folder", "published/"]
    printed = CliRunner().invoke(main, ["bucket-policy", ADDRESS, *options])
    assert allowed(json.loads(printed.output), "GetObject", "your-project/published/utm32633_result.tiff")
    wild = CliRunner().invoke(main, ["bucket-policy", ADDRESS, "--role", "bucket", "--folder", "*"])
    assert wild.exit_code == 2
