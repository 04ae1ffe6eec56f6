"""The area of interest and its tiles, as they are committed and as they should be: `aoi` and `tile_grid`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely.geometry

from eo_assets.assets.area_files import FILES_FILE, FoundArea, find_area, write_files
from eo_assets.assets.shared_outputs import Wanted, ensure, live_record
from eo_assets.core.grid import Grid
from eo_assets.core.recipe import recipe
from eo_assets.core.sentinel_hub_grid import SentinelHubGrid
from eo_assets.core.tile import Tile
from eo_assets.core.utm_grid import UtmGrid
from eo_assets.errors import ProjectError
from eo_assets.project import CustomGridSettings, LoadedProject, SentinelHubGridSettings, UtmGridSettings
from eo_assets.stages.build import input_files
from resources.grid_files import read_custom_grid, read_grid, write_grid
from resources.object_store import file_checksum
from resources.output_record import OutputRecord
from resources.tile_store import TileStore
from resources.vector_files import Area

AOI_FILE, GRID_FILE = "aoi.geojson", "tile_grid.gpkg"


def project_area(loaded: LoadedProject, file: Path | None = None) -> Area:
    """The area of the project's own files, or of one other file."""
    return find_area(loaded, file).area


def project_grid(loaded: LoadedProject) -> Grid:
    """The grid that the project file names."""
    area = loaded.project.area
    match area.grid:
        case SentinelHubGridSettings(id=grid_id):
            return SentinelHubGrid(grid_id, area.resolution, area.buffer)
        case UtmGridSettings(tile_size_m=size):
            return UtmGrid(size, area.resolution, area.buffer)
        case CustomGridSettings() as custom:
            path = input_files(loaded).path(custom.file)
            return read_custom_grid(path, custom.identifier, area.resolution, area.buffer)


def wanted_aoi(loaded: LoadedProject) -> Wanted:
    """The area that the files under input-data say."""
    return Wanted(aoi_recipe(project_area(loaded).digest))


def aoi_recipe(digest: str) -> str:
    """The recipe of an area by the digest of its files' contents."""
    return recipe("aoi", {"bytes": digest}, "1", {})


def make_aoi(loaded: LoadedProject, store: TileStore, found: FoundArea | None = None) -> OutputRecord:
    """Commit the union of the area's files, unless these very contents are committed."""
    found = found or find_area(loaded)
    area = found.area

    def write(folder: Path) -> dict[str, Any]:
        (folder / AOI_FILE).write_text(shapely.to_geojson(area.geometry))
        write_files(folder / FILES_FILE, found.files)
        return {"area_km2": round(area.area_km2, 3), "bounds": list(area.geometry.bounds)}

    return ensure(store, "aoi", "aoi", Wanted(aoi_recipe(area.digest)), write)


def wanted_tile_grid(loaded: LoadedProject, store: TileStore) -> Wanted:
    """The tiles that the committed area and the project's grid say."""
    settings = loaded.project.area.model_dump(mode="json", exclude={"files"})
    if isinstance(loaded.project.area.grid, CustomGridSettings):
        settings["bytes"] = file_checksum(input_files(loaded).path(loaded.project.area.grid.file))
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
