"""Every asset of a made graph as Dagster hands it on: by `load_asset_value`, to a user's assets, and back again.

Over a project in a folder and over the same in a bucket.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas
import lightgbm
import numpy as np
import pytest
import rasterio
from eolearn.core import EOPatch, FeatureType

from eo_assets.partitions import tile_partitions
from eo_assets.stages.build import in_bucket
from jobs.launches import RANGE_END, RANGE_START

# A user's asset over a range names a backfill policy, which Dagster calls beta.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

EOPATCHES = {
    "reference": "data_timeless/LAND_COVER",
    "eopatches": "data/BANDS",
    "features": "data/FEATURES",
    "samples": "data/FEATURES",
    "predictions": "data_timeless/COVER",
}


@pytest.fixture(scope="module", params=["folder", "bucket"])
def made(request: pytest.FixtureRequest) -> Any:
    """The whole graph, run once. Read only, but for what a user's assets add in the bucket."""
    return request.getfixturevalue("fields" if request.param == "folder" else "fields_in_bucket")


@pytest.fixture
def open_to_users(made: Any, request: pytest.FixtureRequest) -> Any:
    """The same for a user's assets to be added to: in the folder a copy."""
    if in_bucket(made.loaded):
        return made
    copied: Callable[[], Any] = request.getfixturevalue("copied")
    return copied()


@pytest.mark.parametrize("asset", EOPATCHES)
def test_a_tile_of_an_asset_is_an_eopatch(made: Any, asset: str) -> None:
    kind, name = EOPATCHES[asset].split("/")
    for tile in made.tiles:
        eopatch = made.load(asset, tile.name)
        assert isinstance(eopatch, EOPatch)
        assert eopatch.bbox.crs.epsg == tile.epsg and tuple(eopatch.bbox) == tuple(tile.bounds)
        array = eopatch[FeatureType(kind), name]
        assert array.ndim == (4 if kind == "data" else 3) and array.size


def test_a_tile_of_tiffs_is_the_files_that_were_delivered(made: Any) -> None:
    for tile in made.tiles:
        tiffs = made.load("tiffs", tile.name)
        assert sorted(tiffs) == ["B04", "B08", "B11", "MASK", "userdata"]
        with rasterio.open(tiffs["B08"]) as tiff:
            assert tiff.shape == tile.shape
        assert len(tiffs["userdata"]["dates"]) == 2


def test_the_area_and_its_tiles(made: Any) -> None:
    aoi = made.load("aoi")
    assert isinstance(aoi, geopandas.GeoDataFrame) and aoi.crs.to_epsg() == 4326
    assert made.load("tile_grid") == made.tiles


def test_training_data_and_model(made: Any) -> None:
    data, model = made.load("training_data"), made.load("model")
    assert data["FEATURES"].shape == (len(data["LAND_COVER"]), len(data["columns"]))
    assert isinstance(model.booster, lightgbm.Booster)
    assert model.signature.columns == tuple(data["columns"]) == tuple(model.booster.feature_name())
    assert model.signature.classes == (10, 20, 40)
    assert set(model.metrics["scores"]) == {"held_out_blocks", "random_split"}


def test_a_map_is_a_path_and_a_handle_and_the_collection_says_where_it_is(made: Any) -> None:
    raster = made.load("maps", "32633")
    assert raster.name == "utm32633_result.tiff" and Path(raster).exists()
    assert raster.place == f"{made.store.place(raster.record)}/{raster.name}"
    with raster.open() as here, rasterio.open(raster) as copy:
        assert here.crs.to_epsg() == 32633
        np.testing.assert_array_equal(here.read(), copy.read())
    collection = made.load("byoc_collection")
    assert collection["name"] == "fields" and collection["tiles"][0]["status"] == "INGESTED"


