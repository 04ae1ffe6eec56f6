"""The crew that works through the tiles of batch requests: two at a time, whatever the number of requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.batch_delivery import deliver, lacks_scenes, remove_drafts
from resources.local_sentinel_hub.batch_files import FATAL, NO_DATA, Ledger, Outcome, Tally
from resources.local_sentinel_hub.batch_request import BatchRequest, Delivery, Feature, describe_error
from resources.local_sentinel_hub.collections import Collection
from resources.local_sentinel_hub.fault_state import FaultState
from resources.local_sentinel_hub.script_child import ScriptLimits

WORKERS = 2
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """One request's tiles as the crew sees them."""

    identity: str
    request: BatchRequest
    place: Delivery
    ledger: Ledger
    stopped: Callable[[], bool]
    """Whether no further tile is to be taken up."""
    progress: Callable[[Tally], None]


class TileCrew:
    """Renders and delivers tiles, and writes down how each ended."""

    def __init__(
        self, collections: Callable[[], Mapping[str, Collection]], limits: ScriptLimits, faults: FaultState
    ) -> None:
        self._collections, self._limits, self._faults = collections, limits, faults
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="batch-tile")
        self._closing = threading.Event()

    @property
    def closing(self) -> bool:
        """Whether the service ends: what is not done is left for the next process."""
        return self._closing.is_set()

    def close(self) -> None:
        """Take up no more tiles and wait for those in hand."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def work(self, order: Order) -> None:
        """Work through the pending tiles until none is left, the order is stopped or the service ends."""
        remove_drafts(order.identity, order.place)
        waiting, running = iter(order.ledger.pending()), set[Future[None]]()
        while True:
            running |= self._submit(order, waiting, WORKERS - len(running))
            if not running:
                break
            done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            order.ledger.publish_if_due()
        order.ledger.publish()

    def _submit(self, order: Order, waiting: Iterator[Feature], free: int) -> set[Future[None]]:
        """Hand out tiles for the free workers."""
        if self.closing or order.stopped():
            return set()
        with suppress(RuntimeError):  # the pool was shut down in between
            return {self._pool.submit(self._tile, order, feature) for _, feature in zip(range(free), waiting)}
        return set()

    def _tile(self, order: Order, feature: Feature) -> None:
        if self._closing.wait(self._faults.now.slow_s):
            return  # it stays pending
        try:
            outcome = self._outcome(order, feature)
        except Exception as problem:
            LOG.info("batch request %s: tile %s failed", order.identity, feature.name, exc_info=True)
            outcome = Outcome(FATAL, describe_error(problem), delivered=False)
        tally = order.ledger.record(feature.name, outcome)
        if outcome.delivered:
            self._faults.tile_delivered()
        order.progress(tally)

    def _outcome(self, order: Order, feature: Feature) -> Outcome:
        faults, collections = self._faults.now, self._collections()
        if self._faults.turns_fatal(feature.name):
            raise ServiceError(faults.fatal_error)
        empty = feature.name in faults.empty_tiles
        if empty or (faults.empty_without_scenes and lacks_scenes(order.request, feature, collections)):
            return NO_DATA
        units = deliver(order.identity, order.request, order.place, feature, collections, self._limits)
        return Outcome(units=units * faults.cost_factor)
