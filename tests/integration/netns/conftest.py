"""The demo in a bucket, its service, and machines that are namespaces: what a cluster on EC2 would find."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from eo_assets.definitions import open_project
from eo_assets.project import LoadedProject
from eo_assets.project_cluster import Cluster
from eo_assets.projects.demo.prepare import prepare
from resources.bucket_requests import forget_clients
from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop
from resources.local_sentinel_hub.settings import TOKEN_PATH
from resources.s3_access import S3Access
from resources.workspaces import HOME_VARIABLE, machine_folder
from tests.integration.bucket.conftest import Answer
from tests.seaweed import seaweed
from tests.simulation.forwarding import reachable_from
from tests.simulation.namespace_cluster import describe
from tests.simulation.namespaces import HERE, Machines, NamespaceMachine, machines, why_not

ROOT = Path(__file__).parents[3]
IMAGERY = ROOT / "build/imagery"
BUCKET = "projects"
TIMEOUT_S = 600


@dataclass(frozen=True)
class OnCluster:
    """A project, its file, and the machines of its cluster; `described` says which, for a command."""

    file: Path
    loaded: LoadedProject
    machines: Machines
    described: Path

    def workers(self) -> list[NamespaceMachine]:
        """The machines besides the head on which Ray runs."""
        return [node for node in self.machines.nodes[1:] if "raylet" in node.processes()]

    def command(self, *words: str) -> list[str]:
        """`eo-assets` with its cluster on these machines."""
        return [sys.executable, "-W", "ignore", "-m", "tests.simulation.namespace_cluster", str(self.described), *words]

    def answer(self, *words: str, given: str = "") -> Answer:
        """What a command says, and how it ends."""
        log = self.file.parent / f"said-{time.monotonic_ns()}.txt"
        with log.open("w") as file:
            done = subprocess.run(
                self.command(*words),
                cwd=ROOT,
                input=given,
                stdout=file,
                stderr=file,
                text=True,
                timeout=600,
                check=False,
            )
        return Answer(done.returncode, log.read_text())


@pytest.fixture(scope="module")
def on_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCluster]:
    """The demo in SeaweedFS, its imagery from a Sentinel Hub that the machines can reach."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("netns")
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(machines(4))  # Ray's local provider counts the head as a worker
        server = stack.enter_context(seaweed(folder / "server"))
        server.make_bucket(BUCKET)
        networks = [node.name for node in there.nodes]
        stack.enter_context(reachable_from(networks, HERE, server.endpoint))
        bucket = server.environment()
        # The head notes its use in a tag of EC2, which is not there: whoever asks for it is refused, and asks no DNS.
        no_ec2 = {"AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9"}
        there.set_environment({**bucket, **no_ec2, INSECURE: "1", "RAY_AUTH_MODE": "token"})
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {**bucket, HOME_VARIABLE: str(folder / "home"), INSECURE: "1"}.items():
            patch.setenv(name, value)
        forget_clients()
        stack.callback(forget_clients)
        place = f"s3://{BUCKET}/havelland"
        prepare(IMAGERY, place)
        state = machine_folder(place) / "sentinel-hub"
        service = stack.enter_context(_service(state, server.endpoint))
        stack.enter_context(reachable_from(networks, HERE, service))
        client = client_of(state)
        secrets = {
            "SH_CLIENT_ID": client.client_id,
            "SH_CLIENT_SECRET": client.client_secret,
            "SH_DELIVERY_ACCESS_KEY": server.admin.id,
            "SH_DELIVERY_SECRET_KEY": server.admin.secret,
        }
        for name, value in secrets.items():
            patch.setenv(name, value)
        file = folder / "project.yaml"
        file.write_text(yaml.safe_dump(_project(place, service)))
        loaded = open_project(str(file))
        described = folder / "machines.json"
        describe(described, there)
        made = OnCluster(file, loaded, there, described)
        yield made
        made.answer("cluster", "down", str(file))


INSECURE = "OAUTHLIB_INSECURE_TRANSPORT"


@contextlib.contextmanager
def _service(folder: Path, endpoint: str) -> Iterator[str]:
    """A Sentinel Hub over the demo's collections that delivers to the bucket, for the client of the environment."""
    settings = ServiceSettings(folder, folder / "collections.yaml", s3=S3Access(endpoint, addressing="path"))
    try:
        yield ensure_running(settings, timeout_s=120).base_url
    finally:
        stop(folder)


def _project(place: str, service: str) -> dict[str, object]:
    demo = yaml.safe_load((ROOT / "eo_assets/projects/demo/project.yaml").read_text())
    (collection,) = demo["imagery"]["collections"]
    reference = demo["reference"]["source"]["collection"]
    return {
        "extends": "demo",
        "storage": {"project_folder": place},
        "services": {
            "there": {"base_url": service, "token_url": service + TOKEN_PATH, "delivery": "keys", "poll_seconds": 1.0}
        },
        "imagery": {"collections": [{**collection, "service": "there"}]},
        "reference": {"source": {"collection": {**reference, "service": "there"}}},
        "byoc": {"service": "there"},
        "cluster": json.loads(Cluster(region="eu-central-1", ssh_from=("203.0.113.7/32",)).model_dump_json()),
    }
