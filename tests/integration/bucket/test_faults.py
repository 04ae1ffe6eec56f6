"""What goes wrong at a bucket under a whole run: what the user reads, what remains, and that the next run goes on.

With BUCKET_FAULTS_TABLE=FILE the table of docs/storage-faults.md is written there.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from eo_assets.stages.build import tile_store
from resources.stores import PATIENCE_VARIABLE
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.integration.bucket.conftest import BUCKET, Answer, InBucket, children
from tests.seaweed import Seaweed

MAP = "maps/utm32633_result.tiff"
ALWAYS = 10**9
rows: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """The table of what was seen, for the documentation."""
    yield
    if target := os.environ.get("BUCKET_FAULTS_TABLE"):
        head = (
            "| what happens | how the run ends | what the user reads | what remains in the bucket |\n|---|---|---|---|"
        )
        Path(target).write_text("\n".join([head, *rows]) + "\n")


@pytest.fixture
def proxy(s3_server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, bytes]:
    """The map of the made-up scene, once it was made without any fault."""
    return {}


def seen(what: str, end: str, said: str, remains: str) -> None:
    """A row of the table."""
    plain = re.sub(r"\d{4,5}(?=[/:]|\b)", "PORT", re.sub(rf"{BUCKET}/[0-9a-f]{{8}}/a map", "bucket/prefix", said))
    rows.append(f"| {what} | {end} | {plain} | {remains} |".replace("\n", " "))


def complaint(answer: Answer) -> str:
    """The line that tells what is the matter; never a stack."""
    assert "Traceback" not in answer.said, answer.said
    lines = [line.strip() for line in answer.said.splitlines() if "error:" in line or "failed:" in line]
    assert lines, answer.said
    return lines[0]


def assert_finished(project: InBucket, undisturbed: dict[str, bytes]) -> None:
    """The project's map is that of a run that nothing disturbed, bit for bit; the first that comes here is that run."""
    assert len(project.keys("predictions/_commits/")) == 4
    assert project.get(MAP) == undisturbed.setdefault("map", project.get(MAP))


def test_a_run_that_nothing_disturbs(in_bucket: Callable[..., Any], undisturbed: dict[str, bytes]) -> None:
    project = in_bucket()
    answer = project.command("run")
    assert answer.code == 0, answer.said
    assert_finished(project, undisturbed)
    again = project.command("run")
    assert again.code == 0 and "every tile is up to date" in again.said


