"""Medians of the rounds, ratios, and how they are told: a Markdown section and JSON."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tests.benchmarks.peer.compare import SWITCHES, Equality
from tests.benchmarks.peer.measure import Usage
from tests.benchmarks.peer.runs import ADOPT, EVERY_PIXEL, EVERYTHING, MODEL, RAY, STAGES, WALK, Row
from tests.benchmarks.peer.scene import Scene

ORDER = (RAY, ADOPT, *STAGES, WALK, EVERY_PIXEL, EVERYTHING)
FIGURES = {
    "wall_s": "wall s",
    "cpu_s": "CPU s",
    "tree_mb": "tree MB",
    "largest_mb": "largest process MB",
    "worker_mb": "largest worker MB",
    "written_mb": "MB written",
    "files": "objects",
}
Medians = Mapping[str, Mapping[str, float]]


def medians(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by side and stage."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in rows:
        found.setdefault(row.side, {}).setdefault(row.stage, []).append(_figures(row))
    return {
        side: {
            stage: {name: statistics.median(one[name] for one in several) for name in FIGURES}
            for stage, several in stages.items()
        }
        for side, stages in found.items()
    }


def _figures(row: Row) -> dict[str, float]:
    usage = {field.name: getattr(row.usage, field.name) for field in fields(Usage) if field.name in FIGURES}
    return {**usage, "written_mb": row.bytes / 1e6, "files": float(row.files)}


def ratios(theirs: Medians, ours: Medians) -> dict[str, float]:
    """eo-grow's figures over ours: `_all` with training and Ray's start, the others of tile stages and maps.

    `_with_adopt`: what ours takes to adopt the delivery is added; `_every_pixel`: ours leaves none out.
    """
    if not theirs:
        return {}
    found = {}
    for name, figure in (("cpu", "cpu_s"), ("wall", "wall_s")):
        found[f"ratio_{name}"] = _ratio(theirs, ours, WALK, figure)
        found[f"ratio_{name}_all"] = _ratio(theirs, ours, EVERYTHING, figure)
        if ADOPT in ours:
            both = ours[WALK][figure] + ours[ADOPT][figure]
            found[f"ratio_{name}_with_adopt"] = round(theirs[WALK][figure] / both, 2)
        if EVERY_PIXEL in ours:
            found[f"ratio_{name}_every_pixel"] = round(theirs[WALK][figure] / ours[EVERY_PIXEL][figure], 2)
    return {**found, "ratio_peak_rss": _ratio(theirs, ours, WALK, "worker_mb")}


def _plain_ratios(plain: Medians, ours: Medians) -> dict[str, float]:
    """The plain script's figures over ours."""
    if not plain:
        return {}
    names = {"cpu": "cpu_s", "wall": "wall_s", "peak_rss": "worker_mb"}
    return {f"plain_ratio_{name}": _ratio(plain, ours, WALK, figure) for name, figure in names.items()}


def _ratio(theirs: Medians, ours: Medians, stage: str, figure: str) -> float:
    return round(theirs[stage][figure] / ours[stage][figure], 2)


def figures(scene: Scene, rows: Sequence[Row], equal: Sequence[Equality], said: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into the JSON file."""
    found = medians(rows)
    theirs, ours, plain = (found.get(side, {}) for side in ("eogrow", "ours", "plain"))
    stages = {
        stage: {"eogrow": theirs.get(stage), "ours": ours.get(stage), **_stage_ratios(theirs, ours, stage)}
        for stage in ORDER
        if stage in theirs or stage in ours
    }
    return {
        **ratios(theirs, ours),
        **_plain_ratios(plain, ours),
        "equal": bool(equal) and all(one.holds for one in equal if one.must),
        "equality": [{**asdict(one), "holds": one.holds} for one in equal],
        "stages": stages,
        "plain": plain.get(WALK),
        "scene": asdict(scene),
        "cpu_seconds_exact": all(row.usage.exact for row in rows),
        **machine(),
        **said,
    }


def _stage_ratios(theirs: Medians, ours: Medians, stage: str) -> dict[str, float]:
    if stage not in theirs or stage not in ours:
        return {}
    return {name: _ratio(theirs, ours, stage, f"{name}_s") for name in ("cpu", "wall")}


def machine() -> dict[str, Any]:
    """Where and when."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{models[0].partition(': ')[2] if models else platform.processor()}, {os.cpu_count()} CPUs, "
        f"{memory:.0f} GB, Linux {platform.release()}",
        "load_before": round(os.getloadavg()[1], 2),
    }


def markdown(found: Mapping[str, Any]) -> str:
    """A section of docs/performance.md."""
    return "\n\n".join((_head(found), _stage_table(found), _equality_table(found)))


