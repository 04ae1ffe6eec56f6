"""An area is uploaded by a plain S3 client, and a map lies in the bucket at the end: no one touched anything."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable
from typing import Any

import rasterio
import shapely
from pyproj import Transformer

from eo_assets.assets.area import tiles_of
from eo_assets.stages.build import tile_store
from jobs.aoi_sensor import look_at_files
from resources.dagster_s3 import matching_with
from tests.integration.conftest import EPSG, LEFT, TILE_M, TOP
from tests.simulation.daemon import LOCATION, REPOSITORY, Servers, servers, until

BY_ITSELF = {"sensor": {"enabled": True, "seconds": 1, "auto_spend_up_to": 1000}, "area": {"files": "*.geojson"}}
LABELS = "fields.geojson"
TICKS = """
query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) { ... on Sensor { sensorState {
  ticks(limit: 300) { runIds skipReason error { message } cursor } } } } }"""


def ticks(dagster: Servers) -> list[dict[str, Any]]:
    name = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "sensorName": "fields_aoi_files"}
    found: list[dict[str, Any]] = dagster.ask(TICKS, sensor=name)["sensorOrError"]["sensorState"]["ticks"]
    return found


def test_an_uploaded_area_becomes_a_map_by_itself(in_bucket: Callable[..., Any]) -> None:
    project = in_bucket({**BY_ITSELF, "area": {"files": "aoi*.geojson"}}, upload=False)
    inputs = project.file.parent / "input-data"
    project.put(f"input-data/{LABELS}", (inputs / LABELS).read_bytes())
    outline = (inputs / "aoi.geojson").read_bytes()
    unfinished = project.s3.create_multipart_upload(
        Bucket="projects", Key=f"{project.prefix}/input-data/aoi-unfinished.geojson"
    )
    with servers(project.loaded, quick=True) as dagster:
        until(lambda: ticks(dagster), "the first tick", 120)
        project.put("input-data/aoi.geojson", outline)
        until(lambda: "maps/utm32633_result.tiff" in project.keys("maps/"), "a map in the bucket", 400)
        until(lambda: dagster.partition_states("maps")["materialized"] == ["32633"], "its materialization", 120)
        until(lambda: project.keys("byoc/_commits/"), "the published collection", 120)
        project.put("input-data/aoi.geojson", outline)  # the same content once more: nothing to do
        project.put("input-data/aoi-copy.geojson", outline)
        said = "aoi-copy.geojson holds what aoi.geojson holds"
        until(lambda: any(said in (tick["skipReason"] or "") for tick in ticks(dagster)), "what is told of it", 120)
        assert sum(len(tick["runIds"]) for tick in ticks(dagster)) == 1
        assert [tick["error"] for tick in ticks(dagster) if tick["error"]] == []
        assert "unfinished" not in str(ticks(dagster))
        states = {stage: dagster.partition_states(stage) for stage in ("tiffs", "predictions")}
    names = sorted(tile.name for tile in tiles_of(tile_store(project.loaded)))
    assert {stage: sorted(state["materialized"]) for stage, state in states.items()} == dict.fromkeys(states, names)
    with rasterio.open(io.BytesIO(project.get("maps/utm32633_result.tiff"))) as tiff:
        assert (tiff.crs.to_epsg(), tiff.nodata) == (32633, 255)
        assert (tiff.read(1) != 255).mean() > 0.85, "all but the buffers around it"
    project.s3.abort_multipart_upload(Bucket="projects", Key=unfinished["Key"], UploadId=unfinished["UploadId"])


def outline(columns: slice, rows: slice) -> bytes:
    """The area of some of the scene's 2 x 2 tiles, 100 m short on each side."""
    (left, right, _), (north, south, _) = columns.indices(2), rows.indices(2)
    box = shapely.box(
        LEFT + left * TILE_M + 100, TOP - south * TILE_M + 100, LEFT + right * TILE_M - 100, TOP - north * TILE_M - 100
    )
    lonlat = shapely.transform(box, Transformer.from_crs(EPSG, 4326, always_xy=True).transform, interleaved=False)
    return json.dumps(
        {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(lonlat))}
    ).encode()


def ordered(project: Any) -> list[set[str]]:
    """The tiles of each order of imagery, oldest first."""
    orders = [key for key in sorted(project.keys("tiffs/2020/_orders/")) if key.endswith(".json")]
    return [set(json.loads(project.get(key))["tiles"]) for key in orders]


def are_made(dagster: Servers, count: int) -> bool:
    """Are there features of so many tiles, as Dagster knows it?"""
    return len(dagster.partition_states("features")["materialized"]) == count


def test_what_is_uploaded_later_has_its_own_tiles_made_and_no_others(in_bucket: Callable[..., Any]) -> None:
    project = in_bucket({**BY_ITSELF, "area": {"files": "aoi*.geojson"}}, upload=False)
    inputs, store = project.file.parent / "input-data", tile_store(project.loaded)
    project.put(f"input-data/{LABELS}", (inputs / LABELS).read_bytes())
    areas = {
        "aoi-west": outline(slice(0, 1), slice(None)),
        "aoi-east": outline(slice(1, 2), slice(0, 1)),
        "aoi-east again": outline(slice(1, 2), slice(None)),
    }
    expected: list[set[str]] = []
    with servers(project.loaded, quick=True) as dagster:
        until(lambda: ticks(dagster), "the first tick", 120)
        for count, (name, area) in zip((2, 3, 4), areas.items()):
            before, known = store.records("features"), set().union(*expected)
            # The last one takes the place of the one before: other content under the same key.
            project.put(f"input-data/{name.split()[0]}.geojson", area)
            until(functools.partial(are_made, dagster, count), f"the tiles of {name}", 400)
            expected.append({tile.name for tile in tiles_of(store)} - known)
            now = store.records("features")
            assert {tile: now[tile] for tile in before} == before, "what was there is as it was"
        assert ordered(project) == expected and [len(tiles) for tiles in expected] == [2, 1, 1]
        assert [tick["error"] for tick in ticks(dagster) if tick["error"]] == []
        assert sum(len(tick["runIds"]) for tick in ticks(dagster)) == 3


def test_the_cursor_holds_key_and_etag_and_sees_a_replaced_object(in_bucket: Callable[..., Any]) -> None:
    import dagster as dg

    from eo_assets.instance import open_instance
    from jobs.aoi_sensor import memory_from_json

    project = in_bucket({**BY_ITSELF, "area": {"files": "aoi*.geojson"}})
    listing = matching_with(project.s3, project.loaded.project_folder)
    head = project.s3.head_object(Bucket="projects", Key=f"{project.prefix}/input-data/aoi.geojson")
    with open_instance(project.loaded) as instance:
        assert isinstance(instance, dg.DagsterInstance)
        first = look_at_files(project.loaded, instance, memory_from_json(None), under_way=False, matching=listing)
        assert first.memory.files["aoi.geojson"].version == head["ETag"].strip('"')
        second = look_at_files(project.loaded, instance, first.memory, under_way=False, matching=listing)
        assert second.request, "nobody writes to it any more"
        quiet = look_at_files(project.loaded, instance, second.memory, under_way=True, matching=listing)
        assert not quiet.request
        project.put("input-data/aoi.geojson", project.get("input-data/aoi.geojson") + b"\n")
        seen = look_at_files(project.loaded, instance, quiet.memory, under_way=False, matching=listing)
        assert any("new or changed" in line and "aoi.geojson" in line for line in seen.told)
