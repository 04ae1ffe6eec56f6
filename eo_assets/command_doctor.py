"""`eo-assets doctor`: would a run of this project work on this account? Asks; spends, makes and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from eo_assets.cluster import aws_account
from eo_assets.command_preflight import Check, named_services, service_checks
from eo_assets.core.bucket_policies import place_of
from eo_assets.definitions import open_project
from eo_assets.errors import ClusterError
from eo_assets.project import LoadedProject, service_named
from eo_assets.stages.build import s3_access
from resources.ec2 import account_checks, bucket_checks
from resources.ec2.account import AwsAccount
from resources.ec2.account_checks import Asked
from resources.ec2.bucket_checks import Bucket, Deployment
from resources.ec2.findings import Row, told
from resources.ec2.quota_checks import quotas
from resources.s3_settings import settings

PATIENCE_S = 5.0
REMEDIES = {
    "signs in": "does this machine reach {host}? Then compare the client with the one in the service's dashboard",
    "may use Batch": "ask Sentinel Hub for a plan with Batch; a client of another account would not have it either",
    "units left": "wait for the next month, or buy units in the service's dashboard",
}
"""What to do about a service's failing check that has all its credentials, by check."""


def doctor(project: str) -> Iterator[Row]:
    """Every check, as it is made: the account's, the bucket's, the cluster's, the services'."""
    loaded = open_project(project)
    yield from _on_aws(loaded, project)
    yield from _services(loaded)