def _head(found: Mapping[str, Any]) -> str:
    scene = found["scene"]
    side = scene["cell_px"] + 2 * scene["buffer_px"]
    extras = [f"{scene['cloud']:.0%} cloud"]
    extras += [f"{scene['invalid']:.0%} never seen"] if scene["invalid"] else []
    extras += ["noisy pixels"] if scene["noisy"] else []
    extras += ["in a bucket of SeaweedFS"] if found["in_bucket"] else []
    counted = "counted by a control group" if found["cpu_seconds_exact"] else "sampled"
    ratios = "\n".join(f"| `{name}` | {value:.2f} |" for name, value in found.items() if "ratio_" in name)
    return (
        f"### {scene['tiles']} tiles of {side}x{side} px, T={scene['dates']}, {', '.join(extras)}\n\n"
        f"{found['date']}, {found['machine']}; load before {found['load_before']}. `{found['command']}`. Medians of "
        f"{found['rounds']} rounds; CPU seconds are of all processes, {counted}; pixels come from the disk, libraries "
        f"from memory. {found['trees']} trees of {found['leaves']} leaves.\n\n"
        f"| eo-grow (`plain_`: the plain script) / ours | |\n|---|---:|\n{ratios}"
    )


def _stage_table(found: Mapping[str, Any]) -> str:
    lines = ["| stage | " + " | ".join(FIGURES.values()) + " |", "|---|" + "---:|" * len(FIGURES)]
    for stage, sides in found["stages"].items():
        cells = [_cell(sides["eogrow"], sides["ours"], figure) for figure in FIGURES]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    if found["plain"]:
        cells = [_cell(found["plain"], found["stages"][WALK]["ours"], figure) for figure in FIGURES]
        lines.append(f"| {WALK}: the plain script / ours | {' | '.join(cells)} |")
    return "eo-grow / ours (ratio):\n\n" + "\n".join(lines)


def _cell(theirs: Mapping[str, float] | None, ours: Mapping[str, float] | None, figure: str) -> str:
    if theirs is None or ours is None:
        return " / ".join("-" if side is None else _number(side[figure]) for side in (theirs, ours))
    ratio = f" ({theirs[figure] / ours[figure]:.1f}x)" if ours[figure] else ""
    return f"{_number(theirs[figure])} / {_number(ours[figure])}{ratio}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _equality_table(found: Mapping[str, Any]) -> str:
    lines = ["| output | compared | equal | |", "|---|---:|---:|---|"]
    for one in found["equality"]:
        said = "equal" if one["holds"] else f"{one['compared'] - one['equal']:,} differ"
        said = f"**{said}**" if one["must"] and not one["holds"] else said
        lines.append(f"| {one['what']} | {one['compared']:,} | {said} | {one['note']} |")
    return "\n".join(lines)


def explained() -> str:
    """What the rows are, and where the sides differ on purpose."""
    return (
        f"- eo-grow's stages are a process each, on a Ray that is there ({RAY}). So are ours in the rows of stages: "
        "`eo-assets run --only STAGE --ray ADDRESS`.\n"
        f"- {WALK}: of eo-grow the sum of its stages without training; of ours ONE command over a project of which "
        "only tiffs and labels are adopted, `eo-assets run --only training_data --only maps --ray ADDRESS`, with the "
        "model given. The driver's start is in it on both sides, Ray's is not. To adopt the delivery, a row of ours "
        "that eo-grow has no counterpart of, is left out; `_with_adopt` counts it in.\n"
        f"- {EVERY_PIXEL}: the same of a project that leaves no pixel out, as eo-grow's example does not; it is run "
        "once, and its outputs are those that eo-grow's are compared with. Predictions of the other rows leave out "
        "pixels that no date sees, which eo-grow could be told to do as well.\n"
        "- eo-grow is as its example configures it: its predictions use as many threads in a worker as the machine has "
        "CPUs, and its EOPatches are not stored as Zarr. Compiled code of ours is there from earlier runs.\n"
        f"- {EVERYTHING}: of eo-grow the sum of all rows; of ours `eo-assets adopt` and `eo-assets run --only maps`, "
        "which starts its own Ray and trains.\n"
        f"- {MODEL}: the same call of LightGBM with the same parameters and threads, once a run of `make bench`. Ours "
        "trains twice, for the scores of two ways of holding out.\n"
        "- Both sides predict with the model that eo-grow trained.\n"
        "- Tree MB is private memory of all processes at one time, what several of them share counted in each; "
        "largest process and worker are peaks (VmHWM).\n"
        "- The plain script (tests/benchmarks/peer/plain.py): xarray and LightGBM, one pass over the tiles in a pool "
        "of processes, with the same model; no BANDS, no labels, no records, no checks.\n"
        "- MB written and objects: by how much the project folder grew. What was deleted again is not in them.\n\n"
        "Where we differ on purpose, and what makes it equal for the comparison:\n\n"
        + "\n".join(f"- {switch}" for switch in SWITCHES)
    )
