"""The project file's sections about what comes out: samples, model, predictions, maps, the published collection."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from eo_assets.project_types import ArrayType, BlockSize, Name, Section, Time

_COLLECTION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_WORDS = (
    "await break case catch class const continue debugger default delete do else enum export extends false finally for "
    "function if implements import in instanceof interface let new null package private protected public return static "
    "super switch this throw true try typeof var void while with yield dataMask"
)
RESERVED = frozenset(_WORDS.split())
"""Words of JavaScript, and the band that every collection has anyway: no names for a band of one's own."""


def _collection_id(value: str) -> str:
    if not _COLLECTION_ID.fullmatch(value):
        raise ValueError("not the id of a collection: write it as the service shows it, without byoc- in front")
    return value


def _usable_in_scripts(value: str) -> str:
    if value in RESERVED:
        raise ValueError("a word that evalscripts reserve: choose another name for the band")
    return value


CollectionId = Annotated[str, AfterValidator(_collection_id)]
BandName = Annotated[Name, AfterValidator(_usable_in_scripts)]


class Sampling(Section):
    """Random blocks of labelled, valid pixels a tile: `block_size` is (y, x) pixels, [1, 1] samples single pixels."""

    block_size: BlockSize = (1, 1)
    number: PositiveInt | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int = 42
    tiles: Literal["all", "labelled"] | tuple[str, ...] = "all"

    @model_validator(mode="after")
    def _one_amount(self) -> Sampling:
        if self.number is not None and self.fraction is not None:
            raise ValueError(
                "not exactly one of number and fraction: give blocks a tile or their share, null the other"
            )
        return self


class Split(Section):
    """How samples are set aside for scoring: whole ground blocks of `block_px` pixels, none in both sets."""

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.8
    block_px: PositiveInt = 64
    seed: int = 42


class ModelOfProject(Section):
    """The model that another project has trained: last year's, for this year's map."""

    project: str = Field(min_length=1, description="a project file, relative to the file that names it, or a name")


class Model(Section):
    """The model: trained here, another project's, or a LightGBM file with its signature beside it."""

    source: str | ModelOfProject = Field("train", description="`train`, a file under the project folder, or a project")
    kind: Literal["lightgbm_regressor", "lightgbm_classifier"] = "lightgbm_regressor"
    parameters: Mapping[str, bool | int | float | str] = Field({})
    split: Split = Split()

    @property
    def trained_here(self) -> bool:
        """Is it trained on this project's own samples?"""
        return self.source == "train"


class Predictions(Section):
    """What a tile's prediction is stored as. Invalid pixels hold `nodata`."""

    name: Name
    clip: tuple[float, float] | None = None
    dtype: ArrayType = "float32"
    nodata: float = math.nan
    all_probabilities: bool = False


class CogSettings(Section):
    """Options of the Cloud Optimized GeoTIFF."""

    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
    blocksize: Literal[256, 512, 1024] = 512
    overview_resampling: Literal["nearest", "average", "mode"] = "nearest"


class Maps(Section):
    """One file a zone: `utm<EPSG>_<name>.tiff`.

    `min_coverage` is the share of a zone's tiles that must have a prediction, or be empty, for a map to be made. Half
    by default: one tile that fails never sinks a map, not even of a zone of two, and a map that is more hole than map,
    of a run that was broken off, is not made and published unasked. `min_observations`: pixels with fewer clear
    observations over all periods are nodata; for features with a composite.
    """

    name: Name = "result"
    dtype: Literal["uint8", "uint16", "int16", "int32", "float32"]
    nodata: float
    rounding: Literal["nearest", "truncate"] = "nearest"
    cog: CogSettings = CogSettings()
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.5
    min_observations: PositiveInt | None = None


class Byoc(Section):
    """The published collection. Its one band has type and nodata of the maps."""

    collection_name: str = Field(min_length=1)
    collection_id: CollectionId | None = Field(None, description="of a collection that exists, used whatever its name")
    service: str
    sensing_time: Time
    cover_geometry: Literal["area", "bounds"] = "area"
    band_name: BandName | None = None
    delete_vanished: bool = False
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    timeout_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
