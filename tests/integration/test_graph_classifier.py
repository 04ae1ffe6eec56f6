"""A classifier over overlapping UTM tiles of a made-up scene: labels, patchlets, codes, probabilities, ownership."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import lightgbm
import numpy as np
import pytest
import rasterio
import zarr
from numpy.typing import NDArray

from eo_assets.core.scores import held_out_blocks
from eo_assets.core.tile import Tile
from resources.object_store import size_of

CODES, UNKNOWN, SIDE, LEFT, TOP, RESOLUTION = [10, 20, 40], 0, 128, 640 * 782, 640 * 9064, 10
DATES = ["2020-06-01T10:00:00", "2020-06-11T10:00:00"]


class Scene(Protocol):
    """What the fixture `scene` gives: the digital numbers, true codes and labels that were written to the files."""

    labels: NDArray[np.uint8]

    def at_10_m(self, date: int, band: str) -> NDArray[np.uint16]: ...


def window(values: NDArray[Any], tile: Tile, outside: float) -> NDArray[Any]:
    """What a tile shows of the scene's pixels (y, x), `outside` beyond them."""
    padded = np.pad(values, SIDE, constant_values=outside)
    row = round((TOP - tile.bounds.top) / RESOLUTION) + SIDE
    column = round((tile.bounds.left - LEFT) / RESOLUTION) + SIDE
    return padded[row : row + tile.shape[0], column : column + tile.shape[1]]


def array(folder: Path, name: str) -> NDArray[Any]:
    """A stored array, read by zarr alone."""
    return np.asarray(zarr.open_array(zarr.DirectoryStore(str(folder / f"{name}.zarr")), mode="r")[:])


