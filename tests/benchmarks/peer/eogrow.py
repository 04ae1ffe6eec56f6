"""eo-grow's side: its large scale processing example over a scene, a process and a configuration file a stage."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.peer.home import Home
from tests.benchmarks.peer.ray_head import Head
from tests.benchmarks.peer.scene import BANDS, INDICES, MASK, REFERENCE, YEAR, Scene, SceneFiles

PREDICTION, MODEL_FILE = "test_prediction", "gem-example_model.gz"
STRUCTURE = {
    "tiffs": "tiffs",
    "raster_reference": "raster-reference",
    "data": f"data/{YEAR}",
    "features": f"features/{YEAR}",
    "features_sampled": f"features-sampled/{YEAR}",
    "training": "training-data",
    "models": "models",
    "predictions": "predictions",
    "maps": "maps",
    "cache": "cache",
    "logs": "logs",
}
PIPELINES = {
    "eopatches": "batch_to_eopatch.BatchToEOPatchPipeline",
    "features": "features.FeaturesPipeline",
    "samples": "sampling.BlockSamplingPipeline",
    "training_data": "merge_samples.MergeSamplesPipeline",
    "model": "training.RegressionTrainingPipeline",
    "predictions": "prediction.RegressionPredictionPipeline",
    "maps": "export_maps.ExportMapsPipeline",
}
"""By the name of our asset, the pipeline that does its work."""

FOLDERS = {
    "eopatches": "data",
    "features": "features",
    "samples": "features_sampled",
    "training_data": "training",
    "model": "models",
    "predictions": "predictions",
    "maps": "maps",
}
"""Where each writes."""


@dataclass(frozen=True)
class EoGrow:
    """The project at `home`, run by the eo-grow beside the interpreter `python`.

    `bands_dtype` is the example's: `float` is float64.
    """

    scene: Scene
    files: SceneFiles
    home: Home
    python: Path
    parameters: Mapping[str, int | float | bool]
    samples: int
    bands_dtype: str = "float"

    @property
    def folder(self) -> Path:
        """The folder of its configuration files."""
        return self.home.folder

    def output(self, stage: str) -> Path:
        """The folder that a stage fills; of a bucket, once it was fetched."""
        return self.folder / STRUCTURE[FOLDERS[stage]]

    @property
    def model(self) -> Path:
        """The trained model, a joblib file."""
        return self.output("model") / MODEL_FILE

    def prepare(self, model: Path | None = None) -> None:
        """A new project folder, with a trained model if there is one."""
        self.home.clear()
        self.home.put("input-data/boxes.gpkg", self.files.boxes)
        self.home.show(STRUCTURE["tiffs"], self.files.tiffs)
        self.home.show(STRUCTURE["raster_reference"], self.files.reference)
        if model is not None:
            self.home.put(f"{STRUCTURE[FOLDERS['model']]}/{MODEL_FILE}", model)

    def run(self, stage: str) -> Sequence[str | Path]:
        """The command that does a stage's work."""
        path = self.folder / f"{stage}.json"
        path.write_text(json.dumps({**self._common(), **self._stage(stage)}, indent=1))
        return (self.python.with_name("eogrow"), path)

    def environment(self, ray: Head) -> dict[str, str]:
        """What the commands see: eo-grow joins the Ray that this names."""
        path = f"{self.python.parent}:{os.environ['PATH']}"
        own = {"PATH": path, "RAY_ADDRESS": ray.address, "PYTHONWARNINGS": "ignore"}
        return {**os.environ, **own, **ray.environment}

    def for_gdal(self) -> dict[str, str]:
        """What the GDAL of its workers must be told of a server that is not AWS, beside what boto3 is told."""
        if not self.home.bucket:
            return {}
        server = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"]).netloc
        return {"AWS_S3_ENDPOINT": server, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}

    def _common(self) -> dict[str, Any]:
        manager = "eogrow.core."
        return {
            "storage": {
                "manager": f"{manager}storage.StorageManager",
                "project_folder": self.home.address,
                "structure": STRUCTURE,
            },
            "area": {
                "manager": f"{manager}area.CustomGridAreaManager",
                "grid_filename": "boxes.gpkg",
                "name_column": "identifier",
            },
            "logging": {"manager": f"{manager}logging.LoggingManager", "save_logs": True, "show_logs": True},
        }

    def _stage(self, stage: str) -> dict[str, Any]:
        settings: dict[str, Any] = {"pipeline": f"eogrow.pipelines.{PIPELINES[stage]}"}
        return settings | getattr(self, f"_{stage}")()

    def _eopatches(self) -> dict[str, Any]:
        bands = {
            "batch_files": [f"{band}.tif" for band in BANDS],
            "feature": ["data", "BANDS"],
            "dtype": self.bands_dtype,
            "multiply_factor": 0.0001,
        }
        mask = {"batch_files": [f"{MASK}.tif"], "feature": ["mask", "QUALITY_MASK"], "dtype": "bool"}
        return {
            "input_folder_key": "tiffs",
            "output_folder_key": "data",
            "mapping": [bands, mask],
            "userdata_feature_name": "BATCH_INFO",
            "userdata_timestamp_reader": "eogrow.utils.batch.read_timestamps_from_orbits",
            "remove_batch_data": False,
            "skip_existing": True,
        }

    def _features(self) -> dict[str, Any]:
        indices = {name: [BANDS.index(band) for band in pair] for name, pair in INDICES.items()}
        return {
            "input_folder_key": "data",
            "output_folder_key": "features",
            "bands_feature_name": "BANDS",
            "data_preparation": {"valid_data_feature_name": "QUALITY_MASK"},
            "ndis": indices,
            "output_feature_name": "FEATURES",
            "dtype": "float32",
            "skip_existing": True,
        }

    def _samples(self) -> dict[str, Any]:
        taken = {"features": {"data": ["FEATURES"]}, "raster_reference": {"data_timeless": [REFERENCE]}}
        return {
            "output_folder_key": "features_sampled",
            "apply_to": taken,
            "sample_size": [1, 1],
            "number_of_samples": self.samples,
            "mask_of_samples_name": "MASK_OF_SAMPLES",
            "seed": 42,
        }

    def _training_data(self) -> dict[str, Any]:
        return {
            "input_folder_key": "features_sampled",
            "output_folder_key": "training",
            "features_to_merge": [["data", "FEATURES"], ["data_timeless", REFERENCE]],
        }

    def _model(self) -> dict[str, Any]:
        return {
            "input_folder_key": "training",
            "model_folder_key": "models",
            "train_features": ["FEATURES"],
            "train_reference": REFERENCE,
            "train_test_split": {"train_size": 0.8},
            "model_filename": MODEL_FILE,
            "model_parameters": dict(self.parameters),
        }

    def _predictions(self) -> dict[str, Any]:
        return {
            "input_folder_key": "features",
            "model_folder_key": "models",
            "output_folder_key": "predictions",
            "input_features": [["data", "FEATURES"]],
            "output_feature_name": PREDICTION,
            "dtype": "float32",
            "model_filename": MODEL_FILE,
            "clip_predictions": [0, 100],
            "skip_existing": True,
        }

    def _maps(self) -> dict[str, Any]:
        return {
            "input_folder_key": "predictions",
            "output_folder_key": "maps",
            "feature": ["data_timeless", PREDICTION],
            "map_name": "result.tiff",
            "map_dtype": "uint8",
            "band_indices": [0],
            "cogify": True,
        }
