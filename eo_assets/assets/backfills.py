"""What a run's backfill asks for beside the run itself: scattered tiles are one run a range of neighbours."""

import dagster as dg

BACKFILL_TAG = "dagster/backfill"


def backfilled(instance: dg.DagsterInstance, run: dg.DagsterRun, key: dg.AssetKey) -> list[str]:
    """All partitions of an asset that the run's backfill targets; none for a run of its own."""
    backfill = instance.get_backfill(run.tags[BACKFILL_TAG]) if BACKFILL_TAG in run.tags else None
    data = backfill.asset_backfill_data if backfill else None
    if data is None or key not in data.target_subset.asset_keys:
        return []
    return list(data.target_subset.get_partitions_subset(key).get_partition_keys())
