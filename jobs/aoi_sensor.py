"""Vector files that are put under input-data start by themselves: one sensor a project, and what it says at each look.

It requests the area's job alone. What comes after it starts by the conditions of the assets, as far as the check
`spending_allowed` lets them.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import dagster as dg

from eo_assets.assets.area import aoi_recipe, project_grid, tiles_of
from eo_assets.assets.area_files import ListedFile, Unreadable, committed_files, listed_files, read_listed
from eo_assets.assets.checks import readable_files_event, spending_allowed_event
from eo_assets.assets.spending_gate import spending_verdict, verdict_depends_on
from eo_assets.core.recipe import fingerprint
from eo_assets.core.uploads import (
    Memory,
    Seen,
    failures,
    look,
    memory_from_json,
    removed,
    same_again,
    usable_contents,
)
from eo_assets.errors import EoAssetsError
from eo_assets.project import LoadedProject
from eo_assets.stages.build import in_bucket, tile_store
from jobs.project_jobs import UNFINISHED_RUNS
from resources.dagster_s3 import matching_with, s3_key
from resources.object_store import Matching
from resources.vector_files import area_digest, area_of, content_of

LARGE_BYTES = 64_000_000
"""A larger file is judged by the run that reads it anyway, and a look judges no more than this: it must end in time."""

HUGE_BYTES = 2_000_000_000
"""What is larger is not even summed up: no outline is."""

SHOWN_NAMES = 10


@dataclass
class Look:
    """What a look at the folder found: its memory, what it tells, what it asks for, the checks that it evaluates."""

    memory: Memory
    told: list[str] = field(default_factory=list)
    request: str = ""
    checks: list[dg.AssetCheckEvaluation] = field(default_factory=list)


def aoi_sensor(loaded: LoadedProject) -> dg.SensorDefinition:
    """`<project>_aoi_files`: off unless the project's sensor.enabled says so; the UI switches it too."""
    project, settings = loaded.project.name, loaded.project.sensor

    @dg.sensor(
        name=f"{project}_aoi_files",
        job_name=f"{project}_area",
        minimum_interval_seconds=settings.seconds,
        required_resource_keys={s3_key(project)} if in_bucket(loaded) else None,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.enabled else dg.DefaultSensorStatus.STOPPED,
        description=f"Starts {project}_area when the vector files under input-data change the area.",
    )
    def aoi_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        under_way = (
            context.instance.get_runs_count(dg.RunsFilter(job_name=f"{project}_area", statuses=list(UNFINISHED_RUNS)))
            > 0
        )
        client = getattr(context.resources, s3_key(project)) if in_bucket(loaded) else None
        found = look_at_files(
            loaded,
            context.instance,
            memory_from_json(context.cursor),
            under_way=under_way,
            matching=matching_with(client, loaded.project_folder) if client else None,
        )
        for line in found.told:
            context.log.info(line)
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=found.request)] if found.request else [],
            skip_reason=None if found.request else "\n".join(found.told) or "nothing new",
            asset_events=found.checks,
            cursor=found.memory.as_json(),
        )

    return aoi_files


def look_at_files(
    loaded: LoadedProject,
    instance: dg.DagsterInstance,
    before: Memory,
    *,
    under_way: bool,
    matching: Matching | None = None,
) -> Look:
    """Look at the files of the area once. `under_way`: is the area being made right now? `matching`: how to list."""
    listed = {found.name: found for found in listed_files(loaded, matching)}
    files, settled = look(before.files, {name: found.version for name, found in listed.items()})
    committed = committed_files(loaded)
    known = {file.content for file in committed.values()}
    files |= _judged(files, [listed[name] for name in settled], usable_contents(before.files) | known)
    now = Look(replace(before, files=files, untold=()), list(before.untold))
    news = list(_news(loaded, before.files, files))
    now.told += news
    if failures(files) != failures(before.files):
        unreadable = [Unreadable(name, error, name in committed) for name, (_, error) in failures(files).items()]
        now.checks.append(readable_files_event(loaded.project.name, unreadable))
    _request(loaded, now, known, under_way)
    if now.request:
        # Dagster shows no words of a tick that starts a run, but in its log.
        now.memory = replace(now.memory, untold=tuple(news))
    if not under_way:
        _judge_spending(loaded, instance, now)
    return now


