"""Dagster's event log in SQLite, kept from tidying itself up at every single event."""

import contextlib
import sqlite3
from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

INDEX = "index"


@contextlib.contextmanager
def held_open(instance: dg.DagsterInstance, run_id: str | None = None) -> Iterator[None]:
    """Hold the log's files open while many events are stored; nothing to do for another kind of storage.

    Dagster opens and closes a file for every event, and SQLite writes its journal back into a file that nobody else has
    open: two waits for the disk an event, five times as long on a busy machine as with a connection that stays.
    """
    storage = instance.event_log_storage
    with contextlib.ExitStack() as stack:
        if isinstance(storage, SqliteEventLogStorage):
            for shard in (INDEX, *([run_id] if run_id else [])):
                connection = sqlite3.connect(f"file:{storage.path_for_shard(shard)}?mode=ro", uri=True)
                stack.enter_context(contextlib.closing(connection))
                # A file counts as open once it has been read.
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield
