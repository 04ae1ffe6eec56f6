"""`aoi` and `tile_grid` as assets. Everything else is partitioned by what they find."""

from collections.abc import Iterator, Sequence

import dagster as dg

from eo_assets import partitions
from eo_assets.assets import checks
from eo_assets.assets.area import make_aoi, make_tile_grid, tiles_of
from eo_assets.assets.area_files import find_area
from eo_assets.assets.outputs import result
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import noting_failure
from eo_assets.assets.spending_gate import spending_verdict
from eo_assets.core.tile import Tile
from eo_assets.errors import AreaError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store


def area_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`aoi` and `tile_grid` of a project."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        kinds={"geopackage"},
        check_specs=[checks.readable_files_spec(prefix)],
    )
    def aoi(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        """The area of interest: the union of the files under input-data, in longitude and latitude."""
        with run_log(loaded, context), noting_failure(store, "aoi", "aoi"):
            try:
                found = find_area(loaded)
            except AreaError as error:
                yield checks.no_readable_files(error)
                raise
            for problem in found.unreadable:
                context.log.warning(str(problem))
            yield checks.readable_files(found)
            yield result(store, make_aoi(loaded, store, found))

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        deps=[aoi],
        kinds={"geopackage"},
        check_specs=[checks.spending_allowed_spec(prefix)],
    )
    def tile_grid(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        """The grid's tiles that the area touches; registers the partitions of tiles and zones."""
        with run_log(loaded, context), noting_failure(store, "tile_grid", "tile_grid"):
            record = make_tile_grid(loaded, store)
            # Before the tiles are known to Dagster: what starts by itself asks for this check, never for an older one.
            yield checks.spending_allowed(spending_verdict(loaded))
            tiles = tiles_of(store)
            told = _changes(set(context.instance.get_dynamic_partitions(f"{prefix}/tiles")), tiles)
            partitions.register(context.instance, prefix, tiles)
            context.log.info(told)
            yield result(store, record)

    return [aoi, tile_grid]


def _changes(before: set[str], tiles: Sequence[Tile]) -> str:
    """What becomes of the tiles that Dagster knew."""
    now = {tile.name for tile in tiles}
    left = len(before - now)
    told = f"{len(now)} tiles, {len(now - before)} of them new"
    return f"{told}; {left} left the area: what was made of them stays, the next maps leave it out" if left else told
