"""The one client that a service lets in: the environment's, or the one that its folder keeps in `client.json`.

Whoever can read the folder's files as their owner may sign in, nobody else on the machine. The secret is in that file
and in the memory of those who use it: never in a command line, a log or a pickled handle.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.settings import ID_VARIABLE, SECRET_VARIABLE

CLIENT = "client.json"


class Client(Protocol):
    """Who is let in."""

    def match(self, client_id: str, client_secret: str) -> bool:
        """Whether the client may have a token."""
        ...


@dataclass(frozen=True)
class Credentials:
    """A client's id and secret."""

    client_id: str
    client_secret: str = field(repr=False)

    def match(self, client_id: str, client_secret: str) -> bool:
        """Whether both are right, found in a time that does not tell which is not."""
        same_id = hmac.compare_digest(self.client_id.encode(), client_id.encode())
        same_secret = hmac.compare_digest(self.client_secret.encode(), client_secret.encode())
        return same_id and same_secret


@dataclass(frozen=True)
class FolderClient:
    """The client of a folder, looked up each time: a lost file is made anew while the service runs."""

    folder: Path

    def match(self, client_id: str, client_secret: str) -> bool:
        """Whether both are those of the folder's client; nobody is let in while there is none."""
        kept = _read(self.folder / CLIENT)
        return kept is not None and kept.match(client_id, client_secret)


def environment_client() -> Credentials | None:
    """The client that the environment names, None if it names none.

    Raises:
        ServiceError: only one of the two variables is set.
    """
    name, secret = os.environ.get(ID_VARIABLE), os.environ.get(SECRET_VARIABLE)
    if bool(name) != bool(secret):
        raise ServiceError(f"{ID_VARIABLE} and {SECRET_VARIABLE} go together: set both of them or neither")
    return Credentials(name, secret) if name and secret else None


def client_of(folder: Path) -> Credentials:
    """The client that a service started by ensure_running() lets in.

    Raises:
        ServiceError: the folder keeps none, or this user may not read it.
    """
    client = environment_client() or _read(folder / CLIENT)
    if client is None:
        raise ServiceError(f"{folder / CLIENT} has no client of the local Sentinel Hub: start it with ensure_running()")
    return client


def keep_client(folder: Path) -> None:
    """Make the folder's client if it has none. The caller holds start.lock, so that two starters make one."""
    path = folder / CLIENT
    if environment_client() is not None or _read(path) is not None:
        return
    made = Credentials(f"local-{secrets.token_hex(4)}", secrets.token_urlsafe(32))
    handle, draft = tempfile.mkstemp(prefix=f".{CLIENT}.", dir=folder)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(made), file)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _read(path: Path) -> Credentials | None:
    try:
        found = Credentials(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # there is none, or it is torn
    except OSError as error:
        raise ServiceError(
            f"{path}: {error.strerror}: only the user who started the local Sentinel Hub of this folder may use it; "
            f"or set {ID_VARIABLE} and {SECRET_VARIABLE} for all who do"
        ) from error
    complete = all(isinstance(value, str) and value for value in (found.client_id, found.client_secret))
    return found if complete else None
