"""What a zone's map can be made of: the state of its tiles, what to tell of them, and whether it is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eo_assets.assets.area import tiles_of
from eo_assets.core.completeness import Completeness, first_of, hole_area_share, holes_shape
from eo_assets.core.tile import Tile
from eo_assets.errors import StoreError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_walk
from eo_assets.stages.tile_states import survey_tiles
from resources.output_record import OutputRecord
from resources.tile_store import TileStore


@dataclass(frozen=True, slots=True)
class ZoneTiles:
    """The tiles of a zone's map, the records of the predictions that are there, and the state of every tile."""

    tiles: tuple[Tile, ...]
    records: dict[str, OutputRecord]
    found: Completeness


def zone_tiles(loaded: LoadedProject, store: TileStore, epsg: int) -> ZoneTiles:
    """Look up what a zone's map can be made of; only predictions that are up to date count."""
    tiles = tuple(tile for tile in tiles_of(store) if tile.epsg == epsg)
    found, records = survey_tiles(tile_walk(loaded), "predictions", tiles)
    return ZoneTiles(tiles, records, found)


def zone_metadata(zone: ZoneTiles) -> dict[str, Any]:
    """How many tiles were expected and what became of them, the first that are missing, and where the holes lie.

    Small whatever the number of tiles: the whole list is `holes.geojson` in the output.
    """
    counts = {f"{state}_tiles": count for state, count in zone.found.counts.items() if state != "missing"}
    missing: dict[str, str] = {name: zone.found.told(name) for name in zone.found.holes}
    said = {
        "expected_tiles": len(zone.tiles),
        **counts,
        "never_made_tiles": zone.found.counts["missing"],
        "coverage": round(zone.found.share, 6),
        "missing_tiles": first_of(missing),
    }
    if missing:
        share = hole_area_share(zone.found, zone.tiles)
        said |= {"hole_area_share": round(share, 6), "holes": holes_shape(zone.found, zone.tiles)}
    return said


def keep_what_is_shown(store: TileStore, zone: ZoneTiles, epsg: int) -> None:
    """Refuse to put a map with new holes in the place of one that shows those tiles: the published map stays.

    Whatever `maps.min_coverage` allows: that is about maps that are made, this is about one that others already use.
    """
    live = store.record("maps", str(epsg))
    holes = set(zone.found.holes)
    lost = [name for name in live.inputs if name in holes] if live else []
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise StoreError(
            f"maps of zone {epsg}: the published map shows {lost[0]}{more}, which can't be shown now "
            f"({zone.found.told(lost[0])}); it is kept. {zone.found.brief()}. Mend the tiles and run again, or delete "
            f"{store.record_place('maps', str(epsg))} to accept the holes"
        )


def check_coverage(loaded: LoadedProject, zone: ZoneTiles) -> None:
    """Refuse a map that would be more hole than the project allows, with what is there and how to go on."""
    least, share = loaded.project.maps.min_coverage, zone.found.share
    if not zone.records:
        raise StoreError(
            f"maps: none of the zone's {len(zone.tiles)} tiles has predictions: {zone.found.brief()}; run them first: "
            "--only predictions"
        )
    if share < least:
        raise StoreError(
            f"maps of zone {zone.tiles[0].epsg}: {zone.found.brief()}: {share:.1%} are there, maps.min_coverage asks "
            f"for {least:.1%}. Run what failed or is missing again (`eo-assets run {loaded.file}`; `eo-assets status "
            f"{loaded.file}` names the tiles), or lower maps.min_coverage in {loaded.file} to accept the holes"
        )
