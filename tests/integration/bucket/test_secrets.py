"""A whole run with marked secrets, and everything that it wrote: none of them is anywhere, in whatever form."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cloudpickle
import pytest

from eo_assets.instance import open_instance
from eo_assets.stages.build import tile_walk
from resources.local_sentinel_hub.server import client_of
from tests.seaweed import Seaweed

DELIVERY = {"SH_DELIVERY_ACCESS_KEY": "MARKEDDELIVERYKEY", "SH_DELIVERY_SECRET_KEY": "MARKED/DELIVERY+SECRET=="}
SIGNED = b"X-Amz-Signature"


def forms(secret: str) -> set[bytes]:
    """A secret as it is, in base64 at each of its three offsets, and in a URL."""
    raw = secret.encode()
    coded = {base64.b64encode(b"x" * offset + raw)[4 if offset else 0 : -4] for offset in range(3)}
    return {raw, quote(secret, safe="").encode(), *coded}


def found_in(content: bytes, secrets: set[bytes]) -> list[bytes]:
    return [secret for secret in secrets if secret in content]


def files_under(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def children(pid: int) -> set[int]:
    """A process and all that it started and that still know it as their ancestor, or its session."""
    found = {pid}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == pid or int(fields[1]) in found:
                found.add(int(entry.name))
    return found


@pytest.fixture
def marked(s3_server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """What must not be found: the key's secret, and a delivery's that lies in the environment."""
    for name, value in DELIVERY.items():
        monkeypatch.setenv(name, value)
    return {form for secret in (s3_server.admin.secret, *DELIVERY.values()) for form in forms(secret)}


def test_no_secret_is_in_anything_that_a_run_writes(in_bucket: Callable[..., Any], marked: set[bytes]) -> None:
    project = in_bucket()
    began, arguments, limits = time.time(), b"", set()
    run = project.start("run")
    while run.poll() is None:
        for pid in children(run.pid):
            try:
                arguments += Path(f"/proc/{pid}/cmdline").read_bytes()
                told = Path(f"/proc/{pid}/limits").read_text().splitlines()
                limits |= {line.split()[4] for line in told if "core" in line}
            except OSError:
                continue
        time.sleep(0.5)
    said = run.communicate()[0].encode()
    assert run.returncode == 0, said.decode()
    assert limits == {"0"}, "no process of a run may leave a core dump"
    service = client_of(project.machine / "sentinel-hub").client_secret
    kept_on_purpose = project.machine / "sentinel-hub/client.json"
    everything = marked | {service.encode()}
    for what, content in {"what it printed": said, "arguments of processes": arguments}.items():
        assert found_in(content, everything) == [], what
    looked = 0
    for key in project.keys():  # noqa: SIM118, a method of ours
        content = project.get(key)
        looked += 1
        assert found_in(content, everything) == [] and SIGNED not in content, key
    ray_logs = [path for path in Path("/tmp/ray").glob("session_2*") if path.stat().st_mtime > began]
    for path in files_under(project.machine, project.file.parent, *ray_logs):
        content = path.read_bytes()
        looked += 1
        secrets = marked if path == kept_on_purpose else everything
        assert found_in(content, secrets) == [] and SIGNED not in content, path
    assert looked > 300, "objects, Dagster's events and logs, reports, the service's state and log, Ray's logs"
    assert kept_on_purpose.stat().st_mode & 0o777 == 0o600


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