def _judged(files: Mapping[str, Seen], settled: list[ListedFile], known: set[str]) -> Iterator[tuple[str, Seen]]:
    """The settled files with their contents and whether they can be used; the rest of too many waits for the next look.

    What was usable before, under whatever name, is not read again.
    """
    budget = LARGE_BYTES
    for found in settled:
        if budget < found.size <= LARGE_BYTES:
            continue
        budget -= found.size if found.size <= LARGE_BYTES else 0
        try:
            content, error = _judge(found, known)
        except FileNotFoundError:
            continue  # gone since it was listed
        yield found.name, replace(files[found.name], content=content, error=error, judged=True)


def _judge(found: ListedFile, known: set[str]) -> tuple[str, str]:
    """A file's content, and why it can't be used; its version stands for a content that is not to be read."""
    if found.size > HUGE_BYTES:
        gigabytes = found.size / 1e9
        return (
            found.version,
            f"{found.place}: {gigabytes:.1f} GB are too much to start by themselves: start the area's job",
        )
    content = found.version
    if not found.leaves_folder:
        with contextlib.suppress(PermissionError):
            content = content_of(found.files.path(found.name))
            if found.size > LARGE_BYTES or content in known:
                return content, ""
    answer = read_listed(found)
    return content, answer if isinstance(answer, str) else ""


def _news(loaded: LoadedProject, before: Mapping[str, Seen], files: Mapping[str, Seen]) -> Iterator[str]:
    """What is to be told once."""
    told = failures(before)
    for name, (content, error) in failures(files).items():
        if told.get(name) != (content, error):
            yield f"can't be used: {error}"
    for name, other in same_again(before, files).items():
        yield f"{name} holds what {other} holds: nothing to do for it"
    for name in removed(before, files):
        yield f"{name} was removed: nothing is deleted; {_leaving(loaded, files)}"
    fresh = [name for name, seen in files.items() if not seen.judged and before.get(name) != seen]
    if fresh:
        more = ", ..." if len(fresh) > SHOWN_NAMES else ""
        yield f"new or changed, read as soon as nobody writes any more: {', '.join(fresh[:SHOWN_NAMES])}{more}"


def _leaving(loaded: LoadedProject, files: Mapping[str, Seen]) -> str:
    """What will become of the tiles of removed files."""
    present = usable_contents(files)
    kept = [file for name, file in committed_files(loaded).items() if file.content in present or name in files]
    try:
        tiles = {tile.name for tile in tiles_of(tile_store(loaded))}
        staying = {tile.name for tile in project_grid(loaded).tiles(area_of(kept).geometry)} if kept else set()
    except EoAssetsError:
        return "its tiles stay until the area is made anew"
    left = f"{len(tiles - staying)} of {len(tiles)} tiles"
    return f"{left} leave the grid when the area is made anew, what was made of them stays"


def _request(loaded: LoadedProject, now: Look, known: set[str], under_way: bool) -> None:
    """Ask for the area's job if the files hold something that the committed area does not, once for a set of files."""
    wanted = usable_contents(now.memory.files)
    record = tile_store(loaded).record("aoi", "aoi")
    digest = area_digest(wanted)
    new = wanted - known
    if not new or (record is not None and record.recipe == aoi_recipe(digest)):
        now.memory = replace(now.memory, requested="")  # answered: the same files may be new again one day
        return
    if under_way:
        asked = digest == now.memory.requested
        now.told.append("the area is being made" + ("" if asked else "; what is new waits until it is done"))
    elif digest == now.memory.requested:
        now.told.append(f"{loaded.project.name}_area was asked for these files and has not made the area: see its run")
    else:
        requests = now.memory.requests + 1
        # With the area that it is to replace: a sensor that has forgotten its count must not repeat a key.
        now.request = f"{digest[:16]}-{record.attempt.rpartition('/')[2] if record else 'first'}-{requests}"
        now.told.append(f"the area changes: {len(new)} of {len(now.memory.files)} files are new")
        now.memory = replace(now.memory, requests=requests, requested=digest)


def _judge_spending(loaded: LoadedProject, instance: dg.DagsterInstance, now: Look) -> None:
    """Evaluate the check on spending again if what it depends on has changed: approvals, settings, spendings."""
    if tile_store(loaded).record("tile_grid", "tile_grid") is None:
        return
    depends_on = fingerprint(verdict_depends_on(loaded))
    if depends_on == now.memory.depends_on:
        return
    verdict = spending_verdict(loaded)
    said = f"{verdict.allowed} {verdict.told}"
    if said != now.memory.spending:
        now.checks.append(spending_allowed_event(instance, loaded.project.name, verdict))
        now.told.append(verdict.told)
    now.memory = replace(now.memory, depends_on=depends_on, spending=said)
