"""One run over many tiles, as the driver sees it: who needs work, who needs imagery, what became of whom.

Holds no pixels and knows no Dagster. A generator: outcomes come one by one as tiles finish.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from eo_assets.core.tile import Tile
from eo_assets.errors import EoAssetsError
from eo_assets.project import LoadedProject
from eo_assets.stages.tile_states import with_inputs
from eo_assets.stages.walk import StageOutcome, TileWork, Walk
from resources.batch_desk import Delivery
from resources.ray_cluster import Finished, TaskLimits, WorkerNeeds

Work = Iterator[TileWork | None]
Walked = Finished[TileWork, tuple[StageOutcome, ...]]
MapTiles = Callable[[Walk, Work, Callable[[TileWork], WorkerNeeds]], Generator[Walked | None]]


@dataclass(frozen=True, slots=True)
class TilePlan:
    """What a run has to do: tiles that are up to date, tiles that need a worker, tiles that need imagery first.

    `recipes` are those that the tiffs of tiles to order are wanted with. `made_again` are the stages whose retired
    outputs are needed once more, by tile.
    """

    known: tuple[Tile, ...]
    ready: tuple[Tile, ...]
    to_order: tuple[Tile, ...]
    recipes: Mapping[str, str] = field(default_factory=dict)
    made_again: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


OrderImagery = Callable[[TilePlan], Iterator[Delivery | None]]


def plan_tiles(walk: Walk, tiles: Iterable[Tile], stages: Sequence[str]) -> TilePlan:
    """Sort the tiles of a run by their commit records alone; no pixel is read."""
    known: list[Tile] = []
    ready: list[Tile] = []
    to_order: list[Tile] = []
    recipes: dict[str, str] = {}
    made_again: dict[str, tuple[str, ...]] = {}
    for tile, found in walk.survey(with_inputs(walk, stages), tiles):
        states = [found[stage.name] for stage in walk.selected(stages)]
        if again := walk.remade({state.stage: state for state in states}, found):
            made_again[tile.name] = tuple(record.stage for record in again)
        if all(state.good for state in states):
            known.append(tile)
        # A tile whose record can't be read is not missing: it is told as failed, never bought a second time.
        elif recipe := next((s.recipe for s in states if s.stage == "tiffs" and not s.good), ""):
            to_order.append(tile)
            recipes[tile.name] = recipe
        else:
            ready.append(tile)
    return TilePlan(tuple(known), tuple(ready), tuple(to_order), recipes, made_again)


def run_tiles(
    walk: Walk, plan: TilePlan, stages: Sequence[str], map_tiles: MapTiles, order: OrderImagery
) -> Generator[StageOutcome | None]:
    """Carry out a plan; yields every (stage, tile) outcome once, and None whenever time passes without one.

    Closing it stops what is in flight.
    """
    yield from known_outcomes(walk, plan, stages)
    undelivered: dict[str, str] = {}
    store = _StoreWatch()
    work = store.while_writable(_work(plan, stages, order, undelivered))

    def needed(item: TileWork) -> WorkerNeeds:
        return needs(walk, item, plan.made_again.get(item.tile.name, ()))

    with closing(map_tiles(walk, work, needed)) as walked:
        for finished in walked:
            if finished is None:
                yield None
                continue
            tile = finished.work.tile
            if tile.name in undelivered and "tiffs" in stages:
                yield StageOutcome("tiffs", tile.name, "failed", undelivered[tile.name])
            yield from store.watch(finished.result if finished.result is not None else _after_loss(walk, finished))
    yield from store.not_begun(walk, plan, stages)


class _StoreWatch:
    """Ends a run whose store can't be written any more: the next tile would fail as the last one did.

    What the service is making meanwhile is not lost, a later run takes it up.
    """

    def __init__(self) -> None:
        self._refusal = ""
        self._begun: set[str] = set()

    def watch(self, outcomes: Iterable[StageOutcome]) -> Iterator[StageOutcome]:
        """Hand on outcomes, and learn from them."""
        for outcome in outcomes:
            self._refusal = outcome.reason if outcome.refused else self._refusal
            yield outcome

    def while_writable(self, work: Work) -> Work:
        """Hand on work until the store refuses."""
        for item in work:
            if self._refusal:
                return
            self._begun.update([item.tile.name] if item is not None else [])
            yield item

    def not_begun(self, walk: Walk, plan: TilePlan, stages: Sequence[str]) -> Iterator[StageOutcome]:
        """What is known of the tiles that nobody tried, if there are any."""
        left = [tile for tile in (*plan.to_order, *plan.ready) if tile.name not in self._begun]
        for tile, states in walk.survey(stages, left) if self._refusal else ():
            for stage, state in states.items():
                yield state if state.good else StageOutcome(stage, tile.name, "blocked", f"not tried: {self._refusal}")


def task_limits(loaded: LoadedProject) -> TaskLimits:
    """How often and how long a project's tiles are tried."""
    said = loaded.project.execution
    return TaskLimits(tries=said.tries, timeout_s=60 * said.tile_timeout_minutes)


