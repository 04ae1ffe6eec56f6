"""The periods that a project asks for, and the model columns that follow from them: known before any imagery is."""

from __future__ import annotations

from eo_assets.core.periods import Period, periods_of
from eo_assets.project import Composite, Project


def project_periods(project: Project) -> tuple[Period, ...]:
    """The periods of the project's composite in order of time; none where dates are taken as they are."""
    composite = project.features.composite
    if not isinstance(composite, Composite):
        return ()
    return periods_of(project.imagery.time_interval, composite.periods)


def delivered_frames(project: Project) -> int:
    """Frames that the service delivers for a tile: acquisitions, or the periods that the evalscript composites."""
    asked = project.imagery
    return len(project_periods(project)) if asked.composite_in_evalscript else asked.expected_dates
