"""A small made-up world: one tile of 130 x 24 pixels, two dates, its delivery, its labels, its store and its walk."""

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_assets.core.model import Samples as Table
from eo_assets.core.model import Signature, Training, train
from eo_assets.core.periods import Period, periods_of
from eo_assets.core.tile import Bounds, Tile
from eo_assets.project import Composite, EOPatches, Features, Imagery, Predictions, Reference, Sampling
from eo_assets.stages.eopatches import EOPatchesStage
from eo_assets.stages.features import FeaturesStage
from eo_assets.stages.predictions import (
    ANSWERS_FILE,
    EVALUATOR,
    METRICS_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    PredictionsStage,
)
from eo_assets.stages.reference import ReferenceStage
from eo_assets.stages.samples import Samples
from eo_assets.stages.tiffs import Tiffs
from eo_assets.stages.walk import StageOutcome, TileWork, Walk
from resources.input_files import InputFiles
from resources.local_folder import LocalFolder
from resources.tile_store import TileStore

TILE = Tile("33UUU_3_7", 32633, Bounds(330_000, 5_800_000, 330_240, 5_801_300), 10.0)
DATES = ("2020-01-11T10:20:30", "2020-01-01T10:20:31")  # the newest first, as the service delivers
COLUMNS = ("NDVI_2020-01-01", "B08_2020-01-01", "NDVI_2020-01-11", "B08_2020-01-11")
STAGES = ("tiffs", "reference", "eopatches", "features", "samples", "predictions")


def numbers(tile: Tile, dates: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Digital numbers (time, y, x) of each output, newest first; QM is 1, a few pixels 0."""
    rng = np.random.default_rng(seed)
    bands = {name: rng.integers(1, 10_000, (dates, *tile.shape)).astype(np.uint16) for name in ("B04", "B08")}
    return {**bands, "QM": (rng.random((dates, *tile.shape)) > 0.1).astype(np.uint8)}


def write_tiff(path: Path, values: np.ndarray, tile: Tile, **changes: Any) -> None:
    """A GeoTIFF of (band, y, x) values on the tile's grid, or with whatever is wrong with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "crs": f"EPSG:{tile.epsg}",
        "transform": tile.transform,
    }
    with rasterio.open(path, "w", **{**profile, **changes}) as file:
        file.write(values)


