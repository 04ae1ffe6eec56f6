"""The wire contract that the product relies on, asked of the service that EO_ASSETS_VERIFY_SERVICE names.

In the ordinary run of the tests it is the local one, started here on a made-up scene. `make verify-sentinel-hub` runs
these tests alone, on a real service for whoever has an account: docs/sentinel-hub-compatibility.md says how.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import requests
import yaml
from affine import Affine
from sentinelhub import SHConfig

from eo_assets.core.cost import Mode, processing_units
from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop

from .budget import Budget, Spending
from .deployments import (
    BUCKET,
    DEPLOYMENTS,
    SERVICE,
    Bucket,
    Deployment,
    FolderBucket,
    S3Bucket,
    allow_only,
    why_no_bucket,
    why_not,
)

RESULT = Path(os.environ.get("EO_ASSETS_VERIFY_RESULT", Path(__file__).parents[2] / "build/verify-sentinel-hub.json"))
COLLECTION = "sentinel-2-l2a"
LEFT, TOP, EPSG, SIDE = 500_000, 5_800_000, 32633, 64
BOX = (LEFT, TOP - 10 * SIDE, LEFT + 10 * SIDE, TOP)
TIMES = ("2020-06-01T10:00:00Z", "2020-06-11T10:00:00Z")
JUNE = {"from": "2020-06-01T00:00:00Z", "to": "2020-06-30T23:59:59Z"}
LOCAL_BUCKET = "contract"
BUDGET = Budget() if SERVICE != "local" else Budget(cap_pu=1000)


def pytest_report_header() -> list[str]:
    """Say which service is asked, and what is left out."""
    said = [f"the contract tests ask: {SERVICE}, at most {BUDGET.cap_pu:g} PU"]
    reason = why_no_bucket()
    return [*said, f"contract tests marked `bucket` are deselected: {reason}"] if reason else said


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a bucket that both sides reach, nothing can be delivered or ingested."""
    left_out = [item for item in items if item.get_closest_marker("bucket")] if why_no_bucket() else []
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With `-s`, as `make verify-sentinel-hub` has it: the table, and the result as a file."""
    if config.getoption("capture") != "no" or not BUDGET.spendings:
        return
    terminalreporter.section(f"processing units of {SERVICE}")
    for line in BUDGET.table():
        terminalreporter.line(line)
    if why_no_bucket():
        terminalreporter.line(f"deliveries and BYOC were not tried: {why_no_bucket()}")
    outcome = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "deselected")}
    BUDGET.write(RESULT, SERVICE, outcome)
    terminalreporter.line(f"written to {RESULT}")


@pytest.fixture(scope="session")
def budget() -> Budget:
    """What the run may spend and has spent."""
    return BUDGET


@dataclass(frozen=True)
class Service:
    """The service that is asked: its deployment and the account's credentials."""

    deployment: Deployment
    client_id: str
    client_secret: str

    def token(self, secret: str | None = None) -> requests.Response:
        """Ask for a token."""
        form = {"grant_type": "client_credentials", "client_id": self.client_id}
        return self.post(self.deployment.token_url, data={**form, "client_secret": secret or self.client_secret})

    def post(self, url: str, **options: Any) -> requests.Response:
        """POST, without a proxy to the local service."""
        with requests.Session() as session:
            session.trust_env = self.deployment.name != "local"
            return session.post(url, timeout=300, **options)

    def call(self, path: str, body: Any, **headers: str) -> requests.Response:
        """POST a JSON body with a token."""
        authorization = {"Authorization": f"Bearer {self.token().json()['access_token']}"}
        return self.post(self.deployment.base_url + path, json=body, headers={**authorization, **headers})

    def wait(self, look: Callable[[], Any], done: Callable[[Any], bool]) -> list[Any]:
        """Poll until done; returns all that was seen."""
        seen = [look()]
        deadline = time.monotonic() + self.deployment.timeout_s
        while not done(seen[-1]):
            assert time.monotonic() < deadline, f"still {seen[-1]} after {self.deployment.timeout_s:g} s"
            time.sleep(self.deployment.poll_s)
            seen.append(look())
        return seen


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The chosen service. The local one is started on a made-up scene and ends with the session."""
    if why_not():
        pytest.fail(str(why_not()), pytrace=False)
    if SERVICE != "local":
        found = DEPLOYMENTS[SERVICE]
        allow_only(found.hosts)
        yield Service(found, os.environ["SH_CLIENT_ID"], os.environ["SH_CLIENT_SECRET"])
        return
    folder, bucket = tmp_path_factory.mktemp("contract-service"), tmp_path_factory.getbasetemp() / LOCAL_BUCKET
    bucket.mkdir()
    settings = ServiceSettings(folder, make_scenes(tmp_path_factory.mktemp("contract-scenes")), {LOCAL_BUCKET: bucket})
    try:
        address = ensure_running(settings, timeout_s=120)
        here = Deployment("local", address.base_url, address.token_url, poll_s=0.05, timeout_s=60)
        client = client_of(folder)
        yield Service(here, client.client_id, client.client_secret)
    finally:
        stop(folder)


@pytest.fixture(scope="session")
def config(service: Service) -> Iterator[SHConfig]:
    """The unmodified client's configuration."""
    made = SHConfig(use_defaults=True)
    made.sh_client_id, made.sh_client_secret = service.client_id, service.client_secret
    made.sh_base_url, made.sh_token_url = service.deployment.base_url, service.deployment.token_url
    made.max_retries = 20
    with pytest.MonkeyPatch.context() as patch:
        if service.deployment.name == "local":
            patch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
            made.max_download_attempts, made.download_sleep_time = 1, 0.1
        yield made


