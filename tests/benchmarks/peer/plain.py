"""What a competent user would write without either system: xarray, LightGBM, a pool of processes. Nothing more.

    <python with xarray> plain.py CONFIG.json

From tiffs to maps in one pass over the tiles, with a given model: features are written to Zarr, samples to .npz,
predictions to GeoTIFF, and the predictions of a zone are merged into a COG. No record of what is done, no check of what
is read, no retry: what breaks is run again from the start. Nothing of this project is imported.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import lightgbm
import numpy as np
import rasterio
import rioxarray
import xarray
from rasterio.merge import merge

ROWS = 64


def read_features(folder, config):
    """(time, y, x, feature) float32, NaN where a date sees nothing: indices, then bands."""
    stacks = {band: rioxarray.open_rasterio(folder / f"{band}.tif").rename(band="time") for band in config["bands"]}
    seen = rioxarray.open_rasterio(folder / f"{config['mask']}.tif").rename(band="time") > 0
    bands = {name: (stack.astype("float32") * np.float32(1e-4)).where(seen) for name, stack in stacks.items()}
    indices = {name: (bands[a] - bands[b]) / (bands[a] + bands[b]) for name, (a, b) in config["indices"].items()}
    together = xarray.concat([*indices.values(), *bands.values()], dim="feature")
    return together.transpose("time", "y", "x", "feature").drop_vars("spatial_ref")


def do_tile(config, name):
    """One tile: features, samples, prediction."""
    out = Path(config["out"])
    features = read_features(Path(config["tiffs"]) / name, config)
    dates, height, width, count = features.shape
    features.name = "features"
    chunks = {"features": {"chunks": (dates, ROWS, width, count)}}
    features.to_dataset().to_zarr(out / "features" / f"{name}.zarr", mode="w", encoding=chunks)
    values = features.values
    valid = np.isfinite(values).all(axis=-1).any(axis=0)
    rows, columns = np.nonzero(valid)
    drawn = np.random.default_rng(42).choice(len(rows), min(config["samples"], len(rows)), replace=False)
    np.savez(out / "samples" / f"{name}.npz", features=values[:, rows[drawn], columns[drawn]])
    booster = lightgbm.Booster(model_file=config["model"])
    prediction = np.full((height, width), np.nan, dtype="float32")
    for start in range(0, height, ROWS):
        here = valid[start : start + ROWS]
        if here.any():
            table = np.moveaxis(values[:, start : start + ROWS][:, here], 0, 1).reshape(here.sum(), -1)
            prediction[start : start + ROWS][here] = booster.predict(table, num_threads=1).clip(0, 100)
    with rasterio.open(Path(config["tiffs"]) / name / f"{config['mask']}.tif") as source:
        profile = {
            "driver": "GTiff",
            "crs": source.crs,
            "transform": source.transform,
            "width": width,
            "height": height,
            "count": 1,
            "dtype": "float32",
            "nodata": np.nan,
            "compress": "deflate",
        }
    path = out / "predictions" / f"{name}.tif"
    with rasterio.open(path, "w", **profile) as target:
        target.write(prediction, 1)
    return str(path), source.crs.to_epsg()


def make_map(config, epsg, paths):
    """One zone: uint8, 255 where nothing is known."""
    values, transform = merge(paths, nodata=np.nan)
    known = np.isfinite(values[0])
    pixels = np.where(known, values[0], 255).astype("uint8")
    profile = {
        "driver": "COG",
        "crs": f"EPSG:{epsg}",
        "transform": transform,
        "count": 1,
        "dtype": "uint8",
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "nodata": 255,
        "compress": "deflate",
    }
    with rasterio.open(Path(config["out"]) / "maps" / f"{epsg}.tif", "w", **profile) as target:
        target.write(pixels, 1)


def main(path):
    """Everything that the configuration says."""
    config = json.loads(Path(path).read_text())
    for folder in ("features", "samples", "predictions", "maps"):
        (Path(config["out"]) / folder).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(config["workers"], mp_context=get_context("spawn")) as pool:
        done = list(pool.map(partial(do_tile, config), config["tiles"]))
    for epsg in sorted({epsg for _, epsg in done}):
        make_map(config, epsg, [tile for tile, its in done if its == epsg])


if __name__ == "__main__":
    main(sys.argv[1])
