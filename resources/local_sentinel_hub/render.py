"""A Process request made into files: scenes chosen, the script run by blocks of rows, outputs written as they come."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from eo_assets.core.cost import processing_units
from eo_assets.core.evalscript import ScriptOutput, ScriptSetup
from eo_assets.errors import EvalscriptError
from resources.local_sentinel_hub.api import ApiError, bad_payload
from resources.local_sentinel_hub.collections import Band, Collection
from resources.local_sentinel_hub.evalscript import InputArray, Plan, ScriptProcess, ScriptSource, aligned
from resources.local_sentinel_hub.pixels import PixelGrid, Sampling, SlotReader, inside
from resources.local_sentinel_hub.process_request import USERDATA, DataSource, ProcessRequest, RequestedResponse
from resources.local_sentinel_hub.raster_files import RasterFile, open_raster
from resources.local_sentinel_hub.scenes import Slot, describe, iso, orbits, select, simple
from resources.local_sentinel_hub.script_child import ScriptLimits

DATA_MASK = "dataMask"
BLOCK_BYTES = 24 << 20
FALLBACK_UNITS = "DN"


@dataclass(frozen=True)
class Job:
    """What to render: the request, on which raster, from which collections; `clip` is in the raster's CRS."""

    request: ProcessRequest
    grid: PixelGrid
    collections: Mapping[str, Collection]
    clip: shapely.Geometry | None = None
    cog: bool = False


@dataclass(frozen=True)
class Source:
    """One datasource of a script bound to a collection, with the samples it offers."""

    datasource: str | None
    data: DataSource
    collection: Collection
    bands: tuple[str, ...]
    scales: tuple[float | None, ...]
    slots: tuple[Slot, ...]

    @property
    def normalization_factor(self) -> float:
        """The factor from digital numbers to reflectance, 1 for a collection without one."""
        scales = (self.collection.bands[band].scale for band in self.bands if band != DATA_MASK)
        return next((scale for scale in scales if scale is not None), 1.0)

    def input(self, position: int, band: str, scale: float | None, samples: int) -> InputArray:
        """The array that a band of this source is handed over in."""
        if band == DATA_MASK:
            return InputArray(position, band, np.dtype(np.uint8), samples, None)
        processing = self.data.processing
        whole = processing.upsampling == processing.downsampling == "NEAREST"
        declared = np.dtype(self.collection.bands[band].sample_type.lower())
        return InputArray(position, band, declared if whole else np.dtype(np.float32), samples, scale)


def render(job: Job, folder: Path, limits: ScriptLimits) -> float:
    """Write each response to `folder/<identifier>.<extension>`.

    Returns:
        The processing units that the service would charge for a Process request.

    Raises:
        EvalscriptError: the script's fault. ApiError: the request's. ServiceError: a file can't be read.
    """
    with ScriptProcess(job.request.evalscript, limits) as script:
        check_responses(job.request, script.setup)
        sources = bind(job, script.setup)
        plan = script.begin([_offer(source, script.setup) for source in sources], _metadata(sources, script.setup))
        slots = _kept(sources, plan, script.setup)
        check_size_of_outputs(job, plan.outputs, limits.output_bytes)
        _run(job, script, sources, slots, plan, folder)
        userdata = script.finish()
        for response in job.request.output.responses:
            if response.identifier == USERDATA:
                (folder / f"{USERDATA}.json").write_text(userdata, encoding="utf-8")
    return _units(job, sources, slots, plan.outputs)


def check_responses(request: ProcessRequest, setup: ScriptSetup) -> None:
    """Refuse responses that the script does not output."""
    known = [output.id for output in setup.outputs]
    for response in request.output.responses:
        if response.identifier == USERDATA:
            if response.extension != "json":
                raise bad_payload("userdata can only be had as application/json", "output.responses")
        elif response.identifier not in known:
            message = f"Output {response.identifier} requested but missing from function setup(), which has {known}"
            raise EvalscriptError(message)
        elif response.extension == "json":
            raise bad_payload(
                f"output {response.identifier} is an image; only userdata can be had as JSON", "output.responses"
            )


