"""Quotes against the published rule, written down here a second time, and against figures worked out by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from eo_assets.assets.area import project_area, project_grid
from eo_assets.assets.imagery import unplaced
from eo_assets.assets.quotes import Quote, imagery_units, paid_requests, quote, tile_units
from eo_assets.assets.tile_run import TilePlan, plan_tiles
from eo_assets.core.cost import RequestKind
from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import LoadedProject
from eo_assets.project_file import load_project
from resources.batch_orders import OrderBook
from resources.local_sentinel_hub.evalscript import inspect_script

SCENE = shapely.box(330_000, 5_814_360, 345_360, 5_822_040)
"""The demo's imagery, in EPSG:32633."""

FLOAT_OUTPUT = """//VERSION=3
function setup() {
  return {input: ["B04", "B08", "dataMask"], output: [{id: "a", bands: 1, sampleType: "UINT8"},
    {id: "b", bands: 1, sampleType: "FLOAT32"}]};
}
function evaluatePixel(s) { return {a: [1], b: [s.B04]}; }
"""
FUSED = """//VERSION=3
function setup() {
  return {input: [{datasource: "old", bands: ["V", "W", "dataMask"]}, {datasource: "new", bands: ["V", "W", "X"]}],
    output: {bands: 1, sampleType: "UINT8"}};
}
function evaluatePixel(s) { return [0]; }
"""
ONLY_MASK = """//VERSION=3
function setup() { return {input: ["dataMask"], output: {bands: 1, sampleType: "UINT8"}}; }
function evaluatePixel(s) { return [s.dataMask]; }
"""
shapes = st.tuples(st.integers(1, 2500), st.integers(1, 2500))


def published(
    tiles: list[tuple[int, int]], bands: int, dates: int, *, float32: bool = False, batch: bool = True
) -> float:
    """The rule as the service publishes it, tile by tile, without our code."""
    total = 0.0
    for height, width in tiles:
        area = width * height / (512 * 512)
        if area < 0.01:
            area = 0.01
        units = area * (bands / 3) * dates
        if float32:
            units = units * 2
        if batch and width * height > 100 * 100:
            units = units / 3
        if not batch and units < 0.005:
            units = 0.005
        total = total + units
    return max(total, 100.0) if batch and tiles else total


