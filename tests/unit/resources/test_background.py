"""An iterator in a thread of its own: order, faults, counts, and callers that stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from resources.background import in_background
from resources.service_calls import count, counted_calls


def test_items_come_in_order_and_go_on_while_the_caller_is_busy() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int | None]:
        for number in range(5):
            made.append(number)
            yield number

    found = in_background(numbers)
    first = next(item for item in found if item is not None)
    deadline = time.monotonic() + 10
    while len(made) < 5:  # nobody takes them meanwhile
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [first, *(item for item in found if item is not None)] == [0, 1, 2, 3, 4]


def test_a_fault_comes_after_the_items_before_it() -> None:
    def numbers() -> Iterator[int | None]:
        yield 1
        raise ValueError("broken")

    found = in_background(numbers)
    assert next(item for item in found if item is not None) == 1
    with pytest.raises(ValueError, match="broken"):
        list(found)


def test_calls_count_for_the_caller() -> None:
    def numbers() -> Iterator[int | None]:
        count("requests", 3)
        yield 1

    with counted_calls() as calls:
        list(in_background(numbers))
    assert calls["requests"] == 3


def test_a_caller_that_stops_ends_it_where_it_began() -> None:
    ended: list[str] = []
    gone_on = threading.Event()

    def numbers() -> Iterator[int | None]:
        try:
            while True:
                yield 1
                gone_on.wait(0.01)
        finally:
            ended.append(threading.current_thread().name)

    found = in_background(numbers)
    next(found)
    found.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while not ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ended == ["background"]
