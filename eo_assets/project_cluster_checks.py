"""Checks of what a cluster's machines may cost: a budget in dollars needs machines, and their prices."""

from __future__ import annotations

from collections.abc import Iterator

from eo_assets.project import Budget
from eo_assets.project_cluster import Cluster
from eo_assets.project_problems import Finding


def check_machine_budget(budget: Budget, cluster: Cluster | None) -> Iterator[Finding]:
    """A budget for machines is kept by the prices of all of them that may be had."""
    limit = budget.max_machine_usd
    if limit is None:
        return
    key = ("budget", "max_machine_usd")
    if cluster is None:
        yield Finding(key, limit, "there are no machines to pay for: no `cluster:` section", "remove it, or add one")
        return
    workers = cluster.workers
    wanted = [(cluster.head.instance_type, "on_demand")]
    wanted += [(name, "spot") for name in workers.instance_types if workers.most_spot]
    wanted += [(name, "on_demand") for name in workers.instance_types if workers.most_spot < workers.most]
    missing = [
        f"{name}.{market}"
        for name, market in wanted
        if name not in cluster.prices or getattr(cluster.prices[name], market) is None
    ]
    if missing:
        yield Finding(key, limit, f"the price of {missing[0]} is not known", f"add cluster.prices.{missing[0]}")
