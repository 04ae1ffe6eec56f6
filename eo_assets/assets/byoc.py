"""`byoc_collection`: the maps as a collection of Sentinel Hub, one tile a zone."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import rasterio
import shapely

from eo_assets.assets.area import committed_area, tiles_of
from eo_assets.assets.maps import published_map
from eo_assets.assets.outputs import result
from eo_assets.assets.retention import let_go_after
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, live_record, noting_failure
from eo_assets.core.cover import cover_of, geojson
from eo_assets.core.publishing import PLACEHOLDER, BandSettings, PublishedTile
from eo_assets.core.recipe import recipe
from eo_assets.core.tile import Bounds
from eo_assets.errors import StoreError
from eo_assets.pools import pool
from eo_assets.project import LoadedProject
from eo_assets.stages.build import sentinel_hub, tile_store
from resources.byoc import PublishOptions, publish_tiles
from resources.byoc_collection import WantedCollection
from resources.output_record import OutputRecord
from resources.sentinel_hub import SentinelHub
from resources.tile_store import TileStore

ASSET = "byoc_collection"
COLLECTION_FILE = "collection.json"
PUBLISHED_FILE = "_published.json"
"""What was asked of the service so far: a publication that ended half way is gone on with."""

NOT_CONTENT = {"poll_seconds", "timeout_minutes"}


def byoc_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`byoc_collection` of a project."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        deps=[dg.AssetDep(dg.AssetKey([prefix, "maps"]), partition_mapping=dg.AllPartitionMapping())],
        kinds={"sentinelhub"},
        pool=pool(prefix, "publish"),
    )
    def byoc_collection(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The published collection: one tile a map, the area as its cover; only what differs is ingested."""
        with run_log(loaded, context), noting_failure(store, ASSET, ASSET):
            record = make_byoc_collection(loaded, store)
            let_go_after([ASSET], loaded, store, tiles_of(store))
            return result(store, record, {"tiles": _table(record)})

    return [byoc_collection]


def wanted_byoc_collection(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The collection that the committed maps make now."""
    maps = _maps(loaded, store)
    if not maps:
        raise StoreError("there is no map to publish yet; run it first: --only maps")
    inputs = {zone: record.digest for zone, record in maps.items()}
    inputs["aoi"] = live_record(store, "aoi", "aoi").digest
    service = sentinel_hub(loaded, loaded.project.byoc.service)
    settings = {
        "byoc": loaded.project.byoc.model_dump(mode="json", exclude=NOT_CONTENT),
        "band": _band(loaded).default,
        "maps": loaded.project.maps.model_dump(mode="json", include={"name", "dtype", "nodata"}),
        # A collection is one of a service and a bucket: a project that was moved is not published where it is now.
        "published": [service.state_id(), service.bucket_url(loaded.project.folder("maps"))],
    }
    return Wanted(recipe(ASSET, settings, "3", inputs), inputs)


def make_byoc_collection(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Publish all committed maps and commit what came of it, unless the very same are published."""
    wanted = wanted_byoc_collection(loaded, store)
    service = sentinel_hub(loaded, loaded.project.byoc.service)
    if service.state_id() is None:
        service.config()  # starts it for the first time, and what is wanted is a collection of this very service
        wanted = wanted_byoc_collection(loaded, store)
    return ensure(store, ASSET, ASSET, wanted, lambda folder: _publish(loaded, store, folder))


def _publish(loaded: LoadedProject, store: TileStore, folder: Path) -> dict[str, Any]:
    settings = loaded.project.byoc
    service = sentinel_hub(loaded, settings.service)
    bucket, _ = _address(service, "")
    tiles, outside = _tiles(loaded, store, service)
    collection = publish_tiles(
        service,
        WantedCollection(settings.collection_name, bucket, _band(loaded), settings.collection_id),
        tiles,
        _known(store),
        lambda known: store.store.put(_published_key(store), json.dumps(known, indent=1).encode()),
        PublishOptions(settings.poll_seconds, settings.timeout_minutes * 60, settings.delete_vanished),
    )
    (folder / COLLECTION_FILE).write_text(json.dumps(collection, indent=1))
    return {
        "collection_id": collection["id"],
        "tiles": collection["tiles"],
        "vanished": collection["vanished"],
        "outside_the_area": outside,
    }


def _tiles(loaded: LoadedProject, store: TileStore, service: SentinelHub) -> tuple[list[PublishedTile], list[str]]:
    """The maps as tiles, and the zones whose map the area does not reach: nothing of those would be shown."""
    settings = loaded.project.byoc
    area = committed_area(store) if settings.cover_geometry == "area" else None
    tiles, outside = [], []
    for zone, record in sorted(_maps(loaded, store).items()):
        cover = _cover(store.path(record), area)
        if cover is None:
            outside.append(zone)
            continue
        key = published_map(loaded, int(zone)).replace(f"_{loaded.project.maps.name}.tiff", f"_{PLACEHOLDER}.tiff")
        tiles.append(PublishedTile(_address(service, key)[1], settings.sensing_time, cover, record.digest))
    if not tiles:
        raise StoreError(
            f"byoc_collection: the area does not reach the maps of zones {', '.join(outside)}; make the maps of this "
            "area, or set byoc.cover_geometry: bounds"
        )
    return tiles, outside


def _known(store: TileStore) -> dict[str, Any]:
    """What was published so far; a project of an older version has it with its committed output only."""
    told = store.store.get(_published_key(store))
    if told is not None:
        return dict(json.loads(told))
    previous = store.record(ASSET, ASSET)
    return {} if previous is None else dict(json.loads(store.text(previous, COLLECTION_FILE)))


def _published_key(store: TileStore) -> str:
    return f"{store.folder(ASSET)}/{PUBLISHED_FILE}"


def _band(loaded: LoadedProject) -> BandSettings:
    project, maps = loaded.project, loaded.project.maps
    return BandSettings(maps.name, maps.dtype, maps.nodata, project.predictions.name, project.byoc.band_name)


def _address(service: SentinelHub, key: str) -> tuple[str, str]:
    """Bucket and path by which the service knows a key of the project folder."""
    bucket, _, path = service.bucket_url(key).removeprefix("s3://").partition("/")
    return bucket, path


def _maps(loaded: LoadedProject, store: TileStore) -> dict[str, OutputRecord]:
    """The committed maps of the grid's zones whose file is there: the others are no longer published."""
    zones = {str(tile.epsg) for tile in tiles_of(store)}
    return {
        zone: record
        for zone, record in store.records("maps").items()
        if zone in zones and store.store.exists(published_map(loaded, int(zone)))
    }


def _cover(folder: Path, area: shapely.Geometry | None) -> dict[str, Any] | None:
    """What of a map is shown, as GeoJSON in the map's CRS: its bounds, cut by the area; None where that is nothing."""
    # Of a copy: GDAL takes a body that was cut off on its way from a bucket for whole, and reads no CRS.
    with rasterio.open(next(folder.glob("*.tiff"))) as tiff:
        epsg = int(tiff.crs.to_epsg())
        cover = cover_of(area, epsg, Bounds(*tiff.bounds), tiff.res[0])
    return None if cover is None else geojson(cover, epsg)


def _table(record: OutputRecord) -> dg.MetadataValue:
    rows = [*record.numbers["tiles"], *record.numbers["vanished"]]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows])
