"""Broken project files, each the shipped West Africa project with something spoilt, and the whole message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lightgbm
import pytest

from eo_assets.core.evalscript import ScriptInput, ScriptOutput, ScriptSetup
from eo_assets.errors import EvalscriptError, ProjectError
from eo_assets.project_file import load_project
from eo_assets.project_model_checks import FILES_AND_MACHINES, SET_BY_KIND, SET_BY_TRAINING, _known_parameters
from eo_assets.project_yaml import SHIPPED

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def setup_of(text: str) -> ScriptSetup:
    """What setup() of the shipped scripts, and of a few words that stand for others, says."""
    if "broken" in text:
        raise EvalscriptError("line 3:\n  Unexpected token ')'")
    if "two outputs" in text:
        outputs = (ScriptOutput("a", 1, "UINT8"), ScriptOutput("b", 2, "UINT8"))
        return ScriptSetup((ScriptInput(None, ("PROB",)),), outputs)
    if "labels of s2 and s1" in text:
        inputs = (ScriptInput("s2", ("B04",)), ScriptInput("s1", ("VV",)))
        return ScriptSetup(inputs, (ScriptOutput("default", 1, "UINT8"),))
    if "fusion" in text:
        inputs = (ScriptInput("s2", BANDS), ScriptInput("s1", ("VV",)))
        return ScriptSetup(inputs, tuple(ScriptOutput(band, 1, "UINT16") for band in (*BANDS, "QM")), "ORBIT")
    if "monthly" in text or "first scene" in text:
        outputs = tuple(ScriptOutput(band, 1, "UINT16") for band in (*BANDS, "QM"))
        return ScriptSetup((ScriptInput(None, (*BANDS, "QM")),), outputs, "ORBIT")
    sample_type = "UINT16" if "sixteen bits" in text else "UINT8"
    return ScriptSetup((ScriptInput(None, ("PROB", "dataMask")),), (ScriptOutput("default", 1, sample_type),))


def refusal(folder: Path, text: str) -> list[str]:
    """The lines of the error that a project file raises, with its own path shortened."""
    file = folder / "project.yaml"
    file.write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(file, inspect_script=setup_of, environment={}, working_folder=folder)
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


BROKEN: dict[str, tuple[str, str]] = {
    "unknown section": (
        "imagry: {}",
        "imagry: {}: unknown key: did you mean 'imagery'? known here: area, automation, budget, byoc, cluster, "
        "description, eopatches, execution, extends, features, imagery, logging, maps, model, name, predictions, "
        "reference, sampling, sensor, services, sources, storage, year",
    ),
    "unknown key": (
        "area: {resolutoin: 60}",
        "area.resolutoin: 60: unknown key: did you mean 'resolution'? known here: buffer, files, grid, resolution",
    ),
    "unknown key of a grid": (
        "area: {grid: {kind: sentinel_hub, idd: 2}}",
        "area.grid.idd: 2: unknown key: did you mean 'id'? known here: id, kind",
    ),
    "unknown key in a list": (
        "imagery: {collections: [{collection: dem, service: cdse, upsamplin: NEAREST}]}",
        "imagery.collections.0.upsamplin: \"NEAREST\": unknown key: did you mean 'upsampling'? known here: "
        "collection, downsampling, harmonize_values, id, max_cloud_cover, mosaicking_order, service, "
        "upsampling",
    ),
    "kind": (
        "area: {grid: {kind: mgrs}}",
        'area.grid.kind: "mgrs": no such kind: use one of sentinel_hub, utm, custom',
    ),
    "kind missing": (
        "reference: {source: {kind: null}}",
        "reference.source.kind: null: no such kind: use one of collection, vector, points, raster",
    ),
    "text for a number": (
        "area: {resolution: wide}",
        'area.resolution: "wide": not a number: give a number',
    ),
    "text for a year": (
        "year: soon",
        'year: "soon": not a whole number: give a whole number',
    ),
    "negative buffer": (
        "area: {buffer: [-1, 2]}",
        "area.buffer.0: -1: too small: give 0 or more",
    ),
    "no such choice": (
        "imagery: {collections: [{collection: dem, service: cdse, upsampling: LINEAR}]}",
        "imagery.collections.0.upsampling: \"LINEAR\": no such choice: use 'NEAREST', 'BILINEAR' or 'BICUBIC'",
    ),
    "four fields for a schedule": (
        "automation: {retry_failed: '0 6 * *'}",
        "automation.retry_failed: \"0 6 * *\": not a cron schedule: five fields are wanted, as in '0 6 * * *' (every "
        "day at 6:00 UTC)",
    ),
    "no such hour": (
        "automation: {retry_failed: '0 6,24 * * *'}",
        'automation.retry_failed: "0 6,24 * * *": not a cron schedule: 24 is no hour: *, or a number from 0 to 23',
    ),
    "a schedule that never comes": (
        "automation: {retry_failed: '*/0 * * * *'}",
        'automation.retry_failed: "*/0 * * * *": not a cron schedule: */0 is no minute: *, or a number from 0 to 59',
    ),
    "a day by its name": (
        "automation: {retry_failed: '0 6 * * MON'}",
        'automation.retry_failed: "0 6 * * MON": not a cron schedule: MON is no day of week: *, or a number from 0 to '
        "7",
    ),
    "text for a mapping": (
        "area: here",
        'area: "here": not a mapping: write keys and values under it',
    ),
    "number for a list": (
        "imagery: {tiff_outputs: 3}",
        "imagery.tiff_outputs: 3: not a list: write it as [a, b]",
    ),
    "project name": (
        "name: West Africa",
        'name: "West Africa": not a usable name: use letters, digits and _, a letter first (pattern ^[a-z][a-z0-9_]*$)',
    ),
    "feature name": (
        "predictions: {name: 1st}",
        'predictions.name: "1st": not a usable name: use letters, digits and _, a letter first (pattern '
        "^[A-Za-z][A-Za-z0-9_]*$)",
    ),
    "a region that is none": (
        "cluster: {region: frankfurt, ssh_from: 198.18.0.0/28}",
        'cluster.region: "frankfurt": not of the right form: write it as eu-central-1',
    ),
    "a role that is not named in full": (
        "services: {sentinel_hub: {iam_role_arn: delivers}}",
        'services.sentinel_hub.iam_role_arn: "delivers": not of the right form: write it as '
        "arn:aws:iam::123456789012:role/delivers",
    ),
    "a slip in the name of a service that there is": (
        "services: {sentinelhub: {poll_seconds: 3}}",
        "services.sentinelhub.collections: (missing): neither a remote nor a local service: did you mean "
        "'sentinel_hub'? give base_url and token_url of a remote service, or the collections file of a local one",
    ),
    "impossible date": (
        "imagery: {time_interval: [2020-02-30, 2020-12-31]}",
        'imagery.time_interval.0: "2020-02-30": not a date: write it as YYYY-MM-DD',
    ),
    "excluded date that is never asked for": (
        "imagery: {exclude: [2019-06-01]}",
        'imagery.exclude.0: "2019-06-01": not within imagery.time_interval: name a date from 2020-01-01 to 2020-12-31, '
        "or remove it",
    ),
    "one date for two": (
        "imagery: {time_interval: [2020-02-01]}",
        'imagery.time_interval: ["2020-02-01"]: an entry is missing: write it as [a, b]',
    ),
    "year for a date": (
        "byoc: {sensing_time: 2020}",
        "byoc.sensing_time: 2020: a number, not a date: write it as YYYY-MM-DD",
    ),
    "a request's name for an id": (
        "byoc: {collection_id: byoc-484d8dbb-9e3e-41f2-b96b-35189d3ae37f}",
        'byoc.collection_id: "byoc-484d8dbb-9e3e-41f2-b96b-35189d3ae37f": not the id of a collection: write it as the '
        "service shows it, without byoc- in front",
    ),
    "a band's name that scripts can't say": (
        "byoc: {band_name: class}",
        'byoc.band_name: "class": a word that evalscripts reserve: choose another name for the band',
    ),
    "predictions' name that scripts can't say": (
        "predictions: {name: dataMask}",
        'predictions.name: "dataMask": also the name of the published band, and a word that evalscripts reserve: '
        "choose another one, or set byoc.band_name",
    ),
    "no waiting": (
        "byoc: {poll_seconds: 0}",
        "byoc.poll_seconds: 0: too small: give a number greater than 0",
    ),
    "empty interval": (
        "imagery: {time_interval: [2020-12-31, 2020-01-01]}",
        'imagery.time_interval: ["2020-12-31", "2020-01-01"]: an empty interval: it ends before it starts: '
        "write [2020-01-01, 2020-12-31]",
    ),
    "one bad value in a list": (
        "eopatches: {masks: {QUALITY_MASK: {valid: [1, two]}}}",
        'eopatches.masks.QUALITY_MASK.valid.1: "two": a name, but no classes tell its value: set classes of the '
        "mask to one of fmask, scl, qm, clm, or write the number",
    ),
    "none of two kinds": (
        "eopatches: {masks: {QUALITY_MASK: {valid: boolean}}}",
        'eopatches.masks.QUALITY_MASK.valid: "boolean": not a value that fits here: write it as [a, b], or '
        "use 'bool'",
    ),
    "number for bands": (
        "features: {include_bands: 3}",
        "features.include_bands: 3: not a value that fits here: write true or false, or write it as [a, b]",
    ),
    "tiles by a wrong word": (
        "sampling: {tiles: some}",
        "sampling.tiles: \"some\": not a value that fits here: use 'all' or 'labelled', or write it as [a, b]",
    ),
    "number and fraction": (
        "sampling: {fraction: 0.1}",
        'sampling: {"block_size": [1, 1], "number": 1500, "seed": 42, "tiles": "all", "fraction"...: not '
        "exactly one of number and fraction: give blocks a tile or their share, null the other",
    ),
    "neither number nor fraction": (
        "sampling: {number: null}",
        "sampling: neither number nor fraction is given: give blocks a tile, or their share",
    ),
    "number of points": (
        "reference: {source: {kind: points, file: p.gpkg, id: id, column: class}}\nsampling: {number: 9}",
        "sampling.number: 9: every point of the reference is a sample, none is drawn: set it to null",
    ),
    "blocks of points": (
        "reference: {source: {kind: points, file: p.gpkg, id: id, column: class}}\n"
        "sampling: {number: null, block_size: 32}",
        "sampling.block_size: [32, 32]: every point of the reference is a sample, none is drawn: write 1",
    ),
    "points without an id": (
        "reference: {source: {kind: points, file: p.gpkg, column: class}}\nsampling: {number: null}",
        "reference.source.id: (missing): this key is required: add it, as docs/project-file.md describes",
    ),
    "points outside of input-data": (
        "reference: {source: {kind: points, file: ../p.gpkg, id: id, column: class}}\nsampling: {number: null}",
        'reference.source.file: "../p.gpkg": leads out of input-data: write a path relative to input-data, with / and '
        "without ..",
    ),
    "resampling of labels": (
        "reference: {source: {kind: raster, file: a.tif, resampling: cubic}}",
        "reference.source.resampling: \"cubic\": no such choice: use 'nearest', 'mode' or 'average'",
    ),
    "one collection and several": (
        "reference: {source: {collections: [{collection: dem, service: cdse}]}}",
        'reference.source: {"kind": "collection", "evalscript": "evalscripts/built_up_probability.js", "...: '
        "not exactly one of collection and collections: give one collection, or a list of those that the "
        "evalscript reads together, null the other",
    ),
    "no collection": (
        "reference: {source: {collection: null}}",
        'reference.source: {"kind": "collection", "evalscript": "evalscripts/built_up_probability.js", "...: '
        "not exactly one of collection and collections: give one collection, or a list of those that the "
        "evalscript reads together, null the other",
    ),
    "fused collections without ids": (
        "reference: {source: {collection: null, collections: [{collection: dem, service: cdse}, "
        "{collection: byoc-a, service: cdse, id: a}]}}",
        'reference.source.collections: [null, "a"]: several collections without an id of their own: give each its own '
        "id, the one that the evalscript's setup() calls datasource",
    ),
    "fused collections of two services": (
        "reference: {source: {collection: null, collections: [{collection: dem, service: cdse, id: b}, "
        "{collection: byoc-a, service: creodias, id: a}]}}",
        'reference.source.collections: ["cdse", "creodias"]: the collections of one request are on different services, '
        "and a request goes to one: take collections that one service holds",
    ),
    "interval of a fused collection": (
        "reference: {source: {collection: null, collections: [{collection: dem, service: cdse, "
        "time_interval: [2020-02-01, 2020-01-01]}]}}",
        'reference.source.collections.0.time_interval: ["2020-02-01", "2020-01-01"]: an empty interval: it ends before '
        "it starts: write [2020-01-01, 2020-02-01]",
    ),
    "unknown service of a fused collection": (
        "reference: {source: {collection: null, collections: [{collection: dem, service: cds}]}}",
        "reference.source.collections.0.service: \"cds\": no such service: did you mean 'cdse'? use one of cdse, "
        "creodias, local, sentinel_hub, sentinel_hub_uswest, or declare it under services",
    ),
    "clouds of a fused collection": (
        "reference: {source: {collection: null, collections: [{collection: byoc-a, service: cdse, "
        "max_cloud_cover: 0.5}]}}",
        "reference.source.collections.0.max_cloud_cover: 0.5: byoc-a has no cloud cover: remove it, and mask clouds by "
        "a band",
    ),
    "fraction above one": (
        "sampling: {number: null, fraction: 1.5}",
        "sampling.fraction: 1.5: too large: give 1 or less",
    ),
    "evalscript output": (
        "imagery: {tiff_outputs: [B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12, QM, B10]}",
        "imagery.tiff_outputs: \"B10\": not an output of evalscripts/monthly_mosaic.js: did you mean 'B12'? it "
        "has B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12, QM",
    ),
    "tiff twice": (
        "imagery: {tiff_outputs: [B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12, QM, QM]}",
        'imagery.tiff_outputs: "QM": listed twice: list it once',
    ),
    "band not delivered": (
        "eopatches: {data: {BANDS: {from: [B03, B04, B8, B08, B11]}}}",
        "eopatches.data.BANDS.from: \"B8\": not one of imagery.tiff_outputs: did you mean 'B8A'? tiffs: B01, "
        "B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12, QM",
    ),
    "mask not delivered": (
        "eopatches: {masks: {QUALITY_MASK: {from: SCL}}}",
        'eopatches.masks.QUALITY_MASK.from: "SCL": not one of imagery.tiff_outputs: tiffs: B01, B02, B03, '
        "B04, B05, B06, B07, B08, B8A, B09, B11, B12, QM",
    ),
    "mask without valid values": (
        "eopatches: {masks: {QUALITY_MASK: {valid: []}}}",
        "eopatches.masks.QUALITY_MASK.valid: []: no value is valid: list the valid values, or write bool "
        "where every value but 0 is valid",
    ),
    "mask without a rule": (
        "eopatches: {masks: {QUALITY_MASK: {valid: null}}}",
        "eopatches.masks.QUALITY_MASK: no rule says what is valid: give one of valid, invalid, below, all_of",
    ),
    "mask with two rules": (
        "eopatches: {masks: {QUALITY_MASK: {invalid: [3]}}}",
        "eopatches.masks.QUALITY_MASK: valid and invalid are given together: keep one of them, and set the others "
        "to null",
    ),
    "mask of no tiff": (
        "eopatches: {masks: {CLOUDS: {invalid: [3]}}}",
        "eopatches.masks.CLOUDS.from: (missing): this key is required: add it, as docs/project-file.md describes",
    ),
    "mask without invalid values": (
        "eopatches: {masks: {CLOUDS: {from: QM, invalid: []}}}",
        "eopatches.masks.CLOUDS.invalid: []: no value is invalid: list the invalid values",
    ),
    "mask of half a class": (
        "eopatches: {masks: {CLOUDS: {from: QM, invalid: [1.5]}}}",
        "eopatches.masks.CLOUDS.invalid.0: 1.5: not a value that fits here: give a whole number, or write the name "
        "of a class",
    ),
    "mask of a truth value": (
        "eopatches: {masks: {QUALITY_MASK: {valid: [true]}}}",
        "eopatches.masks.QUALITY_MASK.valid.0: true: true and false are no values of a tiff: write 1 or 0, or the name "
        "of a class",
    ),
    "mask of two truth values": (
        "eopatches: {masks: {CLOUDS: {from: QM, invalid: [0, yes]}}}",
        "eopatches.masks.CLOUDS.invalid.1: true: true and false are no values of a tiff: write 1 or 0, or the name "
        "of a class",
    ),
    "no such scheme": (
        "eopatches: {masks: {CLOUDS: {from: QM, classes: cfmask, invalid: [cloud]}}}",
        "eopatches.masks.CLOUDS.classes: \"cfmask\": no such choice: use 'fmask', 'scl', 'qm' or 'clm'",
    ),
    "no such class": (
        "eopatches: {masks: {CLOUDS: {from: QM, classes: fmask, invalid: [cloud, clouds, 7]}}}",
        "eopatches.masks.CLOUDS.invalid.1: \"clouds\": no class of fmask: did you mean 'cloud'? its classes: "
        "clear_land (0), water (1), cloud_shadow (2), snow (3), cloud (4), no_data (255)\n"
        "eopatches.masks.CLOUDS.invalid.2: 7: no class of fmask: its classes: clear_land (0), water (1), "
        "cloud_shadow (2), snow (3), cloud (4), no_data (255)",
    ),
    "no data as valid": (
        "eopatches: {masks: {QUALITY_MASK: {classes: qm, valid: [ok, 0]}}}",
        'eopatches.masks.QUALITY_MASK.valid: ["ok", 0]: no_data of qm is never valid: remove it',
    ),
    "all classes invalid": (
        "eopatches: {masks: {CLOUDS: {from: QM, classes: clm, invalid: [clear, cloud]}}}",
        'eopatches.masks.CLOUDS.invalid: ["clear", "cloud"]: no class of clm is left that is valid: list fewer',
    ),
    "classes of a probability": (
        "eopatches: {masks: {CLOUDS: {from: QM, classes: clm, below: 102}}}",
        'eopatches.masks.CLOUDS.classes: "clm": below is for a probability, which has no classes: remove it, or list '
        "classes",
    ),
    "classes of a cast": (
        "eopatches: {masks: {QUALITY_MASK: {classes: qm, valid: bool}}}",
        'eopatches.masks.QUALITY_MASK.classes: "qm": bool is a cast, which has no classes: remove it, or list classes',
    ),
    "probability in parts of one": (
        "eopatches: {masks: {CLOUDS: {from: QM, below: 0.4}}}",
        "eopatches.masks.CLOUDS.below: 0.4: QM is UINT16, whole numbers, so that only 0 is valid: give the threshold "
        "as it is stored: 0.4 of 255 is 102",
    ),
    "probability beyond its type": (
        "eopatches: {masks: {CLOUDS: {from: QM, below: 70000}}}",
        "eopatches.masks.CLOUDS.below: 70000: QM is UINT16, 0 to 65535, so that all of it is valid: lower it",
    ),
    "no threshold": (
        "eopatches: {masks: {CLOUDS: {from: QM, below: .inf}}}",
        "eopatches.masks.CLOUDS.below: Infinity: not a number: give a number",
    ),
    "a disc of no radius": (
        "eopatches: {masks: {QUALITY_MASK: {dilate_px: 0}}}",
        "eopatches.masks.QUALITY_MASK.dilate_px: 0: too small: give 1 or more",
    ),
    "a disc as large as a tile": (
        "eopatches: {masks: {QUALITY_MASK: {dilate_px: 101}}}",
        "eopatches.masks.QUALITY_MASK.dilate_px: 101: too large: give 100 or less",
    ),
    "joined masks that are not there": (
        "eopatches: {masks: {BOTH: {all_of: [QUALITY_MSK, QUALITY_MASK, QUALITY_MASK]}, NONE: {all_of: []}}}",
        'eopatches.masks.BOTH.all_of: "QUALITY_MASK": listed twice: list it once\n'
        "eopatches.masks.BOTH.all_of: \"QUALITY_MSK\": not one of eopatches.masks: did you mean 'QUALITY_MASK'? "
        "masks: QUALITY_MASK, BOTH, NONE\n"
        "eopatches.masks.NONE.all_of: []: no mask is joined: name masks of eopatches.masks",
    ),
    "masks that join one another": (
        "eopatches: {masks: {A: {all_of: [QUALITY_MASK, B]}, B: {all_of: [C]}, C: {all_of: [A]}, D: {all_of: [D]}}}",
        'eopatches.masks.A.all_of: ["QUALITY_MASK", "B"]: joins itself: A -> B -> C -> A: take one of them out\n'
        'eopatches.masks.B.all_of: ["C"]: joins itself: B -> C -> A -> B: take one of them out\n'
        'eopatches.masks.C.all_of: ["A"]: joins itself: C -> A -> B -> C: take one of them out\n'
        'eopatches.masks.D.all_of: ["D"]: joins itself: D -> D: take one of them out',
    ),
    "a join that reads and grows": (
        "eopatches: {masks: {BOTH: {all_of: [QUALITY_MASK], from: QM, classes: qm, dilate_px: 3}}}",
        'eopatches.masks.BOTH.from: "QM": all_of joins masks and reads no tiff: set it to null, and keep it in the '
        "masks that are joined\n"
        'eopatches.masks.BOTH.classes: "qm": all_of joins masks and reads no tiff: set it to null, and keep it in the '
        "masks that are joined\n"
        "eopatches.masks.BOTH.dilate_px: 3: what all_of joins is not dilated again: what was not seen would grow with "
        "the clouds: set it to null, and dilate the masks that are joined",
    ),
    "a mask that can't know what was seen": (
        "eopatches: {masks: {CLEAR: {from: QM, below: 102}, ALL: {all_of: [CLEAR]}}}\nfeatures: {mask: ALL}",
        'features.mask: "ALL": made of probabilities alone, which are 0, and so valid, where nothing was seen: join it '
        "in an all_of with a mask of what was seen: of dataMask, CLM, or a classification",
    ),
    "indices": (
        "features: {indices: {NDRE: [B8, B05], SAME: [B04, B04]}}",
        "features.indices.NDRE: \"B8\": no such band in eopatches.data.BANDS: did you mean 'B8A'? bands: B01, "
        "B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12\n"
        'features.indices.SAME: ["B04", "B04"]: the index of a band with itself is 0: name two bands',
    ),
    "no such data feature": (
        "features: {bands: BAND}",
        "features.bands: \"BAND\": not one of eopatches.data: did you mean 'BANDS'? data features: BANDS",
    ),
    "no such mask": (
        "features: {mask: CLOUDS}",
        'features.mask: "CLOUDS": not one of eopatches.masks: masks: QUALITY_MASK; write null where every '
        "pixel is valid",
    ),
    "no such included band": (
        "features: {include_bands: [B02, B10]}",
        "features.include_bands: \"B10\": no such band in eopatches.data.BANDS: did you mean 'B12'? bands: "
        "B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12",
    ),
    "two columns of one name": (
        "features: {include_bands: true, indices: {B02: [B02, B04]}}",
        "features.indices.B02: also the name of an included band: rename the index",
    ),
    "validity threshold": (
        "features: {validity_threshold: 0.5}",
        "features.validity_threshold: 0.5: a validity threshold without a composite would leave tiles "
        "with different numbers of dates: remove it, or give features.composite",
    ),
    "a composite without a mask": (
        "features: {mask: null, composite: {method: median, periods: 12}}",
        "features.mask: null: a composite of acquisitions without a mask takes no data and clouds for observations: "
        "name one of eopatches.masks",
    ),
    "periods that are no number": (
        "features: {composite: {method: median, periods: true}}",
        "features.composite.periods: true: not a value that fits here: give a whole number, or use 'months', or write "
        "it as [a, b]",
    ),
    "max_index without an index": (
        "features: {composite: {method: max_index, periods: 12}}",
        "features.composite.index: (missing): method max_index goes by an index: name one of features.indices (NDVI, "
        "NDWI, NDBI), or two bands",
    ),
    "an index that decides nothing": (
        "features: {composite: {method: mean, periods: 12, index: NDVI}}",
        'features.composite.index: "NDVI": method mean goes by no index: remove it, or set method to max_index',
    ),
    "a longest gap that is too short for any": (
        "features: {composite: {method: median, periods: months, gaps: {method: linear, max_days: 31}}}",
        "features.composite.gaps.max_days: 31: no gap is as short: the shortest takes 60 days from centre to centre: "
        "give at least 62, or gaps.method none",
    ),
    "a longest gap that a leap day decides": (
        "features: {composite: {method: median, periods: months, gaps: {method: linear, max_days: 60}}}",
        "features.composite.gaps.max_days: 60: gaps take 60 days from centre to centre here, and a day more or less "
        "in another year: give 64, or less than 58, so that every year's gaps are filled alike",
    ),
    "more observations than acquisitions": (
        "features: {composite: {method: median, periods: 12}}\nmaps: {min_observations: 100}",
        "maps.min_observations: 100: more than the 12 acquisitions of imagery.expected_dates: no pixel would be shown: "
        "choose less",
    ),
    "days of periods out of order": (
        "features: {composite: {method: median, periods: [2020-03-01, 2020-02-01, 2020-05-01]}}",
        'features.composite.periods: "2020-02-01": not after the day before it, 2020-03-01: list the days in order, '
        "each once",
    ),
    "days of periods outside of the interval": (
        "features: {composite: {method: median, periods: [2020-03-01, 2021-02-01]}}",
        'features.composite.periods: "2021-02-01": it lies outside of imagery.time_interval, 2020-01-01 to 2020-12-31: '
        "choose days from 2020-01-01 to 2021-01-01, or widen the interval",
    ),
    "more periods than days": (
        "features: {composite: {method: median, periods: 400}}",
        "features.composite.periods: 400: more periods than the 366 days of imagery.time_interval: choose fewer",
    ),
    "max_index by no index": (
        "features: {composite: {method: max_index, index: NDVX, periods: 12}}",
        "features.composite.index: \"NDVX\": not one of features.indices (NDVI, NDWI, NDBI): did you mean 'NDVI'? name "
        "one of them, or two bands, as in [B08, B04]",
    ),
    "max_index by a band that is not there": (
        "features: {composite: {method: max_index, index: [B08, B10], periods: 12}}",
        "features.composite.index: \"B10\": no such band in eopatches.data.BANDS: did you mean 'B12'? bands: "
        "B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12",
    ),
    "a longest gap that nothing fills": (
        "features: {composite: {method: median, periods: 12, gaps: {max_days: 40}}}",
        "features.composite.gaps.max_days: 40: no gap is filled: remove it, or give gaps.method linear or nearest",
    ),
    "counts that are not there": (
        "features: {composite: {method: median, periods: 12, observations: COUNTS}}",
        'features.composite.observations: "COUNTS": not one of eopatches.data: data features: BANDS',
    ),
    "least observations without a composite": (
        "maps: {min_observations: 3}",
        "maps.min_observations: 3: observations are counted for composites only: remove it, or give features.composite",
    ),
    "resolution of a tiling grid": (
        "area: {resolution: 100}",
        "area.resolution: 100: Sentinel Hub tiling grid 2 has no resolution 100.0: choose one of 30, 60, 120, 240, 360",
    ),
    "resolution of a lattice": (
        "area: {grid: {kind: utm, tile_size_m: 5000}, resolution: 120}",
        "area.grid.tile_size_m: 5000: tile size 5000 m is not a multiple of the resolution 120 m: the "
        "nearest is 5040 m",
    ),
    "block larger than a tile": (
        "sampling: {block_size: [32, 2000]}",
        "sampling.block_size: [32, 2000]: larger than a tile, which is 854 x 854 pixels with its buffer: "
        "choose a smaller block",
    ),
    "undeclared services": (
        "byoc: {service: sentinelhub}\nreference: {source: {collection: {service: mine}}}",
        'reference.source.collection.service: "mine": no such service: use one of cdse, creodias, local, '
        "sentinel_hub, sentinel_hub_uswest, or declare it under services\n"
        "byoc.service: \"sentinelhub\": no such service: did you mean 'sentinel_hub'? use one of cdse, "
        "creodias, local, sentinel_hub, sentinel_hub_uswest, or declare it under services",
    ),
    "half a service": (
        "services: {mine: {base_url: 'http://example.com'}, here: {collections: ../x.yaml}, none: {}}",
        "services.mine.token_url: (missing): a base_url without a token_url: add the address of its tokens\n"
        'services.mine.base_url: "http://example.com": would send credentials in clear text: use https\n'
        'services.here.collections: "../x.yaml": leads out of the project folder: write a path relative to '
        "the project folder, with / and without ..\n"
        "services.none.collections: (missing): neither a remote nor a local service: give base_url and "
        "token_url of a remote service, or the collections file of a local one",
    ),
    "deliveries that can't be": (
        "services: {cdse: {iam_role_arn: 'arn:aws:iam::123456789012:role/x'}, local: {delivery: keys}, "
        "sentinel_hub: {delivery: folder}}",
        'services.cdse.iam_role_arn: "arn:aws:iam::123456789012:role/x": a role where delivery is not by role: set '
        "delivery: role, or remove it\n"
        'services.local.delivery: "keys": a local service delivers to its folder: remove it\n'
        'services.sentinel_hub.delivery: "folder": only a local service delivers to a folder: use role or keys',
    ),
    "half of a known service replaced": (
        "services: {cdse: {base_url: 'https://example.com'}, sentinel_hub: {token_url: 'https://example.com'}}",
        "services.cdse.token_url: (missing): one of a known service's two addresses: give both, or neither\n"
        "services.sentinel_hub.base_url: (missing): one of a known service's two addresses: give both, or neither",
    ),
    "credentials in an address": (
        "services: {mine: {base_url: 'https://me:secret@example.com', token_url: example.com}}",
        "services.mine.base_url: holds credentials: remove them: credentials come from the environment\n"
        'services.mine.token_url: "example.com": not an address: write https://host',
    ),
    "nodata above its type": (
        "reference: {nodata: 256}",
        "reference.nodata: 256: reference.dtype uint8 can't hold it: use a whole number from 0 to 255, or "
        "another dtype",
    ),
    "nodata NaN in whole numbers": (
        "maps: {nodata: .nan}",
        "maps.nodata: NaN: maps.dtype uint8 can't hold it: use a whole number from 0 to 255, or another dtype",
    ),
    "nodata that float32 rounds": (
        "reference: {dtype: float32, nodata: 0.1}",
        "reference.nodata: 0.1: reference.dtype float32 can't hold it: use .nan, or a whole number",
    ),
    "nodata below its type": (
        "predictions: {dtype: int16, nodata: -40000}",
        "predictions.nodata: -40000: predictions.dtype int16 can't hold it: use a whole number from -32768 "
        "to 32767, or another dtype",
    ),
    "nodata left at NaN": (
        "predictions: {dtype: uint8}",
        "predictions.nodata: NaN: predictions.dtype uint8 can't hold it: use a whole number from 0 to 255, "
        "or another dtype",
    ),
    "clip reversed": (
        "predictions: {clip: [100, 0]}",
        "predictions.clip: [100, 0]: the lower limit is not below the upper one: write it as [low, high]",
    ),
    "clip outside of the map": (
        "predictions: {clip: [-10, 100]}",
        "predictions.clip: [-10, 100]: maps.dtype uint8 holds 0 to 255: clip within that, or choose a larger dtype",
    ),
    "clip outside of the predictions": (
        "predictions: {clip: [0, 300], dtype: uint8, nodata: 255}\nmaps: {dtype: int16, nodata: -1}",
        "predictions.nodata: 255: a valid prediction, since predictions.clip is 0 to 300: choose a value "
        "outside of the clip\n"
        "predictions.clip: [0, 300]: predictions.dtype uint8 holds 0 to 255: clip within that, or choose a "
        "larger dtype",
    ),
    "map nodata within the clip": (
        "maps: {nodata: 0}",
        "maps.nodata: 0: a valid prediction, since predictions.clip is 0 to 100: choose a value outside of the clip",
    ),
    "no clip into whole numbers": (
        "predictions: {clip: null}",
        "predictions.clip: null: required, since maps.dtype uint8 can't hold every prediction of a "
        "regressor: give [low, high]",
    ),
    "probabilities of a regressor": (
        "predictions: {all_probabilities: true}",
        "predictions.all_probabilities: true: a lightgbm_regressor has no probabilities: remove it, or use "
        "model.kind: lightgbm_classifier",
    ),
    "folders": (
        "storage: {structure: {maps: 'maps/{Year}', tiffs: ../tiffs, model: training-data, features: "
        "'data/{year}/features', logs: .logs, cache: /tmp}}",
        'storage.structure.cache: "/tmp": leads out of the project folder: write a path relative to the '
        "project folder, with / and without ..\n"
        'storage.structure.tiffs: "../tiffs": leads out of the project folder: write a path relative to the '
        "project folder, with / and without ..\n"
        'storage.structure.maps: "maps/{Year}": {Year} is no placeholder: {year} is the only one\n'
        'storage.structure.logs: ".logs": empty or hidden: name a place in the project folder that does not '
        "start with a dot\n"
        'storage.structure.features: "data/{year}/features": lies inside the folder of eopatches, data/2020: '
        "put the two side by side\n"
        'storage.structure.model: "training-data": also the folder of training_data: give every stage a '
        "folder of its own",
    ),
    "no such storage": (
        "storage: {project_folder: 'gs://bucket'}",
        'storage.project_folder: "gs://bucket": no storage of kind gs: use a local folder or s3://bucket/prefix',
    ),
    "a password in the address": (
        "storage: {project_folder: 's3://me:hunter2@bucket/p'}",
        'storage.project_folder: "s3://***@bucket/p": not the name of a bucket: write s3://bucket/prefix, the bucket '
        "in lower case",
    ),
    "an endpoint with a password": (
        "storage: {project_folder: 's3://bucket/p', s3: {endpoint: 'https://me:hunter2@host'}}",
        'storage.s3.endpoint: "https://***@host": an address with a user or password in it: take them out; keys come '
        "from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from storage.s3.profile",
    ),
    "an endpoint that is a bucket's address": (
        "storage: {project_folder: 's3://bucket/p', s3: {endpoint: 'https://host/bucket'}}",
        'storage.s3.endpoint: "https://host/bucket": not the address of a server: write https://host, or '
        "http://host:port",
    ),
    "no known way of addressing": (
        "storage: {project_folder: 's3://bucket/p', s3: {addressing: 'host'}}",
        "storage.s3.addressing: \"host\": no such choice: use 'path' or 'virtual'",
    ),
    "a dotted part of the prefix": (
        "storage: {project_folder: 's3://bucket/a/../b'}",
        'storage.project_folder: "s3://bucket/a/../b": an empty or dotted part of the prefix: write s3://bucket/prefix '
        "with plain names",
    ),
    "how to reach a bucket that is none": (
        "storage: {project_folder: here, s3: {region: eu-central-1}}",
        'storage.project_folder: "here": a local folder, which needs no storage.s3: take storage.s3 out, or name '
        "s3://bucket/prefix",
    ),
    "no bucket": (
        "storage: {project_folder: 's3://'}",
        'storage.project_folder: "s3://": not the name of a bucket: write s3://bucket/prefix, the bucket in lower case',
    ),
    "files elsewhere": (
        "area: {files: ../aoi.geojson}\n"
        "model: {source: /models/m.txt}\n"
        "reference: {source: {kind: vector, file: C:\\x.gpkg}}",
        'area.files: "../aoi.geojson": leads out of input-data: write a path relative to input-data, with / '
        "and without ..\n"
        'reference.source.file: "C:\\\\x.gpkg": leads out of input-data: write a path relative to input-data, '
        "with / and without ..\n"
        'model.source: "/models/m.txt": leads out of the project folder: write a path relative to the '
        "project folder, with / and without ..",
    ),
    "no such evalscript": (
        "imagery: {evalscript: evalscripts/none.js}",
        'imagery.evalscript: "evalscripts/none.js": evalscripts/none.js can\'t be read (No such file or '
        "directory): put the evalscript there, or mend the path: it starts at the file that names it",
    ),
    "variables": (
        "storage: {project_folder: '${EO_NOT_SET}/x'}\nbyoc: {collection_name: '${var:year}'}",
        'storage.project_folder: "${EO_NOT_SET}/x": the environment variable EO_NOT_SET is not set: export '
        "EO_NOT_SET=..., or write ${EO_NOT_SET:-a default}\n"
        'byoc.collection_name: "${var:year}": not an environment variable: write ${NAME} or '
        "${NAME:-default}; the year in a folder's name is {year}",
    ),
    "collection name": (
        "reference: {source: {collection: {collection: BYOC_3dbeea2c}}}",
        'reference.source.collection.collection: "BYOC_3dbeea2c": not a collection\'s name in the service: '
        "did you mean 'byoc-3dbeea2c'?",
    ),
    "cloud cover of own data": (
        "reference: {source: {collection: {max_cloud_cover: 0.5}}}",
        "reference.source.collection.max_cloud_cover: 0.5: byoc-3dbeea2c-3207-4c65-8a73-c29ce2675f89 has no "
        "cloud cover: remove it, and mask clouds by a band",
    ),
    "harmonized own data": (
        "reference: {source: {collection: {harmonize_values: true}}}",
        "reference.source.collection.harmonize_values: true: only Sentinel-2's own collections have it: remove it",
    ),
    "an offset of which nothing is said": (
        "imagery: {collections: [{collection: sentinel-2-l2a, service: cdse}]}\n"
        "reference: {source: {collection: {collection: sentinel-2-l1c, harmonize_values: null}}}",
        "imagery.collections.0.harmonize_values: (missing): not said, and digital numbers of processing baseline 04.00 "
        "(2022-01-25) and later are 1000 higher: write true to have the offset taken out, as the service does unless "
        "told, or false to keep it\n"
        "reference.source.collection.harmonize_values: (missing): not said, and digital numbers of processing baseline "
        "04.00 (2022-01-25) and later are 1000 higher: write true to have the offset taken out, as the service does "
        "unless told, or false to keep it",
    ),
    "collections without ids": (
        "imagery: {collections: [{collection: sentinel-2-l2a, service: cdse, harmonize_values: true}, "
        "{collection: sentinel-1-grd, service: cdse}]}",
        "imagery.collections: [null, null]: several collections without an id of their own: give each its "
        "own id, the one that the evalscript's setup() calls datasource",
    ),
    "collections on two services": (
        "imagery: {collections: [{collection: sentinel-2-l2a, id: s2, service: cdse, harmonize_values: true}, "
        "{collection: sentinel-1-grd, id: s1, service: sentinel_hub}]}",
        'imagery.collections: ["cdse", "sentinel_hub"]: the collections of one request are on different services, and '
        "a request goes to one: take collections that one service holds",
    ),
    "number for a text": (
        "byoc: {collection_name: 2020}",
        "byoc.collection_name: 2020: not a text: put it in quotes",
    ),
    "one band for two": (
        "features: {indices: {NDVI: [B08]}}",
        'features.indices.NDVI: ["B08"]: an entry is missing: write it as [a, b]',
    ),
    "three dates for two": (
        "imagery: {time_interval: [2020-02-01, 2020-02-01, 2020-02-01]}",
        'imagery.time_interval: ["2020-02-01", "2020-02-01", "2020-02-01"]: too many entries (3): give at most 2',
    ),
    "two sections": (
        "budget: {max_processing_units: 0}\nlogging: {save: maybe}",
        "budget.max_processing_units: 0: too small: give a number greater than 0\n"
        'logging.save: "maybe": not true or false: write true or false',
    ),
    "dtype of a map": (
        "maps: {dtype: float64}",
        "maps.dtype: \"float64\": no such choice: use 'uint8', 'uint16', 'int16', 'int32' or 'float32'",
    ),
    "a tile twice": (
        "sampling: {tiles: [30NXL_0_0, 30NXL_0_0]}",
        'sampling.tiles: ["30NXL_0_0", "30NXL_0_0"]: a tile twice: list each tile once, or write all or labelled',
    ),
    "list for a parameter": (
        "model: {parameters: {monotone: [1, 2]}}",
        "model.parameters.monotone: [1, 2]: not a value that fits here: write true or false, or give a whole "
        "number, or give a number, or put it in quotes",
    ),
    "unknown parameters": (
        "model: {parameters: {n_estimatorz: 400, numleaves: 3}}",
        "model.parameters.n_estimatorz: 400: not a parameter of LightGBM: did you mean 'n_estimators'? "
        "see https://lightgbm.readthedocs.io/en/stable/Parameters.html\n"
        "model.parameters.numleaves: 3: not a parameter of LightGBM: did you mean 'num_leaves'? "
        "see https://lightgbm.readthedocs.io/en/stable/Parameters.html",
    ),
    "parameter of nothing": (
        "model: {parameters: {qqqq: 1}}",
        "model.parameters.qqqq: 1: not a parameter of LightGBM: "
        "see https://lightgbm.readthedocs.io/en/stable/Parameters.html",
    ),
    "objective": (
        "model: {parameters: {loss: mae, num_classes: 3}}",
        'model.parameters.loss: "mae": LightGBM\'s objective, which model.kind and the labels set: '
        "remove it, and choose model.kind\n"
        "model.parameters.num_classes: 3: LightGBM's num_class, which model.kind and the labels set: "
        "remove it, and choose model.kind",
    ),
    "one parameter under two names": (
        "model: {parameters: {num_boost_round: 5}}",
        "model.parameters.num_boost_round: 5: another name of n_estimators, which is given too: keep one of them",
    ),
    "name that LightGBM would not look at": (
        "model: {parameters: {random_state: 5}}",
        "model.parameters.random_state: 5: LightGBM would not look at it, since training sets seed: write seed: 5",
    ),
    "early stopping": (
        "model: {parameters: {early_stopping_rounds: 5}}",
        "model.parameters.early_stopping_rounds: 5: nothing to stop on, since a model is trained without a "
        "validation set: remove it, and set n_estimators",
    ),
    "empty project folder": (
        "storage: {project_folder: ''}",
        'storage.project_folder: "": empty: give a text',
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_its_key_value_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, f"extends: west_africa\n{text}\n") == [
        f"project.yaml: {line}" for line in message.splitlines()
    ]


REFUSED_NAMES = (
    "config", "convert_model_file", "data", "forcedbins_filename", "forcedsplits_filename", "input_model",
    "local_port", "machine_list_file", "mlist", "nodes", "num_machines", "output_model", "output_result",
    "parser_config_file", "save_binary", "save_period", "snapshot_freq", "task", "tree_learner", "valid", "workers",
)  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_NAMES)
def test_parameters_about_files_and_machines_are_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, f"extends: west_africa\nmodel: {{parameters: {{{name}: x}}}}\n") == [
        f'project.yaml: model.parameters.{name}: "x": about files or machines, which LightGBM is not told of here: '
        "remove it"
    ]


def test_lightgbm_still_calls_what_is_refused_by_that_name() -> None:
    refused = FILES_AND_MACHINES | SET_BY_KIND | SET_BY_TRAINING | {"early_stopping_round"}
    assert refused <= set(lightgbm.basic._ConfigAliases._get_all_param_aliases())


def test_parameters_of_a_model_file_are_checked_too(tmp_path: Path) -> None:
    text = "extends: west_africa\nmodel: {source: models/own.txt, parameters: {numleaves: 3}}\n"
    assert [line.split(": ")[1] for line in refusal(tmp_path, text)] == ["model.parameters.numleaves"]


def test_lightgbm_s_own_names_and_aliases_pass(tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(
        "extends: west_africa\nmodel: {parameters: {n_jobs: 1, lambda: 0.5, reg_alpha: 1, min_child_samples: 3, "
        "subsample: 0.5, bagging_freq: 1, seed: 3, verbosity: 1, boosting: goss, max_bin: 63}}\n"
    )
    loaded = load_project(file, inspect_script=setup_of, environment={}, working_folder=tmp_path)
    assert loaded.project.model.parameters["lambda"] == 0.5


SCRIPTS: dict[str, tuple[str, str, str]] = {
    "broken script": (
        "imagery: {evalscript: own.js}",
        "broken",
        "imagery.evalscript: \"own.js\": line 3: Unexpected token ')': mend the evalscript",
    ),
    "data source that nobody requests": (
        "imagery: {evalscript: own.js, collections: [{collection: sentinel-2-l2a, service: cdse, id: s2, "
        "harmonize_values: true}]}",
        "fusion",
        'imagery.collections: ["s2"]: the evalscript reads data source s1, which no collection is: '
        "add it, or give its id",
    ),
    "label source that nobody requests": (
        "reference: {source: {evalscript: own.js, collection: null, collections: [{collection: byoc-a, "
        "service: creodias, id: s2}]}}",
        "labels of s2 and s1",
        'reference.source.collections: ["s2"]: the evalscript reads data source s1, which no collection is: '
        "add it, or give its id",
    ),
    "labels of two outputs": (
        "reference: {source: {evalscript: own.js}}",
        "two outputs",
        'reference.source.evalscript: "a (1), b (2)": labels are one output of one band: '
        "return one band from the evalscript",
    ),
    "labels wider than their type": (
        "reference: {source: {evalscript: own.js}}",
        "sixteen bits",
        'reference.dtype: "uint8": can\'t hold the uint16 that the evalscript writes: '
        "write uint16, or change the sampleType",
    ),
}


@pytest.mark.parametrize(("text", "script", "message"), SCRIPTS.values(), ids=SCRIPTS)
def test_evalscripts_are_asked_what_they_do(tmp_path: Path, text: str, script: str, message: str) -> None:
    (tmp_path / "own.js").write_text(script)
    origin = f"{SHIPPED}/west_africa/project.yaml" if message.startswith("reference.dtype") else "project.yaml"
    lines = refusal(tmp_path, f"extends: west_africa\n{text}\n")
    assert [line.removesuffix("; or set the key in project.yaml") for line in lines] == [f"{origin}: {message}"]


def test_a_fault_in_what_is_extended_names_that_file_and_where_to_override_it(tmp_path: Path) -> None:
    assert refusal(tmp_path, "extends: west_africa\nmodel: {kind: lightgbm_classifier}\n") == [
        f"{SHIPPED}/west_africa/project.yaml: predictions.clip: [0, 100]: would change the codes of classes: "
        "remove it; or set the key in project.yaml"
    ]


def test_one_bad_section_does_not_hide_the_faults_of_others(tmp_path: Path) -> None:
    text = """extends: west_africa
