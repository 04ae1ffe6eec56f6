"""What the C library is told of memory, and what it is not."""

from __future__ import annotations

import pytest

from resources import heap


def test_an_old_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    def refuses(name: int, value: int) -> int:
        told.append((name, value))
        return 0

    monkeypatch.setattr(heap, "_function", lambda name: refuses)
    heap.keep_freed()
    assert told == [(heap.MMAP_THRESHOLD, heap.LARGEST)], "the other limit alone would only do harm"


def test_elsewhere_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_function", lambda name: None)
    heap.keep_freed()
    heap.give_back()
