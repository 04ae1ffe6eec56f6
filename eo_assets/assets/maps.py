"""`maps`: the predictions of a zone's tiles as one Cloud Optimized GeoTIFF."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_assets.assets.area import tiles_of
from eo_assets.assets.outputs import materialization
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, noting_failure
from eo_assets.assets.zone_tiles import ZoneTiles, check_coverage, keep_what_is_shown, zone_metadata, zone_tiles
from eo_assets.core.completeness import first_of, holes_geojson
from eo_assets.core.encode import finish
from eo_assets.core.mosaic import Lattice, lattice_of, mosaic_rows, place
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.core.zones import foreign_claims
from eo_assets.errors import EoAssetsError
from eo_assets.partitions import zone_partitions
from eo_assets.pools import pool
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store
from eo_assets.stages.quicklooks import write_values
from eo_assets.stages.tiffs import tile_settings
from resources.cog import CogOptions, write_cog
from resources.eopatch_files import DATA_TIMELESS, open_array
from resources.tile_store import OutputRecord, TileStore

DESCRIPTION = "One COG a zone on one pixel lattice; every place belongs to one map."
CODE_VERSION = "1"

BLOCK_ROWS = 512
CAST_COLUMNS = 8192
OPEN_TILES = 64
"""Tiles whose arrays are kept open: blocks go from north to south, so a tile is needed for a few of them only.

The memory of writing a map is a block of `BLOCK_ROWS` rows in the type of the predictions and in that of the map, one
tile's rows, and GDAL's cache: it grows with the width of the zone (at 10 m up to 67,000 pixels, 135 MB of float32), not
with the number of its tiles or rows."""

HOLES_FILE = "holes.geojson"
"""Beside a map that has holes: the cell of each tile that is not in it, with its state and the reason."""

MAP_PICTURE_SIDE = 640
"""A map is looked at longer than a tile."""


def map_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`maps` of a project, partitioned by zone."""
    prefix, store = loaded.project.name, tile_store(loaded)

    key = dg.AssetKey([prefix, "maps"])
    predictions = dg.AssetDep(dg.AssetKey([prefix, "predictions"]), partition_mapping=dg.AllPartitionMapping())
    spec = dg.AssetSpec(
        key, deps=[predictions], description=DESCRIPTION, group_name=prefix, kinds={"cog"}, skippable=True
    )

    @dg.multi_asset(
        name=f"{prefix}__maps",
        specs=[spec.with_io_manager_key("cog_io_manager")],
        partitions_def=zone_partitions(prefix),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=pool(prefix, "map"),
    )
    def maps(context: dg.AssetExecutionContext) -> Iterator[None]:
        failed: dict[str, str] = {}
        with run_log(loaded, context):
            for zone in context.partition_keys:
                try:
                    with noting_failure(store, "maps", zone):
                        record = make_map(loaded, store, int(zone))
                    event = materialization(store, key, zone, record, {}, code_version=CODE_VERSION, picture=True)
                    context.log_event(event)
                except EoAssetsError as error:
                    failed[zone] = str(error)
                    told = {"failed": str(error), "run": context.run.run_id}
                    context.log_event(dg.AssetObservation(key, partition=zone, metadata=told))
            if failed:
                said = "; ".join(failed.values())
                raise dg.Failure(said, metadata={"failed": dg.MetadataValue.json(failed)}, allow_retries=False)
        return
        yield  # As for the tile stages: a zone without a map is never stamped, and keeps no other from its own.

    return [maps]


def map_name(loaded: LoadedProject, epsg: int) -> str:
    """The file name of a zone's map."""
    return f"utm{epsg}_{loaded.project.maps.name}.tiff"


def published_map(loaded: LoadedProject, epsg: int) -> str:
    """The key under which a zone's map is found, whichever attempt is live."""
    return f"{loaded.project.folder('maps')}/{map_name(loaded, epsg)}"


def wanted_map(loaded: LoadedProject, store: TileStore, epsg: int) -> Wanted:
    """The map that the zone's predictions make now. A zone without any prediction is a StoreError."""
    return _wanted(loaded, zone_tiles(loaded, store, epsg), tiles_of(store))


def make_map(loaded: LoadedProject, store: TileStore, epsg: int) -> OutputRecord:
    """Commit and publish a zone's map, unless it is up to date. Its numbers tell the tiles' states as they are now."""
    everything, zone = tiles_of(store), zone_tiles(loaded, store, epsg)
    keep_what_is_shown(store, zone, epsg)
    record = ensure(
        store,
        "maps",
        str(epsg),
        _wanted(loaded, zone, everything),
        lambda folder: _write_map(loaded, store, zone, everything, folder / map_name(loaded, epsg)),
    )
    # Published even when nothing changed: a process that died between commit and publishing is made good.
    store.store.publish(store.path(record) / map_name(loaded, epsg), published_map(loaded, epsg))
    return replace(record, numbers={**record.numbers, **zone_metadata(zone)})


