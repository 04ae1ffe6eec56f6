"""The plain script's side: what it is told, and how far its predictions are from ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from eo_assets.stages.predictions import MODEL_FILE
from resources.eopatch_files import DATA_TIMELESS
from tests.benchmarks.peer.compare import Equality, Outputs, same
from tests.benchmarks.peer.measure import emptied
from tests.benchmarks.peer.ours import PREDICTION
from tests.benchmarks.peer.scene import BANDS, INDICES, MASK, Scene, SceneFiles, scene_tiles


@dataclass(frozen=True)
class Plain:
    """The script over a scene, by the interpreter `python`, with the model that our side is given."""

    scene: Scene
    files: SceneFiles
    folder: Path
    python: Path
    model: Path
    samples: int
    workers: int

    def prepare(self) -> None:
        """A new folder, with what the script is told."""
        emptied(self.folder)
        said = {
            "tiffs": str(self.files.tiffs),
            "out": str(self.folder),
            "tiles": [tile.name for tile in scene_tiles(self.scene)],
            "bands": BANDS,
            "mask": MASK,
            "indices": INDICES,
            "model": str(self.model / MODEL_FILE),
            "samples": self.samples,
            "workers": self.workers,
        }
        (self.folder / "config.json").write_text(json.dumps(said))

    def run(self) -> Sequence[str | Path]:
        """The command for everything."""
        return (self.python, Path(__file__).with_name("plain.py"), self.folder / "config.json")

    def compared(self, outputs: Outputs) -> Equality:
        """Its predictions beside ours. It computes in float32, which moves an index by 6e-8: some differ."""
        compared = equal = 0
        largest = 0.0
        for tile in scene_tiles(self.scene):
            with rasterio.open(self.folder / "predictions" / f"{tile.name}.tif") as source:
                theirs = source.read(1)
            ours = outputs.array("predictions", tile, DATA_TIMELESS, PREDICTION)[..., 0]
            compared, equal = compared + ours.size, equal + int(same(ours, theirs).sum())
            largest = max(largest, float(np.nanmax(np.abs(ours - theirs), initial=0)))
        note = f"computed in float32; at most {largest:.3g} apart"
        return Equality("predictions of the plain script", compared, equal, note, must=False)
