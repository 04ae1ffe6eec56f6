"""US dollars that a run's machines on EC2 cost: estimated and allowed before, reserved meanwhile, settled with hours.

Only where tiles run on the project's cluster: Ray on this machine costs nothing and nothing is said of it. Not counted
are the time before the driver sees a machine and after its last tile, training and maps, disks and transfers.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator, Sequence

from eo_assets.assets.cost_estimate import Estimate, estimate_of
from eo_assets.assets.machine_estimate import RunEstimate, markets, tile_work
from eo_assets.core.cluster_cost import KINDS, choices, cost_of
from eo_assets.core.spendings import Spending
from eo_assets.core.tile import Tile
from eo_assets.errors import BudgetExceeded
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from resources.ray_cluster import RayCluster
from resources.run_usage import RunUsage
from resources.spending import Ledger

BUDGET = "budget.max_machine_usd"

_log = logging.getLogger(__name__)


def machine_ledger(loaded: LoadedProject) -> Ledger:
    """What the project's machines may cost and have cost, a calendar month (UTC): documents of their own."""
    return Ledger(
        tile_store(loaded).store,
        f"{loaded.project.folder('spending')}/ec2-{loaded.project.name}",
        str(loaded.file),
        loaded.project.budget.max_machine_usd,
        key=BUDGET,
        unit="US dollars for machines",
        decimals=2,
    )


def run_estimate(
    loaded: LoadedProject, tiles: Sequence[Tile], stages: Sequence[str], estimate: Estimate | None = None
) -> RunEstimate | None:
    """What the machines of a run of these stages cost at the most; None without a cluster, or with nothing to do.

    `estimate` is that of the tiles, where it is known already.

    Ray's autoscaler asks at once for as many workers as have something to do, of whichever of the types and markets
    there are some: the dearest is counted.
    """
    cluster = loaded.project.cluster
    if cluster is None or not tiles:
        return None
    if strange := tuple(name for name in cluster.workers.instance_types if name not in KINDS):
        return RunEstimate(None, cluster.head.instance_type, None, strange)
    work = tile_work(loaded, tiles, estimate or estimate_of(loaded, tiles), stages)
    found = [
        choice
        for spot, most in markets(cluster)
        for choice in choices(
            work, cluster.workers.instance_types, cluster.prices, spot=spot, most=most, deadline_hours=0.0
        )
    ]
    return RunEstimate.of(cluster, work, found)


def on_cluster(loaded: LoadedProject, ray: RayCluster) -> bool:
    """Do this run's tiles run on the project's cluster?"""
    return loaded.project.cluster is not None and ray.mode == "address"


def require_machines(loaded: LoadedProject, tiles: Sequence[Tile], stages: Sequence[str]) -> None:
    """Refuse what this month's budget for machines does not cover, before anything is started. A BudgetExceeded."""
    if loaded.project.budget.max_machine_usd is None:
        return
    estimate = run_estimate(loaded, tiles, stages)
    if estimate is None:
        return
    if estimate.usd is None:
        raise BudgetExceeded(
            f"{loaded.file}: {BUDGET}: what this run's machines cost is not known: {estimate.line()}; nothing was "
            "started for it. Complete cluster.prices, or take types of workers that are known"
        )
    machine_ledger(loaded).require(estimate.usd, f"this run ({len(tiles)} tiles; {estimate.line()})")


@contextlib.contextmanager
def machine_spending(
    loaded: LoadedProject, ray: RayCluster, tiles: Sequence[Tile], stages: Sequence[str], usage: RunUsage
) -> Iterator[RunEstimate | None]:
    """Hold a reservation for the machines of a run, and settle it with what they cost by the hours that it saw.

    A run whose machines say no type of theirs is settled as estimated, and so is, for the budget, one that is killed:
    its reservation stays.
    """
    estimate = run_estimate(loaded, tiles, stages) if on_cluster(loaded, ray) else None
    if estimate is None or estimate.usd is None:
        if estimate is not None:
            _log.warning("machines: %s", estimate.line())
        yield estimate
        return
    _log.info("machines: %s", estimate.line())
    ledger = machine_ledger(loaded)
    identity = f"machines-{ledger.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    ledger.reserve(
        Spending(identity, "machines", "ec2", len(tiles), estimate.usd, estimate.usd), f"this run ({len(tiles)} tiles)"
    )
    try:
        yield estimate
    finally:
        actual = actual_usd(loaded, usage)
        if actual is None:
            ledger.settle(identity, estimate.usd, "as estimated: type or price of its machines is not known")
        else:
            hours = ", ".join(f"{one.hours:.2f} h {one.instance_type}" for one in usage.hours())
            ledger.settle(identity, actual, hours)


def actual_usd(loaded: LoadedProject, usage: RunUsage) -> float | None:
    """US dollars of the machines that a run used; None where a type or a price is not known."""
    cluster, hours = loaded.project.cluster, usage.hours()
    return cost_of(hours, cluster.prices) if cluster is not None and hours else None
