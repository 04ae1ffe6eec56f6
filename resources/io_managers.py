"""The committed outputs as Dagster sees them: what `defs.load_asset_value` and a user's own assets are handed.

Our assets commit their outputs themselves, on workers; these IO managers read through the same records, and commit what
a user's own asset returns. Inputs are lazy: an EOPatch reads an array when it is touched, a COG is a handle that opens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from eo_assets.core.model import Signature
from eo_assets.core.recipe import fingerprint
from eo_assets.errors import StoreError
from resources.object_store import checksum
from resources.output_record import OutputRecord
from resources.raster_file import RasterFile, raster_files
from resources.tile_store import TileStore

Context = dg.InputContext | dg.OutputContext


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A committed model: LightGBM's booster, what it expects, how good it is."""

    booster: Any
    signature: Signature
    metrics: Mapping[str, Any]


class StoreIOManager(dg.IOManager):
    """Loads an output from its project's store, one for each partition that is asked for, and commits new ones."""

    def __init__(self, stores: Mapping[str, TileStore]) -> None:
        """`stores` by the project's name, the first part of an asset key."""
        self._stores = stores

    def read(self, store: TileStore, record: OutputRecord) -> Any:
        """A committed output as the value that a downstream asset gets."""
        raise NotImplementedError

    def write(self, folder: Path, value: Any) -> None:
        """What a user's own asset returned, into the attempt folder."""
        raise StoreError(f"{type(self).__name__} stores no {type(value).__name__}; return what it loads")

    def load_input(self, context: dg.InputContext) -> Any:
        """The value of one partition (or of an asset without any), or a dict by partition key."""
        store, stage = self._place(context)
        if not context.has_asset_partitions:
            return self.read(store, store.live_record(stage, stage))
        keys = list(context.asset_partition_keys)
        if len(keys) == 1:
            return self.read(store, store.live_record(stage, keys[0]))
        return {key: self.read(store, store.live_record(stage, key)) for key in keys}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Commit the value of a user's own asset, or a dict of values by partition key; None was committed already."""
        if obj is None:
            return
        store, stage = self._place(context)
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else [stage]
        values = obj if len(keys) > 1 and isinstance(obj, Mapping) else {keys[0]: obj}
        if set(values) != set(keys):
            raise StoreError(f"{stage} returned values for {sorted(values)[:5]}; this run is for {keys[:5]}")
        for key, value in values.items():
            with store.attempt(stage, key) as attempt:
                self.write(attempt.folder, value)
                store.commit(stage, key, attempt, fingerprint([stage, checksum(attempt.folder)]))

    def _place(self, context: Context) -> tuple[TileStore, str]:
        project, *rest = context.asset_key.path
        if project not in self._stores or not rest:
            raise StoreError(
                f"asset {context.asset_key.to_user_string()}: its key must start with the name of a loaded project "
                f"({', '.join(self._stores)}), for instance key_prefix={next(iter(self._stores))!r}"
            )
        return self._stores[project], "_".join(rest)


class EOPatchIOManager(StoreIOManager):
    """EOPatches, loaded lazily. A user's asset over tiles may return an EOPatch, or a dict of them by tile."""

    def read(self, store: TileStore, record: OutputRecord) -> Any:
        """An `eolearn.core.EOPatch`; its `blocks(kind, name)` reads parts of an array."""
        from resources.eolearn_bridge import load_eopatch

        return load_eopatch(store.blocks(record))

    def write(self, folder: Path, value: Any) -> None:
        """Save an EOPatch with eo-learn, as Zarr."""
        from resources.eolearn_bridge import save_eopatch

        save_eopatch(value, folder)


class TiffsIOManager(StoreIOManager):
    """What the service delivered for a tile: each GeoTIFF by its output, and `userdata` as plain values."""

    def read(self, store: TileStore, record: OutputRecord) -> dict[str, Any]:
        """`RasterFile`s, and the values of `userdata.json`."""
        tiffs: dict[str, Any] = {raster.stem: raster for raster in raster_files(store, record)}
        userdata = store.file(record, "userdata.json")
        return tiffs if userdata is None else {**tiffs, "userdata": json.loads(userdata)}


class TableIOManager(StoreIOManager):
    """Tables and vectors. A folder of several files is a dict by file stem.

    `.npy` is a memory-mapped array, `.geojson` a GeoDataFrame, `.gpkg` a list of tiles, `.json` plain values,
    `.parquet` a DataFrame.
    """

    def read(self, store: TileStore, record: OutputRecord) -> Any:
        """The value of the folder's only file, or of each."""
        folder = store.intact(record)
        values = {
            path.stem: _READERS[path.suffix](path) for path in sorted(folder.iterdir()) if path.suffix in _READERS
        }
        return next(iter(values.values())) if len(values) == 1 else values

    def write(self, folder: Path, value: Any) -> None:
        """A DataFrame as Parquet, anything else as JSON."""
        if hasattr(value, "to_parquet"):
            value.to_parquet(folder / "table.parquet")
        else:
            (folder / "value.json").write_text(json.dumps(value, indent=1))


class ModelIOManager(StoreIOManager):
    """The model with its signature and metrics."""

    def read(self, store: TileStore, record: OutputRecord) -> TrainedModel:
        """A `TrainedModel`."""
        import lightgbm

        folder = store.intact(record)
        signature = Signature.from_json(json.loads((folder / "signature.json").read_text()))
        metrics = json.loads((folder / "metrics.json").read_text())
        return TrainedModel(lightgbm.Booster(model_file=str(folder / "model.txt")), signature, metrics)


class CogIOManager(StoreIOManager):
    """Maps: the COG, for rasterio to open."""

    def read(self, store: TileStore, record: OutputRecord) -> RasterFile:
        """The output's GeoTIFF."""
        return raster_files(store, record)[0]


def _read_npy(path: Path) -> Any:
    import numpy as np

    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_geojson(path: Path) -> Any:
    import geopandas

    return geopandas.read_file(path)


def _read_grid(path: Path) -> Any:
    from resources.grid_files import read_grid

    return read_grid(path)


def _read_parquet(path: Path) -> Any:
    import pandas

    return pandas.read_parquet(path)


_READERS: Mapping[str, Callable[[Path], Any]] = {
    ".npy": _read_npy,
    ".geojson": _read_geojson,
    ".gpkg": _read_grid,
    ".json": lambda path: json.loads(path.read_text()),
    ".parquet": _read_parquet,
}
