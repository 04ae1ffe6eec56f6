"""The project file's section about how tiles are worked on: never what comes out of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eo_assets.project_types import Section


class Execution(Section):
    """How long one try of a tile may take on a worker, all its stages together, and how often a tile is tried."""

    tile_timeout_minutes: Annotated[float, Field(ge=0.1, le=7 * 24 * 60)] = 60.0
    tries: Annotated[int, Field(ge=1, le=20)] = 3
