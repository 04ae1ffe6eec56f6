"""The service's life: started once for all who ask, state kept, jobs taken up again, credentials, idleness."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sentinelhub import BatchProcessClient, SentinelHubBYOC, SentinelHubSession, SHConfig
from sentinelhub.api.byoc import ByocCollection

from eo_assets.errors import ServiceError
from resources.local_sentinel_hub import server
from resources.local_sentinel_hub.credentials import Credentials
from resources.local_sentinel_hub.server import (
    ServiceAddress,
    ServiceSettings,
    client_of,
    ensure_running,
    serve,
    stop,
)
from resources.local_sentinel_hub.settings import arguments

from .conftest import BUCKET, Imagery, client_config
from .test_local_sentinel_hub_batch import SLOW, features, halves, payload, s3, wait_for


@pytest.fixture
def settings(world: tuple[Path, Imagery], tmp_path: Path) -> Iterator[ServiceSettings]:
    """Settings of a service of the test's own, which is ended with it."""
    (tmp_path / "bucket").mkdir()
    found = ServiceSettings(tmp_path / "service", world[0], {BUCKET: tmp_path / "bucket"})
    yield found
    stop(found.folder)


def pid_of(settings: ServiceSettings) -> int:
    return int(json.loads((settings.folder / "service.json").read_text())["pid"])


def signed_in(settings: ServiceSettings) -> SHConfig:
    return client_config(ensure_running(settings, timeout_s=120), client_of(settings.folder))


def gone(pid: int, timeout_s: float = 30) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def children(pid: int) -> list[int]:
    """The processes that a process has started, which for the service are scripts."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _ask(settings: ServiceSettings, queue: Any) -> None:
    queue.put(ensure_running(settings, timeout_s=120).base_url)


def test_runs_that_start_at_once_share_one_service(settings: ServiceSettings) -> None:
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    runs = [spawn.Process(target=_ask, args=(settings, queue)) for _ in range(3)]
    for run in runs:
        run.start()
    addresses = {queue.get(timeout=120) for _ in runs}
    for run in runs:
        run.join()
    assert len(addresses) == 1
    assert ensure_running(settings).base_url == addresses.pop()
    with pytest.raises(ServiceError, match=r"already runs at http://127\.0\.0\.1"):
        serve(settings)


def test_state_outlives_the_process(settings: ServiceSettings) -> None:
    first = ensure_running(settings, timeout_s=120)
    made = SentinelHubBYOC(client_config(first, client_of(settings.folder))).create_collection(
        ByocCollection("kept", s3_bucket=BUCKET)
    )
    token = SentinelHubSession(client_config(first, client_of(settings.folder))).session_headers
    pid = pid_of(settings)
    assert stop(settings.folder) and gone(pid)
    assert not stop(settings.folder)
    again = ensure_running(settings, timeout_s=120)
    url = f"{again.base_url}/api/v1/byoc/collections/{made['id']}"
    assert requests.get(url, headers=token, timeout=10).json()["data"]["name"] == "kept"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_that_was_interrupted_goes_on(settings: ServiceSettings, tmp_path: Path, how: signal.Signals) -> None:
    client = BatchProcessClient(signed_in(settings))
    halves(tmp_path / "bucket", "orders/halves.gpkg")
    slower = SLOW.replace("60000", "600000")
    request = client.create(
        payload(slower), client.geopackage_input(s3("orders/halves.gpkg")), client.raster_output(s3("out"))
    )
    client.start_job(request)
    wait_for(client, request, "PROCESSING")
    pid = pid_of(settings)
    scripts = children(pid)
    os.kill(pid, how)
    assert gone(pid)
    assert all(gone(child) for child in scripts)
    client = BatchProcessClient(signed_in(settings))
    assert wait_for(client, request, "DONE", "FAILED").status.value == "DONE"
    folder = tmp_path / "bucket/out" / request.request_id
    assert [row[2] for row in features(folder, request.request_id)] == ["DONE", "DONE"]
    assert (folder / "west/B02.tif").exists() and (folder / "east/B02.tif").exists()
    assert not list(folder.glob(".*"))


def test_other_settings_replace_a_service_that_has_nothing_to_do(settings: ServiceSettings, tmp_path: Path) -> None:
    before = pid_of_running(settings)
    other = ServiceSettings(settings.folder, None, {"other": tmp_path})
    ensure_running(other, timeout_s=120)
    assert pid_of(other) != before and gone(before)


def pid_of_running(settings: ServiceSettings) -> int:
    ensure_running(settings, timeout_s=120)
    return pid_of(settings)


def test_an_idle_service_ends_by_itself(settings: ServiceSettings) -> None:
    brief = ServiceSettings(settings.folder, settings.collections, settings.buckets, idle_seconds=1)
    pid = pid_of_running(brief)
    assert gone(pid)
    assert not (settings.folder / "service.json").exists()
    assert pid_of_running(brief) != pid


def test_wrong_credentials_are_refused_and_never_logged(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_CLIENT_ID", "tester")
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_CLIENT_SECRET", "the-only-secret")
    address = ensure_running(settings, timeout_s=120)
    token = SentinelHubSession(client_config(address, client_of(settings.folder))).token["access_token"]
    with pytest.raises(Exception, match="Invalid client"):
        SentinelHubSession(client_config(address, Credentials("tester", "a-wrong-secret")))
    url = f"{address.base_url}/api/v2/batch/process"
    for header in ("", "Bearer ", f"Bearer {token}x", f"Bearer {forged(token)}", "Basic dGVzdGVyOng="):
        assert requests.get(url, headers={"Authorization": header}, timeout=10).status_code == 401
    assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 200
    log = (settings.folder / "service.log").read_text()
    assert not any(secret in log for secret in ("the-only-secret", "a-wrong-secret", token))


def forged(token: str) -> str:
    """The same token with somebody else's claims."""
    head, _, signature = token.split(".")
    return f"{head}.eyJleHAiOjk5OTk5OTk5OTl9.{signature}"


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "collections.yaml"
    broken.write_text("collections: [{type: x, bands: {B1: {scael: 1}}}]")
    with pytest.raises(ServiceError, match=r"collections\.yaml: collections\.0\.bands\.B1\.scael") as refusal:
        ensure_running(ServiceSettings(tmp_path / "service", broken), timeout_s=120)
    assert "service.log" in str(refusal.value)


