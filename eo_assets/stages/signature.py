"""The signature that a project's features call for: what a model must have been trained on to predict from them."""

from __future__ import annotations

from eo_assets.core import time_axis
from eo_assets.core.periods import labels_of
from eo_assets.core.signature import AS_DELIVERED, HARMONISED, SERVICE_DEFAULT, Season, Signature
from eo_assets.project import Composite, Project
from eo_assets.project_periods import project_periods
from eo_assets.stages.features import feature_plan


def expected_signature(project: Project, columns: tuple[str, ...] = (), classes: tuple[int, ...] = ()) -> Signature:
    """Kind, units, reference and offset handling of the project; its columns and classes where they are known.

    With a composite the columns are known beforehand, and are the project's own unless others are given.
    """
    composite = project.features.composite
    return Signature(
        kind=project.model.kind,
        columns=columns or expected_columns(project),
        factor=project.eopatches.data[project.features.bands].factor,
        reference=project.reference.name,
        offset_handling=offset_handling(project),
        classes=classes,
        composite=composite_handling(project),
        periods=tuple(map(Season.of, project_periods(project))),
        indices=_index_bands(project) if isinstance(composite, Composite) else (),
    )


def expected_columns(project: Project) -> tuple[str, ...]:
    """The model's columns of a composite, `<feature>_<period>`; none where they depend on a tile's dates."""
    return time_axis.columns(labels_of(project_periods(project)), feature_names(project))


def feature_names(project: Project) -> tuple[str, ...]:
    """The features of one date, or of one period, in order."""
    return feature_plan(project.features, project.eopatches.data[project.features.bands].source).names


def offset_handling(project: Project) -> tuple[str, ...]:
    """What is done, collection by collection, about the offset of processing baseline 04.00."""
    words = {None: SERVICE_DEFAULT, True: HARMONISED, False: AS_DELIVERED}
    return tuple(f"{source.collection}: {words[source.harmonize_values]}" for source in project.imagery.collections)


def composite_handling(project: Project) -> str:
    """How the value of a period is made, in words; empty without a composite.

    The method is part of what a model was trained on: a mean keeps haze and shadow that a median leaves out. So is what
    stands where nothing was seen: a model that has never met NaN, or an interpolated value, answers it by chance.
    """
    composite = project.features.composite
    if not isinstance(composite, Composite):
        return ""
    # An index by its bands: a name says nothing of what it was computed from.
    by = "" if composite.index is None else f" of {'/'.join(project.features.bands_of(composite.index))}"
    return f"{composite.method}{by}, {composite.gaps.in_words}"


def _index_bands(project: Project) -> tuple[str, ...]:
    return tuple(f"{name} of {'/'.join(bands)}" for name, bands in project.features.indices.items())
