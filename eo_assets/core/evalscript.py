"""What an evalscript says about itself: the answer of its `setup()`, as plain values.

The format is Sentinel Hub's evalscript V3. Whoever runs `setup()` fills these in; the project file is checked against
them before anything is requested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SAMPLE_TYPES: Mapping[str, str] = {
    "AUTO": "uint8",
    "UINT8": "uint8",
    "INT8": "int8",
    "UINT16": "uint16",
    "INT16": "int16",
    "FLOAT32": "float32",
}
"""Sample types of evalscript V3, and the array type that each is delivered in."""

DATA_MASK = "dataMask"
"""The input band that every collection has: where there is data."""


@dataclass(frozen=True, slots=True)
class ScriptInput:
    """Bands taken from one data source.

    `datasource` is None where the script has only one and leaves it unnamed; `units` has one entry a band, None for the
    collection's default, or is None altogether.
    """

    datasource: str | None
    bands: tuple[str, ...]
    units: tuple[str | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScriptOutput:
    """One file of the answer. `bands` is what `setup()` says; `updateOutput` may change it once the scenes are known.

    `nodata` is the declared nodataValue, None where there is none.
    """

    id: str
    bands: int
    sample_type: str = "AUTO"
    nodata: float | None = None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of the output's pixels."""
        return np.dtype(SAMPLE_TYPES[self.sample_type])


@dataclass(frozen=True, slots=True)
class ScriptSetup:
    """Inputs, outputs and mosaicking (`SIMPLE` or `ORBIT`) of an evalscript."""

    inputs: tuple[ScriptInput, ...]
    outputs: tuple[ScriptOutput, ...]
    mosaicking: str = "SIMPLE"

    @property
    def fusion(self) -> bool:
        """Whether samples are grouped by data source: the script names at least one."""
        return any(source.datasource is not None for source in self.inputs)

    @property
    def bands(self) -> int:
        """How many input bands are charged for: `dataMask` is not, unless nothing else is read."""
        return max(1, sum(band != DATA_MASK for source in self.inputs for band in source.bands))

    @property
    def float32(self) -> bool:
        """Whether an output has 32 bits, which doubles the price."""
        return any(output.sample_type == "FLOAT32" for output in self.outputs)
