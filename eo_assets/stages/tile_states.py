"""What became of tiles up to one stage, from commit records and what is remembered of failures: no pixel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eo_assets.core.completeness import Completeness, TileState
from eo_assets.core.tile import Tile
from eo_assets.stages.walk import StageOutcome, Walk
from resources.output_record import OutputRecord

Failures = Mapping[str, Mapping[str, str]]


def tile_state(outcome: StageOutcome, failures: Mapping[str, str]) -> str:
    """`done`, `empty`, `kept`, `retired`, `failed`, `stale`, `missing` or `blocked`. `failures` are the stage's."""
    if outcome.good and outcome.record is not None and outcome.record.retired:
        return "retired"
    if outcome.good:
        empty = outcome.record is not None and outcome.record.empty
        return "kept" if outcome.status == "kept" else "empty" if empty else "done"
    if outcome.tile in failures:
        return "failed"
    if outcome.status == "blocked" and outcome.reason.endswith(": stale"):
        return "stale"
    return outcome.reason if outcome.reason in ("missing", "stale") else outcome.status


def survey_tiles(walk: Walk, stage: str, tiles: Sequence[Tile]) -> tuple[Completeness, dict[str, OutputRecord]]:
    """The state of a stage's output of each tile, and the records of those that are there.

    A tile whose earlier stage failed is `failed` too, with that stage's reason: it is what there is to mend.
    """
    stages = before(walk, stage)
    failures = {name: walk.store.failures(name) for name in stages}
    states: dict[str, TileState] = {}
    reasons: dict[str, str] = {}
    records: dict[str, OutputRecord] = {}
    for tile, found in walk.survey(stages, tiles):
        states[tile.name], reason = _state(found, stage, failures)
        record = found[stage].record if found[stage].good else None
        reasons |= {tile.name: reason} if reason else {}
        records |= {tile.name: record} if record is not None else {}
    return Completeness(states, reasons), records


def before(walk: Walk, stage: str) -> tuple[str, ...]:
    """A stage and the tile stages that it is made from, in the order of the graph."""
    return with_inputs(walk, [stage])


def with_inputs(walk: Walk, stages: Sequence[str]) -> tuple[str, ...]:
    """Stages and the tile stages that they are made from, in the order of the graph."""
    wanted = set(stages)
    for step in reversed(walk.stages):
        if step.name in wanted:
            wanted.update(step.inputs)
    return tuple(step.name for step in walk.stages if step.name in wanted)


def _state(found: Mapping[str, StageOutcome], stage: str, failures: Failures) -> tuple[TileState, str]:
    outcome = found[stage]
    if outcome.good:
        return ("empty" if outcome.record is not None and outcome.record.empty else "present"), outcome.reason
    for name, said in found.items():
        if tile_state(said, failures[name]) == "failed":
            reason = failures[name].get(said.tile, said.reason)
            return "failed", reason if name == stage else f"{name}: {reason}"
    match tile_state(outcome, failures[stage]):
        case "stale":
            return "stale", outcome.reason
        case "missing":
            return "missing", outcome.reason
    # Waiting for what was never made is no state of its own: nothing was ever made of this tile.
    return ("missing" if outcome.reason.endswith("has not been made") else "blocked"), outcome.reason
