"""What a run over tiles tells Dagster: an event a finished (stage, tile), a reason on a failed one's partition."""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Mapping
from types import TracebackType

import dagster as dg

from eo_assets.assets.outputs import failed_partitions, materialization
from eo_assets.errors import StorageRefused
from eo_assets.stages.walk import StageOutcome, Walk
from resources.output_record import OutputRecord

INLINE_PICTURES = 500
"""Runs of more tiles than this leave quicklooks beside the outputs and out of the event log."""

TOLD_FAILURES = 100
"""Failures told one by one in Dagster's own log and in the run's failure; the run's log file tells all of them."""

_log = logging.getLogger(__name__)


class TileEvents:
    """The events of one run, told as its tiles finish; holds the first failures, never records.

    Tiles that are up to date are told too: Dagster has planned for them, and takes those that it hears nothing of for
    not done in a backfill, and for failed once the run has.
    """

    def __init__(self, context: dg.AssetExecutionContext, walk: Walk, upstream: Mapping[str, tuple[str, ...]]) -> None:
        self._context, self._walk, self._upstream = context, walk, upstream
        self._keys = {key.path[-1]: key for key in context.selected_asset_keys}
        self._pictures = len(context.partition_keys) <= INLINE_PICTURES
        grid = walk.store.record("tile_grid", "tile_grid")
        self._grid = {"tile_grid": grid.digest} if grid else {}
        self._failed: dict[str, str] = {}
        self._blocked: dict[str, str] = {}
        self._refusal = ""
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> "TileEvents":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._tell_kept()
            self._raise_failed()

    def tell(self, outcome: StageOutcome) -> None:
        """Take up one outcome: every (stage, tile) of the run once."""
        self._counts[outcome.status] += 1
        if outcome.good and outcome.record is not None:
            self._materialized(outcome.stage, outcome.tile, outcome.record)
        elif outcome.status == "failed":
            self._failure(outcome)
        elif outcome.status == "blocked" and len(self._blocked) < TOLD_FAILURES:
            self._blocked[f"{outcome.stage}/{outcome.tile}"] = outcome.reason

    def _materialized(self, stage: str, tile: str, record: OutputRecord) -> None:
        digests = {**self._grid, **record.inputs}
        event = materialization(
            self._walk.store,
            self._keys[stage],
            tile,
            record,
            {name: digests[name] for name in self._upstream[stage] if name in digests},
            code_version=self._walk.selected([stage])[0].code_version,
            picture=self._pictures,
        )
        self._log(event)

    def _log(self, event: dg.AssetMaterialization | dg.AssetObservation) -> None:
        self._context.log_event(event)
        # Dagster keeps what is logged until the step ends, stored or not: with thousands of tiles that adds up.
        deque(self._context.op_execution_context.consume_events(), maxlen=0)

    def _failure(self, outcome: StageOutcome) -> None:
        if outcome.refused:
            self._refusal = f"{outcome.stage} of {outcome.tile}: {outcome.reason}"
        with contextlib.suppress(StorageRefused):  # what can't be written down is still told
            self._walk.store.note_failure(outcome.stage, outcome.tile, outcome.reason)
        told = {"failed": outcome.reason, "run": self._context.run.run_id}
        self._log(dg.AssetObservation(self._keys[outcome.stage], partition=outcome.tile, metadata=told))
        told_one_by_one = len(self._failed) < TOLD_FAILURES
        if told_one_by_one:
            self._failed[f"{outcome.stage}/{outcome.tile}"] = outcome.reason
        log = self._context.log if told_one_by_one else _log
        log.error(f"{outcome.stage} of {outcome.tile}: {outcome.reason}\n{outcome.details}")

    def _tell_kept(self) -> None:
        if self._counts["kept"]:
            self._context.log.warning(
                f"{self._counts['kept']} outputs are used although their settings changed since they were bought; "
                "buy them again with --rebuy"
            )

    def _raise_failed(self) -> None:
        """One failure that names the failed tiles with their reasons."""
        failed, blocked = self._counts["failed"], self._counts["blocked"]
        if not failed and not blocked:
            return
        first = "".join(f"\n  {name}: {reason}" for name, reason in list((self._failed or self._blocked).items())[:10])
        failure = dg.Failure(
            f"{failed} failed, {blocked} blocked behind them; every other tile is done.{first}",
            metadata={"failed": dg.MetadataValue.json(self._failed), "blocked": blocked},
            allow_retries=False,
        )
        # Not what single tiles met is the cause then, and nothing that is launched later would fare better.
        raise failure from (StorageRefused(self._refusal) if self._refusal else None)


def told_digests(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: dg.PartitionsDefinition[str]
) -> dict[str, str]:
    """The digest that the latest materialization of each partition was told with.

    Not of one that Dagster shows as failed since: a run that was interrupted, or killed, tells nothing of what it found
    up to date.
    """
    tag = "dagster/data_version"
    found = instance.event_log_storage.get_latest_tags_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, [tag]
    )
    failed = failed_partitions(instance, key, list(found), partitions)
    return {name: tags[tag] for name, tags in found.items() if tag in tags and name not in failed}
