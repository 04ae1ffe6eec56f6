"""What is checked on the area: that its files can be read, and that what starts by itself may spend what it has to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (  # the type of a public parameter
    AssetCheckEvaluationTargetMaterializationData,
)

from eo_assets.assets.area_files import FoundArea, Unreadable
from eo_assets.assets.spending_gate import SpendingVerdict
from eo_assets.errors import AreaError

READABLE, SPENDING = "readable_files", "spending_allowed"


def readable_files_spec(project: str) -> dg.AssetCheckSpec:
    """`aoi: readable_files`. It blocks nothing: the files that can be read are mapped."""
    return dg.AssetCheckSpec(READABLE, asset=[project, "aoi"], description="Can every file of the area be used?")


def spending_allowed_spec(project: str) -> dg.AssetCheckSpec:
    """`tile_grid: spending_allowed`. What starts by itself waits for it, a run that a person launches does not.

    Failing, it warns only: as an error it would fail the very run that makes the grid and the estimate.
    """
    return dg.AssetCheckSpec(
        SPENDING,
        asset=[project, "tile_grid"],
        blocking=True,
        description="May the tiles that are missing be bought without anybody's asking?",
    )


def readable_files(found: FoundArea) -> dg.AssetCheckResult:
    """The check's result for an area that was found."""
    return dg.AssetCheckResult(
        check_name=READABLE, passed=not found.unreadable, metadata=_of_files(found.unreadable), description=_said(found)
    )


def no_readable_files(error: AreaError) -> dg.AssetCheckResult:
    """The check's result where no file can be used."""
    return dg.AssetCheckResult(check_name=READABLE, passed=False, description=str(error))


def readable_files_event(project: str, unreadable: Sequence[Unreadable]) -> dg.AssetCheckEvaluation:
    """The same check outside of a run."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([project, "aoi"]),
        check_name=READABLE,
        passed=not unreadable,
        metadata=_of_files(unreadable),
        description="; ".join(map(str, unreadable)) or "every file can be used",
    )


def spending_allowed(verdict: SpendingVerdict) -> dg.AssetCheckResult:
    """The check's result inside of the run that makes the grid."""
    return dg.AssetCheckResult(
        check_name=SPENDING,
        passed=verdict.allowed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"processing_units": round(verdict.units, 2)},
        description=verdict.told,
    )


def spending_allowed_event(
    instance: dg.DagsterInstance, project: str, verdict: SpendingVerdict
) -> dg.AssetCheckEvaluation:
    """The same check outside of a run: when somebody has approved, or the project file says something else.

    It names the grid that it is about: without that Dagster compares times, by whole seconds and maybe two clocks, and
    what starts by itself would not find it.
    """
    key = dg.AssetKey([project, "tile_grid"])
    grid = next(iter(instance.fetch_materializations(key, limit=1).records), None)
    return dg.AssetCheckEvaluation(
        asset_key=key,
        target_materialization_data=grid
        and AssetCheckEvaluationTargetMaterializationData(
            storage_id=grid.storage_id, run_id=grid.run_id, timestamp=grid.timestamp
        ),
        check_name=SPENDING,
        passed=verdict.allowed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"processing_units": round(verdict.units, 2)},
        description=verdict.told,
        blocking=True,
    )


def _of_files(unreadable: Sequence[Unreadable]) -> dict[str, Any]:
    reasons = {problem.name: str(problem) for problem in unreadable}
    return {"unreadable": dg.MetadataValue.json(reasons)} if reasons else {}


def _said(found: FoundArea) -> str:
    return "; ".join(map(str, found.unreadable)) or f"{len(found.files)} files can be used"
