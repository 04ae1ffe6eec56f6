"""Checks across the keys of a project file: what the imagery delivers, what is made of it, and what is asked of that.

A check is a generator of findings that names, by its parameters, the sections it needs. It runs when all of them are
valid by themselves, so that a fault in one section hides as little as possible of the others. `imagery_script` and
`reference_script` are what the two evalscripts' `setup()` say, where that is known.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eo_assets import project_cluster_checks as cluster
from eo_assets import project_composite_checks as composites
from eo_assets import project_mask_checks as masks
from eo_assets import project_model_checks as model
from eo_assets import project_place_checks as place
from eo_assets import project_request_checks as request
from eo_assets import project_retention_checks as retention
from eo_assets import project_script_composite_checks as script_composite
from eo_assets import project_value_checks as values
from eo_assets.core.grid import SentinelHubGrid, UtmGrid
from eo_assets.errors import GridError
from eo_assets.project import (
    Area,
    EOPatches,
    Features,
    Imagery,
    PointsReference,
    Reference,
    Sampling,
    SentinelHubGridSettings,
    UtmGridSettings,
)
from eo_assets.project_problems import MISSING, UNSAID, Finding, KeyPath, did_you_mean, listed, repeated


def check_sections(available: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings of every check whose sections are available."""
    for check in CHECKS:
        needed = inspect.signature(check).parameters
        if all(name in available for name in needed):
            yield from check(**{name: available[name] for name in needed})


def check_grid(area: Area) -> Iterator[Finding]:
    """The grid has to cut its tiles into whole pixels; Sentinel Hub's grids allow a few sizes only."""
    key: KeyPath = ("area", "resolution")
    value = area.resolution
    try:
        if isinstance(area.grid, UtmGridSettings):
            key, value = ("area", "grid", "tile_size_m"), area.grid.tile_size_m
            UtmGrid(area.grid.tile_size_m, area.resolution)
        elif isinstance(area.grid, SentinelHubGridSettings):
            SentinelHubGrid(area.grid.id, area.resolution)
    except GridError as error:
        what, _, remedy = str(error).rpartition(": ")
        yield Finding(key, value, what or remedy, remedy if what else "choose another size")


def check_block_size(area: Area, sampling: Sampling) -> Iterator[Finding]:
    """A sampling block larger than a tile would never fit."""
    shape = _tile_shape(area)
    if shape and any(block > side for block, side in zip(sampling.block_size, shape, strict=True)):
        what = f"larger than a tile, which is {shape[0]} x {shape[1]} pixels with its buffer"
        yield Finding(("sampling", "block_size"), sampling.block_size, what, "choose a smaller block")


def check_amount_of_samples(reference: Reference, sampling: Sampling) -> Iterator[Finding]:
    """Blocks are drawn, so many or such a share; points are samples themselves, each of them."""
    drawn = {name: getattr(sampling, name) for name in ("number", "fraction")}
    if not isinstance(reference.source, PointsReference):
        if all(value is None for value in drawn.values()):
            what, remedy = "neither number nor fraction is given", "give blocks a tile, or their share"
            yield Finding(("sampling",), UNSAID, what, remedy)
        return
    if sampling.block_size != (1, 1):
        drawn["block_size"] = sampling.block_size
    for name, value in drawn.items():
        if value is not None:
            remedy = "set it to null" if name != "block_size" else "write 1"
            yield Finding(("sampling", name), value, "every point of the reference is a sample, none is drawn", remedy)


def check_sampled_tiles(sampling: Sampling) -> Iterator[Finding]:
    """A list of tiles has to name some, each once."""
    if isinstance(sampling.tiles, tuple) and len(set(sampling.tiles)) != max(len(sampling.tiles), 1):
        what = "no tiles" if not sampling.tiles else "a tile twice"
        yield Finding(("sampling", "tiles"), sampling.tiles, what, "list each tile once, or write all or labelled")


def check_tiffs_used(imagery: Imagery, eopatches: EOPatches) -> Iterator[Finding]:
    """Data and masks are made of tiffs that are delivered."""
    wanted = [(("data", name), source) for name, stack in eopatches.data.items() for source in stack.source]
    wanted += [(("masks", name), mask.source) for name, mask in eopatches.masks.items() if mask.source is not None]
    known = imagery.tiff_outputs
    for where, source in wanted:
        if source not in known:
            remedy = f"{did_you_mean(source, known)}tiffs: {listed(known)}"
            yield Finding(("eopatches", *where, "from"), source, "not one of imagery.tiff_outputs", remedy)


def check_stacks(eopatches: EOPatches) -> Iterator[Finding]:
    """A band has one place in a stack."""
    for name, stack in eopatches.data.items():
        for source in repeated(stack.source):
            yield Finding(("eopatches", "data", name, "from"), source, "listed twice", "list it once")


