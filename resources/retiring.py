"""Retiring an output: its pixels go, its commit record stays and says since when.

A retired output is as up to date as it was: what was made of it stays good, and it can be made again under the same
digest. The record is marked first, by compare-and-swap, and the files are deleted then: a reader between the two is
told what happened, and what a killed process leaves behind the next call deletes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

from eo_assets.errors import StoreError
from resources.output_record import RETIRED_FORMAT, OutputRecord

if TYPE_CHECKING:
    from resources.tile_store import TileStore


def retire(store: TileStore, record: OutputRecord) -> OutputRecord | None:
    """Mark an output and delete its files; None if it was committed anew meanwhile, and is kept.

    Of an output that is marked already what is left of its files is deleted.
    """
    store.claim(record.stage)
    live = store.record(record.stage, record.key)
    if live is None or live.attempt != record.attempt:
        return None
    if not live.retired:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        marked = dataclasses.replace(live, retired=now, format=RETIRED_FORMAT)
        if not store.replace(live, marked):
            return None
        live = marked
    store.store.delete_folder(live.attempt)
    return live


def lost(store: TileStore, record: OutputRecord, told: str) -> StoreError:
    """The error of whoever finds an output's files gone or incomplete: `told`, unless they were retired meanwhile."""
    live = store.record(record.stage, record.key)
    if live is None or not live.retired or live.attempt != record.attempt:
        return StoreError(told)
    setting = f"storage.retention.{record.stage}"
    return StoreError(
        f"{record.stage} of {record.key}: its pixels were retired on {live.retired} ({setting}); a run makes them "
        f"again where something needs them, and what was bought --rebuy {record.key} quotes and buys again"
    )
