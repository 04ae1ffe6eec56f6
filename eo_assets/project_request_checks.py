"""Checks of what is asked of Sentinel Hub: intervals, collections, and the outputs of the evalscripts."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence

import numpy as np

from eo_assets.core.dark_targets import WITH_OFFSET
from eo_assets.core.evalscript import ScriptSetup
from eo_assets.project import Collection, CollectionReference, Imagery, Reference
from eo_assets.project_problems import MISSING, Finding, KeyPath, did_you_mean, listed, repeated

SOURCE: KeyPath = ("reference", "source")


def check_time_intervals(imagery: Imagery) -> Iterator[Finding]:
    """Both days of an interval belong to it."""
    yield from _check_interval(("imagery", "time_interval"), imagery.time_interval)


def check_excluded_dates(imagery: Imagery) -> Iterator[Finding]:
    """A date outside the interval was never asked for: it is a slip of the pen."""
    first, last = imagery.time_interval
    for index, entry in enumerate(imagery.exclude):
        if first <= last and not first <= entry.date <= last:
            remedy = f"name a date from {first} to {last}, or remove it"
            yield Finding(("imagery", "exclude", index), entry.date, "not within imagery.time_interval", remedy)


def check_reference_interval(reference: Reference) -> Iterator[Finding]:
    """The same for the reference's own interval, and for those of its collections."""
    if not isinstance(reference.source, CollectionReference):
        return
    if reference.source.time_interval:
        yield from _check_interval((*SOURCE, "time_interval"), reference.source.time_interval)
    for index, collection in enumerate(reference.source.collections):
        if collection.time_interval:
            yield from _check_interval((*SOURCE, "collections", index, "time_interval"), collection.time_interval)


def check_collections(imagery: Imagery) -> Iterator[Finding]:
    """What the service can filter by differs by collection; several of them need ids for the evalscript."""
    for index, collection in enumerate(imagery.collections):
        yield from _check_collection(("imagery", "collections", index), collection)
    yield from _check_together(("imagery", "collections"), imagery.collections)


def check_reference_collection(reference: Reference) -> Iterator[Finding]:
    """The same for the reference's collections."""
    if not isinstance(reference.source, CollectionReference):
        return
    for key, collection in reference_collections(reference.source):
        yield from _check_collection(key, collection)
    yield from _check_together((*SOURCE, "collections"), reference.source.collections)


def check_datasources(imagery: Imagery, imagery_script: ScriptSetup) -> Iterator[Finding]:
    """Every data source that the evalscript reads has to be requested."""
    yield from _check_read(("imagery", "collections"), imagery.collections, imagery_script)


def check_reference_datasources(reference: Reference, reference_script: ScriptSetup) -> Iterator[Finding]:
    """The same for the reference's evalscript."""
    if isinstance(reference.source, CollectionReference) and reference.source.collections:
        yield from _check_read((*SOURCE, "collections"), reference.source.collections, reference_script)


def reference_collections(source: CollectionReference) -> list[tuple[KeyPath, Collection]]:
    """The reference's collections, each with its key in the project file."""
    if source.collection is not None:
        return [((*SOURCE, "collection"), source.collection)]
    return [((*SOURCE, "collections", index), each) for index, each in enumerate(source.collections)]


def check_tiff_outputs(imagery: Imagery) -> Iterator[Finding]:
    """An output that is asked for twice is paid for and written twice."""
    key = ("imagery", "tiff_outputs")
    for name in repeated(imagery.tiff_outputs):
        yield Finding(key, name, "listed twice", "list it once")


def check_script_outputs(imagery: Imagery, imagery_script: ScriptSetup) -> Iterator[Finding]:
    """A tiff has to be an output of the evalscript."""
    known = [output.id for output in imagery_script.outputs]
    for name in imagery.tiff_outputs:
        if name not in known:
            what = f"not an output of {imagery.evalscript}"
            yield Finding(("imagery", "tiff_outputs"), name, what, f"{did_you_mean(name, known)}it has {listed(known)}")


def check_reference_script(reference: Reference, reference_script: ScriptSetup) -> Iterator[Finding]:
    """The labels are one image of one band, in a type that holds what the evalscript writes."""
    key, outputs = (*SOURCE, "evalscript"), reference_script.outputs
    if len(outputs) != 1 or outputs[0].bands != 1:
        found = listed(f"{output.id} ({output.bands})" for output in outputs)
        yield Finding(key, found, "labels are one output of one band", "return one band from the evalscript")
        return
    written = outputs[0].dtype
    if not np.can_cast(written, reference.dtype):
        what = f"can't hold the {written} that the evalscript writes"
        yield Finding(("reference", "dtype"), reference.dtype, what, f"write {written}, or change the sampleType")


def _check_interval(key: KeyPath, interval: tuple[dt.date, dt.date]) -> Iterator[Finding]:
    first, last = interval
    if last < first:
        yield Finding(key, interval, "an empty interval: it ends before it starts", f"write [{last}, {first}]")


def _check_together(key: KeyPath, collections: Sequence[Collection]) -> Iterator[Finding]:
    """Collections of one request are told apart by their ids, and are on one service."""
    ids = [collection.id for collection in collections]
    if len(ids) > 1 and (None in ids or len(set(ids)) != len(ids)):
        remedy = "give each its own id, the one that the evalscript's setup() calls datasource"
        yield Finding(key, ids, "several collections without an id of their own", remedy)
    services = sorted({collection.service for collection in collections})
    if len(services) > 1:
        what = "the collections of one request are on different services, and a request goes to one"
        yield Finding(key, services, what, "take collections that one service holds")


def _check_read(key: KeyPath, collections: Sequence[Collection], script: ScriptSetup) -> Iterator[Finding]:
    ids = {collection.id for collection in collections}
    for source in script.inputs:
        if source.datasource is not None and source.datasource not in ids and ids != {None}:
            what = f"the evalscript reads data source {source.datasource}, which no collection is"
            yield Finding(key, sorted(filter(None, ids)), what, "add it, or give its id")


def _check_collection(key: KeyPath, collection: Collection) -> Iterator[Finding]:
    name = collection.collection
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        guess = name.lower().replace("_", "-")
        yield Finding((*key, "collection"), name, "not a collection's name in the service", f"did you mean '{guess}'?")
    own = name.startswith(("byoc-", "batch-"))
    if own and (collection.max_cloud_cover is not None or collection.mosaicking_order == "leastCC"):
        cloud = "max_cloud_cover" if collection.max_cloud_cover is not None else "mosaicking_order"
        value = getattr(collection, cloud)
        yield Finding((*key, cloud), value, f"{name} has no cloud cover", "remove it, and mask clouds by a band")
    if name in WITH_OFFSET and collection.harmonize_values is None:
        what = "not said, and digital numbers of processing baseline 04.00 (2022-01-25) and later are 1000 higher"
        remedy = "write true to have the offset taken out, as the service does unless told, or false to keep it"
        yield Finding((*key, "harmonize_values"), MISSING, what, remedy)
    if own and collection.harmonize_values is not None:
        value = collection.harmonize_values
        yield Finding((*key, "harmonize_values"), value, "only Sentinel-2's own collections have it", "remove it")
