"""Checks of a composite that the evalscript makes: it is described, and its frames are not taken for acquisitions."""

from __future__ import annotations

from collections.abc import Iterator

from eo_assets.project import Composite, EOPatches, Features, Imagery
from eo_assets.project_problems import MISSING, Finding, KeyPath

OBSERVATIONS: KeyPath = ("features", "composite", "observations")


def check_composite_in_evalscript(imagery: Imagery, eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """The periods are those of features.composite, and the frames have counts that say what is known."""
    composite = features.composite
    if not imagery.composite_in_evalscript:
        if isinstance(composite, Composite) and composite.observations in eopatches.data:
            what = "the frames are acquisitions, whose observations are counted here"
            remedy = "remove it, or set imagery.composite_in_evalscript"
            yield Finding(OBSERVATIONS, composite.observations, what, remedy)
        return
    if not isinstance(composite, Composite):
        what = "there is no composite to make: features.composite is none"
        remedy = "give its method and periods there, or remove this key"
        yield Finding(("imagery", "composite_in_evalscript"), True, what, remedy)
    elif composite.observations is None:
        what = "imagery.composite_in_evalscript needs to know what each frame was made of"
        remedy = "name the data feature of the evalscript's counts of clear observations"
        yield Finding(OBSERVATIONS, MISSING, what, remedy)


def check_factor_of_counts(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """Counts are the numbers that were delivered."""
    name = features.composite.observations if isinstance(features.composite, Composite) else None
    stack = None if name is None else eopatches.data.get(name)
    if stack is not None and stack.factor != 1:
        yield Finding(("eopatches", "data", name or "", "factor"), stack.factor, "counts are not scaled", "remove it")


def check_no_acquisitions_left_out(imagery: Imagery, features: Features) -> Iterator[Finding]:
    """What is left out of a composite has to be left out where it is made."""
    if not imagery.composite_in_evalscript:
        return
    remedy = "leave them out in the evalscript (preProcessScenes, or its mask), and remove this key"
    if imagery.exclude:
        what = "no acquisition can be taken out of a composite that the evalscript has made"
        yield Finding(("imagery", "exclude"), [str(entry.date) for entry in imagery.exclude], what, remedy)
    if features.validity_threshold is not None:
        what = "frames are composites of a whole period, and would be left out as if they were acquisitions"
        yield Finding(("features", "validity_threshold"), features.validity_threshold, what, remedy)
