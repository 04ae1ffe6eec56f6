"""What lies in deploy/ is what the product renders, and is valid as it stands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from eo_assets.cli import main
from eo_assets.core.bucket_policies import place_of
from eo_assets.definitions import open_project
from resources.dagster_s3 import BucketLogs
from resources.ec2.cluster_schema import check_cluster_file
from resources.ec2.instance_end import end_after
from resources.ec2.stack import Account, stack_template
from tests.simulation.proxy import NGINX, configuration

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = str(DEPLOY / "ray/project.yaml")
EXAMPLE = Account("vpc-0123456789abcdef0", ("rtb-0123456789abcdef0",), "you@example.com", 100)


def lint(*command: str | Path) -> str:
    """What a linter of the virtual environment says."""
    program = Path(sys.executable).with_name(str(command[0]))
    said = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    return said.stdout + said.stderr if said.returncode else ""


def test_the_cluster_file_is_the_one_that_is_rendered() -> None:
    said = CliRunner().invoke(main, ["cluster", "render", PROJECT, "--example"])
    assert said.exit_code == 0, said.output
    text = (DEPLOY / "ray/cluster.yaml").read_text()
    assert text == said.output
    check_cluster_file(text, "deploy/ray/cluster.yaml")


def test_a_slip_in_a_file_of_ones_own_is_told_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    document = yaml.safe_load((DEPLOY / "ray/cluster.yaml").read_text())
    document["provider"]["regoin"] = "eu-central-1"
    file.write_text(yaml.safe_dump(document))
    said = CliRunner().invoke(main, ["cluster", "render", PROJECT, "--check", str(file)])
    assert said.exit_code == 2
    assert "provider.regoin: 'eu-central-1': nobody reads this key" in said.output


def test_the_stack_is_the_one_that_is_made() -> None:
    loaded = open_project(PROJECT)
    assert loaded.project.cluster is not None
    made = stack_template(loaded.project.cluster, place_of(loaded.project_folder), EXAMPLE)
    assert json.loads((DEPLOY / "aws/stack.json").read_text()) == made
    assert lint("cfn-lint", "--region", "eu-central-1", "--", DEPLOY / "aws/stack.json") == ""


def test_a_project_without_a_cluster_is_told_what_to_write() -> None:
    said = CliRunner().invoke(main, ["cluster", "status", "demo"])
    assert said.exit_code == 2 and "no `cluster:` section; the least is region and ssh_from" in said.output


def test_the_image_has_no_lint() -> None:
    assert lint("hadolint", DEPLOY / "docker/Dockerfile") == ""


def test_no_layer_is_given_a_secret_and_nobody_is_root() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    assert "SECRET" not in text and "TOKEN=" not in text
    assert [line for line in text.splitlines() if line.startswith("USER ")] == ["USER 1000:1000"]
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")


def test_what_machines_are_told_at_their_start_has_no_lint(tmp_path: Path) -> None:
    (tmp_path / "end.sh").write_text(end_after(1.5))
    assert lint("shellcheck", tmp_path / "end.sh") == ""


@pytest.mark.skipif(shutil.which("packer") is None, reason="Debian's packer is not installed")
def test_the_machine_image_is_valid_for_packer() -> None:
    variables = {"region": "eu-central-1", "image": "1.dkr.ecr.eu-central-1.amazonaws.com/a:1", "instance_profile": "p"}
    said = [part for name, value in variables.items() for part in ("-var", f"{name}={value}")]
    subprocess.run(["packer", "validate", *said, DEPLOY / "packer/eo-assets.pkr.hcl"], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_units_are_valid_for_systemd(tmp_path: Path) -> None:
    for unit in (DEPLOY / "dagster").glob("*.service"):
        text = unit.read_text()
        assert "--host 127.0.0.1" in text or "daemon" in unit.name, "nobody but this machine reaches it"
        text = text.replace("/opt/eo-assets/bin/", "/bin/true ").replace("User=eo-assets", "User=root")
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.glob("*.service"))
    assert len(units) == 4
    said = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr


def test_runs_see_the_folder_in_which_rays_sockets_are() -> None:
    """`EO_ASSETS_RAY=auto` looks into /tmp/ray; with a /tmp of its own a unit sees nothing there."""
    assert "\nEO_ASSETS_RAY=auto\n" in (DEPLOY / "dagster/environment.example").read_text()
    lines = (DEPLOY / "dagster/eo-assets-code.service").read_text().splitlines()
    assert "PrivateTmp=true" not in lines and "ReadWritePaths=/tmp" in lines


@pytest.mark.skipif(not Path(NGINX).exists(), reason=f"no {NGINX}: apt-get install nginx-light")
def test_the_proxy_is_valid_for_nginx(tmp_path: Path) -> None:
    main = configuration(tmp_path, {})
    said = subprocess.run([NGINX, "-t", "-p", tmp_path, "-c", main], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "warn" not in said.stderr, said.stderr


def test_the_sign_in_names_no_secret_and_listens_on_loopback() -> None:
    said = tomllib.loads((DEPLOY / "proxy/oauth2-proxy.cfg").read_text())
    assert said["http_address"].startswith("127.0.0.1:") and said["set_xauthrequest"] and said["cookie_secure"]
    assert not {"client_secret", "cookie_secret"} & set(said)


def test_guests_get_a_ui_that_launches_nothing() -> None:
    assert "--read-only" in (DEPLOY / "dagster/eo-assets-guests.service").read_text()
    assert "--read-only" not in (DEPLOY / "dagster/eo-assets-webserver.service").read_text()


def test_the_instance_of_a_team_names_what_exists() -> None:
    said = yaml.safe_load((DEPLOY / "dagster/dagster.yaml").read_text())
    assert said["compute_logs"]["class"] == BucketLogs.__name__
    assert set(said["compute_logs"]["config"]) <= set(BucketLogs.config_type())
    assert said["storage"]["postgres"]["postgres_url"] == {"env": "EO_ASSETS_POSTGRES_URL"}
