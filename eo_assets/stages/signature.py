"""The signature that a project's features call for: what a model must have been trained on to predict from them."""

from __future__ import annotations

from eo_assets.core.model import Signature
from eo_assets.project import Project


def expected_signature(project: Project, columns: tuple[str, ...] = (), classes: tuple[int, ...] = ()) -> Signature:
    """Kind, units, reference and offset handling of the project; its columns and classes where they are known."""
    return Signature(
        kind=project.model.kind,
        columns=columns,
        factor=project.eopatches.data[project.features.bands].factor,
        reference=project.reference.name,
        offset_handling=offset_handling(project),
        classes=classes,
    )


def offset_handling(project: Project) -> tuple[str, ...]:
    """What is done, collection by collection, about the offset of processing baseline 04.00."""
    words = {None: "the service's default", True: "harmonised", False: "as delivered"}
    return tuple(f"{source.collection}: {words[source.harmonize_values]}" for source in project.imagery.collections)