def print_rows(rows: Iterator[Row], console: Console) -> bool:
    """Rows for people, then what to do, in whole lines to be copied; returns whether nothing would stop a run."""
    found = list(rows)
    table = Table("about", "check", "", "found", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    signs = {True: "[green]ok[/]", False: "[red]no[/]", None: "-"}
    for row in found:
        table.add_row(row.about, row.what, signs[row.good], Text(row.found, overflow="fold"))
    console.print(table, soft_wrap=False)
    for good, title in ((False, "what to do"), (None, "what you can look at")):
        if remedies := [row for row in found if row.good is good and row.remedy]:
            console.print(f"\n[bold]{title}[/]")
        for row in remedies:
            console.print(f"{row.about}, {row.what}:\n  {escape(row.remedy)}", soft_wrap=True)
    console.print()
    stopping = sum(row.good is False for row in found)
    console.print(_summary(found, stopping), soft_wrap=False)
    return not stopping


def _summary(rows: Sequence[Row], stopping: int) -> str:
    unknown = sum(row.good is None for row in rows)
    more = f"; {unknown} can't be known here, or stop nothing (-)" if unknown else ""
    if stopping:
        return f"[red]{stopping} of {len(rows)} checks would stop a run[/]{more}; nothing was spent"
    return f"{len(rows)} checks: nothing would stop a run{more}; nothing was spent"


def _on_aws(loaded: LoadedProject, project: str) -> Iterator[Row]:
    cluster, aws = loaded.project.cluster, _account(loaded)
    in_bucket = loaded.project_folder.startswith("s3://")
    foreign = loaded.project.storage.s3.endpoint
    if cluster is None and not (in_bucket and foreign is None):
        yield Row("AWS", "needed", None, "no cluster and no bucket on AWS: nothing to ask of it")
        return
    try:
        yield from account_checks.credentials(aws)
    except ClusterError as error:
        remedy = "nothing else was asked of AWS: mend this first"
        yield Row("AWS", "credentials", False, str(error), remedy)
        return
    yield from _bucket(loaded)
    if cluster is not None:
        place = place_of(loaded.project_folder) if in_bucket else None
        yield from _cluster(Asked(aws, cluster, project, version("eo-assets"), place))


def _account(loaded: LoadedProject) -> AwsAccount:
    """In the cluster's region, or the bucket's as far as the project says it; answers are waited for some seconds."""
    cluster = loaded.project.cluster
    if cluster is not None:
        return replace(aws_account(cluster), patience_s=PATIENCE_S)
    region = loaded.project.storage.s3.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return AwsAccount(region or "us-east-1", os.environ.get("AWS_PROFILE"), PATIENCE_S)


def _bucket(loaded: LoadedProject) -> Iterator[Row]:
    cluster, about = loaded.project.cluster, bucket_checks.ABOUT
    if not loaded.project_folder.startswith("s3://"):
        remedy = "name a bucket in storage.project_folder"
        yield Row(about, "there", False, "the project folder is on this machine, where no cluster reaches it", remedy)
        return
    s3 = loaded.project.storage.s3
    if s3.endpoint is not None:
        where = urlsplit(s3.endpoint).hostname
        yield Row(about, "there", None, f"on {where}, which is not AWS: its policies are not read",
                  "eo-assets preflight tries to write there")  # fmt: skip
        return
    account = _account(loaded)
    bucket = Bucket(
        place_of(loaded.project_folder),
        replace(account, profile=s3.profile or account.profile),
        loaded.project.folder("tiffs"),
        loaded.project.folder("maps"),
    )
    try:
        region = bucket_checks.region_of(bucket)
    except ClusterError as error:
        yield Row(about, "there", False, str(error))
        return
    yield Row(about, "there", True, f"{bucket.place.bucket} in {region}")
    if (signed := settings(s3_access(s3)).region) != region:
        remedy = f"write s3: {{region: {region}}} under storage in {loaded.file}, or set AWS_REGION"
        yield Row(about, "region of requests", False, f"bucket {region}; requests are signed for {signed}", remedy)
    deployments = _deployments(loaded)
    yield from bucket_checks.regions(region, cluster.region if cluster else None, deployments)
    yield from told(about, "maps are read", lambda: bucket_checks.reading(bucket, deployments), stops=False)
    yield from told(about, "deliveries", lambda: bucket_checks.delivering(bucket, deployments), stops=False)
    yield from told(about, "private", lambda: bucket_checks.keeping(bucket), stops=False)


def _deployments(loaded: LoadedProject) -> list[Deployment]:
    """Remote services that write to the bucket or read it; one that only answers requests may be anywhere."""
    project, found = loaded.project, []
    delivering = {collection.service for collection in project.imagery.collections}
    for name in dict.fromkeys([*delivering, project.byoc.service]):
        service = service_named(project.services, name)
        if service.base_url is None:
            continue
        host = urlsplit(service.base_url).hostname or ""
        found.append(Deployment(name, host, name in delivering, name == project.byoc.service, service.iam_role_arn))
    return found


def _cluster(asked: Asked) -> Iterator[Row]:
    yield from told("AWS", "stack", lambda: account_checks.stack(asked))
    yield from account_checks.ssh(asked.cluster)
    yield from told("AWS", "AMI", lambda: account_checks.machine_image(asked))
    yield from told("AWS", "image", lambda: account_checks.docker_image(asked))
    yield from told("AWS", "zones", lambda: account_checks.zones(asked))
    yield from told("AWS", "quotas", lambda: quotas(asked.aws, asked.cluster), stops=False)
    types = {asked.cluster.head.instance_type, *asked.cluster.workers.instance_types}
    if unpriced := sorted(types - set(asked.cluster.prices)):
        remedy = "without them no cost is told: https://aws.amazon.com/ec2/pricing"
        yield Row("AWS", "prices", None, f"cluster.prices lacks {', '.join(unpriced)}", remedy)


def _services(loaded: LoadedProject) -> Iterator[Row]:
    """What `preflight` asks, less its trial of writing. A local service is started by a run: nothing to ask."""
    for name in named_services(loaded):
        if service_named(loaded.project.services, name).base_url is None:
            yield Row(name, "signs in", None, "served by this machine when a run needs it")
            continue
        for check in service_checks(loaded, name, writes=False):
            remedy = _service_remedy(loaded, check) if check.good is False else ""
            yield Row(check.service, check.what, check.good, check.found, remedy)


def _service_remedy(loaded: LoadedProject, check: Check) -> str:
    service = service_named(loaded.project.services, check.service)
    wanted = [f"{service.credentials}{part}" for part in ("CLIENT_ID", "CLIENT_SECRET")]
    missing = [name for name in wanted if not os.environ.get(name)]
    if missing:
        return f"export {'=... '.join(missing)}=...: an OAuth client that you make in the service's dashboard"
    return REMEDIES.get(check.what, "").format(host=urlsplit(service.base_url or "").hostname)
