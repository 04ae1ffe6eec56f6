"""The demo of a cloudy series on its real pixels: other dates in every tile, the same columns, and a map.

Composites are made again here from the package's own files. Made in the evalscript they are the same to the last bit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray

from eo_assets.assets.model import read_metrics
from eo_assets.core.periods import centres_of, labels_of
from eo_assets.core.tile import Tile
from eo_assets.project_periods import project_periods
from eo_assets.project_yaml import SHIPPED
from eo_assets.projects.landsat_series.prepare import AUGUST, FEW, SERIES, Acquisition, prepare
from eo_assets.series_pictures import tile_pictures
from resources.local_sentinel_hub.server import stop
from tests.seaweed import Seaweed

from .conftest import BUCKET, Demo, open_demo, reached

pytestmark = pytest.mark.demo

NORTH_WEST, SOUTH_EAST = "32613_x00547_y07255", "32613_x00549_y07253"
CORNER = (336375, 4462425)
"""Left and top of the package's scenes."""

BANDS = ("b3", "b4", "b5")
MONTH_OF_THE_GAP = 3
COMPOSITED = {
    "extends": "landsat_series",
    "name": "landsat_composites",
    "storage": {"project_folder": "project"},
    "imagery": {
        "evalscript": "composite.js",
        "composite_in_evalscript": True,
        "tiff_outputs": [*BANDS, "OBSERVATIONS"],
    },
    "eopatches": {
        "data": {"BANDS": {"factor": 0.00005}, "COUNTS": {"from": ["OBSERVATIONS"]}},
        "masks": {"CLEAR": {"from": "OBSERVATIONS", "classes": None, "valid": "bool"}},
    },
    "features": {"composite": {"observations": "COUNTS"}},
}
Array = NDArray[Any]