def check_size_of_outputs(job: Job, outputs: tuple[ScriptOutput, ...], limit: int) -> None:
    """Refuse images of more than `limit` bytes together, before any of them is begun."""
    asked = {response.identifier for response in job.request.output.responses}
    pixels = job.grid.shape[0] * job.grid.shape[1]
    size = sum(max(o.bands, 1) * o.dtype.itemsize * pixels for o in outputs if o.id in asked)
    if size > limit:
        bands = ", ".join(f"{o.id}: {o.bands}" for o in outputs if o.id in asked)
        raise EvalscriptError(
            f"the outputs take {size / 2**20:.0f} MB ({pixels} pixels, bands {bands}), the limit is "
            f"{limit / 2**20:.0f} MB; ask for fewer outputs, bands or dates, or for smaller tiles"
        )


def bind(job: Job, setup: ScriptSetup) -> list[Source]:
    """Match the script's inputs with the request's data, and find the scenes."""
    wanted: dict[str | None, dict[str, str | None]] = {}
    for entry in setup.inputs:
        units = wanted.setdefault(entry.datasource, {})
        for band, unit in zip(entry.bands, entry.units or [None] * len(entry.bands), strict=True):
            if units.setdefault(band, unit) != unit:
                raise EvalscriptError(
                    f"setup() asks for band {band} in two units; ask for one and convert in the script"
                )
    return [_source(job, setup, name, units) for name, units in wanted.items()]


def _source(job: Job, setup: ScriptSetup, name: str | None, units: Mapping[str, str | None]) -> Source:
    data = _data_of(job.request, name)
    collection = job.collections.get(data.type)
    if collection is None:
        known = ", ".join(sorted(job.collections)) or "none"
        raise bad_payload(
            f"collection {data.type!r} is not served here; there are: {known}", "input.data.type", data.type
        )
    scales = tuple(_scale(collection, band, unit) for band, unit in units.items())
    scenes = select(collection, job.grid.lonlat_bounds, data.scenes_wanted)
    slots = simple(scenes) if setup.mosaicking == "SIMPLE" else orbits(scenes, data.data_filter.mosaicking_order)
    return Source(name, data, collection, tuple(units), scales, slots)


def _data_of(request: ProcessRequest, name: str | None) -> DataSource:
    data = request.input.data
    if name is None:
        if len(data) > 1:
            ids = ", ".join(str(entry.id) for entry in data)
            raise EvalscriptError(f"the request has several data ({ids}); name a datasource for each input in setup()")
        return data[0]
    for entry in data:
        if entry.id == name:
            return entry
    ids = ", ".join(str(entry.id) for entry in data)
    raise EvalscriptError(f"Datasource {name} is not in the request, whose data have the ids: {ids}")


def _scale(collection: Collection, name: str, unit: str | None) -> float | None:
    """The factor from digital numbers to the unit asked for; None for digital numbers themselves."""
    if name == DATA_MASK:
        return None
    band: Band | None = collection.bands.get(name)
    if band is None:
        known = ", ".join([*collection.bands, DATA_MASK])
        raise EvalscriptError(f"Dataset {collection.type} has no band {name}; it has: {known}")
    if unit is not None:
        unit = unit.upper()  # scripts write "reflectance" too
    if unit not in (None, band.units, FALLBACK_UNITS):
        raise EvalscriptError(
            f"band {name} of {collection.type} has no unit {unit}; it has: {band.units}, {FALLBACK_UNITS}"
        )
    return None if unit == FALLBACK_UNITS else band.scale


def _offer(source: Source, setup: ScriptSetup) -> ScriptSource:
    described = [describe(slot) for slot in source.slots if slot.scenes]
    if setup.mosaicking == "SIMPLE":
        described = [tile for slot in described for tile in slot["tiles"]]
    wanted = source.data.scenes_wanted
    return ScriptSource(source.datasource, iso(wanted.time_from), iso(wanted.time_to), tuple(described))


def _metadata(sources: list[Source], setup: ScriptSetup) -> dict[str, Any]:
    each = {
        source.datasource: {
            "serviceVersion": "local",
            "normalizationFactor": source.normalization_factor,
        }
        for source in sources
    }
    return {str(name): value for name, value in each.items()} if setup.fusion else each[None]


def _kept(sources: list[Source], plan: Plan, setup: ScriptSetup) -> list[tuple[Slot, ...]]:
    if setup.mosaicking == "SIMPLE":
        return [source.slots for source in sources]
    return [tuple(source.slots[i] for i in keep) for source, keep in zip(sources, plan.keep, strict=True)]


