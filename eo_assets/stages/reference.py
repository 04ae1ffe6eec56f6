"""Stage 4, reference: a tile's labels, (y, x, 1) with their own nodata, from the service or from a project's files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eo_assets.core.recipe import fingerprint
from eo_assets.core.sampling import labelled
from eo_assets.core.tile import Bounds, Tile
from eo_assets.errors import TileError
from eo_assets.project import (
    Collection,
    CollectionReference,
    PointsReference,
    RasterReference,
    Reference,
    VectorReference,
)
from eo_assets.stages.label_files import (
    Blocks,
    check_label_file,
    checked,
    point_blocks,
    polygon_blocks,
    raster_blocks,
    read_points,
)
from eo_assets.stages.quicklooks import Thumbnail, write_values
from eo_assets.stages.stage import StageResult, TileInputs
from eo_assets.stages.tiffs import tile_settings
from resources.eopatch_files import DATA_TIMELESS, create_array, write_header
from resources.input_files import InputFiles
from resources.object_store import file_checksum
from resources.point_table import write_points
from resources.sentinel_hub import MAX_REQUEST_PX, ProcessAnswer, SentinelHub, input_data

LATER_KEYS = ("collections", "all_touched", "order_by", "resampling")
"""Keys of a source that older versions did not have: at their defaults they are no part of the recipe, so that nothing
is made or bought again because of an upgrade."""

REQUEST_ROWS = MAX_REQUEST_PX // 128 * 128
"""The most rows of one request: whole blocks, and the same windows whatever a block is, since they are paid for."""

NOT_TOLD = "not told by the service"


@dataclass(frozen=True, slots=True)
class ReferenceStage:
    """`service` and `evalscript` are given for a collection, `files` are those of the project."""

    reference: Reference
    files: InputFiles
    service: SentinelHub | None
    evalscript: str

    name: ClassVar[str] = "reference"
    inputs: ClassVar[tuple[str, ...]] = ()
    shared_inputs: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[str] = "1"
    source: ClassVar[bool] = True
    cpus: ClassVar[float] = 1.0

    @property
    def paid(self) -> bool:
        """Labels of a collection cost processing units; those of a file are made again whenever they are stale."""
        return isinstance(self.reference.source, CollectionReference)

    def memory_bytes(self, tile: Tile) -> int:
        """One window of a request, decoded."""
        return (400 << 20) + 32 * min(tile.shape[0], MAX_REQUEST_PX) * min(tile.shape[1], MAX_REQUEST_PX)

    def settings(self, tile: Tile) -> Mapping[str, Any]:
        """The reference section, the script's text or the file's bytes, and the tile's grid."""
        source = self.reference.source
        said = self.reference.model_dump(mode="json", exclude={"nodata": True, "source": {"evalscript"}})
        for key in LATER_KEYS:
            if key in type(source).model_fields and getattr(source, key) == type(source).model_fields[key].default:
                del said["source"][key]
        bytes_of = {} if isinstance(source, CollectionReference) else {"file": _digest(self.files.path(source.file))}
        return {
            "reference": said,
            "nodata": repr(self.reference.nodata),
            "evalscript": self.evalscript,
            "tile": tile_settings(tile),
            **bytes_of,
        }

    def check_file(self) -> None:
        """Refuse a file of labels that no tile could use, before anything is paid for. Raises TileError."""
        source = self.reference.source
        if not isinstance(source, CollectionReference):
            check_label_file(self.files.path(source.file), self.reference)

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Write the labels block by block, points as a table too; a tile without any label is empty."""
        told: dict[str, Any] = {}
        result = write_labels(output, tile, self.reference, self._blocks(tile, output, told))
        return StageResult({**result.numbers, **told}, empty=result.empty)

    def _blocks(self, tile: Tile, output: Path, told: dict[str, Any]) -> Blocks:
        """The labels by blocks of rows; `told` is given what else there is to say of them."""
        match self.reference.source:
            case CollectionReference() as source:
                yield from self._from_service(source, tile, told)
            case VectorReference() as source:
                yield from polygon_blocks(self.files.path(source.file), source, self.reference, tile)
            case RasterReference() as source:
                yield from raster_blocks(self.files.path(source.file), source, self.reference, tile)
            case PointsReference() as source:
                points = read_points(self.files.path(source.file), self.reference, tile)
                write_points(output, points)
                told["points"] = len(points.ids)
                yield from point_blocks(points, self.reference, tile)

    def _from_service(self, source: CollectionReference, tile: Tile, told: dict[str, Any]) -> Blocks:
        data = [collection_input(collection, interval) for collection, interval in source.requested]
        bill, (height, width) = _Bill(), tile.shape
        for rows in _spans(height, REQUEST_ROWS):
            started = time.perf_counter()
            parts = [bill.add(self._ask(data, tile, rows, columns)) for columns in _spans(width, MAX_REQUEST_PX)]
            bill.seconds += time.perf_counter() - started
            yield rows, np.concatenate(parts, axis=1)[..., :1]
        told |= bill.numbers()

    def _ask(self, data: list[dict[str, Any]], tile: Tile, rows: slice, columns: slice) -> ProcessAnswer:
        """One window: whole pixels of the tile's own grid, so that the service renders it as part of the whole."""
        assert self.service is not None
        size = rows.stop - rows.start, columns.stop - columns.start
        return self.service.process(data, self.evalscript, window_bounds(tile, rows, columns), tile.epsg, size)


