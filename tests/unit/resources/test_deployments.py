"""How deployments differ: the right to a bucket, the names of the variables, the pace, and the probe of deliveries."""

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from eo_assets.errors import ServiceError, StoreError
from eo_assets.project import SERVICES, Service, service_named
from resources.deployments import LOCAL_PACE, REMOTE_PACE, Delivery, probe_delivery
from resources.local_folder import LocalFolder
from resources.sentinel_hub import LocalDeployment, SentinelHub

ROLE = "arn:aws:iam::123456789012:role/deliveries"
BUCKET = "s3://maps/project"


def hub(delivery: Delivery, **more: Any) -> SentinelHub:
    return SentinelHub("there", "https://there.example", "https://there.example/token", delivery=delivery, **more)


def test_delivery_by_a_role() -> None:
    """As in https://docs.sentinel-hub.com/api/latest/api/batchv2: url, iamRoleARN, and a region where it is another."""
    assert hub(Delivery("role", BUCKET, ROLE)).bucket_access("tiffs/2020") == {
        "s3": {"url": "s3://maps/project/tiffs/2020", "iamRoleARN": ROLE}
    }
    elsewhere = hub(Delivery("role", BUCKET, ROLE, "us-west-2")).bucket_access("tiffs")
    assert elsewhere["s3"]["region"] == "us-west-2"


def test_delivery_by_a_key_pair_that_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in https://documentation.dataspace.copernicus.eu/APIs/SentinelHub/BatchV2.html: url and the two keys."""
    service = hub(Delivery("keys", BUCKET), credentials="CDSE_")
    with pytest.raises(ServiceError, match="set CDSE_DELIVERY_ACCESS_KEY and CDSE_DELIVERY_SECRET_KEY"):
        service.bucket_access("tiffs")
    monkeypatch.setenv("CDSE_DELIVERY_ACCESS_KEY", "the-key")
    monkeypatch.setenv("CDSE_DELIVERY_SECRET_KEY", "the-secret")
    assert service.bucket_access("tiffs") == {
        "s3": {"url": "s3://maps/project/tiffs", "accessKey": "the-key", "secretAccessKey": "the-secret"}
    }
    assert b"the-secret" not in pickle.dumps(service)
    assert "the-secret" not in repr(service)


def test_a_missing_role_is_named_with_its_key() -> None:
    with pytest.raises(ServiceError, match=r"services\.there\.iam_role_arn"):
        hub(Delivery("role", BUCKET)).bucket_access("tiffs")


def test_a_bucket_service_and_a_local_project_folder_do_not_go_together() -> None:
    with pytest.raises(ServiceError, match=r"storage\.project_folder: s3://"):
        hub(Delivery("role", None, ROLE)).bucket_access("tiffs")


def test_two_deployments_of_one_project_have_credentials_of_their_own(
    http_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSE_CLIENT_ID", "other")
    monkeypatch.setenv("CDSE_CLIENT_SECRET", "hush")
    here = SentinelHub("here", http_service.url, f"{http_service.url}/token")
    there = dataclasses.replace(here, credentials="CDSE_")
    assert here.config().sh_client_id == os.environ["SH_CLIENT_ID"]
    assert (there.config().sh_client_id, there.config().sh_client_secret) == ("other", "hush")
    monkeypatch.delenv("CDSE_CLIENT_ID")
    with pytest.raises(ServiceError, match="set CDSE_CLIENT_ID and CDSE_CLIENT_SECRET"):
        there.config()


def test_the_pace_is_that_of_its_kind_unless_it_is_given(tmp_path: Path) -> None:
    local = SentinelHub("local", local=LocalDeployment(tmp_path, None, tmp_path))
    assert (local.pace, hub(Delivery()).pace) == (LOCAL_PACE, REMOTE_PACE)
    assert (REMOTE_PACE.poll_seconds, REMOTE_PACE.analysis_poll_seconds) == (60, 5)
    assert local.bucket_access("tiffs") == {"s3": {"url": "s3://project-folder/tiffs"}}


def test_known_deployments_say_how_they_deliver_and_what_their_units_are() -> None:
    said = {name: (service.delivery, service.processing_unit) for name, service in SERVICES.items()}
    assert said == {
        "local": ("folder", "PU of the local service"),
        "sentinel_hub": ("role", "PU of sentinel-hub.com"),
        "sentinel_hub_uswest": ("role", "PU of sentinel-hub.com"),
        "creodias": ("keys", "PU of sentinel-hub.com"),
        "cdse": ("keys", "PU of CDSE"),
    }
    assert Service(base_url="https://my.example/x").processing_unit == "PU of my.example"


def test_what_a_project_says_of_a_known_deployment_is_laid_over_it() -> None:
    mine = service_named({"sentinel_hub": Service(iam_role_arn=ROLE)}, "sentinel_hub")
    assert (mine.base_url, mine.iam_role_arn) == (SERVICES["sentinel_hub"].base_url, ROLE)
    assert service_named({}, "cdse") == SERVICES["cdse"]


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    probe_delivery(LocalFolder(tmp_path), "tiffs/2020")
    assert not list((tmp_path / "tiffs/2020").iterdir())


def test_a_probe_of_a_folder_that_can_t_be_written_names_it(tmp_path: Path) -> None:
    (tmp_path / "tiffs").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=rf"nothing was ordered: {tmp_path}/tiffs/2020: something else lies"):
        probe_delivery(LocalFolder(tmp_path), "tiffs/2020")


@dataclasses.dataclass(frozen=True)
class Forgetful(LocalFolder):
    """A store that serves old bytes, as one behind a stale cache does."""

    def get(self, key: str) -> bytes | None:
        return b"old"


def test_a_probe_that_comes_back_changed_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not come back as it was"):
        probe_delivery(Forgetful(tmp_path), "tiffs")
