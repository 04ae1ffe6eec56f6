"""The project file as frozen pydantic models: what a map is made of, typed once, at the edge.

Only shapes, types and ranges live here and in the modules of its larger sections: `project_imagery.py` for what goes
in, `project_eopatches.py` for what is made of it first, `project_outputs.py` for what comes out, `project_storage.py`
for where it lies, `project_types.py` for what they are made of. Import them all from here.
`project_file.py` reads, extends and checks a file; the stages take their slice of these models as their recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from eo_assets.core.evalscript import ScriptSetup
from eo_assets.project_cluster import Cluster, Head, HourlyPrice, Workers
from eo_assets.project_eopatches import BandStack, EOPatches, ValidMask
from eo_assets.project_execution import Execution
from eo_assets.project_imagery import (
    SERVICES,
    Collection,
    CollectionReference,
    Composite,
    ExcludedDate,
    Features,
    FusedCollection,
    Gaps,
    Imagery,
    PointsReference,
    RasterReference,
    Reference,
    Service,
    VectorReference,
    service_named,
)
from eo_assets.project_outputs import (
    Byoc,
    CogSettings,
    Maps,
    Model,
    ModelOfProject,
    Predictions,
    Sampling,
    Split,
)
from eo_assets.project_retention import Prices, Retention, Rule
from eo_assets.project_storage import Folders, S3Settings, Storage
from eo_assets.project_types import Buffer, Cron, Name, Section

__all__ = [
    "SERVICES",
    "Area",
    "Automation",
    "BandStack",
    "Budget",
    "Byoc",
    "Cluster",
    "CogSettings",
    "Collection",
    "CollectionReference",
    "Composite",
    "CustomGridSettings",
    "EOPatches",
    "ExcludedDate",
    "Execution",
    "Features",
    "Folders",
    "FusedCollection",
    "Gaps",
    "GridSettings",
    "Head",
    "HourlyPrice",
    "Imagery",
    "LoadedProject",
    "Logging",
    "Maps",
    "Model",
    "ModelHome",
    "ModelOfProject",
    "PointsReference",
    "Predictions",
    "Prices",
    "Project",
    "RasterReference",
    "Reference",
    "Retention",
    "Rule",
    "S3Settings",
    "Sampling",
    "Section",
    "SensorSettings",
    "SentinelHubGridSettings",
    "Service",
    "Split",
    "Storage",
    "UtmGridSettings",
    "ValidMask",
    "VectorReference",
    "Workers",
    "service_named",
]


class SentinelHubGridSettings(Section):
    """One of Sentinel Hub's batch tiling grids: 0 (20 km), 1 (10 km), 2 (100 km), 3 (1 degree)."""

    kind: Literal["sentinel_hub"]
    id: Literal[0, 1, 2, 3]


class UtmGridSettings(Section):
    """Square tiles of any size in metres on a global lattice, one a UTM zone."""

    kind: Literal["utm"]
    tile_size_m: PositiveFloat


class CustomGridSettings(Section):
    """The cells of a GeoPackage under input-data, all its layers, names and boxes as given."""

    kind: Literal["custom"]
    file: str
    identifier: str = "identifier"


GridSettings = Annotated[SentinelHubGridSettings | UtmGridSettings | CustomGridSettings, Field(discriminator="kind")]


class Area(Section):
    """The area of interest and how it is cut: files under input-data, grid, pixel size, buffer in pixels (y, x)."""

    files: str = Field("*.geojson", min_length=1)
    grid: GridSettings
    resolution: PositiveFloat
    buffer: Buffer = (0, 0)


class Budget(Section):
    """What may be spent: processing units a calendar month (UTC), and whether a person has to approve them first.

    `max_machine_usd`: US dollars a calendar month (UTC) for the machines of a `cluster:`, by its prices.
    """

    max_processing_units: PositiveFloat | None = None
    max_machine_usd: PositiveFloat | None = None
    require_approval: bool = False


class SensorSettings(Section):
    """Vector files that are put under input-data start by themselves: looked for every so many seconds.

    `auto_spend_up_to`: the processing units of a calendar month (UTC) that may be spent without anybody's approval.
    """

    enabled: bool = False
    auto_spend_up_to: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    seconds: Annotated[int, Field(ge=1, le=86400)] = 30


class Automation(Section):
    """What Dagster's daemon starts by itself: new tiles through the graph, predictions of a new model, failed tiles.

    Unless said, `enabled` is what sensor.enabled is: an uploaded area goes through the whole graph. A tile that has
    failed is tried again by `retry_failed` alone: a cron schedule (UTC), by default never. Runs that ended more than
    `keep_runs_days` days ago are deleted from Dagster, but for those that it tells the state of an asset by.
    """

    enabled: bool | None = None
    predict_on_new_model: bool = False
    retry_failed: Cron | None = None
    keep_runs_days: Annotated[int, Field(ge=1, le=36500)] | None = None


class Logging(Section):
    """A log file a run under logs/, and what is shown while it runs."""

    save: bool = True
    show: bool = True


class Project(Section):
    """One map: its name, its year and everything that makes it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    year: Annotated[int, Field(ge=1972, le=2100)]
    description: str = ""
    sources: tuple[str, ...] = Field((), description="credits and licences, copied into every map")
    storage: Storage
    area: Area
    services: Mapping[Name, Service] = Field({})
    imagery: Imagery
    eopatches: EOPatches
    features: Features = Features()
    reference: Reference
    sampling: Sampling
    model: Model = Model()
    predictions: Predictions
    maps: Maps
    byoc: Byoc
    budget: Budget = Budget()
    automation: Automation = Automation()
    execution: Execution = Execution()
    cluster: Cluster | None = Field(None, description="Ray on EC2, for `eo-assets cluster` and `run --ray ec2`")
    sensor: SensorSettings = SensorSettings()
    logging: Logging = Logging()

    def folder(self, stage: str) -> str:
        """The stage's folder, relative to the project folder."""
        template: str = getattr(self.storage.structure, stage)
        return template.replace("{year}", str(self.year))

    def service(self, name: str) -> Service:
        """A deployment by name: what the project says of it, over what is known of it."""
        return service_named(self.services, name)


class ModelHome(Section):
    """Where another project keeps its model: read from its file, never written to."""

    project: str = Field(description="its name")
    year: int
    file: Path
    project_folder: str
    s3: S3Settings = S3Settings()
    folder: str = Field(description="of its models, relative to its project folder")


class LoadedProject(Section):
    """A checked project: where it was read from, its resolved project folder, and the texts of its evalscripts."""

    project: Project
    file: Path
    project_folder: str = Field(description="absolute local path, or s3://bucket/prefix")
    evalscripts: Mapping[str, str] = Field(description="file name as written in the project file -> text")
    setups: Mapping[str, ScriptSetup] = Field({}, description="the same file name -> what its `setup()` says, if asked")
    model_home: ModelHome | None = Field(None, description="of the project that model.source names")
