"""The contract tests' own limits: what they may spend and whom they may ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .budget import CAP_PU, Budget, OverBudget
from .deployments import DEPLOYMENTS, MAIN_TOKENS

ROOT = Path(__file__).parents[2]
LOOK = """
import socket
from tests.contract.deployments import allow_only
allow_only(("localhost", "example.org"))
socket.getaddrinfo("localhost", 80)
for host in ("example.org.evil.test", "evilexample.org", b"198.51.100.1"):
    try:
        socket.getaddrinfo(host, 80)
    except PermissionError as refusal:
        print(refusal)
"""


def test_a_call_that_could_go_over_the_cap_is_not_made() -> None:
    budget = Budget()
    assert budget.cap_pu == CAP_PU == 200
    budget.reserve("one job", 100).cost_pu = 150
    budget.reserve("a request", 0.01)
    assert not budget.allows(50)
    with pytest.raises(OverBudget, match=r"another is estimated at 50 PU, 150.01 of 200 PU are spent or reserved"):
        budget.reserve("another", 50)
    assert [found.call for found in budget.spendings] == ["one job", "a request"]


def test_the_result_names_service_date_and_differences(tmp_path: Path) -> None:
    budget = Budget()
    budget.reserve("a request", 0.02).cost_pu = 0.025
    budget.reserve("a refused one", 0.02)
    budget.write(tmp_path / "folder/result.json", "cdse", {"passed": 2})
    found = json.loads((tmp_path / "folder/result.json").read_text())
    assert (found["service"], found["tests"], found["cap_pu"]) == ("cdse", {"passed": 2}, 200)
    assert [call["difference_pu"] for call in found["calls"]] == [0.005, None]
    assert "not told" in list(budget.table())[2]


def test_only_the_deployments_hosts_are_looked_up() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.count("the contract tests may reach localhost, example.org, and not ") == 3


def test_secrets_go_to_no_other_deployment() -> None:
    assert set(DEPLOYMENTS) == {"sentinel_hub", "sentinel_hub_uswest", "cdse"}
    for deployment in DEPLOYMENTS.values():
        assert all(url.startswith("https://") for url in (deployment.base_url, deployment.token_url))
    assert MAIN_TOKENS not in DEPLOYMENTS["cdse"].token_url


@pytest.mark.parametrize(
    ("service", "said"),
    [("cdse", "set SH_CLIENT_ID and SH_CLIENT_SECRET for cdse"), ("mars", "is none of local, sentinel_hub")],
)
def test_a_real_service_without_credentials_is_not_asked(service: str, said: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SH_", "EO_ASSETS_VERIFY"))}
    command = [sys.executable, "-m", "pytest", "tests/contract/test_contract_process.py", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, "-x", "-s"],
        env={**environment, "EO_ASSETS_VERIFY_SERVICE": service},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED and said in ended.stdout, ended.stdout


def test_other_tests_do_not_run_while_the_machine_may_be_left() -> None:
    command = [sys.executable, "-m", "pytest", "tests/unit/core/test_cost.py", "-p", "no:cacheprovider"]
    environment = {**os.environ, "EO_ASSETS_VERIFY_SERVICE": "cdse"}
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, ended.stdout + ended.stderr
    assert "only tests/contract may run" in ended.stdout + ended.stderr