def _run(
    job: Job, script: ScriptProcess, sources: list[Source], slots: list[tuple[Slot, ...]], plan: Plan, folder: Path
) -> None:
    asked = {r.identifier: r for r in job.request.output.responses if r.identifier != USERDATA}
    with ExitStack() as stack:
        files = [_open(stack, job, asked.get(output.id), output, folder) for output in plan.outputs]
        if not any(slots):  # ORBIT without a scene: the service does not call evaluatePixel()
            return
        inputs = [
            source.input(i, band, scale, len(slots[i]))
            for i, source in enumerate(sources)
            for band, scale in zip(source.bands, source.scales, strict=True)
        ]
        rows = _rows(job.grid, inputs, plan.outputs)
        width = job.grid.shape[1]
        counts = [len(s) for s in slots]
        arrays, results = script.allocate(rows * width, counts, inputs, plan.outputs, silent=not any(files))
        readers = [stack.enter_context(_reader(job, source)) for source in sources]
        for start in range(0, job.grid.shape[0], rows):
            stop = min(start + rows, job.grid.shape[0])
            count = (stop - start) * width
            blocks = [array[:, :count].reshape(len(array), stop - start, width) for array in arrays]
            _read(job, readers, slots, inputs, blocks, start)
            script.run(count)
            for file, result in zip(files, results, strict=True):
                if file is not None:
                    file.write(start, result[:, :count].reshape(len(result), stop - start, width))


def _read(
    job: Job,
    readers: list[SlotReader],
    slots: list[tuple[Slot, ...]],
    inputs: list[InputArray],
    blocks: list[Any],
    start: int,
) -> None:
    """Fill the blocks, each (samples, rows, width), with the rows from `start` on."""
    rows, width = blocks[0].shape[1:] if blocks else (0, 0)
    stop = start + rows
    clip = None if job.clip is None else inside(job.clip, job.grid, start, stop)
    for position, (reader, samples) in enumerate(zip(readers, slots, strict=True)):
        mine = [(i.band, block) for i, block in zip(inputs, blocks, strict=True) if i.source == position]
        for t, slot in enumerate(samples):
            targets = [(band, block[t]) for band, block in mine if band != DATA_MASK]
            mask: NDArray[np.uint8] = next(
                (b[t] for band, b in mine if band == DATA_MASK), np.zeros((rows, width), np.uint8)
            )
            reader.fill(slot, start, stop, targets, mask)
    if clip is not None:
        for block in blocks:
            block[:, ~clip] = 0


def _reader(job: Job, source: Source) -> SlotReader:
    processing = source.data.processing
    sampling = Sampling(processing.upsampling, processing.downsampling)
    harmonize = processing.harmonize_values is not False  # the service's default
    return SlotReader(job.grid, sampling, source.collection.bands, harmonize=harmonize)


def _open(
    stack: ExitStack, job: Job, response: RequestedResponse | None, output: ScriptOutput, folder: Path
) -> RasterFile | None:
    """The file of an output, None if the request does not ask for it."""
    if response is None:
        return None
    path = folder / f"{output.id}.{response.extension}"
    file = open_raster(path, output, job.grid, response.format.mime_type, cog=job.cog)
    stack.callback(file.close)
    return file


def _rows(grid: PixelGrid, inputs: list[InputArray], outputs: tuple[ScriptOutput, ...]) -> int:
    """Rows of a block: whole TIFF blocks where they fit, so that none is written twice."""
    bytes_a_pixel = sum(i.samples * i.dtype.itemsize for i in inputs) + sum(o.bands * o.dtype.itemsize for o in outputs)
    rows = BLOCK_BYTES // (max(bytes_a_pixel, 1) * aligned(grid.shape[1]))
    if rows > 256:
        rows -= rows % 256
    return max(1, min(rows, grid.shape[0]))


def _units(job: Job, sources: list[Source], slots: list[tuple[Slot, ...]], outputs: tuple[ScriptOutput, ...]) -> float:
    samples = [max(len(chosen), 1) for chosen in slots]
    bands = [len([band for band in source.bands if band != DATA_MASK]) for source in sources]
    layers = sum(n * t for n, t in zip(bands, samples, strict=True)) or sum(samples)  # dataMask counts if it is alone
    float32 = any(output.sample_type == "FLOAT32" for output in outputs)
    return processing_units([job.grid.shape], layers, 1, float32=float32, mode="process")


def as_api_error(error: EvalscriptError) -> ApiError:
    """A script's fault as the service reports it."""
    return ApiError(400, "RENDERER_EXCEPTION", f"Failed to evaluate script!\n{error}")
