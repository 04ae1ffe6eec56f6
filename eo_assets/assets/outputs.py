"""Committed outputs as Dagster shows them: metadata, data version and a quicklook of a record."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from eo_assets.stages.quicklooks import QUICKLOOK
from resources.tile_store import OutputRecord, TileStore

DATA_VERSION_TAG = "dagster/data_version"


def metadata_of(store: TileStore, record: OutputRecord, *, picture: bool = True) -> dict[str, Any]:
    """A record's numbers, place and recipe; its quicklook inline where it has one."""
    folder = store.path(record)
    numbers = {name: shown(value) for name, value in record.numbers.items()}
    said: dict[str, Any] = {
        **numbers,
        "path": dg.MetadataValue.path(str(folder)),
        "recipe": record.recipe[:12],
        "committed": record.created,
    }
    if record.empty:
        said["empty"] = record.reason
    drawing = folder / QUICKLOOK
    if picture and drawing.exists():
        said["quicklook"] = inline_picture(drawing.read_bytes(), record.stage)
    return said


def materialization(
    store: TileStore, key: dg.AssetKey, partition: str, record: OutputRecord, *, picture: bool
) -> dg.AssetMaterialization:
    """The event of one tile of one stage; its data version is the record's digest."""
    return dg.AssetMaterialization(
        asset_key=key,
        partition=partition,
        metadata=metadata_of(store, record, picture=picture),
        tags={DATA_VERSION_TAG: record.digest},
    )


def result(store: TileStore, record: OutputRecord, extra: Mapping[str, Any] | None = None) -> dg.MaterializeResult[Any]:
    """What an asset without partitions returns."""
    return dg.MaterializeResult(
        metadata={**metadata_of(store, record), **(extra or {})}, data_version=dg.DataVersion(record.digest)
    )


def inline_picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG inside the event itself: it is seen wherever the event is."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def quicklook_of(folder: Path) -> bytes | None:
    """The picture that a stage left beside its output."""
    path = folder / QUICKLOOK
    return path.read_bytes() if path.exists() else None


def shown(value: Any) -> Any:
    """A number or text as it is, a list or mapping as JSON."""
    if isinstance(value, Mapping):
        return dg.MetadataValue.json(dict(value))
    if isinstance(value, list | tuple):
        return dg.MetadataValue.json(list(value))
    return value
