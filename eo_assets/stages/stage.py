"""What a tile stage is: a small picklable object that the walk hands a tile and its store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from eo_assets.core.tile import Tile
from resources.output_record import OutputRecord

JsonValue = Any


@dataclass(frozen=True, slots=True)
class TileInputs:
    """What a stage reads: each input's record, and the folder that it names."""

    records: Mapping[str, OutputRecord]
    folders: Mapping[str, Path]

    def __getitem__(self, stage: str) -> Path:
        return self.folders[stage]


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage says of the output it wrote: a few numbers, and why it is empty if it is."""

    numbers: Mapping[str, JsonValue] = field(default_factory=dict)
    empty: str | None = None


class TileStage(Protocol):
    """One step of a tile. `inputs` are stages of the same tile; `shared_inputs` have one output for all tiles.

    `paid` outputs are never made again on their own when their recipe changes; `source` outputs hand on the checksum of
    their bytes. `memory_bytes` and `cpus` are what a worker must have for it.
    """

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def shared_inputs(self) -> tuple[str, ...]: ...
    @property
    def code_version(self) -> str: ...
    @property
    def paid(self) -> bool: ...
    @property
    def source(self) -> bool: ...
    @property
    def cpus(self) -> float: ...

    def memory_bytes(self, tile: Tile) -> int: ...

    def settings(self, tile: Tile) -> Mapping[str, JsonValue]:
        """The stage's slice of the project file, and what of the tile counts: the part of the recipe that it owns."""
        ...

    def run(self, tile: Tile, inputs: TileInputs, output: Path) -> StageResult:
        """Write the tile's output into the folder `output`. Raises TileError or TransientError."""
        ...


@runtime_checkable
class SettingsOfInputs(Protocol):
    """A stage some of whose settings only count for tiles with certain inputs."""

    def input_settings(self, tile: Tile, inputs: Mapping[str, OutputRecord]) -> Mapping[str, JsonValue]:
        """What these inputs add to the settings of the tile's recipe; nothing for most."""
        ...
