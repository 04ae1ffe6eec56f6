"""What survives a restart: BYOC collections and tiles, batch requests, the key that signs tokens. One SQLite file."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, id TEXT NOT NULL, parent TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE (kind, id)
)
"""
Document = dict[str, Any]


class DocumentStore:
    """JSON documents by kind and id, in order of creation. Safe for several threads; a change is on disk on return."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(SCHEMA)
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def put(self, kind: str, document: Document, parent: str = "") -> None:
        """Add a document, or replace the one of the same kind and id; the order of creation stays."""
        statement = (
            "INSERT INTO documents (kind, id, parent, body) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body"
        )
        with self._lock:
            self._db.execute(statement, (kind, document["id"], parent, json.dumps(document)))

    def get(self, kind: str, identity: str) -> Document | None:
        """The document, None if there is none."""
        with self._lock:
            row = self._db.execute("SELECT body FROM documents WHERE kind=? AND id=?", (kind, identity)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def update(self, kind: str, identity: str, change: Callable[[Document], None]) -> Document | None:
        """Change a document in place, as one step; None if it is no longer there."""
        with self._lock:
            document = self.get(kind, identity)
            if document is not None:
                change(document)
                self.put(kind, document)
        return document

    def all(self, kind: str, parent: str | None = None) -> list[Document]:
        """All documents of a kind (of one parent), oldest first."""
        where, values = ("kind=?", [kind]) if parent is None else ("kind=? AND parent=?", [kind, parent])
        with self._lock:
            rows = self._db.execute(f"SELECT body FROM documents WHERE {where} ORDER BY position", values).fetchall()
        return [json.loads(row[0]) for row in rows]

    def delete(self, kind: str, identity: str) -> None:
        """Remove a document if it is there."""
        with self._lock:
            self._db.execute("DELETE FROM documents WHERE kind=? AND id=?", (kind, identity))

    def delete_children(self, kind: str, parent: str) -> None:
        """Remove all documents of a kind of one parent."""
        with self._lock:
            self._db.execute("DELETE FROM documents WHERE kind=? AND parent=?", (kind, parent))

    def signing_key(self) -> bytes:
        """A secret of this store, made once: tokens stay good over a restart."""
        with self._lock:
            document = self.get("secret", "signing-key")
            if document is None:
                document = {"id": "signing-key", "key": secrets.token_hex(32)}
                self.put("secret", document)
        return bytes.fromhex(document["key"])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
