"""The policy of calls, against real sockets: storms, throttling, lost answers, refusals, tokens, redirects, secrets."""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import io
import json
import pickle
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import rasterio
from sentinelhub import BatchProcessClient, SentinelHubCatalog
from sentinelhub.api.byoc import SentinelHubBYOC

from eo_assets.core.tile import Bounds
from eo_assets.errors import AnswerLost, ServiceError, TransientError
from resources.deployments import Pace
from resources.sentinel_hub import SentinelHub
from resources.service_calls import CallPolicy, counted_calls, http_status, retry_after_s, service_errors
from resources.slots import slot

FAST = CallPolicy(tries=12, max_wait_s=0.02, deadline_s=20.0, backoff_s=0.002, read_timeout_s=5.0)
DROPPED, SLOW = "dropped", "slow"


@dataclasses.dataclass
class Answer:
    status: int = 200
    body: Any = dataclasses.field(default_factory=dict)
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Moody:
    """A service whose mood a test decides: `mood(method, path)` gives a fault (an Answer, DROPPED) or None.

    `did` are the requests that were carried out, `seen` all (method, path, token) that arrived, tokens included.
    """

    url: str = ""
    mood: Callable[[str, str], Answer | str | None] = lambda method, path: None
    answer: Callable[[str, str], Answer] = lambda method, path: Answer(body={"data": []})
    life_s: float = 3600
    tokens: int = 0
    did: list[str] = dataclasses.field(default_factory=list)
    seen: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def react(self, method: str, path: str, token: str) -> Answer | str:
        with self.lock:
            self.seen.append((method, path, token))
            if (fault := self.mood(method, path)) is not None:
                return fault
            if path == "/token":
                self.tokens += 1
                return Answer(body={"access_token": f"token-{self.tokens}", "expires_in": self.life_s})
            self.did.append(f"{method} {path}")
            return self.answer(method, path)


