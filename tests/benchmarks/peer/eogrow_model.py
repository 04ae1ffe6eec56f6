"""What eo-grow's training made, as files that need no pickle: run by the interpreter of eo-grow's own environment.

    <python with eo-grow> eogrow_model.py MODEL.gz TRAINING_FOLDER REFERENCE TARGET

Writes TARGET/model.txt, LightGBM's text, and TARGET/rows.npz, the rows that it was trained on, split as eo-grow does.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.model_selection import train_test_split


def main(model: str, training: str, reference: str, target: str) -> None:
    """Read both and write what the module says."""
    folder = Path(target)
    booster = joblib.load(model).booster_
    (folder / "model.txt").write_text(booster.model_to_string())
    features = np.load(Path(training) / "FEATURES.npy")
    labels = np.load(Path(training) / f"{reference}.npy").ravel()
    table = features.reshape(len(features), -1)
    rows, _, truth, _ = train_test_split(table, labels, train_size=0.8, random_state=42)
    np.savez(folder / "rows.npz", features=rows, labels=truth)


if __name__ == "__main__":
    main(*sys.argv[1:])
