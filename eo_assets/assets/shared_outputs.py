"""Outputs that are not a tile's: what one should be, made only when it is not that yet, its failure remembered."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eo_assets.errors import EoAssetsError, StoreError
from resources.output_record import OutputRecord
from resources.tile_store import TileStore


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an output should be: its recipe, and the digests of what it is made from."""

    recipe: str
    inputs: Mapping[str, str] = field(default_factory=dict)


Write = Callable[[Path], Mapping[str, Any]]
"""Fills the attempt folder and returns a few numbers."""


def ensure(store: TileStore, asset: str, key: str, wanted: Wanted, write: Write) -> OutputRecord:
    """The committed output, made first unless it is what is wanted. Never another project's output.

    Where another run commits the very same meanwhile, its output is as good as ours.
    """
    store.claim(asset)
    record = store.record(asset, key)
    if record is not None and record.recipe == wanted.recipe:
        return record
    with store.attempt(asset, key) as attempt:
        started = time.perf_counter()
        numbers = {**write(attempt.folder), "seconds": round(time.perf_counter() - started, 3)}
        try:
            return store.commit(asset, key, attempt, wanted.recipe, numbers=numbers, inputs=wanted.inputs)
        except StoreError:
            record = store.record(asset, key)
            if record is not None and record.recipe == wanted.recipe:
                return record
            raise


def live_record(store: TileStore, asset: str, remedy: str) -> OutputRecord:
    """The record of an output that must exist; `remedy` is what to run first."""
    record = store.record(asset, asset)
    if record is None:
        raise StoreError(f"there is no {asset} yet; run it first: --only {remedy}")
    return record


@contextlib.contextmanager
def noting_failure(store: TileStore, asset: str, key: str) -> Iterator[None]:
    """Remember why an output could not be made, for `status`; committing it forgets."""
    try:
        yield
    except EoAssetsError as error:
        store.note_failure(asset, key, str(error))
        raise
    except Exception as error:
        store.note_failure(asset, key, f"{type(error).__name__}: {error}")
        raise
