"""Checks of `storage.retention`: pixels are kept until something that is really made of them is there."""

from __future__ import annotations

from collections.abc import Iterator

from eo_assets.core.graph import NEEDS, readers
from eo_assets.project import Model, Storage
from eo_assets.project_problems import Finding, did_you_mean, listed
from eo_assets.project_retention import Rule


def check_retention(storage: Storage, model: Model) -> Iterator[Finding]:
    """`until` names an asset that is made from the stage, near or far; one rule a stage."""
    for stage, rule in storage.retention.rules.items():
        key = ("storage", "retention", stage)
        if rule.until is not None and rule.days is not None:
            yield Finding(key, str(rule), "both until and days", "give one of the two")
            continue
        faults = [] if rule.until is None else list(_check_until(stage, rule, model))
        yield from faults
        if not faults and stage == "reference" and "{year}" not in storage.structure.reference:
            what = "labels in a folder of all years, which another year may still need"
            yield Finding(key, str(rule), what, "give storage.structure.reference a {year}, or write keep")


def _check_until(stage: str, rule: Rule, model: Model) -> Iterator[Finding]:
    key, later = ("storage", "retention", stage, "until"), str(rule.until)
    # A change of one tile makes a zone's map anew, of all predictions of the zone.
    made = readers(stage, trained_here=model.trained_here)
    if stage == "predictions":
        yield Finding(key, later, "a map is made anew of all predictions of its zone", "give days instead, or keep")
    elif not made:
        yield Finding(key, later, f"nothing is made from {stage} where the model is another's", "write keep")
    elif later not in NEEDS:
        remedy = f"{did_you_mean(later, made)}{stage} is read by {listed(made)}"
        yield Finding(key, later, "there is no such asset", remedy)
    elif later not in made:
        yield Finding(key, later, f"is not made from {stage} in this project", f"name what is: {listed(made)}")
