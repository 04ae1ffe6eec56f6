"""`eo-assets doctor` over moto's account and a Sentinel Hub on this machine: what each failing check says.

Not proved here: Service Quotas and the AMI parameter of Ubuntu, which moto lacks (quotas come from a server of this
test that answers as AWS's API model says), an account's own block of public access,
and what real IAM refuses.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from eo_assets.cli import main
from eo_assets.command_doctor import doctor, print_rows
from eo_assets.core.bucket_policies import byoc_reading, delivery, delivery_trust, place_of, principal_of
from eo_assets.project_cluster import Cluster
from resources.ec2 import bucket_checks
from resources.ec2.account import AwsAccount
from resources.ec2.account_checks import Asked, docker_image, machine_image, ssh, zones
from resources.ec2.account_checks import stack as stack_rows
from resources.ec2.bucket_checks import Bucket, Deployment
from resources.ec2.findings import Row
from resources.ec2.quota_checks import quotas, vcpus_asked
from tests.moto_server import REGION, Moto

from .conftest import PLACE, ROLE, made_bucket, made_programs, made_push, made_role

SENTINEL_HUB = Deployment("sentinel_hub", "services.sentinel-hub.com", delivers=True, publishes=True)


def asked(project: Path) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(main, ["doctor", str(project)])


def words(result: Result) -> str:
    return " ".join(result.output.split())


def test_an_empty_account_is_told_what_it_lacks_and_nothing_is_made_or_written(project: Path, moto: Moto) -> None:
    before = sorted(path for path in project.parent.rglob("*"))
    result = asked(project)
    assert result.exit_code == 1, result.output
    said = words(result)
    assert "account 123456789012 as" in said and "by variables of the environment" in said
    assert "there is no bucket maps-of-a-team: make it with `aws s3 mb s3://maps-of-a-team --region" in said
    assert "there is no eo-assets in eu-central-1" in said
    assert f"\n  eo-assets cluster setup {project}\n" in result.output, "whole, to be copied"
    assert "no repository yet: the stack makes it" in said
    assert "it lists the account's batch requests" in said
    assert "testing" not in said, "the secret"
    table = result.output.partition("what to do")[0]
    assert all(len(line) <= 100 for line in table.splitlines())
    assert sorted(path for path in project.parent.rglob("*")) == before
    assert moto.machines() == [] and moto.client("s3").list_buckets()["Buckets"] == []


def test_an_account_that_has_all_of_it_passes(
    project: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = byoc_reading(place_of(PLACE), principal_of("sentinel-hub.com"))
    made_bucket(moto, REGION, policy)
    made_role(moto, delivery(place_of(PLACE)))
    setup = CliRunner().invoke(main, ["cluster", "setup", str(project)])
    assert setup.exit_code == 0, setup.output
    made_push(moto)
    made_programs(tmp_path, monkeypatch)
    rows = list(doctor(str(project)))
    assert [row for row in rows if row.good is False] == []
    found = {(row.about, row.what): row for row in rows}
    assert found["AWS", "image"].good and found["AWS", "stack"].good and found["AWS", "AMI"].good
    assert found["bucket", "mine delivers"].good and found["AWS", "c6i.4xlarge"].good
    assert found["bucket", "mine reads maps"].good is None, "whose account 127.0.0.1 is, nobody knows"
    assert found["AWS", "spot quota"].good is None, "moto has no quotas of EC2"
    console = Console(record=True, width=100)
    assert print_rows(iter(rows), console)
    assert "nothing would stop a run" in console.export_text()


def test_an_aws_that_does_not_answer_is_one_row(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    rows = [row for row in doctor(str(project)) if row.about in ("AWS", "bucket")]
    (row,) = rows
    assert row.good is False and "Could not connect" in row.found
    assert row.remedy == "nothing else was asked of AWS: mend this first"


def test_without_credentials_there_is_one_row_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (row,) = [row for row in doctor(str(project)) if row.about in ("AWS", "bucket")]
    assert "no AWS credentials; set AWS_PROFILE, or sign in: aws sso login" in row.found


def test_requests_that_are_signed_for_another_region_are_told(
    project: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_bucket(moto, REGION)
    rows = [row.what for row in itertools.islice(doctor(str(project)), 4)]
    assert "region of requests" not in rows
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    row = next(row for row in doctor(str(project)) if row.what == "region of requests")
    assert row.good is False and row.found == f"bucket {REGION}; requests are signed for us-east-1"
    assert row.remedy == f"write s3: {{region: {REGION}}} under storage in {project}, or set AWS_REGION"


def test_a_profile_that_is_not_there_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    result = asked(project)
    assert result.exit_code == 1
    assert "`aws configure list-profiles` names those of this machine" in words(result)


def test_a_service_that_does_not_let_in_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SH_CLIENT_SECRET", "wrong-secret")
    result = asked(project)
    assert "check SH_CLIENT_ID, SH_CLIENT_SECRET and the service's token_url" in words(result)
    assert "wrong-secret" not in result.output


def test_every_failing_check_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SH_CLIENT_SECRET")
    project.write_text(re.sub(r", ami: [^}]*", "", project.read_text()))
    rows = [row for row in doctor(str(project)) if row.good is False]
    silent = [row for row in rows if not row.remedy and ": " not in row.found]
    assert silent == []
    remedies = {(row.about, row.what): row.remedy for row in rows}
    assert remedies["mine", "signs in"].startswith("export SH_CLIENT_SECRET=...: an OAuth client that you make")
    found = {row.what: row.found for row in rows}
    assert "name one in cluster.ami" in found["AMI"], "moto knows no parameter of Canonical's"


def test_a_project_on_this_machine_alone_has_nothing_to_ask_of_aws(moto: Moto) -> None:
    rows = list(doctor("demo"))
    assert [(row.about, row.good) for row in rows] == [("AWS", None), ("local", None)]


def test_a_cluster_reaches_no_folder_of_this_machine(project: Path) -> None:
    project.write_text(project.read_text().replace(PLACE, "data"))
    found = {row.what: row for row in doctor(str(project))}
    assert found["there"].found == "the project folder is on this machine, where no cluster reaches it"


def test_the_regions_of_bucket_cluster_and_deployment() -> None:
    elsewhere = [
        SENTINEL_HUB,
        Deployment("cdse", "sh.dataspace.copernicus.eu", True, False),
        Deployment("mine", "sh.example.com", True, False),
    ]
    rows = list(bucket_checks.regions("us-west-2", "eu-central-1", elsewhere))
    assert [row.good for row in rows] == [False, False, False, None]
    assert rows[0].remedy.endswith("set cluster.region to the bucket's")
    assert rows[1].remedy.endswith("put the project into a bucket in eu-central-1")
    assert "a cloud of its own" in rows[2].found
    assert all(row.good for row in bucket_checks.regions("eu-central-1", "eu-central-1", [SENTINEL_HUB]))
    west = Deployment("sentinel_hub_uswest", "services-uswest2.sentinel-hub.com", True, True)
    assert all(row.good for row in bucket_checks.regions("us-west-2", None, [west]))


def test_the_region_of_a_bucket_is_asked(moto: Moto, aws: AwsAccount) -> None:
    west = boto3.client("s3", region_name="us-west-2", endpoint_url=moto.endpoint)
    west.create_bucket(Bucket="maps-of-a-team", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    assert bucket_checks.region_of(_place(aws)) == "us-west-2"


def test_a_bucket_without_the_policy_that_byoc_needs(moto: Moto, aws: AwsAccount) -> None:
    made_bucket(moto, REGION)
    (row,) = bucket_checks.reading(_place(aws), [SENTINEL_HUB])
    assert (row.good, row.found) == (False, "no policy on the bucket")
    assert row.remedy.startswith(
        "eo-assets bucket-policy s3://maps-of-a-team/west_africa --role bucket --service sentinel-hub.com > policy.json"
    )
    policy = byoc_reading(place_of(PLACE), principal_of("sentinel-hub.com"), "elsewhere")
    moto.client("s3").put_bucket_policy(Bucket="maps-of-a-team", Policy=json.dumps(policy))
    (row,) = bucket_checks.reading(_place(aws), [SENTINEL_HUB])
    assert row.found == "its policy lacks s3:GetObject on arn:aws:s3:::maps-of-a-team/west_africa/maps/*"
    policy = byoc_reading(place_of(PLACE), principal_of("sentinel-hub.com"))
    moto.client("s3").put_bucket_policy(Bucket="maps-of-a-team", Policy=json.dumps(policy))
    assert [row.good for row in bucket_checks.reading(_place(aws), [SENTINEL_HUB])] == [True]


def test_the_role_that_delivers(moto: Moto, aws: AwsAccount) -> None:
    by_role = Deployment("sentinel_hub", "services.sentinel-hub.com", True, True, ROLE)

    def row(deployment: Deployment = by_role) -> Row:
        (found,) = bucket_checks.delivering(_place(aws), [deployment])
        return found

    assert "give services.sentinel_hub.iam_role_arn" in row(SENTINEL_HUB).remedy
    assert row().found == "there is no role delivers"
    print_it = "eo-assets bucket-policy s3://maps-of-a-team/west_africa --role delivery"
    allow = (
        "aws iam put-role-policy --role-name delivers --policy-name eo-assets --policy-document file://delivery.json"
    )
    assert row().remedy.startswith(f"{print_it}-trust --external-id YOUR-ACCOUNT-THERE > trust.json; aws iam create-")
    assert row().remedy.endswith(f"; {print_it} > delivery.json; {allow}")
    made_role(moto, delivery(place_of(PLACE), "other"))
    assert "s3:PutObject on arn:aws:s3:::maps-of-a-team/west_africa/tiffs/*" in row().found
    made_role(moto, delivery(place_of(PLACE)))
    assert row().good
    trust = delivery_trust("arn:aws:iam::999999999999:root", "me")
    moto.client("iam").update_assume_role_policy(RoleName="delivers", PolicyDocument=json.dumps(trust))
    assert row().found == "the service may not take the role delivers"
    assert "aws iam update-assume-role-policy --role-name delivers" in row().remedy


def test_a_bucket_that_may_become_public_or_keeps_everything_stops_nothing(moto: Moto, aws: AwsAccount) -> None:
    made_bucket(moto, REGION)
    s3 = moto.client("s3")
    s3.put_bucket_versioning(Bucket="maps-of-a-team", VersioningConfiguration={"Status": "Enabled"})
    rows = list(bucket_checks.keeping(_place(aws)))
    assert [(row.what, row.good) for row in rows] == [("private", None), ("versions", None)]
    assert "aws s3api put-public-access-block --bucket maps-of-a-team" in rows[0].remedy
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket="maps-of-a-team", PublicAccessBlockConfiguration=closed)
    assert next(iter(bucket_checks.keeping(_place(aws)))).good


def test_a_network_group_that_lets_in_another_address(aws: AwsAccount, cluster: Cluster, stack: str) -> None:
    moved = cluster.model_copy(update={"ssh_from": ("198.18.0.1/32",)})
    rows = list(stack_rows(_cluster(aws, moved)))
    assert [row.good for row in rows] == [True, False]
    assert rows[1].found == "the stack lets in 203.0.113.0/28; cluster.ssh_from says 198.18.0.1/32"
    assert rows[1].remedy == "eo-assets cluster setup p.yaml"


def test_an_address_of_documentation_and_missing_programs(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    rows = list(ssh(cluster))
    assert [row.good for row in rows] == [False, False]
    assert "this machine lacks ssh and rsync" in rows[0].found
    assert "203.0.113.0/28 is an address of documentation" in rows[1].found


def test_images_that_are_not_there(aws: AwsAccount, cluster: Cluster, stack: str, moto: Moto) -> None:
    (row,) = docker_image(_cluster(aws, cluster))
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/eo-assets:1.0"
    assert row.found == f"{image} is not there"
    assert f"-t {image} ." in row.remedy and f"docker push {image}" in row.remedy
    made_push(moto, "1.0")
    assert [row.good for row in docker_image(_cluster(aws, cluster))] == [True]
    foreign = cluster.model_copy(update={"image": "rayproject/ray:2.60"})
    assert [row.good for row in docker_image(_cluster(aws, foreign))] == [None]
    wrong = cluster.model_copy(update={"ami": "ami-0123456789abcdef0"})
    with pytest.raises(Exception, match="looking for the machine image ami-0123456789abcdef0"):
        list(machine_image(_cluster(aws, wrong)))


def test_an_instance_type_that_is_not_sold_there(aws: AwsAccount, cluster: Cluster, moto: Moto) -> None:
    workers = cluster.workers.model_copy(update={"instance_types": ("c6i.4xlarge", "u-24tb1.metal")})
    rows = list(zones(_cluster(aws, cluster.model_copy(update={"workers": workers}))))
    assert [(row.what, row.good) for row in rows] == [
        ("m6i.xlarge", True),
        ("c6i.4xlarge", True),
        ("u-24tb1.metal", False),
    ]
    assert rows[2].found == "not sold in eu-central-1a, eu-central-1b, eu-central-1c"


@pytest.mark.parametrize(
    ("allowed", "good", "told"),
    [
        (256, True, "256 virtual CPUs in all, the cluster can ask for 160; other machines of the account count too"),
        (64, False, "lower cluster.workers.most from 10, or ask for more: aws service-quotas request-service-quota"),
        (5, False, "5 virtual CPUs in all, the cluster can ask for 160, and needs 16 to work at all"),
    ],
)
def test_the_quota_of_spot_machines(
    cluster: Cluster, aws: AwsAccount, monkeypatch: pytest.MonkeyPatch, allowed: int, good: bool, told: str
) -> None:
    with QuotaService(allowed) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", url)
        spot, on_demand = quotas(aws, cluster)
    assert (spot.good, on_demand.good) == (good, True)
    assert told in f"{spot.found} {spot.remedy}"


def test_what_a_cluster_can_ask_for(cluster: Cluster) -> None:
    sizes = {"m6i.xlarge": 4, "c6i.4xlarge": 16, "m6i.4xlarge": 16, "g5.xlarge": 4}
    assert vcpus_asked(cluster, sizes) == {"L-34B43A08": (160, 16), "L-1216C47A": (4, 4)}
    half = cluster.model_copy(update={"workers": cluster.workers.model_copy(update={"spot_share": 0.5})})
    assert vcpus_asked(half, sizes) == {"L-34B43A08": (80, 16), "L-1216C47A": (84, 4)}
    gpu = cluster.workers.model_copy(update={"instance_types": ("g5.xlarge",)})
    assert vcpus_asked(cluster.model_copy(update={"workers": gpu}), sizes)["L-34B43A08"] == (0, 0), "a quota of its own"


class QuotaService:
    """A server that answers GetServiceQuota as botocore's model of the API says."""

    def __init__(self, allowed: int) -> None:
        answer = json.dumps({"Quota": {"Value": float(allowed), "QuotaCode": "L-34B43A08"}}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *failure: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def _place(aws: AwsAccount) -> Bucket:
    return Bucket(place_of(PLACE), aws, "tiffs", "maps")


def _cluster(aws: AwsAccount, cluster: Cluster) -> Asked:
    return Asked(aws, cluster, "p.yaml", "1.0", place_of(PLACE))