def test_a_port_that_is_taken_is_named(settings: ServiceSettings, tmp_path: Path) -> None:
    address: ServiceAddress = ensure_running(settings, timeout_s=120)
    port = int(address.base_url.rpartition(":")[2])
    with pytest.raises(ServiceError, match=rf"port {port} of 127\.0\.0\.1 can't be used"):
        serve(ServiceSettings(tmp_path / "second", None, port=port))


@pytest.fixture
def no_client_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EO_ASSETS_LOCAL_SH_CLIENT_ID", raising=False)
    monkeypatch.delenv("EO_ASSETS_LOCAL_SH_CLIENT_SECRET", raising=False)


def token_status(base_url: str, client_id: str, secret: str) -> int:
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    return requests.post(ServiceAddress(base_url).token_url, data=form, timeout=10).status_code


@pytest.mark.usefixtures("no_client_named")
def test_a_service_that_a_run_starts_lets_only_its_users_in(settings: ServiceSettings) -> None:
    url = ensure_running(settings, timeout_s=120).base_url
    kept = client_of(settings.folder)
    assert token_status(url, kept.client_id, kept.client_secret) == 200
    for name, secret in (("local", "local"), (kept.client_id, "anything"), (kept.client_id, ""), ("", "")):
        assert token_status(url, name, secret) == 401
    path = settings.folder / "client.json"
    assert path.stat().st_mode & 0o777 == 0o600
    pid = pid_of(settings)
    assert kept.client_secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert kept.client_secret not in (settings.folder / "service.log").read_text()
    assert kept.client_secret not in repr(kept)
    stop(settings.folder)
    ensure_running(settings, timeout_s=120)
    assert client_of(settings.folder) == kept, "later runs use the same"


@pytest.mark.usefixtures("no_client_named")
@pytest.mark.parametrize("left", [None, "", '{"client_id": "x"', '{"client_id": "x", "client_secret": ""}', "[]"])
def test_a_client_that_is_lost_or_torn_lets_nobody_in_and_is_made_anew(
    settings: ServiceSettings, left: str | None
) -> None:
    url = ensure_running(settings, timeout_s=120).base_url
    old, path = client_of(settings.folder), settings.folder / "client.json"
    path.unlink()
    if left is not None:
        path.write_text(left)
    assert token_status(url, old.client_id, old.client_secret) == token_status(url, "x", "") == 401
    with pytest.raises(ServiceError, match=r"client\.json has no client"):
        client_of(settings.folder)
    assert ensure_running(settings, timeout_s=120).base_url == url
    new = client_of(settings.folder)
    assert new != old and token_status(url, new.client_id, new.client_secret) == 200


@pytest.mark.usefixtures("no_client_named")
def test_a_service_in_the_foreground_lets_anybody_in(settings: ServiceSettings) -> None:
    command = [sys.executable, "-m", "resources.local_sentinel_hub", *arguments(settings)]
    root = str(Path(server.__file__).parents[2])
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[4].rstrip(",")
        assert [token_status(url, "a-stranger", "anything"), token_status(url, "", "")] == [200, 401]
        process.terminate()


def test_half_a_client_in_the_environment_is_refused(
    settings: ServiceSettings, no_client_named: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EO_ASSETS_LOCAL_SH_CLIENT_ID", "tester")
    with pytest.raises(ServiceError, match="go together"):
        ensure_running(settings)
