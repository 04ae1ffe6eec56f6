"""An iterator that goes on by itself while whoever takes its items is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from resources.service_calls import count, counted_calls

Item = TypeVar("Item")
WAIT_SECONDS = 0.5
_ENDED: Any = object()


def in_background(make: Callable[[], Iterator[Item | None]]) -> Iterator[Item | None]:
    """The items of an iterator that runs in a thread of its own; None whenever there is none yet.

    What it raises is raised here, after the items before it. Its calls to a service count for the caller's thread. A
    caller that stops early stops it at its next item; items are small, so there is no bound on how many wait.
    """
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stopped = threading.Event()
    thread = threading.Thread(target=_pump, args=(make, items, stopped), name="background", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = items.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                yield None
                continue
            if item is _ENDED:
                return
            if isinstance(item, _Raised):
                raise item.error
            if isinstance(item, _Counted):
                for name, number in item.calls.items():
                    count(name, number)
            else:
                yield item
    finally:
        stopped.set()


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Counted:
    def __init__(self, calls: dict[str, float]) -> None:
        self.calls = calls


def _pump(make: Callable[[], Iterator[Any]], items: queue.SimpleQueue[Any], stopped: threading.Event) -> None:
    with counted_calls() as calls:
        iterator = make()
        failure = None
        try:
            for item in iterator:
                if item is not None:
                    items.put(item)
                if stopped.is_set():
                    break
        except BaseException as error:
            failure = _Raised(error)
        finally:
            iterator.close()  # type: ignore[attr-defined]  # releases what it holds, in this thread
    items.put(_Counted(dict(calls)))
    items.put(failure or _ENDED)