@pytest.fixture(scope="module")
def series_folder(imagery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a project file and the prepared series."""
    folder = tmp_path_factory.mktemp("series")
    (folder / "project.yaml").write_text("extends: landsat_series\nstorage: {project_folder: project}\n")
    assert prepare(imagery, folder / "project") is True
    assert prepare(imagery, folder / "project") is False
    yield folder
    stop(folder / "project/sentinel-hub")


@pytest.fixture(scope="module")
def series(series_folder: Path) -> Iterator[Demo]:
    """The series after one run of the whole graph. Read only."""
    made = open_demo(series_folder)
    results = made.run()
    assert [result.failure for result in results if not result.success] == []
    yield made
    import ray

    ray.shutdown()


@pytest.fixture(scope="module")
def composited(series: Demo, series_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The same project up to its features, with its composite made in the evalscript."""
    folder = tmp_path_factory.mktemp("composited")
    for name in ("sentinel-hub/collections.yaml", "sentinel-hub/scenes", "input-data"):
        source, target = series_folder / "project" / name, folder / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    shutil.copy(SHIPPED / "landsat_series/evalscripts/composite.js", folder)
    (folder / "project.yaml").write_text(yaml.safe_dump(COMPOSITED))
    made = open_demo(folder)
    assert [result.failure for result in made.run("features") if not result.success] == []
    yield made
    stop(folder / "project/sentinel-hub")


@pytest.fixture(scope="module")
def expected(imagery: Path, series: Demo) -> Callable[[Tile], tuple[Array, Array]]:
    """`expected(tile)`: medians of digital numbers (period, y, x, band), NaN where none, and counts (period, y, x)."""
    scenes = [Acquisition(folder) for folder in sorted((imagery / SERIES).glob("L?[57]*2008*"))]
    assert len(scenes) == 23
    periods = project_periods(series.loaded.project)

    def under(tile: Tile) -> tuple[Array, Array]:
        seen = [[_clear(scene, tile) for scene in scenes if period.start.date() <= scene.day < period.end.date()]
                for period in periods]  # fmt: skip
        stacks = [np.stack(values) for values in seen]
        counts = np.stack([np.isfinite(stack[..., 0]).sum(axis=0) for stack in stacks])
        with np.errstate(all="ignore"):
            medians = np.stack([_median(stack) for stack in stacks])
        return medians, counts

    return under


def _clear(scene: Acquisition, tile: Tile) -> Array:
    """Digital numbers of a scene under a tile (y, x, band) at 15 m, NaN where not clear, saturated or withheld."""
    values = np.stack([scene.read(band).astype(np.float64) for band in BANDS], axis=-1)
    values[(scene.read("fmask") > 1) | ((values < 1) | (values >= 16000)).any(axis=-1)] = np.nan
    for window in scene.withheld:
        values[window] = np.nan
    values = values.repeat(2, axis=0).repeat(2, axis=1)
    rows = round((CORNER[1] - tile.bounds.top) / 15) + np.arange(tile.shape[0])
    columns = round((tile.bounds.left - CORNER[0]) / 15) + np.arange(tile.shape[1])
    found = np.full((*tile.shape, len(BANDS)), np.nan)
    inside = [(places >= 0) & (places < values.shape[0]) for places in (rows, columns)]
    found[np.ix_(*inside)] = values[np.ix_(rows[inside[0]], columns[inside[1]])]
    return found


def _median(stack: Array) -> Array:
    """The median over time, NaN without a word where there is nothing."""
    nothing = np.isnan(stack).all(axis=0)
    return np.where(nothing, np.nan, np.nanmedian(np.where(nothing, 0, stack), axis=0))


def names_of(demo: Demo, tile: Tile) -> list[str]:
    found: list[str] = demo.store.record("features", tile.name).numbers["features"]
    return found


def bands_of(demo: Demo, tile: Tile) -> Array:
    """The band columns of FEATURES (period, y, x, band)."""
    columns = [names_of(demo, tile).index(band) for band in BANDS]
    return demo.output("features", tile.name, "data/FEATURES")[..., columns]


def test_tiles_have_as_many_dates_as_were_delivered_to_them(series: Demo) -> None:
    found = {tile.name: series.store.record("eopatches", tile.name).numbers["dates"] for tile in series.tiles}
    assert len(found) == 9
    assert (found.pop(NORTH_WEST), found.pop(SOUTH_EAST)) == (len(FEW), 23 - len(AUGUST))
    assert set(found.values()) == {23}


def test_every_tile_has_the_same_periods_and_columns(series: Demo) -> None:
    periods = project_periods(series.loaded.project)
    for tile in series.tiles:
        told = json.loads((series.store.live("features", tile.name) / "timestamps.json").read_text())
        assert told == [centre.isoformat() for centre in centres_of(periods)]
        assert names_of(series, tile) == ["NDVI", "NDMI", "b3", "b4", "b5"]
    signature = json.loads((series.store.live("model", "model") / "signature.json").read_text())
    wanted = [f"{name}_{label}" for label in labels_of(periods) for name in ("NDVI", "NDMI", *BANDS)]
    assert signature["columns"] == wanted


def test_composites_are_the_medians_of_the_package_s_clear_pixels(series: Demo, expected: Any) -> None:
    for tile in series.tiles:
        medians, counts = expected(tile)
        np.testing.assert_array_equal(series.output("features", tile.name, "mask/OBSERVATIONS")[..., 0], counts)
        seen = counts > 0
        wanted = (medians * 0.0001).astype(np.float32)
        np.testing.assert_array_equal(bands_of(series, tile)[seen], wanted[seen])


def test_a_tile_without_a_clear_day_in_august_is_filled_from_july_and_autumn(series: Demo, expected: Any) -> None:
    [tile] = [tile for tile in series.tiles if tile.name == SOUTH_EAST]
    medians, counts = expected(tile)
    assert not counts[MONTH_OF_THE_GAP].any(), "nothing clear"
    assert series.store.record("features", tile.name).numbers["acquisitions_a_period"]["d0801"] == 1, "but one acquired"
    before, here, after = centres_of(project_periods(series.loaded.project))[2:5]
    share = (here - before) / (after - before)
    wanted = (medians[2] + (medians[4] - medians[2]) * share) * 0.0001
    filled = bands_of(series, tile)[MONTH_OF_THE_GAP]
    known = np.isfinite(wanted)
    assert 0.9 < known[..., 0].mean() < 1, "the tile reaches over the scene's edge"
    np.testing.assert_allclose(filled[known], wanted[known], atol=1e-6)
    assert np.isnan(filled[~known]).all()


def test_the_model_knows_more_than_the_trivial_predictor(series: Demo) -> None:
    scores = read_metrics(series.store, series.store.record("model", "model"))["scores"]["held_out_blocks"]
    assert scores["model"]["r2"] > 0.85 and scores["trivial"]["r2"] < 0.1
    assert scores["model"]["rmse"] < scores["trivial"]["rmse"] / 2


def test_the_map_is_what_the_labels_say(series: Demo) -> None:
    [path] = (series.machine / "maps").glob("*.tiff")
    with rasterio.open(path) as tiff, rasterio.open(series.machine / "sentinel-hub/scenes/greenness.tif") as labels:
        # The map is three by three tiles: it begins 30 m east and 15 m north of the scene, and ends beyond it.
        assert (tiff.bounds.left, tiff.bounds.top, tiff.shape) == (CORNER[0] + 30, CORNER[1] + 15, (123, 123))
        mapped = tiff.read(1)[1:, :120]
        wanted = labels.read(1).repeat(2, axis=0).repeat(2, axis=1)[:, 2:]
    known = (mapped != 255) & (wanted != 255)
    assert known.mean() > 0.97
    error = mapped[known].astype(float) - wanted[known]
    assert abs(error.mean()) < 0.5 and np.abs(error).mean() < 2
    assert np.corrcoef(mapped[known], wanted[known])[0, 1] > 0.95


def test_the_report_shows_the_tiles_that_tell_most(series: Demo) -> None:
    shown = dict(tile_pictures(series.loaded, series.store))
    assert next(iter(shown)) == NORTH_WEST and SOUTH_EAST in shown and len(shown) == 3
    assert all(png.startswith(b"\x89PNG") and len(png) < 100_000 for png in shown.values())


def test_the_composite_of_the_evalscript_is_ours_bit_for_bit(series: Demo, composited: Demo) -> None:
    for tile in series.tiles:
        ours, theirs = (
            [demo.output("features", tile.name, name) for name in ("data/FEATURES", "mask/OBSERVATIONS")]
            for demo in (series, composited)
        )
        np.testing.assert_array_equal(theirs[1], ours[1])
        assert theirs[0].tobytes() == ours[0].tobytes()


def test_the_evalscript_delivers_a_frame_a_period_and_tells_what_it_read(series: Demo, composited: Demo) -> None:
    for tile in series.tiles:
        read, made = (demo.store.record("tiffs", tile.name).numbers for demo in (series, composited))
        assert (made["dates"], made["acquisitions"], made["products"]) == (5, read["acquisitions"], read["products"])


def test_the_series_in_a_bucket_is_the_series_in_a_folder(
    series: Demo, imagery: Path, server: Seaweed, tmp_path: Path
) -> None:
    """Several dates and composites, to the same digests, model and map."""
    import ray

    ray.shutdown()  # workers have the environment of whoever started them, and credentials of nobody else
    place = f"s3://{BUCKET}/series"
    with reached(server, tmp_path / "machine"):
        assert prepare(imagery, place) is True
        (tmp_path / "project.yaml").write_text(f"extends: landsat_series\nstorage: {{project_folder: '{place}'}}\n")
        there = open_demo(tmp_path)
        try:
            assert [result.failure for result in there.run() if not result.success] == []
        finally:
            stop(there.machine / "sentinel-hub")
            ray.shutdown()
        ours, theirs = series.commits(), there.commits()
        different = {place for place in ours if ours[place].digest != theirs[place].digest}
        assert (ours.keys(), different) == (theirs.keys(), {("byoc_collection", "byoc_collection")})
        [map_file] = series.store.store.matching("maps/*.tiff")
        assert there.store.store.get(map_file.key) == series.store.store.get(map_file.key)
