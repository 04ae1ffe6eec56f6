"""What a project takes in a bucket and costs there: bytes, objects and requests of its stages, worked out offline.

US dollars, and GB of 10^9 bytes, as Amazon S3 bills them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

STORED_SHARE: Mapping[str, float] = {
    "tiffs": 0.15,
    "reference": 0.06,
    "eopatches": 0.27,
    "features": 0.55,
    "samples": 0.71,
    "training_data": 1.0,
    "predictions": 0.73,
    "maps": 1.2,
}
"""Bytes that are stored for a byte of arrays, of pixels that the imagery covers: nodata takes hardly anything.

Measured on the demo (one real Sentinel-2 scene at 10 m, of whose 12 bands eight are coarser; labels are few; a map lies
there twice, with its overviews), where tests/e2e holds them to within a quarter. Bands at their own resolution take 1.7
times as much in tiffs, where the demo's four were 0.25. What Sentinel Hub itself delivers was not measured.
"""

WHOLE_READS: Mapping[str, int] = {"tiffs": 1, "features": 1, "samples": 1, "predictions": 1}
"""How many times a stage's objects are read back from the bucket in a run of the whole graph. The stages of one walk
read the working copies of each other."""

RECORD_READS = 4
"""Commit records and claims that are read to make one output."""


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars: a GB and month, a thousand writing or listing requests, a thousand reading ones."""

    gb_month: float
    put_1000: float
    get_1000: float


@dataclass(frozen=True, slots=True)
class StageStorage:
    """What a stage stores for all tiles: bytes, data objects, and commit records, which are objects too.

    `kept` is how long: `keep`, `until ...` or `... days`.
    """

    stage: str
    bytes: int
    objects: int
    records: int
    kept: str = "keep"

    @property
    def stays(self) -> bool:
        """Are its pixels kept for ever?"""
        return self.kept == "keep"

    @property
    def puts(self) -> int:
        """Writing and listing requests: every object, every record; a listing for each output that is read back."""
        return self.objects + self.records * (1 + WHOLE_READS.get(self.stage, 0))

    @property
    def gets(self) -> int:
        """Reading requests, records among them."""
        return self.objects * WHOLE_READS.get(self.stage, 0) + self.records * RECORD_READS

    def monthly(self, prices: Prices) -> float:
        """What it costs to keep, a month."""
        return self.bytes / 1e9 * prices.gb_month

    def requests(self, prices: Prices) -> float:
        """What it costs to make and read it once."""
        return self.puts / 1000 * prices.put_1000 + self.gets / 1000 * prices.get_1000


@dataclass(frozen=True, slots=True)
class StorageCost:
    """The stages of a project in order, and what a bucket costs.

    All of it lies there when a run has made everything (the peak); what is not kept goes with the retention.
    """

    stages: tuple[StageStorage, ...]
    prices: Prices

    @property
    def peak(self) -> StageStorage:
        """Everything at once."""
        return _sum("at the most", self.stages)

    @property
    def stays(self) -> StageStorage:
        """What is left for ever: the stages that are kept, and the records of all."""
        gone = (replace(stage, bytes=0, objects=0) for stage in self.stages if not stage.stays)
        return _sum("stays", [*(stage for stage in self.stages if stage.stays), *gone])

    @property
    def requests(self) -> float:
        """Dollars for the requests of one run of the whole graph."""
        return sum(stage.requests(self.prices) for stage in self.stages)


def stored_bytes(stage: str, raw: float) -> int:
    """Bytes in the bucket of so many bytes of arrays, where imagery covers them."""
    return round(raw * STORED_SHARE[stage])


def chunk_count(shape: Sequence[int], chunks: Sequence[int]) -> int:
    """Objects of a stored array: its chunks and one that describes it."""
    return math.prod(math.ceil(size / chunk) for size, chunk in zip(shape, chunks, strict=True)) + 1


def _sum(name: str, stages: Sequence[StageStorage]) -> StageStorage:
    return StageStorage(
        name,
        sum(stage.bytes for stage in stages),
        sum(stage.objects for stage in stages),
        sum(stage.records for stage in stages),
    )
