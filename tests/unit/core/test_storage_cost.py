"""Dollars of stored bytes and of requests, and what stays when the rest is let go."""

from __future__ import annotations

import pytest

from eo_assets.core.storage_cost import Prices, StageStorage, StorageCost, chunk_count, stored_bytes

PRICES = Prices(gb_month=0.02, put_1000=0.005, get_1000=0.0004)
TIFFS = StageStorage("tiffs", 3 * 10**12, 1_400_000, 100_000, "until features")
MAPS = StageStorage("maps", 5 * 10**9, 21, 7)


def test_a_terabyte_costs_a_thousand_times_a_gigabyte() -> None:
    assert TIFFS.monthly(PRICES) == pytest.approx(60.0)


def test_requests_are_those_that_write_list_and_read() -> None:
    """Each object and record is put once, each delivery listed and read once; an output asks four records."""
    assert TIFFS.puts == 1_400_000 + 100_000 + 100_000
    assert TIFFS.gets == 1_400_000 + 4 * 100_000
    assert TIFFS.requests(PRICES) == pytest.approx(1600 * 0.005 + 1800 * 0.0004)


def test_what_no_other_run_reads_is_not_read_back() -> None:
    assert (MAPS.puts, MAPS.gets) == (28, 28)


def test_everything_is_there_once_and_what_is_kept_stays_with_all_records() -> None:
    cost = StorageCost((TIFFS, MAPS), PRICES)
    assert (cost.peak.bytes, cost.peak.objects, cost.peak.records) == (3_005_000_000_000, 1_400_021, 100_007)
    assert (cost.stays.bytes, cost.stays.objects, cost.stays.records) == (5 * 10**9, 21, 100_007)
    assert cost.requests == pytest.approx(TIFFS.requests(PRICES) + MAPS.requests(PRICES))


def test_a_project_that_keeps_everything_stays_at_its_peak() -> None:
    cost = StorageCost((MAPS,), PRICES)
    assert cost.stays.bytes == cost.peak.bytes == MAPS.bytes


def test_an_array_is_its_chunks_and_what_describes_it() -> None:
    assert chunk_count((12, 854, 854, 15), (12, 64, 854, 15)) == 14 + 1
    assert chunk_count((60, 130, 300, 2), (60, 64, 256, 2)) == 3 * 2 + 1
    assert chunk_count((0, 64, 64, 1), (1, 64, 64, 1)) == 1, "an array without dates has no chunks"


def test_compression_is_a_share_of_the_arrays() -> None:
    assert stored_bytes("features", 1000) == 550
