"""What a run took of machines, told: metadata of its assets, a line in its log, notes in its report.

The report is written by who launched the runs, so each run leaves its figures in a file beside the log.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from eo_assets.assets.machine_spending import actual_usd
from eo_assets.assets.run_log import RUN_TAG, log_folder
from eo_assets.project import LoadedProject
from resources.run_usage import RunUsage

FILES = "machines-*.json"


def use_of(loaded: LoadedProject, usage: RunUsage, estimated_usd: float | None) -> dict[str, Any]:
    """Plain values: tries, CPU seconds, what of them was lost with a machine, machine hours, US dollars if known."""
    told: dict[str, Any] = {
        "tries": usage.tries,
        "tries_lost": usage.tries_lost,
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "cpu_seconds_lost": round(usage.cpu_seconds_lost, 1),
        "share_lost": round(usage.cpu_seconds_lost / usage.cpu_seconds, 4) if usage.cpu_seconds else 0.0,
    }
    if hours := usage.hours():
        told["machine_hours"] = {_machine(one.instance_type, one.spot): round(one.hours, 4) for one in hours}
    if estimated_usd is not None:
        actual = actual_usd(loaded, usage)
        told |= {"usd": None if actual is None else round(actual, 4), "usd_estimated": round(estimated_usd, 4)}
    return told


def tell_use(
    context: dg.AssetExecutionContext, loaded: LoadedProject, usage: RunUsage, estimated_usd: float | None
) -> dict[str, Any]:
    """Tell the log, and whoever writes the report of this run; returns metadata for Dagster, none of an idle run."""
    if not usage.tries:
        return {}
    use = use_of(loaded, usage, estimated_usd)
    for line in lines(use):
        context.log.info(line)
    run = context.run.tags.get(RUN_TAG)
    if run is not None:
        with contextlib.suppress(OSError):  # a report without it is better than a run that fails for it
            folder = log_folder(loaded, run)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILES.replace("*", context.run.run_id)).write_text(json.dumps(use))
    return {name: value for name, value in use.items() if value is not None}


def use_notes(loaded: LoadedProject, run: str) -> tuple[str, ...]:
    """For the report: the figures of all runs that bear this name, added up."""
    found = [json.loads(file.read_text()) for file in sorted(log_folder(loaded, run).glob(FILES))]
    return tuple(lines(added(*found))) if found else ()


def added(*uses: Mapping[str, Any]) -> dict[str, Any]:
    """Several runs together; dollars are known if those of each are that had an estimate."""
    total: dict[str, Any] = {
        name: sum(use[name] for use in uses) for name in ("tries", "tries_lost", "cpu_seconds", "cpu_seconds_lost")
    }
    total["share_lost"] = total["cpu_seconds_lost"] / total["cpu_seconds"] if total["cpu_seconds"] else 0.0
    hours: dict[str, float] = {}
    for use in uses:
        for name, value in use.get("machine_hours", {}).items():
            hours[name] = hours.get(name, 0.0) + value
    if hours:
        total["machine_hours"] = hours
    if estimated := [use for use in uses if "usd_estimated" in use]:
        known = [use["usd"] for use in estimated if use["usd"] is not None]
        total["usd"] = sum(known) if len(known) == len(estimated) else None
        total["usd_estimated"] = sum(use["usd_estimated"] for use in estimated)
    return total


def lines(use: Mapping[str, Any]) -> Iterator[str]:
    """For people: the work with what was lost of it, and machines with what they cost, where they cost something."""
    yield (
        f"work: {use['tries']} tries, {use['tries_lost']} lost with their machine: {use['cpu_seconds_lost']:,.0f} of "
        f"{use['cpu_seconds']:,.0f} CPU s ({use['share_lost']:.1%}, at the most)"
    )
    hours = ", ".join(f"{value:,.2f} h {name}" for name, value in use.get("machine_hours", {}).items())
    if "usd_estimated" in use:
        cost = "not known" if use["usd"] is None else f"${use['usd']:,.2f}"
        yield f"machines: {hours or 'of types that are not known'}; {cost}, estimated at ${use['usd_estimated']:,.2f}"
    elif hours:
        yield f"machines: {hours}"


def _machine(instance_type: str, spot: bool) -> str:
    return f"{instance_type or 'unknown type'} {'spot' if spot else 'on demand'}"
