"""A whole run with marked secrets, and everything that it wrote: none of them is anywhere, in whatever form."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import resource
import sqlite3
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cloudpickle
import pytest

from eo_assets.instance import open_instance
from eo_assets.stages.build import tile_walk
from resources.bucket import Bucket
from resources.local_sentinel_hub.server import client_of
from tests import bucket_workers
from tests.fault_proxy import fault_proxy
from tests.integration.bucket.conftest import BUCKET, InBucket, children
from tests.seaweed import Seaweed
from tests.session_tokens import TokenExchange
from tests.simulation.daemon import servers

TOKEN = "MARKED/SESSION+TOKEN=="
DELIVERY = {"SH_DELIVERY_ACCESS_KEY": "MARKEDDELIVERYKEY", "SH_DELIVERY_SECRET_KEY": "MARKED/DELIVERY+SECRET=="}
SIGNED = (b"X-Amz-Signature", b"AWS4-HMAC-SHA256")
SHOWN = """{
  runsOrError { ... on Runs { results { runId runConfigYaml rootConcurrencyKeys tags { key value }
    eventConnection { events { ... on MessageEvent { message } } } } } }
  instance { info daemonHealth { id } }
  repositoriesOrError { ... on RepositoryConnection { nodes { allTopLevelResourceDetails {
    name description resourceType configuredValues { key value }
    configFields { name description defaultValueAsJson } } } } } }"""


def forms(secret: str) -> set[bytes]:
    """A secret as it is, in base64 at each of its three offsets, in a URL and in JSON."""
    raw = secret.encode()
    coded = {base64.b64encode(b"x" * offset + raw)[4 if offset else 0 : -4] for offset in range(3)}
    urls = {quote(secret, safe="").encode(), quote(secret).encode()}
    return {raw, raw.replace(b"/", b"\\/"), *urls, *coded}


def found_in(content: bytes, secrets: set[bytes]) -> list[bytes]:
    return [secret for secret in secrets if secret in content]


@pytest.mark.parametrize(
    "written",
    [
        f"key={TOKEN};",
        f"https://host/?token={quote(TOKEN, safe='')}&",
        *(base64.b64encode(f"{before}{TOKEN}:password".encode()).decode() for before in ("", "u", "us", "use")),
        json.dumps({"token": TOKEN}).replace("/", "\\/"),
    ],
)
def test_a_secret_is_found_however_it_is_written(written: str) -> None:
    assert found_in(written.encode(), forms(TOKEN))
    assert not found_in(written.replace("MARKED", "REMOVED").encode(), {TOKEN.encode()})


def snapshots(database: Path) -> list[bytes]:
    """What Dagster keeps compressed in SQLite: jobs with their configuration and its defaults."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'snapshots'").fetchone():
            return []
        return [zlib.decompress(body) for (body,) in connection.execute("SELECT snapshot_body FROM snapshots")]


