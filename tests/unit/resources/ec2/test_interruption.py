"""The notice of a spot machine's end, from a metadata service on loopback that wants a session token."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from resources.ec2 import interruption
from resources.ec2.interruption import Metadata, Notice, drain, watch
from tests.simulation.instance_metadata import MetadataService as Service
from tests.simulation.instance_metadata import metadata_service


@pytest.fixture
def service() -> Iterator[Service]:
    with metadata_service() as running:
        yield running


def test_without_a_notice_there_is_none(service: Service) -> None:
    assert Metadata(service.address).notice() is None


def test_the_notice_says_when(service: Service) -> None:
    at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=120)
    service.answer = json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()
    notice = Metadata(service.address).notice()
    assert notice == Notice("terminate", at)
    assert 100 <= notice.seconds_left <= 120


def test_a_token_that_has_run_out_is_renewed(service: Service) -> None:
    metadata = Metadata(service.address)
    assert metadata.notice() is None
    service.token = "second"
    service.answer = b'{"action": "stop", "time": "2020-01-01T00:00:00Z"}'
    assert metadata.notice() is None, "refused, and the next one asks with a new token"
    notice = metadata.notice()
    assert notice is not None and notice.seconds_left == 1


@pytest.mark.parametrize("answer", [b"not json", b"{}", b'{"action": "stop", "time": "soon"}', b"[]"])
def test_an_answer_that_cannot_be_read_is_no_notice(service: Service, answer: bytes) -> None:
    service.answer = answer
    assert Metadata(service.address).notice() is None


def test_where_nobody_answers_there_is_no_notice() -> None:
    assert Metadata("http://127.0.0.1:9").notice() is None


def test_a_proxy_of_the_environment_is_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # a process reads them once
    service.answer = b'{"action": "terminate", "time": "2030-01-01T00:00:00Z"}'
    assert Metadata(service.address).notice() is not None


def test_a_ray_that_does_not_take_the_notice_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [1, 1, 0]
    asked: list[list[str]] = []

    def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, answers[len(asked) - 1], "", "")

    monkeypatch.setattr(interruption, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(subprocess, "run", run)
    drain(Notice("terminate", dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)))
    assert len(asked) == 3
    answers.append(1)
    drain(Notice("terminate", dt.datetime.now(dt.UTC)))
    assert len(asked) == 4, "a machine whose time is up asks nobody again"


def test_it_is_watched_for_and_heeded_once(service: Service) -> None:
    heeded: list[Notice] = []

    def later() -> None:
        service.answer = b'{"action": "terminate", "time": "2030-01-01T00:00:00Z"}'

    threading.Timer(0.3, later).start()
    found = watch(Metadata(service.address), heeded.append, poll_s=0.05)
    assert heeded == [found] and service.asked > 2
