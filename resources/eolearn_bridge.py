"""The only module that imports eo-learn: EOPatches as its users know them, out of committed folders and into new ones.

eo-learn 1.5 brings pins that nothing else needs (zarr below 3, geopandas below 1, setuptools below 81, s3fs); they are
explained beside the dependencies in pyproject.toml. Replacing eo-learn means replacing this module. It is imported
where an EOPatch is asked for, and nowhere before: that takes seconds.
"""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from eo_assets.errors import StoreError
from resources.attempt_files import attempt_files
from resources.eopatch_files import open_array, read_timestamps
from resources.object_folder import ObjectFolder

with warnings.catch_warnings():
    # `fs` and geopandas 0.14 warn of their own old ways on import.
    warnings.simplefilter("ignore")
    # eo-learn looks for s3fs among the loaded modules before it opens any Zarr array.
    importlib.import_module("s3fs")
    from eolearn.core import EOPatch, FeatureType, OverwritePermission
    from eolearn.core.eodata_io import FeatureIO
    from sentinelhub import Geometry


class StoredEOPatch(EOPatch):  # type: ignore[misc]
    """A committed EOPatch. An array is read as a whole when it is touched, or block by block from `blocks`."""

    def blocks(self, kind: str, name: str) -> zarr.Array:
        """The array `kind/name` for slicing: only the stored blocks that a slice lies in are read."""
        return open_array(self._eo_assets_folder, kind, name)


class StoredArray(FeatureIO):  # type: ignore[misc]
    """An array in a bucket that is not read yet."""

    def __init__(self, folder: ObjectFolder, kind: str, name: str) -> None:
        self.folder, self.kind, self.name = folder, kind, name
        self.path, self.filesystem, self.loaded_value = f"{kind}/{name}.zarr", None, None

    @classmethod
    def get_file_extension(cls) -> str:
        """That of a Zarr array."""
        return ".zarr"

    def _load_value(self) -> NDArray[Any]:
        return np.asarray(open_array(self.folder, self.kind, self.name)[:])

    @classmethod
    def save(cls, *_: Any, **__: Any) -> str:
        """Committed arrays never change."""
        raise StoreError("a committed EOPatch can't be saved over; return a new one")


def load_eopatch(folder: Path | ObjectFolder) -> StoredEOPatch:
    """A `StoredEOPatch` of a folder, or of the objects of a bucket."""
    eopatch: StoredEOPatch = (
        _of_objects(folder) if isinstance(folder, ObjectFolder) else StoredEOPatch.load(str(folder))
    )
    object.__setattr__(eopatch, "_eo_assets_folder", folder)
    return eopatch


def save_eopatch(eopatch: Any, folder: Path) -> None:
    """Save an `EOPatch` as Zarr arrays into an empty folder."""
    if not isinstance(eopatch, EOPatch):
        raise StoreError(f"an asset over tiles returns an EOPatch or None, not a {type(eopatch).__name__}")
    eopatch.save(str(folder), use_zarr=True, overwrite_permission=OverwritePermission.OVERWRITE_FEATURES)


def _of_objects(folder: ObjectFolder) -> StoredEOPatch:
    """Its box and times are read, its arrays only listed. What is no array, a user's vectors, comes as a copy does."""
    names = folder.names()
    kinds = {kind.value for kind in FeatureType}
    features = [name.split("/") for name in names if name.partition("/")[0] in kinds]
    if any(not feature[1].endswith(".zarr") for feature in features):
        whole: StoredEOPatch = StoredEOPatch.load(str(attempt_files(folder.store).path(folder.key)))
        return whole
    times = read_timestamps(folder) if "timestamps.json" in names else None
    box = Geometry.from_geojson(json.loads((folder / "bbox.geojson").read_text())).bbox
    eopatch = StoredEOPatch(bbox=box, timestamps=times)
    for kind, name in sorted({(feature[0], feature[1].removesuffix(".zarr")) for feature in features}):
        eopatch[FeatureType(kind), name] = StoredArray(folder, kind, name)
    return eopatch
