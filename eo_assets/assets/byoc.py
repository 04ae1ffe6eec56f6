"""`byoc_collection`: the maps as a collection of Sentinel Hub, one tile a zone."""

import json
from pathlib import Path

import dagster as dg
import rasterio
import shapely.geometry
from pyproj import Transformer

from eo_assets.assets.area import committed_area
from eo_assets.assets.maps import published_map
from eo_assets.assets.outputs import result
from eo_assets.assets.run_log import run_log
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
        with run_log(loaded, context):
            return result(store, make_byoc_collection(loaded, store))

    return [byoc_collection]


def make_byoc_collection(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Publish all committed maps and commit what came of it, unless the very same are published."""
    settings, maps = loaded.project.byoc, store.records("maps")
    if not maps:
        raise StoreError("there is no map to publish yet; run it first: --only maps")
    inputs = {zone: record.digest for zone, record in maps.items()}
    area_record = store.record("aoi", "aoi")
    inputs["aoi"] = area_record.digest if area_record else ""
    wanted = recipe("byoc_collection", {"byoc": settings.model_dump(mode="json")}, "1", inputs)
    previous = store.record("byoc_collection", "byoc_collection")
    if previous is not None and previous.recipe == wanted:
        return previous
    tiles = [
        PublishedTile(
            path=published_map(loaded, int(zone)).replace(f"_{loaded.project.maps.name}.tiff", "_(BAND).tiff"),
            sensing_time=settings.sensing_time,
            cover=_cover(store.path(record), committed_area(store) if settings.cover_geometry == "area" else None),
            digest=record.digest,
        )
        for zone, record in sorted(maps.items())
    ]
    known = json.loads((store.path(previous) / COLLECTION_FILE).read_text()) if previous else {}
    collection = publish_tiles(sentinel_hub(loaded, settings.service), settings.collection_name, tiles, known)
    with store.attempt("byoc_collection", "byoc_collection") as attempt:
        (attempt.folder / COLLECTION_FILE).write_text(json.dumps(collection, indent=1))
        numbers = {"collection_id": collection["id"], "tiles": {t["path"]: t["status"] for t in collection["tiles"]}}
        return store.commit("byoc_collection", "byoc_collection", attempt, wanted, numbers=numbers, inputs=inputs)


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