def known_outcomes(walk: Walk, plan: TilePlan, stages: Sequence[str]) -> Iterator[StageOutcome]:
    """What is known already of the tiles that have nothing to do; read anew, so that a driver never holds it all."""
    for _, states in walk.survey(stages, plan.known):
        yield from states.values()


def needs(walk: Walk, work: TileWork, made_again: Sequence[str] = ()) -> WorkerNeeds:
    """The CPUs and memory of the hungriest stage of a tile's walk, those that it makes again among them."""
    stages = walk.selected([*work.stages, *made_again])
    if not stages:
        return WorkerNeeds(0.0)
    cpus, cpus_of = max((stage.cpus, stage.name) for stage in stages)
    memory, memory_of = max((stage.memory_bytes(work.tile), stage.name) for stage in stages)
    return WorkerNeeds(cpus, memory, cpus_of, memory_of)


def _work(plan: TilePlan, stages: Sequence[str], order: OrderImagery, undelivered: dict[str, str]) -> Work:
    """Tiles as they can be worked on: those that are ready while the service is busy with the others."""
    ready = iter(plan.ready)
    waiting = {tile.name: tile for tile in plan.to_order}
    without_tiffs = tuple(stage for stage in stages if stage != "tiffs")
    try:
        for delivery in order(plan) if plan.to_order else ():
            if delivery is None:
                tile = next(ready, None)
                yield None if tile is None else TileWork(tile, tuple(stages))
                continue
            del waiting[delivery.tile.name]
            if delivery.folder is None and delivery.error is None:
                yield TileWork(delivery.tile, tuple(stages))  # somebody else has committed it meanwhile
            elif delivery.folder is None:
                undelivered[delivery.tile.name] = delivery.error or "not delivered"
                yield TileWork(delivery.tile, without_tiffs)
            else:
                yield TileWork(delivery.tile, tuple(stages), delivery.folder)
    except EoAssetsError as error:
        # The order as a whole failed: what it concerns is told tile by tile, everything else goes on.
        undelivered.update(dict.fromkeys(waiting, str(error)))
        yield from (TileWork(tile, without_tiffs) for tile in waiting.values())
    yield from (TileWork(tile, tuple(stages)) for tile in ready)


def _after_loss(walk: Walk, finished: Walked) -> Iterator[StageOutcome]:
    """What the commit records say of a tile whose worker never answered: the first stage without output has failed."""
    lost = False
    for stage in walk.selected(finished.work.stages):
        state = walk.state(stage, finished.work.tile)
        if state.good:
            yield state
        elif lost or state.status == "blocked":
            yield StageOutcome(stage.name, finished.work.tile.name, "blocked", f"waits: {finished.error}")
        else:
            lost = True
            yield StageOutcome(stage.name, finished.work.tile.name, "failed", finished.error)
