"""What a project's paid stages ask of their services for a pixel, from its file and what its evalscripts say."""

from __future__ import annotations

from collections.abc import Iterable

from eo_assets.core.cost import RequestKind
from eo_assets.project import CollectionReference, LoadedProject


def paid_requests(loaded: LoadedProject) -> dict[str, tuple[str, RequestKind]]:
    """The paid stages of a project, each with its service and what it asks for a pixel."""
    project = loaded.project
    asked = project.imagery
    imagery = _kind(loaded, asked.evalscript, asked.expected_dates, asked.tiff_outputs)
    found = {"tiffs": (asked.collections[0].service, imagery)}
    source = project.reference.source
    if isinstance(source, CollectionReference):
        kind = _kind(loaded, source.evalscript, 1, ("labels",))
        found["reference"] = (source.service, RequestKind(kind.bands, 1, kind.float32, "process"))
    return found


def _kind(loaded: LoadedProject, script: str, samples: int, outputs: Iterable[str]) -> RequestKind:
    """By what the script reads; by what it writes where the script was not asked."""
    setup = loaded.setups.get(script)
    if setup is None:
        return RequestKind(len(tuple(outputs)), samples)
    return RequestKind(setup.bands, samples, setup.float32)
