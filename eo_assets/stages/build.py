"""A checked project as the values that run it: its store, its services, its walk of tile stages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from eo_assets.errors import ProjectError, TileError
from eo_assets.project import CollectionReference, Folders, LoadedProject, S3Settings, Service
from eo_assets.project_paid import paid_requests
from eo_assets.project_periods import delivered_frames, project_periods
from eo_assets.stages.eopatches import EOPatchesStage
from eo_assets.stages.features import FeaturesStage
from eo_assets.stages.predictions import PredictionsStage
from eo_assets.stages.reference import ReferenceStage
from eo_assets.stages.samples import Samples
from eo_assets.stages.signature import expected_signature
from eo_assets.stages.tiffs import Tiffs
from eo_assets.stages.walk import Walk
from resources.deployments import LOCAL_PACE, REMOTE_PACE, Delivery, Pace
from resources.input_files import InputFiles
from resources.local_folder import LocalFolder
from resources.object_store import ObjectStore
from resources.s3_access import S3Access
from resources.sentinel_hub import LocalDeployment, SentinelHub
from resources.stores import open_store
from resources.tile_store import TileStore
from resources.workspaces import machine_folder

TILE_STAGES = ("tiffs", "reference", "eopatches", "features", "samples", "predictions")
"""The tile stages in the order of a walk; the first five come before the model."""

NO_STAGES = frozenset({"input_data", "logs", "spending"})
"""Folders of storage.structure that no stage commits to."""

SERVICE_FOLDER = "sentinel-hub"
FIRST_LOOK_S = 10.0


def tile_store(loaded: LoadedProject) -> TileStore:
    """The committed outputs of a project, each stage in its own folder."""
    project = loaded.project
    folders = {stage: project.folder(stage) for stage in Folders.model_fields if stage not in NO_STAGES}
    cache = folders.pop("cache")
    folders |= {asset: f"{cache}/{asset}" for asset in ("aoi", "tile_grid", "cost_estimate")}
    # The area, its grid and the labels may serve several years; everything else is one year's and must stay apart.
    by_year = folders.keys() - {"aoi", "tile_grid", "cost_estimate", "reference"}
    owners = dict.fromkeys(by_year, f"{project.name} {project.year}")
    return TileStore(project_store(loaded), project.name, folders, owners)


def project_store(loaded: LoadedProject) -> ObjectStore:
    """The project folder as an object store."""
    return open_store(loaded.project_folder, s3_access(loaded.project.storage.s3))


def check_reachable(loaded: LoadedProject) -> None:
    """Look into a project's bucket, without the patience of a run: a wrong address or key is told at once.

    Raises StorageRefused or TransientError.
    """
    if in_bucket(loaded):
        access = s3_access(loaded.project.storage.s3)
        open_store(loaded.project_folder, access, patience_s=FIRST_LOOK_S).folders("")


def in_bucket(loaded: LoadedProject) -> bool:
    """Is the project folder a prefix of a bucket?"""
    return "://" in loaded.project_folder


def machine_home(loaded: LoadedProject) -> Path:
    """Where a project keeps what does not lie in a bucket."""
    return machine_folder(loaded.project_folder, s3_access(loaded.project.storage.s3))


def s3_access(settings: S3Settings) -> S3Access:
    """How a bucket is reached, as the project file says."""
    return S3Access(settings.endpoint, settings.region, settings.profile, settings.addressing)


def input_files(loaded: LoadedProject) -> InputFiles:
    """The project's own files."""
    return InputFiles(project_store(loaded), loaded.project.folder("input_data"))


def beside_project_file(loaded: LoadedProject) -> InputFiles:
    """Where the area's files are looked for next: a project file may bring them."""
    return InputFiles(LocalFolder(loaded.file.parent), "input-data")


def sentinel_hub(loaded: LoadedProject, name: str) -> SentinelHub:
    """A handle on a deployment that the project names."""
    service = loaded.project.service(name)
    common: dict[str, Any] = {
        "unit": service.processing_unit,
        "credentials": service.credentials,
        "own_pace": _pace(service),
    }
    if not service.local:
        bucket = loaded.project_folder if in_bucket(loaded) else None
        delivery = Delivery(service.delivery or "role", bucket, service.iam_role_arn, service.bucket_region)
        return SentinelHub(name, service.base_url, service.token_url, delivery=delivery, **common)
    root = machine_home(loaded)
    collections = collections_file(loaded, service.collections) if service.collections else None
    state = root / SERVICE_FOLDER
    if not in_bucket(loaded):
        return SentinelHub(name, local=LocalDeployment(state, collections, root), **common)
    access = s3_access(loaded.project.storage.s3)
    delivery = Delivery("folder", loaded.project_folder)
    return SentinelHub(name, local=LocalDeployment(state, collections, None, access), delivery=delivery, **common)


def collections_file(loaded: LoadedProject, name: str) -> Path:
    """A local service's collections: in the project folder; of a project in a bucket beside the project file, or else
    where the project keeps what stays on this machine."""
    kept, beside = machine_home(loaded) / name, loaded.file.parent / name
    return beside if in_bucket(loaded) and (beside.is_file() or not kept.is_file()) else kept


def _pace(service: Service) -> Pace:
    """How fast the deployment is asked: as the project file says, else as its kind is."""
    said = {name: getattr(service, name) for name in ("max_process_requests", "poll_seconds", "analysis_poll_seconds")}
    given = {name: value for name, value in said.items() if value is not None}
    return replace(LOCAL_PACE if service.local else REMOTE_PACE, **given)


def tile_walk(
    loaded: LoadedProject, *, rebuy: Collection[str] = (), wanted_again: Collection[tuple[str, str]] = ()
) -> Walk:
    """The project's tile stages in order, over its store. `rebuy`: tiles whose stale imagery is bought again;
    `wanted_again`: retired outputs, (stage, tile), that are made again."""
    project = loaded.project
    frames, periods = delivered_frames(project), project_periods(project)
    dates = len(periods) or frames
    features = FeaturesStage(project.features, project.eopatches, frames, periods)
    stages = (
        Tiffs(
            project.imagery,
            loaded.evalscripts[project.imagery.evalscript],
            periods if project.imagery.composite_in_evalscript else (),
        ),
        _reference(loaded),
        EOPatchesStage(project.imagery, project.eopatches),
        features,
        Samples(project.sampling, project.reference, dates, len(features.plan.names)),
        PredictionsStage(project.predictions, features.plan.names, dates, expected_signature(project), periods),
    )
    prices = {stage: kind for stage, (_, kind) in paid_requests(loaded).items()}
    return Walk(stages, tile_store(loaded), frozenset(rebuy), frozenset(wanted_again), prices)


def check_labels(loaded: LoadedProject) -> None:
    """Refuse a file of labels that no tile could use, before anything is paid for. Raises ProjectError."""
    try:
        _reference(loaded).check_file()
    except TileError as error:
        raise ProjectError(f"{loaded.file}: reference.source: {error}") from None


def _reference(loaded: LoadedProject) -> ReferenceStage:
    reference = loaded.project.reference
    if isinstance(reference.source, CollectionReference):
        service = sentinel_hub(loaded, reference.source.service)
        return ReferenceStage(reference, input_files(loaded), service, loaded.evalscripts[reference.source.evalscript])
    return ReferenceStage(reference, input_files(loaded), None, "")