NOWHERE = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
REFUSALS = {
    "wrong secret key": ({"AWS_SECRET_ACCESS_KEY": "wrong"}, r"SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY"),
    "unknown access key": ({"AWS_ACCESS_KEY_ID": "NOBODY"}, r"InvalidAccessKeyId.*AWS_ACCESS_KEY_ID"),
    "no credentials at all": (
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        r"no AWS credentials were found; set AWS_ACCESS_KEY_ID",
    ),
    "nobody listens at the endpoint": (NOWHERE, r"127\.0\.0\.1:9"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_bucket_that_lets_nobody_in_is_told_before_anything_is_begun(
    in_bucket: Callable[..., Any], what: str
) -> None:
    environment, told = REFUSALS[what]
    project = in_bucket()
    before, started = project.keys(), time.monotonic()
    answer = project.command("run", **environment)
    line = complaint(answer)
    assert answer.code == 2 and re.search(told, line), line
    assert time.monotonic() - started < 45
    assert project.keys() == before
    seen(what, "at once, exit code 2", line.removeprefix("error: "), "what was there")


ANSWERS = {
    "status": (2, "127.0.0.1:9 could not be used"),
    "preflight": (1, "127.0.0.1:9 could not be used"),
    "plan": (0, "4 tiles"),  # of the area beside the project file: a plan needs no bucket
    "validate": (0, "fields"),
}


@pytest.mark.parametrize("command", ANSWERS)
def test_commands_that_ask_answer_soon_when_nobody_listens(in_bucket: Callable[..., Any], command: str) -> None:
    code, told = ANSWERS[command]
    started = time.monotonic()
    answer = in_bucket().command(command, **NOWHERE)
    said = " ".join(answer.said.split())
    assert answer.code == code and told in said and "Traceback" not in said, said
    assert time.monotonic() - started < 45, "somebody sits before it"


def test_a_bucket_that_does_not_exist(in_bucket: Callable[..., Any]) -> None:
    project = in_bucket(upload=False)
    project.file.write_text(project.file.read_text().replace(f"s3://{BUCKET}/", "s3://no-such-bucket/"))
    answer = project.command("run")
    line = complaint(answer)
    assert answer.code == 2 and "s3://no-such-bucket/" in line and "there is no such bucket" in line, line
    seen("missing bucket", "at once, exit code 2", line.removeprefix("error: "), "nothing is made")


def test_a_key_that_may_only_read(
    in_bucket: Callable[..., Any], s3_server: Seaweed, undisturbed: dict[str, bytes]
) -> None:
    project = in_bucket()
    before = project.keys()
    answer = project.command("run", **s3_server.environment(s3_server.reader))
    line = complaint(answer)
    assert answer.code != 0 and "AccessDenied" in line and s3_server.reader.secret not in answer.said, line
    assert "nothing more is begun" in answer.said
    assert project.keys() == before
    seen("read-only bucket", "at the first commit, exit code 1", line.removeprefix("failed: "), "what was there")


def test_credentials_that_expire_in_mid_run(
    in_bucket: Callable[..., Any], proxy: FaultProxy, undisturbed: dict[str, bytes]
) -> None:
    project = in_bucket()
    run = project.start("run")
    # Not before: the local Sentinel Hub delivers with the same credentials; what it can not deliver is its own fault.
    _until(lambda: project.keys("data/2020/_commits/"), run)
    proxy.inject(Fault("400", times=ALWAYS, code="ExpiredToken"))
    said, _ = run.communicate(timeout=240)
    answer = Answer(run.returncode, said)
    assert answer.code == 1 and "Traceback" not in answer.said, answer.said
    line = complaint(answer)
    assert "ExpiredToken" in line and "SECRET-TOKEN" not in answer.said, line
    proxy.inject()
    committed = _records(project)
    assert committed, "what was committed before stays"
    again = project.command("run")
    assert again.code == 0, again.said
    assert committed.items() <= _records(project).items(), "and is not made again"
    assert_finished(project, undisturbed)
    seen("credentials that expire in mid-run", "exit code 1", line.removeprefix("failed: "), "all that was committed")


def test_errors_resets_and_slow_answers_are_outlived(
    in_bucket: Callable[..., Any], proxy: FaultProxy, undisturbed: dict[str, bytes]
) -> None:
    project = in_bucket()
    proxy.inject(
        Fault("503", "PUT", times=ALWAYS, every=7),
        Fault("500", "GET", times=ALWAYS, every=9),
        Fault("reset", "PUT", times=ALWAYS, every=11, forwarded=True),
        Fault("cut", "GET", times=ALWAYS, every=13, forwarded=True),
        Fault("slow", times=ALWAYS, every=20, seconds=1),
    )
    answer = project.command("run")
    assert answer.code == 0, answer.said
    assert_finished(project, undisturbed)
    seen(
        "every seventh put answered 503, every ninth get 500, resets, cut bodies, slow answers",
        "well", "nothing of it", "a whole project",
    )  # fmt: skip


def test_a_server_that_is_killed_and_comes_back_in_mid_run(
    in_bucket: Callable[..., Any], s3_server: Seaweed, undisturbed: dict[str, bytes]
) -> None:
    project = in_bucket()
    run = project.start("run")
    _until(lambda: project.keys("tiffs/2020/_commits/"), run)
    s3_server.kill()
    time.sleep(3)
    s3_server.start()
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert_finished(project, undisturbed)
    seen("the server is killed and back after some seconds", "well", "that it is waited for", "a whole project")


def test_a_server_that_stays_away_ends_the_run_with_one_word(
    in_bucket: Callable[..., Any], s3_server: Seaweed, undisturbed: dict[str, bytes]
) -> None:
    project = in_bucket()
    run = project.start("run", **{PATIENCE_VARIABLE: "5"})
    _until(lambda: project.keys("tiffs/2020/_commits/"), run)
    s3_server.kill()
    gone = time.monotonic()
    try:
        said, _ = run.communicate(timeout=300)
        took = time.monotonic() - gone
    finally:
        s3_server.start()
    assert run.returncode not in (0, None) and "Traceback" not in said, said
    line = complaint(Answer(run.returncode, said))
    assert f"s3://{BUCKET}/" in line, line
    assert project.command("run").code == 0
    assert_finished(project, undisturbed)
    seen("the server stays away", f"after its patience ({took:.0f} s with one of 5 s), exit code {run.returncode}",
         re.sub("^(error|failed): ", "", line), "all that was committed")  # fmt: skip


def test_workers_that_are_killed_in_mid_upload_are_replaced(
    in_bucket: Callable[..., Any], proxy: FaultProxy, undisturbed: dict[str, bytes]
) -> None:
    project = in_bucket()
    run = _started_until_upload(project, proxy, "features/2020/32633_")
    workers = [pid for pid in children(run.pid) if _arguments(pid).startswith("ray::call")]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    proxy.inject()
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert_finished(project, undisturbed)
    seen("kill -9 of the workers in mid-upload", "well", "nothing of it", "a whole project")


def test_a_run_that_is_killed_in_mid_upload_leaves_what_it_committed_and_attempts_that_a_sweep_removes(
    in_bucket: Callable[..., Any], proxy: FaultProxy, undisturbed: dict[str, bytes]
) -> None:
    project, before = in_bucket(), {}
    for tiles in ("data/2020/32633_", "features/2020/32633_", "predictions/32633_"):
        run = _started_until_upload(project, proxy, tiles)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
        proxy.inject()
        now = _records(project)
        assert before.items() <= now.items(), "what was committed is not made again"
        before = now
    answer = project.command("run")
    assert answer.code == 0, answer.said
    assert before and before.items() <= _records(project).items()
    assert_finished(project, undisturbed)
    proxy.settle()  # what a killed run had sent may still arrive
    swept = project.command("sweep", "--older-than", "0")
    assert swept.code == 0, swept.said
    kept = {record.attempt for record in tile_store(project.loaded).records("predictions").values()}
    found = {key.rsplit("/", 1)[0] for key in project.keys("predictions/32") if key.endswith("/bbox.geojson")}
    assert found == kept, "of each tile there is one attempt, the live one"
    assert "Uploads" not in project.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=project.prefix)
    seen(
        "kill -9 of the run in mid-upload, three times", "killed", "nothing",
        "all that was committed, whole; objects of unfinished attempts until `eo-assets sweep`, or a run over the tile "
        "an hour later",
    )  # fmt: skip


def _started_until_upload(project: InBucket, proxy: FaultProxy, tiles: str) -> Any:
    """A run that is about to put files of these tiles: the proxy holds them."""
    line = f"PUT /{BUCKET}/{quote(project.prefix)}/{tiles}"
    proxy.inject(Fault("slow", line, times=ALWAYS, seconds=20))
    run = project.start("run")
    _until(lambda: any(request.startswith(line) for request in list(proxy.counted.requests)), run)
    return run


def _records(project: InBucket) -> dict[str, bytes]:
    """The commit records of all tiles."""
    return {key: project.get(key) for key in project.keys() if "/_commits/" in key}  # noqa: SIM118, a method of ours


def _arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _until(condition: Callable[[], Any], run: Any) -> None:
    """Wait for a running command to come so far."""
    deadline = time.monotonic() + 120
    while not condition():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