def files_under(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@dataclass
class Watched:
    """What the system shows to everybody about processes while they run."""

    arguments: set[bytes] = field(default_factory=set)
    core_limits: dict[int, str] = field(default_factory=dict)
    """By process, as it was seen last: one that has just begun has its parent's still."""

    def look(self, pid: int) -> None:
        for process in children(pid):
            with contextlib.suppress(OSError):
                self.arguments.add(Path(f"/proc/{process}/cmdline").read_bytes())
                limits = Path(f"/proc/{process}/limits").read_text()
                self.core_limits[process] = limits.partition("Max core file size")[2].split()[0]

    def until_end(self, run: subprocess.Popen[str]) -> None:
        while run.poll() is None:
            self.look(run.pid)
            time.sleep(0.3)


@pytest.fixture
def core_dumps_allowed() -> Iterator[None]:
    """As on a machine that keeps them: without it every process here would begin with a limit of 0."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    assert hard != 0, "the machine allows no core dump at all, nothing can be shown"
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture
def marked(s3_server: Seaweed, s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """What must not be found: the key's secret, and a delivery's that lies in the environment."""
    for name, value in DELIVERY.items():
        monkeypatch.setenv(name, value)
    return {form for secret in (s3_server.admin.secret, *DELIVERY.values()) for form in forms(secret)}


@pytest.fixture
def exchange(s3_server: Seaweed, marked: set[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenExchange]:
    """A server that wants a session token beside the key, as with every role and every login."""
    exchange = TokenExchange(s3_server.admin, TOKEN, s3_server.endpoint)
    with fault_proxy(s3_server.endpoint, exchange) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
        marked |= forms(TOKEN)
        yield exchange


def assert_clean(content: bytes, secrets: set[bytes], where: object) -> None:
    assert found_in(content, secrets) == [], where
    assert found_in(content, set(SIGNED)) == [], f"{where}: a signature"


def test_no_secret_is_in_anything_that_a_run_writes(
    in_bucket: Callable[..., Any], marked: set[bytes], exchange: TokenExchange, core_dumps_allowed: None
) -> None:
    project: InBucket = in_bucket()
    began, watched = time.time(), Watched()
    run = project.start("run")
    watched.until_end(run)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert exchange.exchanged > 100, "the run came with the token"
    alive_long_enough = {pid: limit for pid, limit in watched.core_limits.items() if limit != "0"}
    assert len(watched.core_limits) > 5 and not alive_long_enough, "a process of a run may leave a core dump"
    with servers(project.loaded) as dagster:
        shown = json.dumps(dagster.ask(SHOWN))
        watched.look(os.getpid())
    assert "RunStartEvent" in shown or "Finished execution" in shown, shown[:2000]
    everything = marked | forms(client_of(project.machine / "sentinel-hub").client_secret)
    told = {"what it printed": said.encode(), "what Dagster shows": shown.encode()}
    for what, content in {**told, "arguments of processes": b"\n".join(watched.arguments)}.items():
        assert_clean(content, everything, what)
    for key in project.keys():  # noqa: SIM118, a method of ours
        assert_clean(project.get(key), everything, key)
    assert_clean_on_this_machine(project, marked, everything, began)


def assert_clean_on_this_machine(project: InBucket, marked: set[bytes], everything: set[bytes], since: float) -> None:
    """Dagster's events, snapshots and logs, reports, the service's state and log, working copies, Ray's logs."""
    kept_on_purpose = project.machine / "sentinel-hub/client.json"
    assert kept_on_purpose.stat().st_mode & 0o777 == 0o600
    ray_logs = [path for path in Path("/tmp/ray").glob("session_2*") if path.stat().st_mtime > since]
    assert ray_logs
    home = project.machine.parent
    looked = list(files_under(home, project.file.parent, *ray_logs))
    assert len(looked) > 100
    for path in looked:
        assert_clean(_read(path), marked if path == kept_on_purpose else everything, path)
    kept = [body for path in files_under(home) if path.suffix == ".db" for body in snapshots(path)]
    assert any(b"tile_stages" in body for body in kept)
    for body in kept:
        assert_clean(body, everything, "a snapshot of Dagster's")


def _read(path: Path) -> bytes:
    """A file, or nothing of one that another process removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


@pytest.mark.parametrize("who", ["the store", "GDAL", "Dagster"])
def test_whoever_reaches_a_bucket_leaves_no_core_dump(who: str, s3_environment: None, core_dumps_allowed: None) -> None:
    context = multiprocessing.get_context("spawn")
    limits = context.Queue()
    process = context.Process(
        target=bucket_workers.core_limits, args=(Bucket.at(f"s3://{BUCKET}/nothing"), who, limits)
    )
    process.start()
    before, after = limits.get(timeout=60)
    process.join(60)
    assert before != 0 and after == 0


def test_no_secret_is_in_what_workers_are_sent_or_dagster_shows(
    in_bucket: Callable[..., Any], marked: set[bytes]
) -> None:
    project = in_bucket()
    walk = tile_walk(project.loaded)
    assert walk.store.store.exists("input-data/aoi.geojson"), "with a client in use"
    assert found_in(cloudpickle.dumps(walk), marked) == []
    assert found_in(repr(walk).encode() + repr(walk.store.store).encode(), marked) == []
    with open_instance(project.loaded) as instance:
        shown = str(instance.info_dict()) + instance.info_str()
    assert found_in(shown.encode(), marked) == []
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() in marked, "the secret that is looked for is the one in use"
