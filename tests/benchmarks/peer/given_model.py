"""The model that both sides predict with: eo-grow's, its columns renumbered.

eo-grow puts the bands of a date before its indices, we put the indices first. A tree asks for its columns by number, so
the same trees with other numbers are the same model.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import lightgbm
import numpy as np

from eo_assets.core import model as modelling
from eo_assets.core.time_axis import columns
from eo_assets.definitions import open_project
from eo_assets.stages.predictions import MODEL_FILE, SIGNATURE_FILE
from eo_assets.stages.signature import expected_signature, feature_names
from tests.benchmarks.peer.eogrow import EoGrow
from tests.benchmarks.peer.measure import emptied
from tests.benchmarks.peer.ours import Ours
from tests.benchmarks.peer.scene import BANDS, INDICES, REFERENCE

WIDTH = len(BANDS) + len(INDICES)


def our_column(theirs: int) -> int:
    """The number that we give to a column of eo-grow's."""
    date, place = divmod(theirs, WIDTH)
    return date * WIDTH + (place + len(INDICES)) % WIDTH


def take_trained(eogrow: EoGrow, folder: Path) -> None:
    """Put eo-grow's trained model, and the rows that it was trained on, into a folder as plain files."""
    emptied(folder)
    (folder / eogrow.model.name).write_bytes(eogrow.model.read_bytes())
    script = Path(__file__).with_name("eogrow_model.py")
    command = [eogrow.python, script, eogrow.model, eogrow.output("training_data"), REFERENCE, folder]
    subprocess.run(command, check=True)


def give(trained: Path, ours: Ours, target: Path) -> None:
    """Write the model for our side, with the signature of its project."""
    project = open_project(str(ours.training)).project
    names = columns([day.isoformat() for day in ours.scene.days], feature_names(project))
    emptied(target)
    (target / MODEL_FILE).write_text(renumbered((trained / "model.txt").read_text(), names))
    (target / SIGNATURE_FILE).write_text(json.dumps(expected_signature(project, names).as_json(), indent=1))


def renumbered(text: str, names: Sequence[str]) -> str:
    """LightGBM's text of the same trees over our columns, which are called `names`."""
    lines = []
    for line in text.splitlines():
        key, _, values = line.partition("=")
        if key == "split_feature":
            line = f"{key}={' '.join(str(our_column(int(value))) for value in values.split())}"
        elif key == "feature_names":
            line = f"{key}={' '.join(names)}"
        elif key == "feature_infos":
            line = f"{key}={' '.join(_in_our_order(values.split()))}"
        if key != "tree_sizes":  # the lengths of the trees' texts, which LightGBM does without
            lines.append(line)
    return str(lightgbm.Booster(model_str="\n".join(lines) + "\n").model_to_string())


def _in_our_order(values: Sequence[str]) -> list[str]:
    placed = {our_column(column): value for column, value in enumerate(values)}
    return [placed[column] for column in range(len(values))]


def retrained(trained: Path, parameters: dict[str, int | float | bool]) -> tuple[str, str]:
    """The trees of eo-grow's training and of ours, given the same rows: texts without the parameters behind them."""
    rows = np.load(trained / "rows.npz")
    theirs = (trained / "model.txt").read_text()
    names = tuple(f"Column_{column}" for column in range(rows["features"].shape[1]))
    training = modelling.Training("lightgbm_regressor", parameters, 1.0, int(parameters["seed"]))
    blocks = np.zeros((len(rows["labels"]), 3), dtype=np.int64)
    samples = modelling.Samples(rows["features"], rows["labels"].astype(np.float64), blocks)
    ours = modelling.model_text(modelling._fit(samples, 0, names, training))
    return _trees(theirs), _trees(ours)


def _trees(text: str) -> str:
    return text.partition("\nparameters:")[0]
