"""Committed outputs as Dagster shows them: metadata, data version and a quicklook of a record."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from eo_assets.stages.quicklooks import OBSERVATIONS_PICTURE, QUICKLOOK
from resources.output_record import OutputRecord
from resources.tile_store import TileStore

PICTURES = {
    "quicklook": (QUICKLOOK, frozenset({"reference", "eopatches", "features", "predictions", "maps"})),
    "observations_picture": (OBSERVATIONS_PICTURE, frozenset({"features"})),
}
"""The file of each picture and the stages that draw it: the others are not asked for: a look has its price."""


def metadata_of(store: TileStore, record: OutputRecord, *, picture: bool = True) -> dict[str, Any]:
    """A record's numbers, place and recipe; its pictures inline where it has some."""
    numbers = {name: shown(value) for name, value in record.numbers.items()}
    drawn = {name: file for name, (file, stages) in PICTURES.items() if picture and record.stage in stages}
    drawings = {name: store.file(record, file) for name, file in drawn.items()}
    said: dict[str, Any] = {
        **{name: inline_picture(png, record.stage) for name, png in drawings.items() if png is not None},
        **numbers,
        "path": dg.MetadataValue.path(store.place(record)),
        "recipe": shown_recipe(record),
        "committed": record.created,
    }
    if record.empty:
        said["empty"] = record.reason
    return said


def shown_recipe(record: OutputRecord) -> str:
    """A recipe as events show it: enough to tell outputs apart."""
    return record.recipe[:12]


def told_recipe(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
    """The recipe that the latest materialization of an asset, or of one of its partitions, was told with."""
    asked = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    records = instance.fetch_materializations(asked, limit=1).records
    event = records[0].asset_materialization if records else None
    said = event.metadata.get("recipe") if event else None
    return None if said is None else str(said.value)


def failed_partitions(
    instance: dg.DagsterInstance, key: dg.AssetKey, names: Sequence[str], partitions: dg.PartitionsDefinition[str]
) -> set[str]:
    """Those of an asset's partitions that Dagster shows as failed."""
    states = instance.get_status_by_partition(key, names, partitions) if names else None
    return {name for name, state in (states or {}).items() if state is not None and state.value == "FAILED"}


def materialization(
    store: TileStore,
    key: dg.AssetKey,
    partition: str,
    record: OutputRecord,
    made_from: Mapping[str, str],
    *,
    code_version: str,
    picture: bool,
) -> dg.AssetMaterialization:
    """The event of one tile of one stage; its data version is the record's digest.

    `made_from` are the digests of its upstream assets, by name: with them Dagster tells what is stale by data versions.
    Without them it would call a tile unsynced whenever an upstream output was stamped again, changed or not.
    """
    project = key.path[0]
    return dg.AssetMaterialization(
        asset_key=key,
        partition=partition,
        metadata=metadata_of(store, record, picture=picture),
        tags={
            "dagster/data_version": record.digest,
            "dagster/data_version_is_user_provided": "true",
            "dagster/code_version": code_version,
            **{f"dagster/input_data_version/{project}/{name}": digest for name, digest in made_from.items()},
            # Dagster looks for both; a pointer to an event is of no use where the digest says it all.
            **{f"dagster/input_event_pointer/{project}/{name}": "NULL" for name in made_from},
        },
    )


def result(
    store: TileStore,
    record: OutputRecord,
    extra: Mapping[str, Any] | None = None,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult[Any]:
    """What an asset without partitions returns."""
    return dg.MaterializeResult(
        metadata={**metadata_of(store, record), **(extra or {})},
        data_version=dg.DataVersion(record.digest),
        check_results=list(checks),
    )


def inline_picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG inside the event itself: it is seen wherever the event is."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def shown(value: Any) -> Any:
    """A number or text as it is, a list or mapping as JSON."""
    if isinstance(value, Mapping):
        return dg.MetadataValue.json(dict(value))
    if isinstance(value, list | tuple):
        return dg.MetadataValue.json(list(value))
    return value
