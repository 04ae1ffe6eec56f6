"""`byoc_collection` of a project with maps of two zones: the real local service, the maps written here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import rasterio
import shapely
from sentinelhub import SentinelHubBYOC

from eo_assets.assets.area import make_aoi, make_tile_grid, tiles_of
from eo_assets.assets.byoc import byoc_assets, make_byoc_collection, wanted_byoc_collection
from eo_assets.assets.maps import map_name, published_map
from eo_assets.core.mosaic import lattice_of
from eo_assets.errors import ServiceError, StoreError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import sentinel_hub, tile_store
from resources.local_sentinel_hub.server import stop
from resources.tile_store import TileStore

from .conftest import write_project, write_world

WEST, EAST = "32632", "32633"
AREA = shapely.box(11.97, 52.0, 12.03, 52.02)
SETTINGS: dict[str, Any] = {"area": {"buffer": 0, "grid": {"kind": "utm", "tile_size_m": 1280}}}
NEXT_YEAR: dict[str, Any] = {
    "name": "fields_2021",
    "year": 2021,
    "byoc": {"sensing_time": "2021-06-30"},
    "storage": {"structure": {"cache": "cache/{year}", "maps": "maps/{year}", "byoc_collection": "byoc/{year}"}},
}
CALL = re.compile(r"(?:POST|PUT|DELETE) /api/v1/byoc\S* \d")


class Published:
    """One project over a folder, with maps on demand."""

    def __init__(self, folder: Path, changes: Mapping[str, Any] = {}, area: shapely.Geometry = AREA) -> None:
        self.folder = folder
        (folder / "input-data/aoi.geojson").write_text(
            json.dumps({"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(area))})
        )
        file = f"{changes.get('name', 'project')}.yaml"
        self.loaded: LoadedProject = write_project(folder, {**SETTINGS, **changes}, file)
        self.store: TileStore = tile_store(self.loaded)
        make_aoi(self.loaded, self.store)
        make_tile_grid(self.loaded, self.store)

    def map(self, zone: str, digest: str = "1", dtype: str = "uint8") -> Published:
        """Commit and publish a map of a zone. `digest` stands for what it is made of."""
        lattice = lattice_of([tile for tile in tiles_of(self.store) if str(tile.epsg) == zone])
        height, width = lattice.shape
        profile = {"driver": "COG", "count": 1, "height": height, "width": width, "dtype": dtype, "nodata": 255}
        with self.store.attempt("maps", zone) as attempt:
            path = attempt.folder / map_name(self.loaded, int(zone))
            with rasterio.open(path, "w", crs=f"EPSG:{zone}", transform=lattice.transform, **profile) as tiff:
                tiff.write(np.ones((1, height, width), dtype))
            self.store.commit("maps", zone, attempt, digest)
            self.store.store.put_file(published_map(self.loaded, int(zone)), path)
        return self

    def publish(self) -> Mapping[str, Any]:
        """The numbers of the record."""
        return make_byoc_collection(self.loaded, self.store).numbers

    def held(self) -> dict[str, dict[str, Any]]:
        """The tiles of the one collection, by path."""
        client = SentinelHubBYOC(sentinel_hub(self.loaded, "local").config())
        (collection,) = client.iter_collections()
        return {tile["path"]: tile for tile in client.iter_tiles(collection["id"])}

    def calls(self) -> int:
        """How many calls so far have changed something."""
        return len(CALL.findall((self.folder / "sentinel-hub/service.log").read_text()))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Published]]:
    """`project(changes, area)` in one folder."""
    write_world(tmp_path)
    yield lambda *how: Published(tmp_path, *how)
    stop(tmp_path / "sentinel-hub")


def actions(numbers: Mapping[str, Any], key: str = "tiles") -> dict[str, str]:
    return {row["path"]: row["action"] for row in numbers[key]}


def path(zone: str) -> str:
    return f"maps/utm{zone}_(BAND).tiff"


def test_the_asset_tells_what_became_of_each_map(project: Callable[..., Published]) -> None:
    here = project().map(WEST).map(EAST)
    run = dg.materialize(byoc_assets(here.loaded), resources={"table_io_manager": dg.mem_io_manager})
    (event,) = run.asset_materializations_for_node("fields__byoc_collection")
    rows = [record.data for record in event.metadata["tiles"].records]  # type: ignore[union-attr]
    assert rows == [{"path": path(zone), "status": "INGESTED", "action": "created"} for zone in (WEST, EAST)]
    for zone in (WEST, EAST):
        cover = here.held()[path(zone)]["coverGeometry"]
        assert cover["crs"]["properties"]["name"].endswith(zone)
        shape = shapely.geometry.shape({key: cover[key] for key in ("type", "coordinates")})
        assert 5e6 < shape.area < 10e6, "a good half of the area, cut from the boxes of the tiles"


def test_what_is_published_is_not_asked_for_again(project: Callable[..., Published]) -> None:
    here = project().map(WEST).map(EAST)
    here.publish()
    before = here.calls()
    here.publish()
    forgotten = Path(here.store.record_place("byoc_collection", "byoc_collection"))
    forgotten.unlink()
    assert set(actions(here.publish()).values()) == {"left alone"}
    assert here.calls() == before
    assert actions(here.map(EAST, "2").publish()) == {path(WEST): "left alone", path(EAST): "re-ingested"}
    assert here.calls() == before + 1


def test_a_service_that_does_not_know_the_collection_is_given_it_anew(project: Callable[..., Published]) -> None:
    """As after moving the project to another machine: what the local service keeps has not come along."""
    here = project().map(WEST)
    before = here.publish()
    stop(here.folder / "sentinel-hub")
    for name in ("state.id", "state.sqlite", "state.sqlite-wal", "state.sqlite-shm"):
        (here.folder / "sentinel-hub" / name).unlink(missing_ok=True)
    after = here.publish()
    assert actions(after) == {path(WEST): "created"}
    assert after["collection_id"] != before["collection_id"]
    assert here.held().keys() == {path(WEST)}
    assert here.publish() == after


def test_settings_that_are_no_content_publish_nothing_anew(project: Callable[..., Published]) -> None:
    here = project().map(WEST).map(EAST)
    before = wanted_byoc_collection(here.loaded, here.store).recipe
    for changes, same in (
        ({"poll_seconds": 0.1, "timeout_minutes": 1}, True),
        ({"band_name": "COVER"}, False),
        ({"delete_vanished": True}, False),
        ({"collection_id": "00000000-0000-0000-0000-000000000000"}, False),
    ):
        other = project({"byoc": changes})
        assert (wanted_byoc_collection(other.loaded, other.store).recipe == before) is same, changes


def test_a_map_whose_file_is_gone_is_reported_and_its_tile_stays(project: Callable[..., Published]) -> None:
    here = project().map(WEST).map(EAST)
    here.publish()
    (here.folder / published_map(here.loaded, int(EAST))).unlink()
    numbers = here.publish()
    assert actions(numbers) == {path(WEST): "left alone"}
    assert actions(numbers, "vanished") == {path(EAST): "vanished"}
    assert here.held().keys() == {path(WEST), path(EAST)}


def test_a_zone_that_left_the_area_is_deleted_if_the_project_says_so(project: Callable[..., Published]) -> None:
    project().map(WEST).map(EAST).publish()
    smaller = project({"byoc": {"delete_vanished": True}}, shapely.box(11.97, 52.0, 11.99, 52.02))
    numbers = smaller.publish()
    assert actions(numbers) == {path(WEST): "updated"}, "its cover is smaller"
    assert actions(numbers, "vanished") == {path(EAST): "deleted"}
    assert smaller.held().keys() == {path(WEST)}
    assert smaller.publish() == numbers


def test_a_map_that_the_area_does_not_reach_is_not_published(project: Callable[..., Published]) -> None:
    here = project().map(EAST).map(WEST)
    folder = here.store.path(here.store.record("aoi", "aoi"))  # type: ignore[arg-type]
    (folder / "aoi.geojson").write_text(shapely.to_geojson(shapely.box(11.97, 52.0, 11.98, 52.02)))
    numbers = here.publish()
    assert (list(actions(numbers)), numbers["outside_the_area"]) == ([path(WEST)], [EAST])
    (folder / "aoi.geojson").write_text(shapely.to_geojson(shapely.box(20, 52.0, 20.1, 52.02)))
    Path(here.store.record_place("byoc_collection", "byoc_collection")).unlink()
    with pytest.raises(StoreError, match=r"does not reach the maps of zones 32632, 32633; .*cover_geometry: bounds"):
        here.publish()


def test_two_years_in_one_collection(project: Callable[..., Published]) -> None:
    first = project().map(WEST).map(EAST)
    first.publish()
    second = project(NEXT_YEAR).map(WEST)
    numbers = second.publish()
    new = f"maps/2021/utm{WEST}_(BAND).tiff"
    assert (actions(numbers), numbers["vanished"]) == ({new: "created"}, [])
    first.map(EAST, "2").publish()
    times = {where: tile["sensingTime"][:4] for where, tile in first.held().items()}
    assert times == {path(WEST): "2020", path(EAST): "2020", new: "2021"}


def test_a_failed_tile_fails_the_asset_and_a_second_run_asks_for_it_alone(project: Callable[..., Published]) -> None:
    here = project().map(WEST).map(EAST, dtype="uint16")
    with pytest.raises(ServiceError, match=rf"1 of 2 tiles .*{EAST}.*FAILED: band COVER is 16 bit UINT"):
        here.publish()
    assert here.store.record("byoc_collection", "byoc_collection") is None
    before = here.calls()
    here.map(EAST, "2")
    assert actions(here.publish()) == {path(WEST): "left alone", path(EAST): "re-ingested"}
    assert here.calls() == before + 1