def _wanted(loaded: LoadedProject, zone: ZoneTiles, everything: Sequence[Tile]) -> Wanted:
    check_coverage(loaded, zone)
    project = loaded.project
    inputs = {name: record.digest for name, record in zone.records.items()}
    settings = {
        "maps": project.maps.model_dump(mode="json", exclude={"min_coverage"}),
        "prediction": project.predictions.name,
        "sources": list(project.sources),
        "tiles": {tile.name: tile_settings(tile) for tile in zone.tiles},
        "other_zones": {t.name: tile_settings(t) for t in everything if t.epsg != zone.tiles[0].epsg},
    }
    return Wanted(recipe("maps", settings, CODE_VERSION, inputs), inputs)


def _write_map(
    loaded: LoadedProject, store: TileStore, zone: ZoneTiles, everything: Sequence[Tile], path: Path
) -> dict[str, Any]:
    settings, lattice = loaded.project.maps, lattice_of(zone.tiles)
    cog = settings.cog
    summary = write_cog(
        path,
        lattice,
        settings.dtype,
        settings.nodata,
        _blocks(loaded, store, zone, lattice, everything),
        options=CogOptions(cog.blocksize, cog.compress, overview_resampling=cog.overview_resampling),
        tags=_tags(loaded, zone),
        description=loaded.project.predictions.name,
    )
    for record in zone.records.values():
        store.path(record)  # a tile that was replaced and swept meanwhile would have been read as nodata
    _quicklook(path, loaded)
    if zone.found.holes:
        (path.parent / HOLES_FILE).write_text(json.dumps(holes_geojson(zone.found, zone.tiles)))
    shifts = {tile.name: list(place(tile, lattice).shift) for tile in zone.tiles}
    return {
        "tiles": len(zone.tiles),
        **zone_metadata(zone),
        "height_px": lattice.shape[0],
        "width_px": lattice.shape[1],
        "valid_share": round(summary.valid_share, 4),
        "mean": summary.mean,
        "shifted_tiles": first_of({name: shift for name, shift in shifts.items() if any(shift)}),
    }


def _blocks(
    loaded: LoadedProject, store: TileStore, zone: ZoneTiles, lattice: Lattice, everything: Sequence[Tile]
) -> Iterator[tuple[slice, NDArray[np.generic]]]:
    project = loaded.project
    claims = foreign_claims(lattice, everything)

    @lru_cache(maxsize=OPEN_TILES)
    def array(name: str) -> Any:
        return open_array(store.intact(zone.records[name]), DATA_TIMELESS, project.predictions.name)

    def read(tile: Tile, rows: slice) -> NDArray[np.generic] | None:
        record = zone.records.get(tile.name)
        return None if record is None or record.empty else np.asarray(array(tile.name)[rows, :, 0])

    for rows in lattice.row_blocks(BLOCK_ROWS):
        block = mosaic_rows(
            lattice,
            zone.tiles,
            rows,
            read,
            dtype=project.predictions.dtype,
            nodata=project.predictions.nodata,
            claims=claims,
        )
        yield rows, _finished(loaded, block)


def _finished(loaded: LoadedProject, block: NDArray[np.generic]) -> NDArray[np.generic]:
    """A block as the map's type, some columns at a time: what a cast takes on the way does not grow with the zone."""
    settings = loaded.project.maps
    result = np.empty(block.shape, dtype=settings.dtype)
    for start in range(0, block.shape[1], CAST_COLUMNS):
        columns = slice(start, start + CAST_COLUMNS)
        result[:, columns] = finish(
            block[:, columns],
            rounding=settings.rounding,
            dtype=settings.dtype,
            source_nodata=loaded.project.predictions.nodata,
            nodata=settings.nodata,
        )
    return result


def _tags(loaded: LoadedProject, zone: ZoneTiles) -> dict[str, str]:
    project = loaded.project
    return {
        "TITLE": f"{project.name} {project.year}: {project.predictions.name}",
        "SOURCES": "; ".join(project.sources),
        "TILES": ", ".join(sorted(zone.records)),
        "MISSING_TILES": json.dumps(zone.found.holes),
        "SOFTWARE": "eo-assets",
    }


def _quicklook(path: Path, loaded: LoadedProject) -> None:
    settings = loaded.project
    with rasterio.open(path) as tiff:
        step = max(1, math.ceil(max(tiff.shape) / MAP_PICTURE_SIDE))
        values = tiff.read(1, out_shape=(max(1, tiff.height // step), max(1, tiff.width // step)))
    classes = settings.model.kind == "lightgbm_classifier"
    write_values(
        path.parent,
        values,
        settings.maps.nodata,
        limits=settings.predictions.clip,
        classes=classes,
        side=MAP_PICTURE_SIDE,
    )