@pytest.fixture
def users(open_to_users: Any) -> tuple[Any, dg.Definitions]:
    """A user's assets on top of a made graph: one over a tile, one over a range, one of a single value, one astray."""
    graph = open_to_users
    tiles = tile_partitions("fields")

    @dg.asset(
        key_prefix="fields",
        partitions_def=tiles,
        io_manager_key="eopatch_io_manager",
        ins={"features": dg.AssetIn(["fields", "features"])},
    )
    def greenness(features: EOPatch) -> EOPatch:
        """The highest NDVI of all dates, as a user writes it."""
        eopatch = EOPatch(bbox=features.bbox)
        eopatch.data_timeless["GREENNESS"] = np.fmax.reduce(features.data["FEATURES"][..., :1], axis=0)
        return eopatch

    @dg.asset(
        key_prefix="fields",
        partitions_def=tiles,
        io_manager_key="table_io_manager",
        backfill_policy=dg.BackfillPolicy.single_run(),
        ins={"greenness": dg.AssetIn(["fields", "greenness"])},
    )
    def greenest(greenness: dict[str, EOPatch]) -> dict[str, float]:
        """One number for each tile of the range."""
        return {name: float(np.nanmax(eopatch.data_timeless["GREENNESS"])) for name, eopatch in greenness.items()}

    @dg.asset(
        key_prefix="fields",
        io_manager_key="table_io_manager",
        ins={"predictions": dg.AssetIn(["fields", "predictions"], partition_mapping=dg.AllPartitionMapping())},
    )
    def pixels(predictions: dict[str, EOPatch]) -> dict[str, int]:
        """Known pixels of every tile, in an asset without partitions."""
        return {name: int((eopatch.data_timeless["COVER"] != 255).sum()) for name, eopatch in predictions.items()}

    @dg.asset(key_prefix="elsewhere", io_manager_key="table_io_manager")
    def astray() -> dict[str, int]:
        """Its prefix is no project's name."""
        return {"value": 1}

    own = dg.Definitions(assets=[greenness, greenest, pixels, astray])
    return graph, dg.Definitions.merge(graph.definitions, own)


def materialize(graph: Any, definitions: dg.Definitions, asset: list[str], *keys: str) -> dg.ExecuteInProcessResult:
    """Materialize one asset over a contiguous range of tiles."""
    tags = {RANGE_START: keys[0], RANGE_END: keys[-1]} if keys else {}
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=graph.instance, asset_selection=[dg.AssetKey(asset)], tags=tags, raise_on_error=False
    )


def test_a_users_assets_over_a_tile_a_range_and_all_tiles(users: tuple[Any, dg.Definitions]) -> None:
    graph, definitions = users
    graph.run("tile_grid")  # registers the partitions where it has not yet been run in this instance
    names = [tile.name for tile in graph.tiles]
    assert list(graph.instance.get_dynamic_partitions("fields/tiles")) == names
    for name in names:
        assert materialize(graph, definitions, ["fields", "greenness"], name).success
    loaded = definitions.load_asset_value(["fields", "greenness"], instance=graph.instance, partition_key=names[1])
    features = graph.load("features", names[1]).data["FEATURES"]
    np.testing.assert_array_equal(loaded.data_timeless["GREENNESS"], np.fmax.reduce(features[..., :1], axis=0))
    assert materialize(graph, definitions, ["fields", "greenest"], *names[:3]).success
    value = definitions.load_asset_value(["fields", "greenest"], instance=graph.instance, partition_key=names[1])
    assert value == pytest.approx(np.nanmax(loaded.data_timeless["GREENNESS"]))
    assert materialize(graph, definitions, ["fields", "pixels"]).success
    counted = definitions.load_asset_value(["fields", "pixels"], instance=graph.instance)
    assert list(counted) == names and all(counted.values())


def test_an_asset_of_no_project_is_told_whose_prefix_it_needs(users: tuple[Any, dg.Definitions]) -> None:
    graph, definitions = users
    result = materialize(graph, definitions, ["elsewhere", "astray"])
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    assert "its key must start with the name of a loaded project (fields)" in error.message
