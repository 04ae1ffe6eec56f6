"""What each asset of the graph is made from, by name."""

from __future__ import annotations

from collections.abc import Mapping

NEEDS: Mapping[str, tuple[str, ...]] = {
    "aoi": (),
    "tile_grid": ("aoi",),
    "cost_estimate": ("tile_grid",),
    "tiffs": ("tile_grid",),
    "reference": ("tile_grid",),
    "eopatches": ("tiffs",),
    "features": ("eopatches",),
    "samples": ("features", "reference"),
    "training_data": ("samples",),
    "model": ("training_data",),
    "predictions": ("features", "model"),
    "maps": ("predictions",),
    "byoc_collection": ("maps",),
}

FOR_TRAINING = frozenset({"reference", "samples", "training_data"})
"""What is made for a model's training alone. A project with another's model has no use for it, and buys no labels."""


def needs_of(asset: str, *, trained_here: bool) -> tuple[str, ...]:
    """What an asset is made from, in a project that trains its model or takes another's."""
    return tuple(need for need in NEEDS[asset] if trained_here or need not in FOR_TRAINING or asset in FOR_TRAINING)


def readers(asset: str, *, trained_here: bool = True) -> tuple[str, ...]:
    """The assets that a project makes from one, near or far, in the order of the graph."""
    found = {asset}
    for name in NEEDS:
        made = trained_here or name not in FOR_TRAINING
        if made and found.intersection(needs_of(name, trained_here=trained_here)):
            found.add(name)
    return tuple(name for name in NEEDS if name in found and name != asset)


def between(asset: str, last: str, *, trained_here: bool = True) -> tuple[str, ...]:
    """The assets on the ways from one to a later one, that one included, in the order of the graph."""
    later = readers(asset, trained_here=trained_here)
    return tuple(name for name in later if name == last or last in readers(name, trained_here=trained_here))


def direct_readers(asset: str, *, trained_here: bool = True) -> tuple[str, ...]:
    """The assets that read an asset's own files."""
    return tuple(name for name in readers(asset, trained_here=trained_here) if asset in NEEDS[name])
