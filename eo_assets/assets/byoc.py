"""`byoc_collection`: the maps as a collection of Sentinel Hub, one tile a zone."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import rasterio
import shapely.geometry
from pyproj import Transformer

from eo_assets.assets.area import committed_area, tiles_of
from eo_assets.assets.maps import published_map
from eo_assets.assets.outputs import result
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, live_record, noting_failure
from eo_assets.core.recipe import recipe
from eo_assets.errors import StoreError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import sentinel_hub, tile_store
from resources.byoc import PublishedTile, publish_tiles
from resources.tile_store import OutputRecord, TileStore

COLLECTION_FILE = "collection.json"


def byoc_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`byoc_collection` of a project."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        deps=[dg.AssetDep(dg.AssetKey([prefix, "maps"]), partition_mapping=dg.AllPartitionMapping())],
        kinds={"sentinelhub"},
    )
    def byoc_collection(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The published collection: created once, every map ingested, the area as cover."""
        with run_log(loaded, context), noting_failure(store, "byoc_collection", "byoc_collection"):
            return result(store, make_byoc_collection(loaded, store))

    return [byoc_collection]


def wanted_byoc_collection(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The collection that the committed maps make now."""
    maps = _maps(store)
    if not maps:
        raise StoreError("there is no map to publish yet; run it first: --only maps")
    inputs = {zone: record.digest for zone, record in maps.items()}
    inputs["aoi"] = live_record(store, "aoi", "aoi").digest
    return Wanted(recipe("byoc_collection", {"byoc": loaded.project.byoc.model_dump(mode="json")}, "1", inputs), inputs)


def make_byoc_collection(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Publish all committed maps and commit what came of it, unless the very same are published."""
    wanted = wanted_byoc_collection(loaded, store)
    return ensure(store, "byoc_collection", "byoc_collection", wanted, lambda folder: _publish(loaded, store, folder))


def _publish(loaded: LoadedProject, store: TileStore, folder: Path) -> dict[str, Any]:
    settings = loaded.project.byoc
    area = committed_area(store) if settings.cover_geometry == "area" else None
    tiles = [
        PublishedTile(
            path=published_map(loaded, int(zone)).replace(f"_{loaded.project.maps.name}.tiff", "_(BAND).tiff"),
            sensing_time=settings.sensing_time,
            cover=_cover(store.path(record), area),
            digest=record.digest,
        )
        for zone, record in sorted(_maps(store).items())
    ]
    previous = store.record("byoc_collection", "byoc_collection")
    known = json.loads((store.path(previous) / COLLECTION_FILE).read_text()) if previous else {}
    collection = publish_tiles(sentinel_hub(loaded, settings.service), settings.collection_name, tiles, known)
    (folder / COLLECTION_FILE).write_text(json.dumps(collection, indent=1))
    states = {tile["path"]: tile["status"] for tile in collection["tiles"]}
    return {"collection_id": collection["id"], "tiles": states}


def _maps(store: TileStore) -> dict[str, OutputRecord]:
    """The committed maps of the grid's zones: a zone that the area no longer reaches is no longer published."""
    zones = {str(tile.epsg) for tile in tiles_of(store)}
    return {zone: record for zone, record in store.records("maps").items() if zone in zones}


def _cover(folder: Path, area: shapely.Geometry | None) -> dict[str, object]:
    """What of a map is shown, as GeoJSON in the map's CRS: its bounds, cut by the area."""
    with rasterio.open(next(folder.glob("*.tiff"))) as tiff:
        bounds, epsg = shapely.box(*tiff.bounds), tiff.crs.to_epsg()
    if area is not None:
        to_map = Transformer.from_crs(4326, epsg, always_xy=True)
        local = shapely.transform(shapely.segmentize(area, 0.05), to_map.transform, interleaved=False)
        bounds = bounds.intersection(shapely.make_valid(local))
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}
    return {**shapely.geometry.mapping(bounds), "crs": crs}
