"""What a policy that AWS gives back grants of what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from eo_assets.core.bucket_policies import Place, byoc_reading, delivery, graph, principal_of
from eo_assets.core.policy_grants import missing_grants

PLACE = Place("maps-of-a-team", "west_africa")
READER = principal_of("sentinel-hub.com")
WANTED = byoc_reading(PLACE, READER)


def statement(**changes: Any) -> dict[str, Any]:
    everything = {"Effect": "Allow", "Principal": {"AWS": READER}, "Action": "s3:*"}
    return {**everything, "Resource": ["arn:aws:s3:::maps-of-a-team", "arn:aws:s3:::maps-of-a-team/*"], **changes}


@pytest.mark.parametrize("document", [graph(PLACE), delivery(PLACE), WANTED])
def test_a_document_grants_itself_and_nothing_grants_nothing(document: dict[str, Any]) -> None:
    assert missing_grants([document], document) == []
    assert missing_grants([], document)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Principal": "*"},
        {"Principal": {"AWS": "614251495211"}},
        {"Principal": {"AWS": ["arn:aws:iam::1:root", READER]}},
        {"Action": ["S3:GET*", "s3:List?ucket"]},
        {"Resource": "*"},
    ],
)
def test_what_is_written_otherwise_is_granted_too(changes: dict[str, Any]) -> None:
    assert missing_grants([{"Statement": statement(**changes)}], WANTED) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"Effect": "Deny"},
        {"Principal": {"AWS": "arn:aws:iam::999999999999:root"}},
        {"Principal": {"Service": "ec2.amazonaws.com"}},
        {"Action": "s3:PutObject"},
        {"Resource": "arn:aws:s3:::maps-of-a-team/west_africa/maps/a*"},
        {"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}},
    ],
)
def test_what_is_too_narrow_is_missing(changes: dict[str, Any]) -> None:
    found = missing_grants([{"Statement": [statement(**changes)]}], WANTED)
    assert "s3:GetObject on arn:aws:s3:::maps-of-a-team/west_africa/maps/*" in found


def test_what_is_denied_is_missing_whatever_is_allowed() -> None:
    denied = statement(Effect="Deny", Action="s3:ListBucket")
    assert missing_grants([WANTED, {"Statement": [denied]}], WANTED) == ["s3:ListBucket on arn:aws:s3:::maps-of-a-team"]


def test_a_condition_on_more_prefixes_holds_for_fewer() -> None:
    assert missing_grants([delivery(PLACE)], delivery(PLACE, "tiffs/2020")) == []
    narrow = missing_grants([delivery(PLACE, "tiffs/2020")], delivery(PLACE))
    assert "s3:ListBucket on arn:aws:s3:::maps-of-a-team" in narrow