name: West Africa
area: {resolution: 100, colour: blue}
imagery: {time_interval: [2020-12-31, 2020-01-01]}
features: {indices: {NDRE: [B8A, B10]}, validity_threshold: 0.5}
sampling: {number: many}
maps: {nodata: 50}
bioc: {}
"""
    assert refusal(tmp_path, text) == [
        'project.yaml: name: "West Africa": not a usable name: use letters, digits and _, a letter first '
        "(pattern ^[a-z][a-z0-9_]*$)",
        'project.yaml: area.colour: "blue": unknown key: known here: buffer, files, grid, resolution',
        'project.yaml: imagery.time_interval: ["2020-12-31", "2020-01-01"]: an empty interval: it ends before it '
        "starts: write [2020-01-01, 2020-12-31]",
        "project.yaml: features.indices.NDRE: \"B10\": no such band in eopatches.data.BANDS: did you mean 'B12'? "
        "bands: B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12",
        "project.yaml: features.validity_threshold: 0.5: a validity threshold without a composite would leave tiles "
        "with different numbers of dates: remove it, or give features.composite",
        'project.yaml: sampling.number: "many": not a whole number: give a whole number',
        "project.yaml: maps.nodata: 50: a valid prediction, since predictions.clip is 0 to 100: choose a value outside "
        "of the clip",
        "project.yaml: bioc: {}: unknown key: did you mean 'byoc'? known here: area, automation, budget, byoc, "
        "cluster, description, eopatches, execution, extends, features, imagery, logging, maps, model, name, "
        "predictions, reference, sampling, sensor, services, sources, storage, year",
    ]


def test_masks_of_every_rule_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(
        """extends: west_africa
eopatches:
  masks:
    HAS_DATA: {from: QM, classes: qm, valid: [ok, raised]}
    NO_CLOUD: {from: QM, classes: qm, invalid: [failed, no_data], dilate_px: 3}
    CLEAR: {from: QM, below: 102}
    QUALITY_MASK: {from: null, valid: null, all_of: [HAS_DATA, NO_CLOUD, CLEAR]}
"""
    )
    project = load_project(file, inspect_script=setup_of, environment={}, working_folder=tmp_path).project
    assert project.eopatches.masks["QUALITY_MASK"].all_of == ("HAS_DATA", "NO_CLOUD", "CLEAR")


def test_the_parameters_are_those_of_lightgbm_without_loading_all_of_it() -> None:
    groups = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    assert _known_parameters() == {alias: parameter for parameter, aliases in groups.items() for alias in aliases}
    code = "import sys; from eo_assets.definitions import open_project; open_project('demo'); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert not {"lightgbm", "sklearn"} & set(said.stdout.split())
