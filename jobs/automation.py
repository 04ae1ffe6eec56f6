"""What Dagster's daemon starts by itself, by declarative automation: when each asset of a project is asked for.

New tiles flow through the stages; training waits until all tiles have settled, as done or as failed; so do the maps. A
tile that has failed is left to a person or to the schedule of `jobs/schedules.py`, and the area to its sensor. A second
model makes every prediction stale: it is trained only where predictions follow it.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster import AutomationCondition as Condition

from eo_assets.assets.quotes import paid_requests
from eo_assets.project import LoadedProject
from jobs.project_jobs import LAUNCHES

DEEPEST = 4
"""Stages that may lie between a tile's output and the one that failed."""

SAMPLING = frozenset({"reference", "samples"})
"""What only the tiles that a model is trained on need."""

PAID = frozenset({"tiffs", "reference"})


class OfTiles(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of these tiles."""

    def __init__(self, tiles: Sequence[str]) -> None:
        self._tiles = frozenset(tiles)

    @property
    def name(self) -> str:
        """What the UI calls the condition."""
        return f"is one of {len(self._tiles)} sampling tiles"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Those of the candidates that are wanted."""
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection_with_partition_keys(self._tiles)
        )


def automated(loaded: LoadedProject, assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The project's assets with the conditions under which they are asked for."""
    wanted = conditions(loaded)

    def conditioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = wanted.get(spec.key.path[-1])
        return spec if condition is None else spec.replace_attributes(automation_condition=condition)

    return [asset.map_asset_specs(conditioned) for asset in assets]


def automation_sensor(loaded: LoadedProject) -> dg.AutomationConditionSensorDefinition:
    """`<project>_automation`: looks at all conditions every half a minute; stopped unless the project says so."""
    project = loaded.project
    status = dg.DefaultSensorStatus
    said = project.automation.enabled
    enabled = project.sensor.enabled if said is None else said
    return dg.AutomationConditionSensorDefinition(
        f"{project.name}_automation",
        target=dg.AssetSelection.assets(*([project.name, asset] for names in LAUNCHES.values() for asset in names)),
        default_status=status.RUNNING if enabled else status.STOPPED,
        minimum_interval_seconds=30,
        description=f"Starts what is new in {project.name}; a failed tile is not started again by it.",
        # The daemon knows Dagster's own conditions alone; ours are evaluated where the project's code is loaded.
        use_user_code_server=_paid_for(loaded) is not None,
    )


def conditions(loaded: LoadedProject) -> Mapping[str, dg.AutomationCondition]:
    """When each asset is asked for; the area's assets are not among them."""
    sampling = _paid_for(loaded)
    pending = _pending()
    trained_here = loaded.project.model.trained_here
    found: dict[str, dg.AutomationCondition] = {}
    for stage in LAUNCHES["tiles"]:
        if not trained_here and stage in SAMPLING:
            continue
        condition = _new_tile()
        if stage in PAID:
            condition &= Condition.all_deps_blocking_checks_passed()
        found[stage] = condition & OfTiles(sampling) if sampling is not None and stage in SAMPLING else condition
    predictions, training = _new_tile(), _settled(pending if sampling is None else pending & OfTiles(sampling))
    maps = _settled(pending)
    if loaded.project.automation.predict_on_new_model:
        model = dg.AssetSelection.assets([loaded.project.name, "model"])
        predictions |= _new_model(model)
        maps = _after_new_model(maps, model)
    else:
        training &= Condition.missing()
    # A model of another project is taken up once; whether a newer one of it is wanted is for a person to say.
    trained = {"training_data": training, "model": Condition.eager()} if trained_here else {"model": _new_tile()}
    return {
        **found,
        **trained,
        "predictions": predictions,
        "maps": maps,
        "byoc_collection": _settled(pending),
    }


def _paid_for(loaded: LoadedProject) -> tuple[str, ...] | None:
    """The tiles that labels are bought of, where they cost and the project names the tiles to sample; else None.

    Labels that cost nothing are made of every tile: scattered tiles would be a run each.
    """
    tiles, paid = loaded.project.sampling.tiles, paid_requests(loaded).get("reference")
    costs = paid is not None and not loaded.project.service(paid[0]).local
    return tiles if costs and isinstance(tiles, tuple) else None


def _new_tile() -> dg.AutomationCondition:
    """Never made and never asked for, with all that it is made from at hand or asked for along with it.

    Also a tile that was there before anybody looked: `on_missing` would pass over it.
    """
    appeared = Condition.missing().newly_true() | (Condition.initial_evaluation() & Condition.missing())
    handled = Condition.newly_requested() | Condition.newly_updated()
    return (
        appeared.since(handled)
        & ~Condition.any_deps_missing()
        & ~Condition.any_deps_in_progress()
        & ~Condition.in_progress()
        & ~Condition.execution_failed()
    )


def _new_model(model: dg.AssetSelection) -> dg.AutomationCondition:
    """Another model than the one that predictions were asked of last; the same one, trained again, is no other."""
    changed = Condition.any_deps_match(Condition.data_version_changed())
    return (
        changed.allow(model).since(Condition.newly_requested())
        & ~Condition.any_deps_missing()
        & ~Condition.any_deps_in_progress()
        & ~Condition.in_progress()
    )


def _after_new_model(maps: dg.AutomationCondition, model: dg.AssetSelection) -> dg.AutomationCondition:
    """Maps wait while a model is being made, and one look longer: then what it predicts has been asked for."""
    coming = Condition.in_progress() | Condition.newly_updated()
    maps &= ~Condition.any_deps_match(Condition.any_deps_match(coming).allow(model))
    return maps & ~maps.newly_true()


def _pending() -> dg.AutomationCondition:
    """Not made, and nothing that it is made from has failed: it will be made, or is waited for."""
    failed: dg.AutomationCondition = Condition.execution_failed()
    for _ in range(DEEPEST):
        failed = Condition.execution_failed() | Condition.any_deps_match(failed)
    return Condition.missing() & ~failed


def _settled(pending: dg.AutomationCondition) -> dg.AutomationCondition:
    """Something that it is made from is there or new, and nothing of it is being made or still to come."""
    never_made = Condition.missing().newly_true() | (Condition.initial_evaluation() & Condition.missing())
    wanted = Condition.any_deps_updated() | never_made
    return (
        wanted.since(Condition.newly_requested() | Condition.newly_updated())
        & Condition.any_deps_match(~Condition.missing())
        & ~Condition.in_progress()
        & ~Condition.any_deps_in_progress()
        & ~Condition.any_deps_match(Condition.will_be_requested())
        & ~Condition.any_deps_match(pending)
    )
