"""Faults of calls: off unless asked for, throttling, errors, lost connections, tokens; kept over a restart."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from sentinelhub import BatchProcessClient
from sentinelhub.exceptions import SHRateLimitWarning

from resources.local_sentinel_hub import server
from resources.local_sentinel_hub.faults import Throttle
from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop
from resources.local_sentinel_hub.settings import arguments

from .conftest import BUCKET, Imagery, client_config
from .fault_control import Control

CONTROLS = (("POST", "/local/faults"), ("GET", "/local/faults"), ("DELETE", "/local/faults"), ("GET", "/local/log"))


@pytest.fixture(scope="module")
def running(world: tuple[Path, Imagery], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A service that may misbehave."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "bucket").mkdir()
    settings = ServiceSettings(folder / "service", world[0], {BUCKET: folder / "bucket"}, faults=True)
    yield Control(settings)
    stop(settings.folder)


@pytest.fixture
def control(running: Control) -> Control:
    """The service, nothing switched on."""
    running.sign_in()
    running.clear()
    return running


def test_without_being_asked_for_there_is_no_control(
    world: tuple[Path, Imagery], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServiceSettings(tmp_path / "service", world[0], {})
    assert "--allow-faults" not in arguments(settings)
    plain = Control(settings)
    try:
        for method, path in (*CONTROLS, ("GET", "/local/spent")):
            refused = plain.call(method, path, {"throttle": {"count": 1}} if method == "POST" else None)
            assert (refused.status_code, "is not offered" in refused.text) == (404, True)
        assert plain.status() == 200
        monkeypatch.setenv("EO_ASSETS_LOCAL_SH_FAULTS", "1")
        asked = Control(settings)  # the variable is part of the identity: the plain one is replaced
        assert asked.base_url != plain.base_url
        asked.set(throttle={"count": 5})
        assert asked.status() == 429
        monkeypatch.delenv("EO_ASSETS_LOCAL_SH_FAULTS")
        again = Control(settings)
        assert again.status() == 200, "what was kept does nothing where it is not allowed"
        assert again.call("GET", "/local/faults").status_code == 404
    finally:
        stop(settings.folder)


def test_a_service_in_the_foreground_is_asked_by_a_flag(world: tuple[Path, Imagery], tmp_path: Path) -> None:
    settings = ServiceSettings(tmp_path / "service", world[0], {}, faults=True)
    command = [sys.executable, "-m", "resources.local_sentinel_hub", *arguments(settings)]
    with subprocess.Popen(command, cwd=Path(server.__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[4].rstrip(",")
        assert requests.get(f"{url}/local/faults", timeout=10).status_code == 401
        process.terminate()


def test_control_needs_a_token(control: Control) -> None:
    for method, path in (*CONTROLS, ("GET", "/local/spent")):
        assert requests.request(method, control.base_url + path, timeout=10).status_code == 401


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"trottle": {"count": 1}}, "trottle"),
        ({"throttle": {}}, "give count"),
        ({"throttle": {"count": 1, "probability": 0.5}}, "give count"),
        ({"errors": {"count": 1, "status": 404}}, "errors.status"),
        ({"drop": {"count": 1, "pathh": "*"}}, "drop.pathh"),
        ({"fatal_tiles": {"west": -2}}, "fatal_tiles.west"),
        ({"nothing": None}, "nothing"),
        ([], "JSON object"),
    ],
)
def test_a_wrong_fault_is_refused_by_name(control: Control, body: Any, said: str) -> None:
    refused = control.call("POST", "/local/faults", body)
    assert refused.status_code == 400 and said in refused.text
    assert control.call("GET", "/local/faults").json() == {"faults": {}, "counts": {}}


def test_throttling_says_when_to_come_back(control: Control) -> None:
    control.set(throttle={"count": 2, "retry_after_ms": 250})
    answers = [control.call("GET", "/api/v2/batch/tilinggrids") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["250", "250", None]
    assert answers[0].json()["error"]["reason"] == "Too Many Requests"
    assert control.counts() == {"throttle": 3, "throttle.struck": 2}


def test_the_unmodified_client_waits_and_comes_again(control: Control) -> None:
    config = client_config(ensure_running(control.settings), client_of(control.settings.folder))
    client = BatchProcessClient(config)
    control.set(throttle={"count": 1, "retry_after_ms": 300})
    started = time.monotonic()
    with pytest.warns(SHRateLimitWarning):
        assert len(list(client.iter_tiling_grids())) == 4
    assert time.monotonic() - started >= 0.3


def test_errors_strike_the_calls_that_are_named(control: Control) -> None:
    control.set(errors={"count": 1, "status": 502, "path": "/api/v1/catalog/*", "method": "POST"})
    assert control.status() == control.status("/api/v1/catalog/1.0.0/collections") == 200
    search = {"collections": ["sentinel-2-l1c"]}
    answers = [control.call("POST", "/api/v1/catalog/1.0.0/search", search) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 200]
    assert answers[0].json()["error"]["reason"] == "Bad Gateway"


def test_a_dropped_call_gets_no_answer(control: Control) -> None:
    control.set(drop={"count": 1})
    with pytest.raises(requests.ConnectionError):
        control.status()
    assert control.status() == 200
    with requests.Session() as session:  # a connection that was used before is cut off as well
        session.headers["Authorization"] = f"Bearer {control.token}"
        url = f"{control.base_url}/api/v2/batch/tilinggrids"
        assert session.get(url, timeout=10).status_code == 200
        control.set(drop={"count": 1})
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=10)
        assert session.get(url, timeout=10).status_code == 200


def test_chance_follows_from_the_seed(control: Control) -> None:
    def storm(seed: int) -> list[int]:
        control.set(throttle={"probability": 0.3, "seed": seed, "retry_after_ms": 0})
        return [control.status() for _ in range(60)]

    first = storm(1)
    assert first == storm(1) != storm(2)
    assert 8 <= first.count(429) <= 28 and first.count(200) == 60 - first.count(429)
    many = [Throttle(probability=0.3, seed=5).strikes("throttle", n) for n in range(10_000)]
    assert sum(many) == pytest.approx(3000, abs=150)


def test_several_faults_at_once(control: Control) -> None:
    control.set(drop={"count": 1}, throttle={"count": 1}, errors={"count": 1, "status": 500})
    with pytest.raises(requests.ConnectionError):
        control.status()
    assert [control.status() for _ in range(3)] == [429, 500, 200]


def test_naming_a_fault_counts_it_anew_and_null_switches_it_off(control: Control) -> None:
    control.set(throttle={"count": 1}, errors={"count": 2})
    assert [control.status() for _ in range(2)] == [429, 503]
    assert control.add(throttle={"count": 1})["faults"]["errors"] == {"count": 2}
    assert [control.status() for _ in range(2)] == [429, 503]
    control.add(errors={"count": 1})
    control.add(errors=None)
    assert control.status() == 200


def test_slow_calls(control: Control) -> None:
    control.set(slow_call_s=0.4)
    started = time.monotonic()
    assert control.status() == 200
    assert time.monotonic() - started >= 0.4


def test_tokens_live_as_long_as_is_said(control: Control) -> None:
    control.set(token_lifetime_s=1)
    old = control.token
    assert control.sign_in()["expires_in"] == 1
    time.sleep(2.1)
    assert control.status() == 401
    control.token = old
    assert control.status() == 200, "tokens given before live on"


def test_tokens_can_fail_to_be_had(control: Control) -> None:
    control.set(errors={"count": 1, "path": "/oauth/*"})
    with pytest.raises(requests.HTTPError, match="503"):
        control.sign_in()
    control.sign_in()


def test_revoked_tokens_stay_revoked(control: Control) -> None:
    old = control.token
    control.add(revoke_tokens=True)
    assert control.status() == 401
    control.sign_in()
    assert control.status() == 200
    stop(control.settings.folder)
    control.restart()
    control.clear()
    control.token = old
    refused = control.call("GET", "/api/v2/batch/tilinggrids")
    assert refused.status_code == 401 and "revoked" in refused.text


def test_faults_and_their_counts_outlive_the_process(control: Control) -> None:
    control.set(throttle={"count": 2})
    assert control.status() == 429
    stop(control.settings.folder)
    control.restart()
    assert [control.status() for _ in range(2)] == [429, 200]


def test_the_flag_is_part_of_the_identity(control: Control) -> None:
    assert control.settings.identity != replace(control.settings, faults=False).identity
