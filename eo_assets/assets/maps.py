"""`maps`: the predictions of a zone's tiles as one Cloud Optimized GeoTIFF."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_assets.assets.area import tiles_of
from eo_assets.assets.outputs import metadata_of
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, noting_failure
from eo_assets.core.encode import finish
from eo_assets.core.mosaic import Lattice, lattice_of, mosaic_rows, place
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.core.zones import foreign_claims
from eo_assets.errors import StoreError
from eo_assets.partitions import zone_partitions
from eo_assets.pools import pool
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store, tile_walk
from eo_assets.stages.quicklooks import write_values
from eo_assets.stages.tiffs import tile_settings
from resources.cog import CogOptions, write_cog
from resources.eopatch_files import DATA_TIMELESS, open_array
from resources.tile_store import OutputRecord, TileStore

BLOCK_ROWS = 512
MAP_PICTURE_SIDE = 640
"""A map is looked at longer than a tile."""


def map_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`maps` of a project, partitioned by zone."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        partitions_def=zone_partitions(prefix),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="cog_io_manager",
        deps=[dg.AssetDep(dg.AssetKey([prefix, "predictions"]), partition_mapping=dg.AllPartitionMapping())],
        kinds={"cog"},
        pool=pool(prefix, "map"),
    )
    def maps(context: dg.AssetExecutionContext) -> None:
        """One COG a zone on one pixel lattice; every place belongs to one map."""
        with run_log(loaded, context):
            for zone in context.partition_keys:
                with noting_failure(store, "maps", zone):
                    said = metadata_of(store, make_map(loaded, store, int(zone)))
                context.add_asset_metadata(said, asset_key=context.asset_key, partition_key=zone)

    return [maps]


@dataclass(frozen=True, slots=True)
class ZoneTiles:
    """The tiles of a zone's map: those with a prediction, empty ones, and those that are missing, with the reason."""

    tiles: tuple[Tile, ...]
    records: dict[str, OutputRecord]
    missing: dict[str, str]


def zone_tiles(loaded: LoadedProject, store: TileStore, epsg: int) -> ZoneTiles:
    """Look up what a zone's map can be made of; only predictions that are up to date count."""
    walk = tile_walk(loaded)
    stage = walk.selected(["predictions"])[0]
    tiles = [tile for tile in tiles_of(store) if tile.epsg == epsg]
    records, missing = {}, {}
    for tile in tiles:
        state = walk.state(stage, tile)
        if state.good and state.record is not None:
            records[tile.name] = state.record
        else:
            missing[tile.name] = state.reason
    return ZoneTiles(tuple(tiles), records, missing)


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
    """Commit and publish a zone's map, unless it is up to date."""
    everything, zone = tiles_of(store), zone_tiles(loaded, store, epsg)
    _keep_what_is_shown(store, zone, epsg)
    record = ensure(
        store,
        "maps",
        str(epsg),
        _wanted(loaded, zone, everything),
        lambda folder: _write_map(loaded, store, zone, everything, folder / map_name(loaded, epsg)),
    )
    # Published even when nothing changed: a process that died between commit and publishing is made good.
    store.store.publish(store.path(record) / map_name(loaded, epsg), published_map(loaded, epsg))
    return record


def _keep_what_is_shown(store: TileStore, zone: ZoneTiles, epsg: int) -> None:
    """Refuse to put a map with new holes in the place of one that shows those tiles: the published map stays."""
    live = store.record("maps", str(epsg))
    lost = {name: zone.missing[name] for name in live.inputs if name in zone.missing} if live else {}
    if lost:
        first, reason = next(iter(lost.items()))
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise StoreError(
            f"maps of zone {epsg}: the published map shows {first}{more}, which can't be shown now ({reason}); it is "
            f"kept. Mend the tiles and run again, or delete {store.record_path('maps', str(epsg))} to accept the holes"
        )


def _wanted(loaded: LoadedProject, zone: ZoneTiles, everything: Sequence[Tile]) -> Wanted:
    if not zone.records:
        first, reason = next(iter(zone.missing.items()), ("no tile", "the zone has none"))
        raise StoreError(
            f"maps: none of the zone's {len(zone.tiles)} tiles has predictions ({first}: {reason}); run them first: "
            "--only predictions"
        )
    project = loaded.project
    inputs = {name: record.digest for name, record in zone.records.items()}
    settings = {
        "maps": project.maps.model_dump(mode="json"),
        "prediction": project.predictions.name,
        "sources": list(project.sources),
        "tiles": {tile.name: tile_settings(tile) for tile in zone.tiles},
        "other_zones": {t.name: tile_settings(t) for t in everything if t.epsg != zone.tiles[0].epsg},
    }
    return Wanted(recipe("maps", settings, "1", inputs), inputs)


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
    _quicklook(path, loaded)
    shifts = {tile.name: list(place(tile, lattice).shift) for tile in zone.tiles}
    return {
        "tiles": len(zone.tiles),
        "empty_tiles": sum(record.empty for record in zone.records.values()),
        "missing_tiles": zone.missing,
        "height_px": lattice.shape[0],
        "width_px": lattice.shape[1],
        "valid_share": round(summary.valid_share, 4),
        "mean": summary.mean,
        "shifted_tiles": {name: shift for name, shift in shifts.items() if any(shift)},
    }


def _blocks(
    loaded: LoadedProject, store: TileStore, zone: ZoneTiles, lattice: Lattice, everything: Sequence[Tile]
) -> Iterator[tuple[slice, NDArray[np.generic]]]:
    project = loaded.project
    arrays = {
        name: open_array(store.path(record), DATA_TIMELESS, project.predictions.name)
        for name, record in zone.records.items()
        if not record.empty
    }
    claims = foreign_claims(lattice, everything)

    def read(tile: Tile, rows: slice) -> NDArray[np.generic] | None:
        return np.asarray(arrays[tile.name][rows, :, 0]) if tile.name in arrays else None

    source_nodata = project.predictions.nodata
    for rows in lattice.row_blocks(BLOCK_ROWS):
        block = mosaic_rows(
            lattice, zone.tiles, rows, read, dtype=project.predictions.dtype, nodata=source_nodata, claims=claims
        )
        yield (
            rows,
            finish(
                block,
                rounding=project.maps.rounding,
                dtype=project.maps.dtype,
                source_nodata=source_nodata,
                nodata=project.maps.nodata,
            ),
        )


def _tags(loaded: LoadedProject, zone: ZoneTiles) -> dict[str, str]:
    project = loaded.project
    return {
        "TITLE": f"{project.name} {project.year}: {project.predictions.name}",
        "SOURCES": "; ".join(project.sources),
        "TILES": ", ".join(sorted(zone.records)),
        "MISSING_TILES": json.dumps(zone.missing),
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