@pytest.fixture(scope="session")
def bucket(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket that the tests and the service reach; the tests' objects in it are removed."""
    if service.deployment.name == "local":
        yield FolderBucket(LOCAL_BUCKET, tmp_path_factory.getbasetemp() / LOCAL_BUCKET)
        return
    made = S3Bucket(BUCKET, f"eo-assets-verify/{uuid.uuid4()}")
    yield made
    made.clear()


@pytest.fixture
def reserve(budget: Budget) -> Callable[..., Spending]:
    """`reserve(call, tiles, bands, mode)`: estimate a call, and refuse it if it could go over the cap."""

    def ask(call: str, tiles: list[tuple[int, int]], bands: int, mode: Mode = "process") -> Spending:
        return budget.reserve(call, processing_units(tiles, bands, 1, mode=mode))

    return ask


def make_scenes(folder: Path) -> Path:
    """Two dates of two bands in the local service's form: what the real one has at this place."""
    random, scenes = np.random.default_rng(5), []
    for date, moment in enumerate(TIMES):
        files = {}
        for band, resolution in (("B02", 10), ("B11", 20)):
            files[band] = f"{date}_{band}.tif"
            size = SIDE * 10 // resolution
            write_cog(folder / files[band], random.integers(1, 9000, (size, size)).astype(np.uint16), resolution)
        scenes.append({"time": moment, "cloud_cover": 10 * date, "files": files})
    bands = {band: {"sample_type": "UINT16", "scale": 0.0001, "nodata": 0} for band in ("B02", "B11")}
    declared = {"type": COLLECTION, "bands": bands, "scenes": scenes}
    (folder / "collections.yaml").write_text(yaml.safe_dump({"collections": [declared]}))
    return folder / "collections.yaml"


def write_cog(path: Path, values: np.ndarray, resolution: float = 10) -> None:
    """A COG of (y, x) values with its upper left corner at the tests' place."""
    profile = {"driver": "COG", "count": 1, "height": values.shape[0], "width": values.shape[1], "nodata": 0}
    place = {"crs": f"EPSG:{EPSG}", "transform": Affine(resolution, 0, LEFT, 0, -resolution, TOP)}
    with rasterio.open(path, "w", dtype=values.dtype.name, **profile, **place) as file:
        file.write(values, 1)


def process_request(script: str, *outputs: str, size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, Any]:
    """The JSON of a Process request over the tests' place; `size` is (width, height)."""
    kinds = {"userdata": "application/json"}
    responses = [{"identifier": name, "format": {"type": kinds.get(name, "image/tiff")}} for name in outputs]
    crs = {"crs": f"http://www.opengis.net/def/crs/EPSG/0/{EPSG}"}
    data = [{"type": COLLECTION, "dataFilter": {"timeRange": JUNE, "mosaickingOrder": "leastCC"}}]
    return {
        "input": {"bounds": {"bbox": list(BOX), "properties": crs}, "data": data},
        "output": {"width": size[0], "height": size[1], "responses": responses},
        "evalscript": script,
    }
