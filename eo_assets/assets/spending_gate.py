"""May paid stages start by themselves? What a project lacks that has to be bought, beside what was allowed.

Only what starts by itself asks: a person who launches a run has decided, within the budget and the approvals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from eo_assets.assets.area import tiles_of
from eo_assets.assets.imagery import project_ledger, unplaced
from eo_assets.assets.quotes import Quote, paid_requests, quote
from eo_assets.assets.reused_model import model_problem
from eo_assets.assets.tile_run import plan_tiles
from eo_assets.core.spendings import Month
from eo_assets.errors import EoAssetsError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store, tile_walk
from resources.spending import ROUNDING, Ledger

PAID = ("tiffs", "reference")


@dataclass(frozen=True, slots=True)
class SpendingVerdict:
    """May what has to be bought be bought unasked, why or why not, and how many processing units it is about."""

    allowed: bool
    told: str
    units: float = 0.0


def spending_verdict(loaded: LoadedProject) -> SpendingVerdict:
    """Judge what the committed tiles still have to buy. Asks no service, reads no pixel."""
    budget, costly = loaded.project.budget, paid_services(loaded)
    if problem := model_problem(loaded):
        return SpendingVerdict(False, f"nothing is bought unasked: {problem}")
    if not costly and not budget.require_approval and budget.max_processing_units is None:
        return SpendingVerdict(True, "the services that this project asks cost nothing")
    try:
        return _judge(loaded, project_ledger(loaded), missing_quote(loaded), costly)
    except EoAssetsError as error:
        return SpendingVerdict(False, f"nothing is bought unasked: {error}")


def paid_services(loaded: LoadedProject) -> set[str]:
    """The services that the project asks and that cost something: all but local ones."""
    names = {service for service, _ in paid_requests(loaded).values()}
    return {name for name in names if not loaded.project.service(name).local}


def missing_quote(loaded: LoadedProject) -> Quote:
    """What the committed tiles would cost that are not bought yet and that no order covers."""
    walk = tile_walk(loaded)
    tiles = tiles_of(walk.store)
    imagery, labels = (plan_tiles(walk, tiles, [stage]) for stage in PAID)
    # Labels are for training: where another project has trained the model, nothing asks for any by itself.
    wanted = labels.ready if loaded.project.model.trained_here else ()
    return quote(loaded, {"tiffs": unplaced(walk, imagery), "reference": wanted})


def _judge(loaded: LoadedProject, ledger: Ledger, missing: Quote, costly: set[str]) -> SpendingVerdict:
    units = sum(line.units for line in missing.lines if line.service in costly)
    if missing.total <= 0:
        return SpendingVerdict(True, "nothing has to be bought")
    tiles = max(line.tiles for line in missing.lines)
    ledger.require(missing.total, f"what starts by itself ({tiles} tiles)")
    if units <= 0:
        return SpendingVerdict(True, f"{tiles} tiles are made by services that cost nothing")
    month, limit = ledger.months().get(ledger.month(), Month()), loaded.project.sensor.auto_spend_up_to
    spent = month.unapproved(costly)
    if spent + units <= limit + ROUNDING:
        return SpendingVerdict(True, f"about {units:,.1f} of sensor.auto_spend_up_to: {limit:g} units", units)
    if month.allowed(costly) + ROUNDING >= units:
        return SpendingVerdict(True, f"an approval covers about {units:,.1f} units", units)
    before = f", of which {spent:,.1f} are spent in {ledger.month()}" if spent and limit else ""
    return SpendingVerdict(
        False,
        f"{tiles} tiles wait: they would cost about {units:,.1f} processing units, and sensor.auto_spend_up_to is "
        f"{limit:g}{before}. Let them start: `eo-assets approve {loaded.file} --units {math.ceil(units)}`; or start "
        f"them yourself: `eo-assets run {loaded.file}`",
        units,
    )


def verdict_depends_on(loaded: LoadedProject) -> object:
    """A JSON value that changes whenever the verdict may: tiles, what is spent, approved and allowed."""
    store, ledger = tile_store(loaded), project_ledger(loaded)
    grid = store.record("tile_grid", "tile_grid")
    months = ledger.months()
    return [
        grid.attempt if grid else "",
        ledger.month(),
        months[ledger.month()].as_json() if ledger.month() in months else None,
        loaded.project.budget.model_dump(mode="json"),
        loaded.project.sensor.model_dump(mode="json"),
        sorted(paid_services(loaded)),
        model_problem(loaded),
    ]
