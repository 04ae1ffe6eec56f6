"""`maps`: the predictions of a zone's tiles as one Cloud Optimized GeoTIFF."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import rasterio

from eo_assets.assets.area import tiles_of
from eo_assets.assets.map_blocks import MapBlocks
from eo_assets.assets.outputs import materialization
from eo_assets.assets.retention import let_go_after
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, noting_failure
from eo_assets.assets.zone_tiles import ZoneTiles, check_coverage, keep_what_is_shown, zone_metadata, zone_tiles
from eo_assets.core.completeness import first_of, holes_geojson
from eo_assets.core.mosaic import lattice_of, place
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError
from eo_assets.partitions import zone_partitions
from eo_assets.pools import pool
from eo_assets.project import LoadedProject, Maps
from eo_assets.stages.build import tile_store
from eo_assets.stages.quicklooks import write_values
from eo_assets.stages.tiffs import tile_settings
from resources.cog import CogOptions, write_cog
from resources.output_record import OutputRecord
from resources.tile_store import TileStore

DESCRIPTION = "One COG a zone on one pixel lattice; every place belongs to one map."
CODE_VERSION = "1"

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
            made = {*context.partition_keys} - {*failed}
            let_go_after(["maps"], loaded, store, [tile for tile in tiles_of(store) if str(tile.epsg) in made])
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
    store.store.copy(f"{record.attempt}/{map_name(loaded, epsg)}", published_map(loaded, epsg))
    return replace(record, numbers={**record.numbers, **zone_metadata(zone)})


def _wanted(loaded: LoadedProject, zone: ZoneTiles, everything: Sequence[Tile]) -> Wanted:
    check_coverage(loaded, zone)
    project = loaded.project
    inputs = {name: record.digest for name, record in zone.records.items()}
    settings = {
        "maps": map_settings(project.maps),
        "prediction": project.predictions.name,
        "sources": list(project.sources),
        "tiles": {tile.name: tile_settings(tile) for tile in zone.tiles},
        "other_zones": {t.name: tile_settings(t) for t in everything if t.epsg != zone.tiles[0].epsg},
    }
    return Wanted(recipe("maps", settings, CODE_VERSION, inputs), inputs)


def map_settings(maps: Maps) -> dict[str, Any]:
    """What changes a map. A key that came later counts where it is set, or every map would be made anew for it."""
    later = {"min_observations"} if maps.min_observations is None else set()
    return maps.model_dump(mode="json", exclude={"min_coverage", *later})


def _write_map(
    loaded: LoadedProject, store: TileStore, zone: ZoneTiles, everything: Sequence[Tile], path: Path
) -> dict[str, Any]:
    settings, lattice = loaded.project.maps, lattice_of(zone.tiles)
    cog, blocks = settings.cog, MapBlocks(loaded, store, zone, lattice, everything)
    summary = write_cog(
        path,
        lattice,
        settings.dtype,
        settings.nodata,
        iter(blocks),
        options=CogOptions(cog.blocksize, cog.compress, overview_resampling=cog.overview_resampling),
        tags=_tags(loaded, zone),
        description=loaded.project.predictions.name,
    )
    for record in zone.records.values():
        # A tile that was replaced and swept meanwhile would have been read as nodata.
        store.blocks(record)
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
        **blocks.numbers,
        "shifted_tiles": first_of({name: shift for name, shift in shifts.items() if any(shift)}),
    }


def _tags(loaded: LoadedProject, zone: ZoneTiles) -> dict[str, str]:
    project = loaded.project
    return {
        "TITLE": f"{project.name} {project.year}: {project.predictions.name}",
        "SOURCES": "; ".join(project.sources),
        "TILES": ", ".join(sorted(zone.records)),
        "MISSING_TILES": json.dumps(zone.found.holes),
        **({"MIN_OBSERVATIONS": str(least)} if (least := project.maps.min_observations) else {}),
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