def table(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features (time, y, x, feature) as rows of (date, feature) columns, and which pixels are valid on any date."""
    time, height, width, count = features.shape
    rows = np.moveaxis(features, 0, 2).reshape(height * width, time * count)
    return rows, ~np.isnan(rows).all(axis=1)


@pytest.mark.parametrize("band", ["B04", "B08", "B11"])
def test_tiffs_hold_the_scenes_numbers_buffer_included(fields: Any, scene: Scene, band: str) -> None:
    for tile in fields.tiles:
        folder = fields.store.live("tiffs", tile.name)
        dates = [text[:19] for text in json.loads((folder / "userdata.json").read_text())["dates"]]
        assert sorted(dates) == DATES
        with rasterio.open(folder / f"{band}.tif") as tiff:
            assert (tiff.dtypes, tiff.crs.to_epsg(), tuple(tiff.bounds)) == (("uint16",) * 2, 32633, tuple(tile.bounds))
            for index, date in enumerate(dates, start=1):
                expected = window(scene.at_10_m(DATES.index(date), band), tile, outside=0)
                np.testing.assert_array_equal(tiff.read(index), expected)


def test_dates_ascend_in_the_eopatch_and_a_pixel_may_be_valid_on_one_date_only(fields: Any, scene: Scene) -> None:
    tile = next(tile for tile in fields.tiles if tile.name.endswith("x00783_y09062"))
    eopatch = fields.load("eopatches", tile.name)
    assert [time.isoformat() for time in eopatch.timestamps] == DATES
    for date in range(2):
        number = np.stack([window(scene.at_10_m(date, band), tile, 0) for band in ("B04", "B08", "B11")], axis=-1)
        np.testing.assert_array_equal(eopatch.data["BANDS"][date], (number * 0.0001).astype(np.float32))
        np.testing.assert_array_equal(eopatch.mask["QUALITY_MASK"][date, ..., 0], (number != 0).all(axis=-1))
    valid = eopatch.mask["QUALITY_MASK"][..., 0]
    assert (valid[1] & ~valid[0]).sum() == 20 * 40


def test_features_are_nan_on_the_date_without_data(fields: Any, scene: Scene) -> None:
    for tile in fields.tiles:
        features = array(fields.store.live("features", tile.name), "data/FEATURES")
        for date in range(2):
            red, near = (window(scene.at_10_m(date, band), tile, 0) * 0.0001 for band in ("B04", "B08"))
            valid = red > 0
            ndvi = ((near - red)[valid] / (near + red)[valid]).astype(np.float32)
            np.testing.assert_array_equal(features[date, ..., 0][valid], ndvi)
            assert np.isnan(features[date][~valid]).all()


def test_polygons_become_labels(fields: Any, scene: Scene) -> None:
    for tile in fields.tiles:
        labels = array(fields.store.live("reference", tile.name), "data_timeless/LAND_COVER")
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels[..., 0], window(scene.labels, tile, UNKNOWN))


def test_patchlets_are_whole_blocks_and_carry_what_lies_under_them(fields: Any, scene: Scene) -> None:
    for tile in fields.tiles:
        folder = fields.store.live("samples", tile.name)
        pixels = array(folder, "data_timeless/SAMPLE_PIXELS")
        assert pixels.shape == (6 * 32, 32, 2)
        for patchlet in pixels.reshape(6, 32, 32, 2):
            rows, columns = np.indices((32, 32))
            np.testing.assert_array_equal(patchlet, np.stack([rows, columns], axis=-1) + patchlet[0, 0])
        counts = np.zeros(tile.shape, np.uint8)
        np.add.at(counts, (pixels[..., 0], pixels[..., 1]), 1)
        np.testing.assert_array_equal(array(folder, "mask_timeless/MASK_OF_SAMPLES")[..., 0], counts)
        shown = window(scene.labels, tile, UNKNOWN)[pixels[..., 0], pixels[..., 1]]
        np.testing.assert_array_equal(array(folder, "data_timeless/LAND_COVER")[..., 0], shown)
        features = array(fields.store.live("features", tile.name), "data/FEATURES")
        np.testing.assert_array_equal(array(folder, "data/FEATURES"), features[:, pixels[..., 0], pixels[..., 1]])


def test_only_labelled_pixels_reach_the_training_data(fields: Any) -> None:
    data = fields.load("training_data")
    assert sorted(np.unique(data["LAND_COVER"])) == CODES
    labelled = [
        (array(fields.store.live("samples", tile.name), "data_timeless/LAND_COVER") != UNKNOWN).sum()
        for tile in fields.tiles
    ]
    assert len(data["LAND_COVER"]) == len(data["FEATURES"]) == sum(labelled)
    assert np.bincount(data["TILE_IDS"]).tolist() == labelled
    assert data["columns"] == [
        f"{feature}_{date}" for date in ("2020-06-01", "2020-06-11") for feature in ("NDVI", "B04", "B08", "B11")
    ]


def test_predictions_are_original_codes_and_probabilities_of_the_stored_model(fields: Any) -> None:
    folder = fields.store.live("model", "model")
    booster = lightgbm.Booster(model_file=folder / "model.txt")
    assert json.loads((folder / "signature.json").read_text())["classes"] == CODES
    for tile in fields.tiles:
        rows, valid = table(array(fields.store.live("features", tile.name), "data/FEATURES"))
        expected = booster.predict(rows[valid])
        output = fields.store.live("predictions", tile.name) / "data_timeless"
        codes, top, every = (array(output, f"COVER{end}") for end in ("", "_PROBABILITY", "_PROBABILITIES"))
        np.testing.assert_array_equal(codes.reshape(-1)[valid], np.array(CODES)[expected.argmax(axis=1)])
        np.testing.assert_array_equal(top.reshape(-1)[valid], expected.max(axis=1).astype(np.float32))
        np.testing.assert_array_equal(every.reshape(-1, 3)[valid], expected.astype(np.float32))
        assert (codes.reshape(-1)[~valid] == 255).all()
        assert np.isnan(top.reshape(-1)[~valid]).all() and np.isnan(every.reshape(-1, 3)[~valid]).all()


def test_scores_are_those_of_the_stored_model_on_blocks_it_has_not_seen(fields: Any) -> None:
    data, model = fields.load("training_data"), fields.load("model")
    said = model.metrics["scores"]["held_out_blocks"]
    encoded = np.searchsorted(CODES, data["LAND_COVER"])
    guessed = model.booster.predict(data["FEATURES"]).argmax(axis=1)
    blocks, block_of = np.unique(data["BLOCK_IDS"], axis=0, return_inverse=True)
    held = blocks_held_out(blocks, block_of)
    assert 0 < len(held) < len(blocks)
    scored = np.isin(block_of, held)
    assert said["scored_samples"] == scored.sum() and said["training_samples"] == (~scored).sum()
    majority = np.bincount(encoded[~scored]).argmax()
    assert said["trivial"]["accuracy"] == pytest.approx((encoded[scored] == majority).mean())
    assert said["model"]["accuracy"] == pytest.approx((encoded[scored] == guessed[scored]).mean())


def blocks_held_out(blocks: Any, block_of: Any) -> NDArray[np.intp]:
    """The blocks that the project's split and seed hold out; none is on both sides."""
    held = held_out_blocks(blocks[block_of], 0.8, 42)
    inside, outside = set(block_of[held]), set(block_of[~held])
    assert not inside & outside
    return np.array(sorted(inside))


def test_the_map_is_the_tiles_side_by_side_without_a_seam(fields: Any) -> None:
    expected = np.full((SIDE, SIDE), 255, np.uint8)
    for tile in fields.tiles:
        codes = array(fields.store.live("predictions", tile.name), "data_timeless/COVER")[4:-4, 4:-4, 0]
        row, column = round((TOP - tile.cell.top) / RESOLUTION), round((tile.cell.left - LEFT) / RESOLUTION)
        expected[row : row + 64, column : column + 64] = codes
    with rasterio.open(fields.load("maps", "32633")) as tiff:
        values = tiff.read(1)
        assert (tiff.nodata, tiff.transform.c, tiff.transform.f) == (255, LEFT - 40, TOP + 40)
    np.testing.assert_array_equal(values[4:-4, 4:-4], expected)
    assert (expected != 255).all(), "the scene covers its tiles"
    values[4:-4, 4:-4] = 255
    assert (values == 255).all(), "beyond the scene there is nothing"


def test_where_tiles_overlap_the_nearer_centre_owns_the_pixel(copied: Callable[..., Any]) -> None:
    """Each tile's stored prediction is overwritten by its own number, so that the map shows who owns what."""
    graph = copied()
    for number, tile in enumerate(graph.tiles):
        path = graph.store.live("predictions", tile.name) / "data_timeless/COVER.zarr"
        zarr.open_array(zarr.DirectoryStore(str(path)), mode="r+")[:] = number
        record = Path(graph.store.record_place("predictions", tile.name))
        said = json.loads(record.read_text())
        said["numbers"]["bytes"] = size_of(graph.store.live("predictions", tile.name))
        record.write_text(json.dumps(said))
    (graph.store.store.path("maps/_commits/32633.json")).unlink()
    assert all(result.success for result in graph.run("maps"))
    with rasterio.open(graph.load("maps", "32633")) as tiff:
        values, transform = tiff.read(1), tiff.transform
    x = transform.c + (np.arange(values.shape[1]) + 0.5) * RESOLUTION
    y = transform.f - (np.arange(values.shape[0]) + 0.5) * RESOLUTION
    distances = []
    for tile in sorted(graph.tiles, key=lambda tile: tile.name):
        left, bottom, right, top = tile.bounds
        distance = (x[None, :] - (left + right) / 2) ** 2 + (y[:, None] - (bottom + top) / 2) ** 2
        inside = (x > left)[None, :] & (x < right)[None, :] & (y > bottom)[:, None] & (y < top)[:, None]
        distances.append(np.where(inside, distance, np.inf))
    np.testing.assert_array_equal(values, np.argmin(distances, axis=0))
    assert not np.isinf(np.min(distances, axis=0)).any()