def tile(index: int, shape: tuple[int, int] = (64, 64)) -> Tile:
    height, width = shape
    left = 300_000 + 30_000 * index
    return Tile(f"tile_{index}", 32633, Bounds(left, 5_800_000, left + 10 * width, 5_800_000 + 10 * height), 10.0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    return shipped("demo", tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def west_africa(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    return shipped("west_africa", tmp_path_factory.mktemp("africa"))


def shipped(name: str, folder: Path) -> LoadedProject:
    return load_project(name, inspect_script=inspect_script, environment={}, working_folder=folder)


def with_script(loaded: LoadedProject, key: str, text: str) -> LoadedProject:
    return loaded.model_copy(update={"setups": {**loaded.setups, key: inspect_script(text)}})


def whole(loaded: LoadedProject, tiles: list[Tile]) -> Quote:
    return quote(loaded, {"tiffs": tiles, "reference": tiles})


# Figures


def test_the_demo_by_hand(demo: LoadedProject) -> None:
    to_lonlat = Transformer.from_crs(32633, "OGC:CRS84", always_xy=True).transform
    inside = shapely.buffer(SCENE, -50)
    tiles = project_grid(demo).tiles(shapely.transform(inside, to_lonlat, interleaved=False))
    assert [tile.name for tile in tiles] == ["33UUU_3_7", "33UUU_3_8", "33UUU_4_7", "33UUU_4_8"]
    assert {tile.shape for tile in tiles} == {(1000, 1000)}
    tiffs, reference = whole(demo, tiles).lines
    # 12 bands, one date: 4 x 1,000,000 / 262,144 x 12 / 3 / 3 = 20.345..., raised to the least price of a request.
    assert (tiffs.units, round(tiffs.minimum, 3)) == (100.0, 79.655)
    # One band by Process: 4 x 1,000,000 / 262,144 / 3.
    assert (round(reference.units, 4), reference.minimum) == (5.0863, 0)
    assert (tiffs.unit, tiffs.kind.mode, reference.kind.mode) == ("PU of local", "batch", "process")
    assert reference.units == pytest.approx(published([(1000, 1000)] * 4, 1, 1, batch=False))


def test_west_africa_by_hand(west_africa: LoadedProject) -> None:
    tiles = project_grid(west_africa).tiles(project_area(west_africa).geometry)
    assert (len(tiles), {tile.shape for tile in tiles}) == (667, {(854, 854)})
    asked = whole(west_africa, tiles)
    tiffs, reference = asked.lines
    # 13 bands, 12 months: 667 x 854 x 854 / 262,144 x 13 / 3 x 12 / 3. The seed's 659 tiles are 31,779.2 of it.
    assert round(tiffs.units, 1) == 32_165.0
    assert round(reference.units, 1) == 618.6
    assert round(asked.total, 1) == 32_783.6
    assert (tiffs.minimum, tiffs.unit, reference.unit) == (0, "PU of sentinel_hub", "PU of creodias")
    assert tiffs.units == pytest.approx(published([(854, 854)] * 667, 13, 12))
    assert imagery_units(west_africa)([(854, 854)] * 659) == pytest.approx(31_779.2, abs=0.05)
    assert asked.of("tiffs") == tiffs.units and asked.of("predictions") == 0


@settings(deadline=None)
@given(st.lists(shapes, max_size=20), st.integers(1, 13), st.integers(1, 73), st.booleans(), st.booleans())
def test_the_rule_written_twice_gives_the_same(
    tiles: list[tuple[int, int]], bands: int, dates: int, float32: bool, batch: bool
) -> None:
    kind = RequestKind(bands, dates, float32, "batch" if batch else "process")
    assert kind.units(tiles) == pytest.approx(published(tiles, bands, dates, float32=float32, batch=batch), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(shapes, min_size=1, max_size=20))
def test_tiles_and_the_minimum_add_up_to_the_quote(west_africa: LoadedProject, shapes: list[tuple[int, int]]) -> None:
    tiles = [tile(index, shape) for index, shape in enumerate(shapes)]
    asked = whole(west_africa, tiles)
    for line in asked.lines:
        single = sum(tile_units(west_africa, tile)[line.stage] for tile in tiles)
        assert single + line.minimum == pytest.approx(line.units)
        assert line.minimum >= -1e-9 and line.tiles == len(tiles)
    assert asked.total == pytest.approx(sum(line.units for line in asked.lines))


# What a script reads and writes


def test_an_output_of_32_bits_doubles_the_price(demo: LoadedProject) -> None:
    tiles = [tile(index, (1000, 1000)) for index in range(300)]
    script = demo.project.imagery.evalscript
    doubled = with_script(demo, script, FLOAT_OUTPUT)
    single = with_script(demo, script, FLOAT_OUTPUT.replace("FLOAT32", "UINT16"))
    assert paid_requests(doubled)["tiffs"][1] == RequestKind(2, 1, float32=True)
    assert whole(doubled, tiles).of("tiffs") == pytest.approx(2 * whole(single, tiles).of("tiffs"))
    assert whole(doubled, tiles).of("tiffs") == pytest.approx(published([(1000, 1000)] * 300, 2, 1, float32=True))


def test_a_fused_reference_is_charged_for_the_bands_of_all_its_collections(demo: LoadedProject) -> None:
    fused = with_script(demo, demo.project.reference.source.evalscript, FUSED)
    assert paid_requests(fused)["reference"] == ("local", RequestKind(5, 1, mode="process"))
    assert whole(fused, [tile(0, (512, 512))]).of("reference") == pytest.approx(5 / 3)


def test_a_mask_is_charged_for_where_nothing_else_is_read(demo: LoadedProject) -> None:
    masked = with_script(demo, demo.project.reference.source.evalscript, ONLY_MASK)
    assert whole(masked, [tile(0, (512, 512))]).of("reference") == pytest.approx(1 / 3)


def test_a_small_request_has_its_own_least_price(demo: LoadedProject) -> None:
    assert whole(demo, [tile(0, (4, 4)), tile(1, (4, 4))]).of("reference") == pytest.approx(2 * 0.005)


def test_a_script_that_was_not_asked_is_taken_to_read_what_it_writes(west_africa: LoadedProject) -> None:
    blind = west_africa.model_copy(update={"setups": {}})
    assert paid_requests(blind) == paid_requests(west_africa)


# Nothing to ask for


@pytest.mark.parametrize("tiles", [{}, {"tiffs": []}, {"tiffs": [], "reference": []}, {"predictions": [tile(0)]}])
def test_nothing_to_ask_for_costs_nothing(demo: LoadedProject, tiles: dict[str, list[Tile]]) -> None:
    assert quote(demo, tiles) == Quote(())
    assert quote(demo, tiles).total == 0


def test_one_stage_alone(demo: LoadedProject) -> None:
    asked = quote(demo, {"reference": [tile(0)]})
    assert [line.stage for line in asked.lines] == ["reference"]


# Orders that are there


def test_what_open_orders_cover_is_not_quoted_again(world: Any) -> None:
    tiles = [world.tile, *(dataclasses.replace(world.tile, name=name) for name in ("b", "c", "d", "e"))]
    walk = world.walk()
    plan = plan_tiles(walk, tiles, ["tiffs"])
    assert [tile.name for tile in plan.to_order] == [world.tile.name, "b", "c", "d", "e"]
    assert unplaced(walk, plan) == tiles
    book = OrderBook(walk.store.store, "tiffs")
    wanted = dict(plan.recipes)
    book.add("local", {world.tile.name: wanted[world.tile.name]}, 100.0)
    other = book.add("local", {"b": "another recipe"}, 100.0)
    ended = book.change(book.add("local", {"c": wanted["c"], "d": wanted["d"]}, 100.0), job="job-1", state="started")
    assert _names(walk, plan) == ["b", "e"]
    book.change(ended, state="ended")
    assert _names(walk, plan) == ["b", "c", "d", "e"]
    (world.root / "tiffs/job-1/d").mkdir(parents=True)  # delivered, and not taken up yet
    assert _names(walk, plan) == ["b", "c", "e"]
    book.change(other, state="stopped")
    assert _names(walk, plan) == ["b", "c", "e"]


def _names(walk: Any, plan: TilePlan) -> list[str]:
    return [tile.name for tile in unplaced(walk, plan)]