def check_feature_sources(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """Features are computed from a data feature and a mask that the EOPatches have."""
    if features.bands not in eopatches.data:
        remedy = f"{did_you_mean(features.bands, eopatches.data)}data features: {listed(eopatches.data)}"
        yield Finding(("features", "bands"), features.bands, "not one of eopatches.data", remedy)
    if features.mask is not None and features.mask not in eopatches.masks:
        remedy = f"masks: {listed(eopatches.masks)}; write null where every pixel is valid"
        yield Finding(("features", "mask"), features.mask, "not one of eopatches.masks", remedy)


def check_bands(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """Indices and included bands name bands of the data feature."""
    if features.bands not in eopatches.data:
        return
    known = eopatches.data[features.bands].source
    wanted: list[tuple[KeyPath, str]] = [
        (("indices", name), band) for name, pair in features.indices.items() for band in pair
    ]
    if isinstance(features.include_bands, tuple):
        wanted += [(("include_bands",), band) for band in features.include_bands]
    for where, band in wanted:
        if band not in known:
            remedy = f"{did_you_mean(band, known)}bands: {listed(known)}"
            yield Finding(("features", *where), band, f"no such band in eopatches.data.{features.bands}", remedy)


def check_columns(features: Features) -> Iterator[Finding]:
    """The model needs columns, each with a name of its own that says something."""
    included = features.include_bands
    if not features.indices and not included:
        remedy = "name indices, or set include_bands"
        yield Finding(("features",), MISSING, "no model columns: neither indices nor bands", remedy)
    for name, pair in features.indices.items():
        if pair[0] == pair[1]:
            yield Finding(("features", "indices", name), pair, "the index of a band with itself is 0", "name two bands")
    for name in repeated(included if isinstance(included, tuple) else ()):
        yield Finding(("features", "include_bands"), name, "listed twice", "list it once")


def check_column_names(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """An index may not take the name of a band that is a column too."""
    stack = eopatches.data.get(features.bands)
    bands = features.include_bands if isinstance(features.include_bands, tuple) else ()
    if features.include_bands is True and stack:
        bands = stack.source
    for name in features.indices:
        if name in bands:
            yield Finding(
                ("features", "indices", name), UNSAID, "also the name of an included band", "rename the index"
            )


def _tile_shape(area: Area) -> tuple[int, int] | None:
    """(height, width) of a tile in pixels with its buffer; None where only the grid's file knows, or nobody."""
    try:
        if isinstance(area.grid, SentinelHubGridSettings):
            example = "N00E000" if area.grid.id == 3 else "31UES_0_0"
            return SentinelHubGrid(area.grid.id, area.resolution, area.buffer).tile(example).shape
    except GridError:
        return None
    if isinstance(area.grid, UtmGridSettings):
        pixels = round(area.grid.tile_size_m / area.resolution)
        return pixels + 2 * area.buffer[0], pixels + 2 * area.buffer[1]
    return None


CHECKS: tuple[Callable[..., Iterator[Finding]], ...] = (
    cluster.check_machine_budget,
    place.check_structure,
    place.check_project_folder,
    retention.check_retention,
    place.check_files,
    place.check_services,
    place.check_named_services,
    check_grid,
    request.check_collections,
    request.check_time_intervals,
    request.check_excluded_dates,
    request.check_datasources,
    request.check_tiff_outputs,
    request.check_script_outputs,
    script_composite.check_composite_in_evalscript,
    script_composite.check_factor_of_counts,
    script_composite.check_no_acquisitions_left_out,
    check_tiffs_used,
    check_stacks,
    masks.check_mask_rules,
    masks.check_mask_classes,
    masks.check_joined_masks,
    masks.check_probabilities,
    check_feature_sources,
    masks.check_what_was_seen,
    check_bands,
    check_columns,
    check_column_names,
    composites.check_validity_threshold,
    composites.check_days,
    composites.check_number_of_periods,
    composites.check_mask,
    composites.check_method,
    composites.check_index,
    composites.check_gaps,
    composites.check_counts,
    composites.check_min_observations,
    request.check_reference_collection,
    request.check_reference_interval,
    request.check_reference_script,
    request.check_reference_datasources,
    check_amount_of_samples,
    check_block_size,
    check_sampled_tiles,
    model.check_parameters,
    values.check_reference_nodata,
    values.check_predictions_nodata,
    values.check_maps_nodata,
    values.check_band_name,
    values.check_clip,
    values.check_clip_in_map,
    values.check_unbounded,
    values.check_classifier,
)
"""All checks, in the order of the project file."""