def _handler(service: Moody) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = service.react(self.command, self.path.split("?")[0], self.headers.get("Authorization", ""))
            if said == SLOW:
                time.sleep(0.4)
                said = Answer(body=JOB)
            elif isinstance(said, str):
                # Reset, so that the client sees a broken connection and not an end of file.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            data = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            kind = "image/tiff" if isinstance(said.body, bytes) else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **said.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # the client has given up
                self.wfile.write(data)

        do_GET = do_PUT = do_DELETE = do_POST

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):  # a dropped connection is closed already
                super().finish()

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Moody]]:
    """Starts moody services on loopback, with credentials in the environment."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []
    monkeypatch.setenv("SH_CLIENT_ID", "client")
    monkeypatch.setenv("SH_CLIENT_SECRET", "top-secret")

    def start() -> Moody:
        service = Moody()
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
        service.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return service

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def moody(serve: Callable[[], Moody]) -> Moody:
    return serve()


def hub(service: Moody, policy: CallPolicy = FAST, **more: Any) -> SentinelHub:
    return SentinelHub("test", service.url, f"{service.url}/token", own_pace=Pace(policy), **more)


def storm(share: float, seed: int) -> Callable[[str, str], Answer | str | None]:
    """Each call fails with this chance: throttled (with and without a time to wait), 5xx, or dropped."""
    rng = random.Random(seed)
    faults = [
        Answer(429, {"error": {"message": "slow down"}}, {"Retry-After": "3"}),
        Answer(429, {"error": {"message": "slow down"}}),
        Answer(500, {"error": {"message": "oops"}}),
        Answer(503, b"<html>busy</html>"),
        DROPPED,
    ]
    return lambda method, path: rng.choice(faults) if rng.random() < share else None


def tiff() -> bytes:
    file = io.BytesIO()
    place = rasterio.Affine(10, 0, 0, 0, -10, 0)
    profile = {"driver": "GTiff", "count": 2, "height": 3, "width": 4, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(file, "w", **profile, transform=place) as raster:
        raster.write(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    return file.getvalue()


def process(service: SentinelHub) -> Any:
    return service.process([{"type": "sentinel-2-l2a"}], "//VERSION=3", Bounds(0, 0, 40, 30), 32633, (3, 4))


def create_batch(service: SentinelHub) -> str:
    client = service.api(BatchProcessClient)
    asked, output = client.tiling_grid_input(1, 10), client.raster_output({"s3": {"url": "s3://b/x"}})
    return str(client.create({"input": {}, "evalscript": "", "output": {}}, asked, output).request_id)


JOB = {"id": "job", "request": {}, "domainAccountId": "a", "status": "CREATED"}
KINDS: dict[str, tuple[Callable[[SentinelHub], Any], Answer]] = {
    "process": (process, Answer(body=tiff(), headers={"X-ProcessingUnits-Spent": "0.25"})),
    "batch status": (lambda service: service.api(BatchProcessClient).get_request("job"), Answer(body=JOB)),
    "batch start": (lambda service: service.api(BatchProcessClient).start_job("job"), Answer(body={})),
    "catalog search": (
        lambda service: list(
            service.api(SentinelHubCatalog).search("sentinel-2-l2a", time=("2020-01-01", "2020-01-02"))
        ),
        Answer(body={"features": [{"id": "one"}], "context": {}}),
    ),
    "byoc tiles": (
        lambda service: list(service.api(SentinelHubBYOC).iter_tiles("c")),
        Answer(body={"data": [{"id": "t"}], "links": {}}),
    ),
    "byoc delete": (lambda service: service.api(SentinelHubBYOC).delete_tile("c", "t"), Answer(204, b"")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_calls_of_each_kind_come_through_a_storm(moody: Moody, kind: str) -> None:
    act, good = KINDS[kind]
    moody.mood, moody.answer = storm(0.3, seed=42), lambda method, path: good
    service = hub(moody)
    started = time.monotonic()
    with counted_calls() as counts:
        for _ in range(100):
            act(service)
    assert time.monotonic() - started < 20
    calls = [entry for entry in moody.seen if entry[1] != "/token"]
    assert len(moody.did) == 100, "each was carried out once"
    assert counts["requests"] == len(moody.seen)
    assert counts["retried"] == len(moody.seen) - 100 - moody.tokens
    assert 25 < len(calls) - 100 < 75, "the storm blew: 43 retries are expected of 100 calls that fail with 30%"
    assert 0 < counts["throttled"] < counts["retried"]
    assert 0 < counts["waited_s"] <= counts["retried"] * FAST.max_wait_s
    assert counts["token_refreshes"] == 1


def test_creating_is_never_done_twice_in_a_storm(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(body=JOB)
    faults = storm(0.3, seed=7)
    moody.mood = lambda method, path: None if path == "/token" else faults(method, path)
    service, lost = hub(moody), 0
    for _ in range(100):
        before = len(moody.did)
        try:
            assert create_batch(service) == "job"
            assert len(moody.did) == before + 1
        except AnswerLost as error:
            lost += 1
            assert "POST /api/v2/batch/process" in str(error)
            assert "it may have been carried out, so it was not sent again" in str(error)
    assert lost == 100 - len(moody.did)
    assert 10 < lost < 35, "throttling is waited out, 5xx and broken connections are not"


@pytest.mark.parametrize("fault", [DROPPED, Answer(502, {})])
@pytest.mark.parametrize("what", ["collection", "tile"])
def test_a_collection_or_tile_is_not_made_twice(moody: Moody, fault: Answer | str, what: str) -> None:
    moody.mood = lambda method, path: None if path == "/token" else fault
    client = hub(moody).api(SentinelHubBYOC)
    with pytest.raises(AnswerLost, match="test: POST /api/v1/byoc/collections"), service_errors("test"):
        client.create_collection({"name": "n"}) if what == "collection" else client.create_tile("c", {"path": "p"})
    assert [path for _, path, _ in moody.seen].count("/token") == 1
    assert len(moody.seen) == 2


def test_creating_is_tried_again_where_nothing_was_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    from resources.service_calls import Call, send

    with counted_calls() as counts, pytest.raises(TransientError, match="refused") as caught, service_errors("test"):
        send(Call("POST", f"{url}/api/v2/batch/process", json={}), FAST)
    assert not isinstance(caught.value, AnswerLost)
    assert counts["requests"] == FAST.tries
    assert "0x" not in str(caught.value)


def test_a_slow_answer_is_lost_for_a_create_and_asked_again_otherwise(moody: Moody) -> None:
    slow = dataclasses.replace(FAST, read_timeout_s=0.2, tries=2)
    faults = iter([None, SLOW, SLOW])
    moody.mood = lambda method, path: next(faults, None)
    moody.answer = lambda method, path: Answer(body=JOB)
    with pytest.raises(AnswerLost):
        create_batch(hub(moody, slow))
    assert hub(moody, slow).api(BatchProcessClient).get_request("job").request_id == "job"


def test_the_bounds_hold(moody: Moody) -> None:
    moody.mood = lambda method, path: None if path == "/token" else Answer(429, {}, {"Retry-After": "3600000"})
    policy = CallPolicy(tries=4, max_wait_s=0.05, deadline_s=10)
    with counted_calls() as counts, pytest.raises(TransientError, match=r"HTTP 429: Too Many Requests") as caught:
        process(hub(moody, policy))
    assert http_status(caught.value) == 429
    assert (counts["requests"], counts["throttled"], counts["retried"]) == (5, 4, 3)
    assert counts["waited_s"] == pytest.approx(3 * 0.05)
    short = CallPolicy(tries=100, max_wait_s=0.05, deadline_s=0.2)
    started = time.monotonic()
    with pytest.raises(TransientError):
        process(hub(moody, short))
    assert time.monotonic() - started < 2


def test_retry_after_is_milliseconds_or_a_date() -> None:
    assert retry_after_s({"Retry-After": "1500"}) == 1.5
    assert retry_after_s({"Retry-After": "soon"}) is None
    assert retry_after_s({"Retry-After": "-5"}) is None
    assert retry_after_s({}) is None
    assert retry_after_s({"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(
        30, abs=2
    )
    assert retry_after_s({"Retry-After": email.utils.formatdate(0, usegmt=True)}) == 0


def test_a_refusal_is_told_at_once_in_the_services_own_words(moody: Moody) -> None:
    error = {
        "status": 400,
        "message": "Invalid request",
        "errors": [
            {"parameter": "input->bounds", "invalidValue": "token-1 AKIA", "violation": "must not be null"},
            {"parameter": "evalscript", "violation": "token-1 is not defined"},
        ],
    }
    moody.mood = lambda method, path: None if path == "/token" else Answer(400, {"error": error})
    with pytest.raises(ServiceError) as caught:
        process(hub(moody))
    assert str(caught.value) == (
        "test: Process request: POST /api/v1/process: HTTP 400: Invalid request; input->bounds: must not be null; "
        "evalscript: *** is not defined"
    )
    assert len(moody.seen) == 2
    for error_ in (caught.value, caught.value.__cause__):
        said = pickle.dumps(error_, protocol=0) + repr(error_.__dict__).encode()
        assert b"token-1" not in said
        assert b"Bearer" not in said
        assert b"VERSION=3" not in said


def test_an_error_of_a_broken_connection_carries_no_request(moody: Moody) -> None:
    moody.mood = lambda method, path: None if path == "/token" else DROPPED
    with pytest.raises(TransientError) as caught:
        process(hub(moody))
    fault = caught.value.__cause__.request_exception  # type: ignore[union-attr]
    assert fault.request is None
    assert b"token-1" not in pickle.dumps(fault, protocol=0)
    assert "top-secret" not in str(caught.value)


@pytest.mark.parametrize("keys", [{"accessKey": "AKIA-1", "secretAccessKey": "hidden"}])
def test_an_echoed_key_is_struck_out(moody: Moody, keys: dict[str, str]) -> None:
    echo = {"error": {"message": "can't write with AKIA-1 / hidden"}}
    moody.mood = lambda method, path: None if path == "/token" else Answer(400, echo)
    client = hub(moody).client()
    with pytest.raises(ServiceError, match=r"can't write with \*\*\* / \*\*\*"), service_errors("x"):
        client.get_json(f"{moody.url}/api/v2/batch/process", post_values={"output": {"s3": keys}}, use_session=True)


def test_after_a_lost_answer_a_refusal_says_that_the_first_may_have_worked(moody: Moody) -> None:
    moody.mood = lambda method, path: DROPPED if path != "/token" and len(moody.seen) == 2 else None
    moody.answer = lambda method, path: Answer(400, {"error": {"message": "already started"}})
    with (
        pytest.raises(ServiceError, match="already started; an earlier try may have been carried out"),
        service_errors("x"),
    ):
        hub(moody).api(BatchProcessClient).start_job("job")


def test_html_instead_of_json_is_no_crash(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(200, b"<html>sign in to the wifi</html>")
    with pytest.raises(TransientError, match="no JSON"), service_errors("x"):
        hub(moody).api(BatchProcessClient).get_request("job")


def test_an_answer_that_is_no_image_may_pass(moody: Moody) -> None:
    for damaged, message in ((tiff()[:40], "image"), (b"no image at all", "can't be read as an image")):
        moody.answer = lambda method, path, body=damaged: Answer(200, body)
        with pytest.raises(TransientError, match=message):
            process(hub(moody))
    moody.answer = lambda method, path: Answer(200, tiff())
    with pytest.raises(TransientError, match=r"an image of \(3, 4, 2\) pixels, asked for were \(4, 3\)"):
        hub(moody).process([{"type": "s2"}], "", Bounds(0, 0, 30, 40), 32633, (4, 3))


def test_a_refused_token_is_renewed_once(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(body=JOB)
    expired = Answer(401, {"error": {"message": "expired"}})
    moody.mood = lambda method, path: expired if path != "/token" and moody.seen[-1][2] == "Bearer token-1" else None
    with counted_calls() as counts:
        hub(moody).api(BatchProcessClient).get_request("job")
    assert (moody.tokens, counts["token_refreshes"], counts["retried"], counts["requests"]) == (2, 2, 1, 4)
    moody.mood = lambda method, path: expired if path != "/token" else None
    with pytest.raises(ServiceError, match="HTTP 401: expired"), service_errors("x"):
        hub(moody).api(BatchProcessClient).get_request("job")
    assert moody.tokens == 3


def test_a_create_with_an_expired_token_goes_through(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(body=JOB)
    expired = Answer(401, {})
    moody.mood = lambda method, path: expired if path != "/token" and moody.seen[-1][2] == "Bearer token-1" else None
    assert create_batch(hub(moody)) == "job"
    assert moody.did == ["POST /api/v2/batch/process"]


def test_a_token_is_renewed_before_it_ends_and_shared_by_threads(moody: Moody) -> None:
    moody.answer, moody.life_s = lambda method, path: Answer(body=JOB), 0.5
    service = hub(moody)
    clients = [service.api(BatchProcessClient) for _ in range(8)]
    threads = [threading.Thread(target=client.get_request, args=("job",)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert moody.tokens == 1
    time.sleep(0.45)
    clients[0].get_request("job")
    assert moody.tokens == 2
    assert service.token_life_s() == pytest.approx(0.5, abs=0.4)


def test_the_token_service_follows_the_policy_too(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(body=JOB)
    faults = iter([Answer(429, {}, {"Retry-After": "1"}), Answer(503, {}), DROPPED])
    moody.mood = lambda method, path: next(faults, None) if path == "/token" else None
    with counted_calls() as counts:
        hub(moody).api(BatchProcessClient).get_request("job")
    assert (counts["requests"], counts["throttled"], counts["retried"], moody.tokens) == (5, 1, 3, 1)


def test_wrong_credentials_are_told_once(moody: Moody) -> None:
    moody.mood = lambda method, path: Answer(401, {"error": "invalid_client", "error_description": "Bad secret"})
    with pytest.raises(ServiceError) as caught:
        process(hub(moody, credentials="SH_"))
    with pytest.raises(ServiceError, match="signing in was refused"):
        hub(moody).token_life_s()
    assert len(moody.seen) == 1, "the second time it is told from memory"
    assert str(caught.value) == (
        f"{moody.url}/token: signing in was refused (POST /token: HTTP 401: invalid_client: Bad secret); check "
        "SH_CLIENT_ID, SH_CLIENT_SECRET and the service's token_url"
    )


def test_an_answer_without_a_token_is_told(moody: Moody) -> None:
    moody.mood = lambda method, path: Answer(200, {"hello": "half-a-token"}) if path == "/token" else None
    with pytest.raises(ServiceError, match="holds no token; is it the service's token_url") as caught:
        process(hub(moody))
    assert "half-a-token" not in str(caught.value)


def test_a_redirect_to_another_host_is_refused(serve: Callable[[], Moody]) -> None:
    service, elsewhere = serve(), serve()
    for status in (301, 302, 307, 308):
        away = Answer(status, {}, {"Location": f"{elsewhere.url}/api/v1/process"})
        service.mood = lambda method, path, away=away: None if path == "/token" else away
        with pytest.raises(ServiceError, match=rf"redirects to {elsewhere.url}: nothing is sent to a host"):
            process(hub(service))
        token_away = Answer(status, {}, {"Location": f"{elsewhere.url}/token"})
        service.mood = lambda method, path, away=token_away: away
        fresh = dataclasses.replace(hub(service), token_url=f"{service.url}/token?{status}")
        with pytest.raises(ServiceError, match="redirects to"):
            process(fresh)
    assert elsewhere.seen == []


def test_a_redirect_on_the_same_host_is_followed(moody: Moody) -> None:
    moody.mood = lambda method, path: (
        Answer(307, {}, {"Location": "/process/v1"}) if path == "/api/v1/process" else None
    )
    moody.answer = lambda method, path: Answer(body=tiff())
    assert process(hub(moody)).values.shape == (3, 4, 2)
    assert moody.did == ["POST /process/v1"]


def test_a_redirect_to_nowhere_is_no_success(moody: Moody) -> None:
    moody.mood = lambda method, path: None if path == "/token" else Answer(302, {})
    with pytest.raises(TransientError, match="HTTP 302"):
        process(hub(moody))
    assert len(moody.seen) == 2


def test_a_client_sends_to_no_other_host(serve: Callable[[], Moody]) -> None:
    service, elsewhere = serve(), serve()
    with pytest.raises(ServiceError, match="is not the host of this service"):
        hub(service).client().get_json(f"{elsewhere.url}/api", use_session=True)
    assert elsewhere.seen == service.seen == []


def test_over_plain_http_no_token_is_fetched_from_another_machine(moody: Moody) -> None:
    service = SentinelHub("far", moody.url, "http://example.com/token", own_pace=Pace(FAST))
    with pytest.raises(ServiceError, match="from this machine only; use https"):
        process(service)


def test_a_netrc_file_does_not_replace_the_token(moody: Moody, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("resources.service_calls.is_loopback", lambda url: False)
    moody.answer = lambda method, path: Answer(body=JOB)
    hub(moody).api(BatchProcessClient).get_request("job")
    assert [token for _, _, token in moody.seen] == ["", "Bearer token-1"]


def test_what_a_process_request_cost_is_told(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(body=tiff(), headers={"x-processingUnits-spent": "1.5"})
    answer = process(hub(moody))
    assert answer.processing_units == 1.5
    assert answer.calls["requests"] == 2
    moody.answer = lambda method, path: Answer(body=tiff(), headers={"x-processingunits-spent": "much"})
    assert process(hub(moody)).processing_units is None


def test_an_interrupt_is_never_swallowed(moody: Moody, monkeypatch: pytest.MonkeyPatch) -> None:
    moody.mood = lambda method, path: None if path == "/token" else Answer(503, {})

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resources.service_calls.pause", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process(hub(moody))


def test_counts_are_of_one_thread_and_may_be_nested(moody: Moody) -> None:
    moody.answer = lambda method, path: Answer(body=JOB)
    client = hub(moody).api(BatchProcessClient)
    with counted_calls() as outer:
        client.get_request("job")
        with counted_calls() as inner:
            client.get_request("job")
        other = threading.Thread(target=client.get_request, args=("job",))
        other.start()
        other.join()
    client.get_request("job")
    assert (outer["requests"], inner["requests"]) == (3, 1)


def test_no_more_go_at_a_time_than_there_are_slots(moody: Moody) -> None:
    under_way: list[int] = []

    def hold() -> None:
        with slot(moody.url, 2):
            with lock:
                under_way.append(1)
                most.append(sum(under_way))
            time.sleep(0.05)
            with lock:
                under_way.append(-1)

    lock, most = threading.Lock(), []
    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 2