def write_labels(output: Path, tile: Tile, reference: Reference, blocks: Blocks) -> StageResult:
    """Write a tile's labels from blocks of rows (rows, x, 1); without any label the tile is empty."""
    write_header(output, tile)
    array = create_array(output, DATA_TIMELESS, reference.name, (*tile.shape, 1), reference.dtype)
    picture, known = Thumbnail(tile.shape), 0
    for rows, values in blocks:
        block = checked(values, reference, tile)
        array[rows] = block
        known += int(labelled(block, reference.nodata).sum())
        picture.add(rows, block)
    write_values(output, picture.values()[..., 0], reference.nodata)
    numbers = {"labelled_share": round(known / (tile.shape[0] * tile.shape[1]), 4), "labelled_pixels": known}
    return StageResult(numbers, empty=None if known else "no pixel has a label")


@dataclass(slots=True)
class _Bill:
    """What the requests of a tile cost together, as far as the service tells."""

    units: float | None = 0.0
    calls: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, answer: ProcessAnswer) -> NDArray[Any]:
        """Take an answer's cost and hand on its values. One window untold leaves the whole sum untold."""
        if self.units is not None:
            self.units = None if answer.processing_units is None else self.units + answer.processing_units
        for name, count in answer.calls.items():
            self.calls[name] = round(self.calls.get(name, 0) + count, 3)
        return answer.values

    def numbers(self) -> dict[str, Any]:
        """For the stage's record."""
        units = NOT_TOLD if self.units is None else round(self.units, 4)
        rate = self.calls.get("requests", 0) / self.seconds if self.seconds else 0.0
        return {"processing_units": units, **self.calls, "requests_per_second": round(rate, 3)}


def _digest(path: Path) -> str:
    """The checksum of a label file; of all its parts where it is a shapefile, whose values lie in its `.dbf`."""
    if not path.is_file():
        raise TileError(f"reference.source.file: {path} does not exist; put the labels there, or name another file")
    if path.suffix.lower() != ".shp":
        return file_checksum(path)
    parts = sorted(part for part in path.parent.iterdir() if part.stem == path.stem and part.is_file())
    return fingerprint({part.name: file_checksum(part) for part in parts})


def collection_input(collection: Collection, time_interval: tuple[Any, Any] | None) -> dict[str, Any]:
    """The `input.data` entry of a collection of the project file."""
    return input_data(
        collection.collection,
        datasource=collection.id,
        time_interval=None if time_interval is None else (time_interval[0].isoformat(), time_interval[1].isoformat()),
        mosaicking_order=collection.mosaicking_order,
        max_cloud_cover=collection.max_cloud_cover,
        upsampling=collection.upsampling,
        downsampling=collection.downsampling,
        harmonize_values=collection.harmonize_values,
    )


def window_bounds(tile: Tile, rows: slice, columns: slice) -> Bounds:
    """The box of a window of a tile's pixels."""
    left, _, _, top = tile.bounds
    size = tile.resolution
    return Bounds(
        left + columns.start * size, top - rows.stop * size, left + columns.stop * size, top - rows.start * size
    )


def _spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
