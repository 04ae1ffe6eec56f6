"""Imagery for many tiles: jobs that were begun are gone on with, the rest is ordered, and tiles come back one by one.

A job is state in the project folder (`batch_orders.py`), so a run that dies, at whatever instant, leaves a job that the
next run finds. The folder of a job holds what the service puts there: `<tile>/<output>.tif`, `<tile>/userdata.json` and
the side files `featureManifest-<id>.gpkg` and `execution-<id>.sqlite`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from eo_assets.errors import EoAssetsError
from resources.background import in_background
from resources.batch_collecting import collect
from resources.batch_desk import Delivery, Desk, Steps, Wanted
from resources.batch_orders import Order
from resources.batch_placing import place

LOG = logging.getLogger(__name__)


def deliveries(desk: Desk, wanted: Wanted) -> Iterator[Delivery | None]:
    """Yield every wanted tile once, as it arrives; None whenever there is nothing new to tell.

    What earlier orders delivered or still deliver is taken from them. What the service fails to make is asked for
    again, in one request, as long as it was asked for less than `desk.tries` times, earlier runs counted. Raises
    EoAssetsError if nothing can be ordered: then the tiles that had arrived have been told, and the rest are not.

    It runs in a thread of its own: jobs are placed and watched at their own pace, however busy the caller is.
    """
    yield from in_background(lambda: _deliveries(desk, wanted))


def _deliveries(desk: Desk, wanted: Wanted) -> Steps:
    waiting = {tile.name: tile for tile in wanted.tiles}
    reasons: dict[str, str] = {}
    for attempt in range(desk.tries):
        jobs: list[Order] = []
        try:
            yield from place(desk, wanted, waiting, jobs)
        except EoAssetsError as error:
            if not jobs and not reasons:
                raise
            covered = {name for order in jobs for name in order.covers(wanted.recipes)}
            for name in [name for name in waiting if name not in covered]:
                before = f"{reasons[name]}; not asked for again: " if name in reasons else ""
                yield Delivery(waiting.pop(name), None, f"{before}{error}")
        reasons.clear()
        yield from collect(desk, wanted, waiting, jobs, reasons)
        if not reasons:
            break
        if attempt == 0:
            wanted = replace(wanted, also=(), again=frozenset())
        LOG.warning("%d tiles were not made: %s", len(reasons), ", ".join(reasons))
    for name, tile in waiting.items():
        yield Delivery(tile, None, reasons.get(name, "the service says nothing of it"))
