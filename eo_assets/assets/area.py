"""The area of interest and its tiles: `aoi` and `tile_grid`. Everything else is partitioned by what they find."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import shapely.geometry

from eo_assets import partitions
from eo_assets.assets.outputs import result
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import Wanted, ensure, live_record, noting_failure
from eo_assets.core.grid import Grid
from eo_assets.core.recipe import recipe
from eo_assets.core.sentinel_hub_grid import SentinelHubGrid
from eo_assets.core.tile import Tile
from eo_assets.core.utm_grid import UtmGrid
from eo_assets.errors import AreaError, ProjectError
from eo_assets.project import CustomGridSettings, LoadedProject, SentinelHubGridSettings, UtmGridSettings
from eo_assets.stages.build import input_folder, input_folders, tile_store
from resources.grid_files import read_custom_grid, read_grid, write_grid
from resources.object_store import file_checksum
from resources.tile_store import OutputRecord, TileStore
from resources.vector_files import Area, read_area

AOI_FILE, GRID_FILE = "aoi.geojson", "tile_grid.gpkg"


def area_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`aoi` and `tile_grid` of a project."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(key_prefix=prefix, group_name=prefix, io_manager_key="table_io_manager", kinds={"geopackage"})
    def aoi(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The area of interest: the union of the files under input-data, in longitude and latitude."""
        with run_log(loaded, context), noting_failure(store, "aoi", "aoi"):
            return result(store, make_aoi(loaded, store))

    @dg.asset(key_prefix=prefix, group_name=prefix, io_manager_key="table_io_manager", deps=[aoi], kinds={"geopackage"})
    def tile_grid(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The grid's tiles that the area touches; registers the partitions of tiles and zones."""
        with run_log(loaded, context), noting_failure(store, "tile_grid", "tile_grid"):
            record = make_tile_grid(loaded, store)
            partitions.register(context.instance, prefix, tiles_of(store))
            return result(store, record)

    return [aoi, tile_grid]


def project_area(loaded: LoadedProject, file: Path | None = None) -> Area:
    """The area of the project's own files, or of one other file."""
    if file is not None:
        return read_area([file])
    pattern, folders = loaded.project.area.files, input_folders(loaded)
    for folder in folders:
        paths = sorted(folder.glob(pattern))
        if paths:
            return read_area(paths)
    raise AreaError(
        f"{loaded.file}: area.files: {pattern}: no file in {folders[0]} matches; put the area of interest there"
    )


def project_grid(loaded: LoadedProject) -> Grid:
    """The grid that the project file names."""
    area = loaded.project.area
    match area.grid:
        case SentinelHubGridSettings(id=grid_id):
            return SentinelHubGrid(grid_id, area.resolution, area.buffer)
        case UtmGridSettings(tile_size_m=size):
            return UtmGrid(size, area.resolution, area.buffer)
        case CustomGridSettings() as custom:
            path = input_folder(loaded) / custom.file
            return read_custom_grid(path, custom.identifier, area.resolution, area.buffer)


def wanted_aoi(loaded: LoadedProject) -> Wanted:
    """The area that the files under input-data say."""
    return Wanted(recipe("aoi", {"bytes": project_area(loaded).digest}, "1", {}))


def make_aoi(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the union of the area's files, unless these very bytes are committed."""
    area = project_area(loaded)

    def write(folder: Path) -> dict[str, Any]:
        (folder / AOI_FILE).write_text(shapely.to_geojson(area.geometry))
        return {"area_km2": round(area.area_km2, 3), "bounds": list(area.geometry.bounds)}

    return ensure(store, "aoi", "aoi", Wanted(recipe("aoi", {"bytes": area.digest}, "1", {})), write)


def wanted_tile_grid(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The tiles that the committed area and the project's grid say."""
    settings = loaded.project.area.model_dump(mode="json", exclude={"files"})
    if isinstance(loaded.project.area.grid, CustomGridSettings):
        settings["bytes"] = file_checksum(input_folder(loaded) / loaded.project.area.grid.file)
    inputs = {"aoi": live_record(store, "aoi", "aoi").digest}
    return Wanted(recipe("tile_grid", settings, "1", inputs), inputs)


def make_tile_grid(loaded: LoadedProject, store: TileStore) -> OutputRecord:
    """Commit the tiles that the committed area touches, unless they are up to date."""

    def write(folder: Path) -> dict[str, Any]:
        tiles = project_grid(loaded).tiles(committed_area(store))
        write_grid(folder / GRID_FILE, tiles)
        zones = Counter(str(tile.epsg) for tile in tiles)
        pixels = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
        return {"tiles": len(tiles), "tiles_by_zone": dict(zones), "pixels": pixels}

    return ensure(store, "tile_grid", "tile_grid", wanted_tile_grid(loaded, store), write)


def check_excluded_tiles(loaded: LoadedProject, tiles: Sequence[Tile]) -> None:
    """Refuse imagery.exclude where it names a tile that the grid has not. Raises ProjectError."""
    known = {tile.name for tile in tiles}
    named = {name for entry in loaded.project.imagery.exclude for name in entry.tiles or ()}
    if unknown := sorted(named - known):
        raise ProjectError(
            f"{loaded.file}: imagery.exclude: {unknown[0]}: the area has no tile of that name; "
            "`eo-assets plan --names` lists them"
        )


def committed_area(store: TileStore) -> shapely.Geometry:
    """The committed area of interest, longitude and latitude."""
    return shapely.from_geojson((store.path(live_record(store, "aoi", "aoi")) / AOI_FILE).read_text())


def tiles_of(store: TileStore) -> list[Tile]:
    """The committed tiles, in the order (EPSG, name)."""
    return read_grid(store.live("tile_grid", "tile_grid") / GRID_FILE)
