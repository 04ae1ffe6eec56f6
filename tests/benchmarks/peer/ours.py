"""Our side: a project over a scene, and what a user types to make its map, from adopted tiffs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.bands_script import bands_script
from tests.benchmarks.peer.home import Home
from tests.benchmarks.peer.ray_head import Head
from tests.benchmarks.peer.scene import BANDS, INDICES, MASK, REFERENCE, RESOLUTION, YEAR, Scene, SceneFiles

PROGRAM = Path(sys.executable).with_name("eo-assets")
PREDICTION = "PREDICTED"
TRAINED_ELSEWHERE = "given-model"

EVALSCRIPT = bands_script(BANDS)

LABELS_SCRIPT = """//VERSION=3
function setup() {
  return {input: ["B01"], output: {bands: 1, sampleType: "UINT8"}};
}
function evaluatePixel(sample) {
  return [sample.B01];
}
"""


@dataclass(frozen=True)
class Ours:
    """A project at `home`: trained here by one project file, with a model that is given by another.

    `masked`: are pixels that were not seen left out, as they are unless a project says otherwise?
    """

    scene: Scene
    files: SceneFiles
    home: Home
    parameters: Mapping[str, int | float | bool]
    samples: int
    masked: bool = True

    @property
    def folder(self) -> Path:
        """The folder of its project files."""
        return self.home.folder

    @property
    def training(self) -> Path:
        """The project file whose model is trained on its own samples."""
        return self.folder / "training.yaml"

    @property
    def predicting(self) -> Path:
        """The same project with the model in `given-model`."""
        return self.folder / "predicting.yaml"

    def prepare(self, model: Path | None = None) -> None:
        """A new project folder, with the files of a trained model if there is one."""
        self.home.clear()
        for path in (self.files.area, self.files.cells):
            self.home.put(f"input-data/{path.name}", path)
        (self.folder / "bands.js").write_text(EVALSCRIPT)
        (self.folder / "labels.js").write_text(LABELS_SCRIPT)
        self.training.write_text(yaml.safe_dump(self._settings(), sort_keys=False))
        given_model = {"extends": self.training.name, "model": {"source": f"{TRAINED_ELSEWHERE}/model.txt"}}
        self.predicting.write_text(yaml.safe_dump(given_model))
        if model is not None:
            for path in model.iterdir():
                self.home.put(f"{TRAINED_ELSEWHERE}/{path.name}", path)

    def adopt(self) -> Sequence[str | Path]:
        """The command that takes the delivery over: checked, a second name for each tiff, labels written anew."""
        return (PROGRAM, "adopt", self.training, self.files.folder, "--link")

    def run(self, *assets: str, given_model: bool = False, ray: Head | None = None) -> Sequence[str | Path]:
        """The command that makes assets, on a Ray that is there or on one of its own."""
        project = self.predicting if given_model else self.training
        only = [word for asset in assets for word in ("--only", asset)]
        return (PROGRAM, "run", project, *only, *(("--ray", ray.address) if ray else ()))

    def published(self, epsg: int) -> Path:
        """A zone's map, in the local folder once it was fetched."""
        return self.folder / f"maps/utm{epsg}_result.tiff"

    def environment(self, ray: Head | None = None) -> dict[str, str]:
        """What the commands see."""
        return {**os.environ, **(ray.environment if ray else {})}

    def _settings(self) -> dict[str, Any]:
        year = [f"{YEAR}-01-01", f"{YEAR}-12-31"]
        collection = {"collection": "sentinel-2-l2a", "service": "local", "harmonize_values": True}
        labels = dict(collection)
        return {
            "name": "bench",
            "year": YEAR,
            "storage": {"project_folder": self.home.address},
            "area": {
                "files": self.files.area.name,
                "grid": {"kind": "custom", "file": self.files.cells.name},
                "resolution": RESOLUTION,
                "buffer": self.scene.buffer_px,
            },
            "imagery": {
                "collections": [collection],
                "time_interval": year,
                "evalscript": "bands.js",
                "tiff_outputs": [*BANDS, MASK],
                "expected_dates": self.scene.dates,
            },
            "eopatches": {
                "data": {"BANDS": {"from": list(BANDS), "factor": 0.0001}},
                "masks": {"QUALITY_MASK": {"from": MASK, "valid": [1]}},
            },
            "features": {
                "mask": "QUALITY_MASK" if self.masked else None,
                "indices": {name: list(pair) for name, pair in INDICES.items()},
                "include_bands": True,
            },
            "reference": {
                "name": REFERENCE,
                "nodata": 255,
                "source": {"kind": "collection", "evalscript": "labels.js", "collection": labels},
            },
            "sampling": {"number": self.samples},
            "model": {"parameters": dict(self.parameters)},
            "predictions": {"name": PREDICTION, "clip": [0, 100]},
            "maps": {"dtype": "uint8", "nodata": 255, "rounding": "truncate"},
            "byoc": {"collection_name": "bench", "service": "local", "sensing_time": f"{YEAR}-06-30"},
        }
