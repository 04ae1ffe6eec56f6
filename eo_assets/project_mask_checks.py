"""Checks of the masks of EOPatches: rules that say what they mean, classes that exist, and joins that end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from eo_assets.core.evalscript import ScriptSetup
from eo_assets.core.mask_classes import CLASSES, NO_DATA, SCHEMES, class_value
from eo_assets.project import EOPatches, Features, ValidMask
from eo_assets.project_problems import MISSING, REFERENCE, UNSAID, Finding, KeyPath, did_you_mean, listed, repeated

RULES = ("valid", "invalid", "below", "all_of")


def check_mask_rules(eopatches: EOPatches) -> Iterator[Finding]:
    """A mask has one rule, and of the other keys those that the rule can use."""
    for name, mask in eopatches.masks.items():
        key, given = _key(name), [rule for rule in RULES if getattr(mask, rule) is not None]
        if not given:
            yield Finding(key, UNSAID, "no rule says what is valid", f"give one of {listed(RULES)}")
        elif len(given) > 1:
            what = f"{' and '.join(given)} are given together"
            yield Finding(key, UNSAID, what, "keep one of them, and set the others to null")
        elif mask.all_of is not None:
            yield from _check_join(key, mask)
        elif mask.source is None:
            yield Finding((*key, "from"), MISSING, "this key is required", f"add it, as {REFERENCE} describes")
        elif mask.classes is not None and (mask.below is not None or mask.valid == "bool"):
            what = f"{'below is for a probability' if mask.below else 'bool is a cast'}, which has no classes"
            yield Finding((*key, "classes"), mask.classes, what, "remove it, or list classes")


def _check_join(key: KeyPath, mask: ValidMask) -> Iterator[Finding]:
    for name, value in (("from", mask.source), ("classes", mask.classes)):
        if value is not None:
            remedy = "set it to null, and keep it in the masks that are joined"
            yield Finding((*key, name), value, "all_of joins masks and reads no tiff", remedy)
    if mask.dilate_px is not None:
        what = "what all_of joins is not dilated again: what was not seen would grow with the clouds"
        yield Finding((*key, "dilate_px"), mask.dilate_px, what, "set it to null, and dilate the masks that are joined")


def check_mask_classes(eopatches: EOPatches) -> Iterator[Finding]:
    """What is listed are numbers, or classes of the mask's scheme, and leaves something valid."""
    for name, mask in eopatches.masks.items():
        for rule in ("valid", "invalid"):
            entries = getattr(mask, rule)
            if isinstance(entries, tuple):
                yield from _check_listed((*_key(name), rule), mask, rule, entries)


def _check_listed(
    key: KeyPath, mask: ValidMask, rule: Literal["valid", "invalid"], entries: tuple[int | str, ...]
) -> Iterator[Finding]:
    if not entries:
        bare = ", or write bool where every value but 0 is valid" if rule == "valid" else ""
        yield Finding(key, [], f"no value is {rule}", f"list the {rule} values{bare}")
        return
    faults = [fault for place, entry in enumerate(entries) if (fault := _fault((*key, place), mask, entry))]
    yield from faults
    if mask.classes is None or faults:
        return
    values = [class_value(entry, mask.classes) for entry in entries]
    if rule == "valid" and CLASSES[mask.classes][NO_DATA] in values:
        yield Finding(key, entries, f"{NO_DATA} of {mask.classes} is never valid", "remove it")
    if rule == "invalid" and not set(CLASSES[mask.classes].values()) - {CLASSES[mask.classes][NO_DATA], *values}:
        yield Finding(key, entries, f"no class of {mask.classes} is left that is valid", "list fewer")


def _fault(key: KeyPath, mask: ValidMask, entry: int | str) -> Finding | None:
    """What is wrong with one class."""
    if mask.classes is None:
        if isinstance(entry, int):
            return None
        remedy = f"set classes of the mask to one of {listed(SCHEMES)}, or write the number"
        return Finding(key, entry, "a name, but no classes tell its value", remedy)
    known = CLASSES[mask.classes]
    if entry in (known if isinstance(entry, str) else known.values()):
        return None
    hint = did_you_mean(entry, known) if isinstance(entry, str) else ""
    classes = listed(f"{name} ({value})" for name, value in known.items())
    return Finding(key, entry, f"no class of {mask.classes}", f"{hint}its classes: {classes}")


def check_joined_masks(eopatches: EOPatches) -> Iterator[Finding]:
    """A mask joins others that there are, and never itself."""
    for name, mask in eopatches.masks.items():
        key = (*_key(name), "all_of")
        if mask.all_of == ():
            yield Finding(key, [], "no mask is joined", "name masks of eopatches.masks")
        for part in repeated(mask.all_of or ()):
            yield Finding(key, part, "listed twice", "list it once")
        for part in mask.all_of or ():
            if part not in eopatches.masks:
                remedy = f"{did_you_mean(part, eopatches.masks)}masks: {listed(eopatches.masks)}"
                yield Finding(key, part, "not one of eopatches.masks", remedy)
        circle = _circle(eopatches.masks, (name,))
        if circle:
            yield Finding(key, mask.all_of, f"joins itself: {' -> '.join(circle)}", "take one of them out")


def _circle(masks: Mapping[str, ValidMask], way: tuple[str, ...]) -> tuple[str, ...]:
    """The way along all_of that leads back to its start, or nothing."""
    for part in _parts(masks, way[-1]):
        if part == way[0]:
            return (*way, part)
        if part not in way and (found := _circle(masks, (*way, part))):
            return found
    return ()


def check_probabilities(eopatches: EOPatches, imagery_script: ScriptSetup) -> Iterator[Finding]:
    """A threshold lies within what the tiff can hold: 0.4 of a probability that is stored as 0 to 255 is 102."""
    types = {output.id: output.dtype for output in imagery_script.outputs}
    for name, mask in eopatches.masks.items():
        dtype = types.get(mask.source or "")
        if mask.below is None or dtype is None or dtype.kind == "f":
            continue
        key, highest = (*_key(name), "below"), int(np.iinfo(dtype).max)
        told = f"{mask.source} is {dtype.name.upper()}"
        if mask.below <= 1:
            remedy = f"give the threshold as it is stored: {mask.below:g} of 255 is {mask.below * 255:g}"
            yield Finding(key, mask.below, f"{told}, whole numbers, so that only 0 is valid", remedy)
        elif mask.below > highest:
            yield Finding(key, mask.below, f"{told}, 0 to {highest}, so that all of it is valid", "lower it")


def check_what_was_seen(eopatches: EOPatches, features: Features) -> Iterator[Finding]:
    """The mask of the features has to know where nothing was seen, which no probability does."""
    if features.mask in eopatches.masks and _only_probabilities(eopatches.masks, (features.mask,)):
        what = "made of probabilities alone, which are 0, and so valid, where nothing was seen"
        remedy = "join it in an all_of with a mask of what was seen: of dataMask, CLM, or a classification"
        yield Finding(("features", "mask"), features.mask, what, remedy)


def _only_probabilities(masks: Mapping[str, ValidMask], way: tuple[str, ...]) -> bool:
    parts = _parts(masks, way[-1])
    if parts:
        return all(part not in way and _only_probabilities(masks, (*way, part)) for part in parts)
    return masks[way[-1]].below is not None


def _parts(masks: Mapping[str, ValidMask], name: str) -> tuple[str, ...]:
    """The masks that a mask joins, those that there are."""
    return tuple(part for part in masks[name].all_of or () if part in masks)


def _key(name: str) -> KeyPath:
    return ("eopatches", "masks", name)