@dataclasses.dataclass
class World:
    """A project of one tile in a folder. Settings are attributes: change one and ask for `walk()` again."""

    root: Path
    tile: Tile = TILE
    imagery: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {
            "collections": [{"collection": "sentinel-2-l1c", "service": "local"}],
            "time_interval": ["2020-01-01", "2020-01-31"],
            "evalscript": "e.js",
            "tiff_outputs": ["B04", "B08", "QM"],
            "expected_dates": 2,
        }
    )
    eopatches: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {
            "data": {"BANDS": {"from": ["B04", "B08"], "factor": 0.0001}},
            "masks": {"QUALITY_MASK": {"from": "QM", "valid": [1]}},
        }
    )
    features: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"indices": {"NDVI": ["B08", "B04"]}, "include_bands": ["B08"]}
    )
    reference: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"name": "GHSL", "source": {"kind": "raster", "file": "labels.tiff"}, "nodata": 255}
    )
    sampling: dict[str, Any] = dataclasses.field(default_factory=lambda: {"number": 50, "seed": 1})
    predictions: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "PREDICTED", "clip": [0, 100]})
    evalscript: str = "//VERSION=3"
    signature: Signature = dataclasses.field(
        default_factory=lambda: Signature("lightgbm_regressor", (), 0.0001, "GHSL", ())
    )

    @property
    def store(self) -> TileStore:
        return TileStore(LocalFolder(self.root), "demo", {name: name for name in (*STAGES, "model")})

    @property
    def input_folder(self) -> Path:
        return self.root / "input-data"

    @property
    def periods(self) -> tuple[Period, ...]:
        """Those of the composite; none without one."""
        composite = Features.model_validate(self.features).composite
        interval = Imagery.model_validate(self.imagery).time_interval
        return periods_of(interval, composite.periods) if isinstance(composite, Composite) else ()

    def walk(self, *, rebuy: tuple[str, ...] = ()) -> Walk:
        imagery = Imagery.model_validate(self.imagery)
        eopatches = EOPatches.model_validate(self.eopatches)
        asked = Features.model_validate(self.features)
        features = FeaturesStage(asked, eopatches, imagery.expected_dates, self.periods)
        reference = Reference.model_validate(self.reference)
        stages = (
            Tiffs(imagery, self.evalscript),
            ReferenceStage(reference, InputFiles(LocalFolder(self.root), "input-data"), None, ""),
            EOPatchesStage(imagery, eopatches),
            features,
            Samples(Sampling.model_validate(self.sampling), reference, 2, 2),
            PredictionsStage(
                Predictions.model_validate(self.predictions), features.plan.names, 2, self.signature, self.periods
            ),
        )
        return Walk(stages, self.store, frozenset(rebuy))

    def deliver(
        self,
        name: str = "request-1",
        outputs: Mapping[str, np.ndarray] | None = None,
        dates: Any = DATES,
        **changes: Any,
    ) -> str:
        """Put a delivery where the service would; returns its key."""
        key = f"tiffs/{name}/{self.tile.name}"
        for output, values in (outputs or numbers(self.tile)).items():
            write_tiff(self.root / key / f"{output}.tif", values, self.tile, **changes)
        (self.root / key).mkdir(parents=True, exist_ok=True)
        (self.root / key / "userdata.json").write_text(json.dumps({"dates": list(dates)}))
        return key

    def label(self, values: np.ndarray | None = None, name: str = "labels.tiff", **changes: Any) -> None:
        """A raster of labels on the tile's grid: 0, 10, 20 ... and nodata in the last column."""
        if values is None:
            values = (np.arange(np.prod(self.tile.shape)).reshape(self.tile.shape) % 10 * 10).astype(np.uint8)
            values[:, -1] = 255
        write_tiff(self.input_folder / name, values[None], self.tile, **changes)

    def train(
        self, columns: tuple[str, ...] = COLUMNS, labels: np.ndarray | None = None, kind: str | None = None
    ) -> None:
        """Commit a model whose leaves are exact on every machine: NDVI of the first date above zero gives 100."""
        features = np.linspace(-1, 1, 200, dtype=np.float32)[:, None] * np.ones((1, len(columns)), np.float32)
        labels = np.where(features[:, 0] > 0, 100, 0) if labels is None else labels
        parameters = {"n_estimators": 1, "learning_rate": 1.0, "boost_from_average": False, "min_data_in_leaf": 1}
        training = Training(kind or "lightgbm_regressor", parameters, 0.8, 42)  # type: ignore[arg-type]
        self.signature = dataclasses.replace(self.signature, kind=training.kind)
        blocks = np.zeros((200, 3), np.int64)
        trained = train(Table(features, labels, blocks), columns, training)
        signature = Signature(training.kind, columns, 0.0001, "GHSL", (), trained.classes)
        with self.store.attempt("model", "model") as attempt:
            trained.booster.save_model(attempt.folder / MODEL_FILE)
            (attempt.folder / SIGNATURE_FILE).write_text(json.dumps(signature.as_json()))
            (attempt.folder / METRICS_FILE).write_text(json.dumps({EVALUATOR: trained.evaluator}))
            assert trained.answers is not None
            (attempt.folder / ANSWERS_FILE).write_bytes(trained.answers.as_bytes())
            recipe = f"{columns}{labels.tolist()}{kind}"
            self.store.commit("model", "model", attempt, recipe)

    def run(self, *stages: str, delivery: str | None = None, rebuy: tuple[str, ...] = ()) -> dict[str, StageOutcome]:
        work = TileWork(self.tile, stages or STAGES, delivery)
        return {outcome.stage: outcome for outcome in self.walk(rebuy=rebuy)(work)}

    def make(self) -> dict[str, StageOutcome]:
        """Everything, from delivery to predictions."""
        self.label()
        self.train()
        outcomes = self.run(delivery=self.deliver())
        assert {outcome.status for outcome in outcomes.values()} == {"done"}, outcomes
        return outcomes


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def dates() -> list[dt.datetime]:
    """The sensing times of a delivery, ascending."""
    return sorted(dt.datetime.fromisoformat(text) for text in DATES)


@pytest.fixture
def digital_numbers() -> Callable[..., dict[str, np.ndarray]]:
    """What `World.deliver` writes: (time, y, x) of each output, newest first."""
    return numbers
