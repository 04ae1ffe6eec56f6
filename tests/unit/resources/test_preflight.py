"""`eo-assets preflight` against a service on loopback: what it asks, what it says, and that it spends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from eo_assets.cli import main
from eo_assets.command_preflight import Check, preflight, print_preflight
from eo_assets.definitions import open_project
from eo_assets.stages.build import sentinel_hub

COLLECTION = "{collection: sentinel-2-l2a, service: mine, harmonize_values: true}"


@pytest.fixture
def project(tmp_path: Path, http_service: Any) -> Path:
    """A project file that names the loopback service for everything; its project folder is a local one."""
    file = tmp_path / "project.yaml"
    file.write_text(
        "extends: west_africa\n"
        "storage: {project_folder: data}\n"
        f"services: {{mine: {{base_url: '{http_service.url}', token_url: '{http_service.url}/token',"
        " iam_role_arn: 'arn:aws:iam::123456789012:role/x'}}\n"
        f"imagery: {{collections: [{COLLECTION}]}}\n"
        f"reference: {{source: {{collection: {COLLECTION}}}}}\n"
        "byoc: {service: mine}\n"
    )
    return file


def found(project: Path) -> dict[str, Check]:
    return {check.what: check for check in preflight(str(project))}


def answers(batch: tuple[int, Any], usage: tuple[int, Any]) -> Any:
    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        return batch if path.startswith("/api/v2/batch/process") else usage

    return answer


def test_every_question_is_asked_once_and_none_of_them_costs(project: Path, http_service: Any) -> None:
    http_service.answer = answers((200, {"data": []}), (200, {"processingUnitsMonthly": {"remaining": "12345.6"}}))
    checks = found(project)
    assert checks["signs in"].found == "the token is good for 60 min"
    assert checks["may use Batch"].good
    assert checks["units left"].good
    assert checks["units left"].found == (
        "12,346 PU of 127.0.0.1; 1000 PU of 127.0.0.1 have to be left when a batch request is created"
    )
    assert not checks["delivery"].good
    assert "storage.project_folder: s3://" in checks["delivery"].found
    assert [(method, path) for method, path, _ in http_service.asked] == [
        ("GET", "/api/v2/batch/process?count=1"),
        ("GET", "/api/v1/accounting/usage"),
    ]


def test_an_account_without_batch_is_told(project: Path, http_service: Any) -> None:
    http_service.answer = answers((403, {"error": {"message": "no Batch for you"}}), (404, {}))
    check = found(project)["may use Batch"]
    assert not check.good
    assert "HTTP 403: no Batch for you" in check.found
    assert "enterprise plans" in check.found


@pytest.mark.parametrize("usage", [(404, {}), (403, {}), (200, {}), (200, {"processingUnitsMonthly": {}}), (500, {})])
def test_a_balance_that_is_not_told_is_not_made_up(project: Path, http_service: Any, usage: tuple[int, Any]) -> None:
    http_service.answer = answers((200, {"data": []}), usage)
    check = found(project)["units left"]
    assert check.good is None
    assert check.found.startswith("not told by its API; 1000 PU of 127.0.0.1 have to be left")


def test_an_account_that_is_nearly_empty_would_be_refused(project: Path, http_service: Any) -> None:
    http_service.answer = answers((200, {"data": []}), (200, {"processingUnitsMonthly": {"remaining": 999}}))
    assert found(project)["units left"].good is False


def test_wrong_credentials_end_the_questions(project: Path, http_service: Any) -> None:
    http_service.token = (401, {"error": "invalid_client", "error_description": "Bad client"})
    result = CliRunner().invoke(main, ["preflight", str(project)])
    assert result.exit_code == 1
    assert "signing in was refused" in result.output.replace("\n", "")
    assert "top-secret" not in result.output
    assert not http_service.asked


def test_a_table_is_good_where_nothing_would_stop_a_run() -> None:
    good, unknown, bad = (Check("mine", "check", state, "[x]") for state in (True, None, False))
    console = Console(record=True, width=100)
    assert print_preflight([good, unknown], console)
    assert not print_preflight([good, bad], console)
    assert "[x]" in console.export_text()


def test_a_handle_is_as_the_project_file_says(project: Path) -> None:
    text = project.read_text().replace("project_folder: data", "project_folder: 's3://maps/here'")
    project.write_text(text.replace("role/x'", "role/x', poll_seconds: 0.5, max_process_requests: 9, unit: credits"))
    service = sentinel_hub(open_project(str(project)), "mine")
    assert service.unit == "credits"
    assert (service.pace.poll_seconds, service.pace.analysis_poll_seconds) == (0.5, 5)
    assert service.pace.max_process_requests == 9
    assert service.bucket_access("tiffs/2020") == {
        "s3": {"url": "s3://maps/here/tiffs/2020", "iamRoleARN": "arn:aws:iam::123456789012:role/x"}
    }
