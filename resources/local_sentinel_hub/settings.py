"""What one service is given, and where it is found."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from eo_assets.errors import ProjectError
from resources.s3_access import S3Access

ACCESS = tuple(entry.name for entry in fields(S3Access))
HOST = "127.0.0.1"
ID_VARIABLE, SECRET_VARIABLE = "EO_ASSETS_LOCAL_SH_CLIENT_ID", "EO_ASSETS_LOCAL_SH_CLIENT_SECRET"
FAULTS_VARIABLE = "EO_ASSETS_LOCAL_SH_FAULTS"
TOKEN_PATH = "/auth/realms/main/protocol/openid-connect/token"
HEALTH_PATH = "/local/health"


@dataclass(frozen=True)
class ServiceSettings:
    """What a service needs.

    `buckets` maps a bucket's name to the folder that plays it; with `s3` every other name is a bucket of that server,
    with the credentials of the service's own environment; port 0 takes any free one; `script_seconds` is how long
    an evalscript may take for one block of pixels; `faults` lets tests make the service misbehave, see control.py.
    """

    folder: Path
    collections: Path | None
    buckets: Mapping[str, Path] = field(default_factory=dict)
    port: int = 0
    idle_seconds: float = 900.0
    script_seconds: float = 60.0
    faults: bool = False
    s3: S3Access | None = None

    @property
    def faults_allowed(self) -> bool:
        """Whether `faults` or the environment asks for the control calls."""
        return self.faults or os.environ.get(FAULTS_VARIABLE) == "1"

    @property
    def identity(self) -> str:
        """A hash of what the service serves and of its own code: a running service with another one is replaced."""
        places = {name: str(path.resolve()) for name, path in sorted(self.buckets.items())}
        declared = str(self.collections.resolve()) if self.collections else None
        client = os.environ.get(ID_VARIABLE)
        s3 = None if self.s3 is None else asdict(self.s3)
        parts = [declared, places, s3, client, self.script_seconds, self.faults_allowed, _code_digest()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where a running service is."""

    base_url: str

    @property
    def token_url(self) -> str:
        """Where tokens are had."""
        return self.base_url + TOKEN_PATH


def parsed_access(text: str) -> S3Access:
    """How buckets are reached, from the JSON of a command line; `{}` is AWS. A ProjectError for anything else."""
    try:
        told = json.loads(text)
        if not all(value is None or isinstance(value, str) for value in told.values()):
            raise ValueError
        return S3Access(**told)
    except (AttributeError, TypeError, ValueError):
        raise ProjectError(f"--s3: write a JSON object with any of {', '.join(ACCESS)}, each a text") from None


def arguments(settings: ServiceSettings) -> list[str]:
    """The command line of a service with these settings, see __main__."""
    found = ["--folder", str(settings.folder.resolve()), "--port", str(settings.port)]
    found += ["--idle-seconds", str(settings.idle_seconds), "--script-seconds", str(settings.script_seconds)]
    if settings.collections is not None:
        found += ["--collections", str(settings.collections.resolve())]
    for name, path in sorted(settings.buckets.items()):
        found += ["--bucket", f"{name}={path.resolve()}"]
    if settings.s3 is not None:
        found += ["--s3", json.dumps(asdict(settings.s3))]
    return [*found, "--allow-faults"] if settings.faults_allowed else found


def _code_digest() -> str:
    """A hash of the service's own files, so that an upgrade does not leave an old service running."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in (".py", ".js"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
