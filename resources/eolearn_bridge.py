"""The only module that imports eo-learn: EOPatches as its users know them, out of committed folders and into new ones.

eo-learn 1.5 brings pins that nothing else needs (zarr below 3, geopandas below 1, setuptools below 81, s3fs); they are
explained beside the dependencies in pyproject.toml. Replacing eo-learn means replacing this module.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

from eo_assets.errors import StoreError


def load_eopatch(folder: Path) -> Any:
    """An `EOPatch` whose arrays are read when they are touched."""
    return _eolearn().EOPatch.load(str(folder))


def save_eopatch(eopatch: Any, folder: Path) -> None:
    """Save an `EOPatch` as Zarr arrays into an empty folder."""
    core = _eolearn()
    if not isinstance(eopatch, core.EOPatch):
        raise StoreError(f"an asset over tiles returns an EOPatch or None, not a {type(eopatch).__name__}")
    eopatch.save(str(folder), use_zarr=True, overwrite_permission=core.OverwritePermission.OVERWRITE_FEATURES)


def _eolearn() -> Any:
    with warnings.catch_warnings():
        # `fs` and geopandas 0.14 warn of their own old ways on import.
        warnings.simplefilter("ignore")
        # eo-learn looks for these two among the loaded modules before it opens any Zarr array.
        for name in ("s3fs", "zarr"):
            importlib.import_module(name)

        return importlib.import_module("eolearn.core")
