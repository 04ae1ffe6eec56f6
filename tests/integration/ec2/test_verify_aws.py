"""`make verify-aws` over moto: whatever stops it, no machine is left, and its log holds nothing secret.

Not proved here: a run that passes (moto has no machine that ssh could reach), and AWS's own pace.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eo_assets.core.bucket_policies import delivery, place_of
from eo_assets.errors import ClusterError
from eo_assets.project_cluster import Cluster
from tests.aws.masking import masked
from tests.aws.verify import refuse
from tests.moto_server import Moto

from .conftest import PLACE, made_bucket, made_programs, made_push, made_role

ROOT = Path(__file__).parents[3]
PRICES = (
    "longest_hours: 0.75, workers: {instance_types: [c6i.xlarge], most: 1}, prices: {m6i.xlarge: {on_demand: %s},"
    " c6i.xlarge: {on_demand: 0.2, spot: 0.1}}, "
)
Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(project: Path, moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Begins a verification with a price of the head, on an account that has all but reachable machines."""
    made_bucket(moto, "eu-central-1")
    made_role(moto, delivery(place_of(PLACE)))
    monkeypatch.setenv("EO_ASSETS_HOME", str(tmp_path / "cache"))
    begun: list[subprocess.Popen[bytes]] = []

    def begin(usd_an_hour: str) -> subprocess.Popen[bytes]:
        text = project.read_text()
        project.write_text(text.replace("cluster: {", "cluster: {" + PRICES % usd_an_hour))
        command = [sys.executable, "-W", "ignore", "-m", "eo_assets.cli", "cluster", "setup", str(project)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        made_push(moto)
        made_programs(tmp_path, monkeypatch)
        (tmp_path / "programs/ssh").write_text("#!/bin/sh\nexec sleep 60\n")
        verify = [sys.executable, "-W", "ignore", "-m", "tests.aws.verify", str(project), "--look", "1"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        logs = ["--logs", str(tmp_path / "logs")]
        begun.append(subprocess.Popen([*verify, *logs], cwd=ROOT, env=environment, start_new_session=True))
        return begun[-1]

    yield begin
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_cap_on_cost_ends_it_and_the_log_tells_no_secret(start: Start, moto: Moto, tmp_path: Path) -> None:
    process = start("100000")
    assert process.wait(180) == 1
    assert moto.machines() == []
    (log,) = (tmp_path / "logs").iterdir()
    text = log.read_text()
    assert "# Failed: one tile on EC2" in text and "more than 3: ended" in text and "Left at the end: 0" in text
    assert "Machines seen: 1" in text and "ended with 0" in text
    for secret in (os.environ["SH_CLIENT_SECRET"], os.environ["SH_CLIENT_ID"], "123456789012", "testing", "198.18.0"):
        assert secret not in text, secret


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_killed_while_a_head_is_bought_it_leaves_no_machine(start: Start, moto: Moto, ending: signal.Signals) -> None:
    process = start("0.23")
    until(lambda: process.poll() is not None or bool(moto.machines()))
    assert process.poll() is None
    process.send_signal(ending)
    process.wait(60)
    until(lambda: moto.machines() == [])


def test_the_watchdog_ends_the_machines_when_time_is_out(cluster: Cluster, moto: Moto, tmp_path: Path) -> None:
    tags = [{"Key": "ray-cluster-name", "Value": "eo-assets-demo"}, {"Key": "eo-assets:project", "Value": "demo"}]
    moto.client("ec2").run_instances(
        ImageId=cluster.ami, MinCount=1, MaxCount=1, InstanceType="m6i.xlarge",
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )  # fmt: skip
    asked = '{"region": "eu-central-1", "profile": null, "project": "demo", "seconds": 0.1}'
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.aws.watchdog", asked],
        stdin=(held := os.pipe())[0], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for end in held:
        os.close(end)
    assert said.stdout == "time is out\n"
    assert moto.machines() == []


def test_what_it_refuses_to_begin_with(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"no whole price of m6i\.xlarge: write on_demand and spot"):
        refuse(cluster, 40)
    prices = {name: {"on_demand": 0.2, "spot": 0.1} for name in ("m6i.xlarge", "c6i.4xlarge", "m6i.4xlarge")}
    priced = Cluster.model_validate({**cluster.model_dump(), "prices": prices})
    with pytest.raises(ClusterError, match=r"longest_hours: 24: set it to 0\.75"):
        refuse(priced, 40)
    short = priced.model_copy(update={"longest_hours": 0.75})
    with pytest.raises(ClusterError, match="--minutes is 40 at the most"):
        refuse(short, 41)
    refuse(short, 40)


def test_what_is_masked() -> None:
    told = "123456789012 arn:aws:iam::123456789012:role/x 3.120.4.5 AKIAIOSFODNN7EXAMPLE me@example.com hush-hush 2.60"
    environment = {"SH_CLIENT_SECRET": "hush-hush", "AWS_SESSION_TOKEN": "1", "HOME": "/home/me"}
    said = masked(told, environment)
    assert said == "ACCOUNT arn:aws:iam::ACCOUNT:role/x ADDRESS KEY-ID MAIL SECRET 2.60"
