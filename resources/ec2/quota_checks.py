"""How many virtual CPUs an account may have at once, against what a cluster can ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from eo_assets.core.cluster_cost import KINDS
from eo_assets.project_cluster import Cluster
from resources.ec2.account import AwsAccount
from resources.ec2.findings import Row

ABOUT = "AWS"
SPOT, ON_DEMAND = "L-34B43A08", "L-1216C47A"
"""Quota codes of standard machines: families A, C, D, H, I, M, R, T and Z."""

STANDARD = re.compile(r"(?!hpc|inf|dl|trn|mac)[acdhimrtz]\d")


def vcpus_asked(cluster: Cluster, vcpus: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """By quota code, the virtual CPUs that a cluster can have at once, and those without which it makes no map.

    Of several worker types the largest is counted. Types of other families have other quotas and are left out.
    """
    workers, head = cluster.workers, cluster.head.instance_type
    sizes = [vcpus[name] for name in workers.instance_types if name in vcpus and STANDARD.match(name)]
    most, least = max(sizes, default=0), min(sizes, default=0)
    spot, on_demand = workers.most_spot, workers.most - workers.most_spot
    first = vcpus.get(head, 0) if STANDARD.match(head) else 0
    return {
        SPOT: (spot * most, least if spot else 0),
        ON_DEMAND: (first + on_demand * most, first + (least if on_demand and not spot else 0)),
    }


def quotas(aws: AwsAccount, cluster: Cluster) -> Iterator[Row]:
    """A row for spot machines and one for those on demand."""
    for code, (most, least) in vcpus_asked(cluster, _vcpus(aws, cluster)).items():
        if most:
            yield _row(aws, cluster, code, most, least)


def _row(aws: AwsAccount, cluster: Cluster, code: str, most: int, least: int) -> Row:
    from botocore.exceptions import ClientError

    what = "spot quota" if code == SPOT else "on demand quota"
    ask = (
        f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {code} "
        f"--desired-value {most} --region {aws.region} (hours to days)"
    )
    client = aws.client("service-quotas")
    with aws.asked("looking for the quota of virtual CPUs"):
        try:
            told = client.get_service_quota(ServiceCode="ec2", QuotaCode=code)
        except ClientError as error:
            if error.response["Error"].get("Code") != "NoSuchResourceException":
                raise
            return Row(ABOUT, what, None, f"AWS does not tell it; the cluster can ask for {most} virtual CPUs",
                       f"look for {code} in the console's Service Quotas")  # fmt: skip
    allowed = int(told["Quota"]["Value"])
    found = f"{allowed} virtual CPUs in all, the cluster can ask for {most}"
    if allowed >= most:
        return Row(ABOUT, what, True, f"{found}; other machines of the account count too")
    if allowed < least:
        return Row(ABOUT, what, False, f"{found}, and needs {least} to work at all", ask)
    return Row(
        ABOUT, what, False, found, f"lower cluster.workers.most from {cluster.workers.most}, or ask for more: {ask}"
    )


def _vcpus(aws: AwsAccount, cluster: Cluster) -> dict[str, int]:
    types = {cluster.head.instance_type, *cluster.workers.instance_types}
    known = {name: KINDS[name].vcpus for name in types if name in KINDS}
    if others := sorted(types - set(known)):
        with aws.asked(f"looking for {', '.join(others)}"):
            found = aws.client("ec2").describe_instance_types(InstanceTypes=others)["InstanceTypes"]
        known |= {one["InstanceType"]: one["VCpuInfo"]["DefaultVCpus"] for one in found}
    return known
