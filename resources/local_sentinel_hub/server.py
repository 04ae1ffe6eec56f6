"""The service as a process: one a folder, found by its lock file, started when needed, ending by itself when idle.

In the folder: `state.sqlite` (what survives), `service.json` (pid, port and identity of the running process),
`alive.lock` (held by it as long as it lives: the kernel lets go, however it ends), `start.lock` (held while one is
started or ended), `service.log`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import requests

from eo_assets.errors import ServiceError

HOST = "127.0.0.1"
ID_VARIABLE, SECRET_VARIABLE = "EO_ASSETS_LOCAL_SH_CLIENT_ID", "EO_ASSETS_LOCAL_SH_CLIENT_SECRET"
TOKEN_PATH = "/auth/realms/main/protocol/openid-connect/token"
HEALTH_PATH = "/local/health"
POLL_S = 0.1
STOP_S = 30.0
OPEN_FILES = 65536
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceSettings:
    """What a service needs.

    `buckets` maps a bucket's name to the folder that plays it; port 0 takes any free one; `script_seconds` is how long
    an evalscript may take for one block of pixels.
    """

    folder: Path
    collections: Path | None
    buckets: Mapping[str, Path] = field(default_factory=dict)
    port: int = 0
    idle_seconds: float = 900.0
    script_seconds: float = 60.0

    @property
    def identity(self) -> str:
        """A hash of what the service serves and of its own code: a running service with another one is replaced."""
        places = {name: str(path.resolve()) for name, path in sorted(self.buckets.items())}
        declared = str(self.collections.resolve()) if self.collections else None
        parts = [declared, places, os.environ.get(ID_VARIABLE), self.script_seconds, _code_digest()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where a running service is."""

    base_url: str

    @property
    def token_url(self) -> str:
        """Where tokens are had."""
        return self.base_url + TOKEN_PATH


def ensure_running(settings: ServiceSettings, timeout_s: float = 60.0) -> ServiceAddress:
    """The address of the folder's service; starts it, detached, if it does not run or runs with other settings or code.

    Safe to call from several processes at once: they share one service.

    Raises:
        ServiceError: it can't be started, or it is busy with other settings.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with _locked(settings.folder / "start.lock", deadline):
        running = _wait_for_answer(settings.folder, deadline) if _alive(settings.folder) else None
        if running is not None and running["identity"] == settings.identity:
            return ServiceAddress(running["base_url"])
        if running is not None:
            if running["busy"]:
                raise ServiceError(
                    f"the local Sentinel Hub of {settings.folder} is busy with a job under other settings; wait for it "
                    "or stop it: `eo-assets sentinel-hub stop`"
                )
            _terminate(settings.folder)
        return _start(settings, deadline)


def stop(folder: Path) -> bool:
    """End the folder's service. Returns whether one was running. Jobs in hand go on when it runs again."""
    if not folder.is_dir():
        return False
    with _locked(folder / "start.lock", time.monotonic() + STOP_S):
        return _terminate(folder)


def serve(settings: ServiceSettings) -> None:
    """Run the service in the foreground until SIGINT or SIGTERM, or until it is idle; prints its address.

    Raises:
        ServiceError: the folder's service runs already, or the port is taken.
        ProjectError: the file of collections can't be used.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    alive = _hold(settings.folder / "alive.lock")
    if alive is None:
        address = (_read_info(settings.folder) or {}).get("base_url", "an address that is not known yet")
        raise ServiceError(f"the local Sentinel Hub of {settings.folder} already runs at {address}")
    with alive, _bound(settings.port) as listener:
        _prepare_process()
        _run(settings, listener)


def _run(settings: ServiceSettings, listener: socket.socket) -> None:
    # Heavy imports stay out of clients, who import this module only to start the service.
    import uvicorn

    from resources.local_sentinel_hub.app import make_app
    from resources.local_sentinel_hub.script_child import ScriptLimits
    from resources.local_sentinel_hub.service import Service
    from resources.local_sentinel_hub.tokens import Credentials

    name, secret = os.environ.get(ID_VARIABLE), os.environ.get(SECRET_VARIABLE)
    credentials = Credentials(name, secret) if name and secret else None
    limits = ScriptLimits(call_s=settings.script_seconds)
    service = Service(settings.folder, settings.collections, settings.buckets, credentials, limits)
    info = {
        "pid": os.getpid(),
        "base_url": f"http://{HOST}:{listener.getsockname()[1]}",
        "identity": settings.identity,
        "instance": uuid.uuid4().hex,
    }
    server = uvicorn.Server(uvicorn.Config(make_app(service, info), log_config=None, access_log=False, lifespan="on"))
    _write_info(settings.folder, info)
    print(f"local Sentinel Hub at {info['base_url']}, tokens at {info['base_url']}{TOKEN_PATH}", flush=True)
    watch = threading.Thread(target=_end_when_idle, args=(settings, service, server), daemon=True)
    watch.start()
    try:
        server.run(sockets=[listener])
    finally:
        _forget_info(settings.folder, info)


def _end_when_idle(settings: ServiceSettings, service: Any, server: Any) -> None:
    while not server.should_exit:
        time.sleep(min(1.0, settings.idle_seconds / 4))
        if service.idle_s < settings.idle_seconds:
            continue
        lock = _hold(settings.folder / "start.lock")
        if lock is None:
            continue  # somebody is just about to use the service
        with lock:
            (settings.folder / "service.json").unlink(missing_ok=True)
            LOG.info("idle for %g s: ending", settings.idle_seconds)
            server.should_exit = True


def _start(settings: ServiceSettings, deadline: float) -> ServiceAddress:
    command = [sys.executable, "-P", "-m", "resources.local_sentinel_hub", *arguments(settings)]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    log = settings.folder / "service.log"
    with log.open("ab") as output:
        started = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=settings.folder,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
    while time.monotonic() < deadline:
        info = _answer(settings.folder)
        if info is not None and info["pid"] == process.pid:
            threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie when it ends
            return ServiceAddress(info["base_url"])
        if process.poll() is not None:
            break
        time.sleep(POLL_S)
    process.kill()
    process.wait()
    said = log.read_bytes()[started:].decode("utf-8", "replace").strip().splitlines()
    reason = said[-1] if said else "it said nothing"
    raise ServiceError(f"the local Sentinel Hub did not start: {reason} (all of it in {log})")


def arguments(settings: ServiceSettings) -> list[str]:
    """The command line of a service with these settings, see __main__."""
    found = ["--folder", str(settings.folder.resolve()), "--port", str(settings.port)]
    found += ["--idle-seconds", str(settings.idle_seconds), "--script-seconds", str(settings.script_seconds)]
    if settings.collections is not None:
        found += ["--collections", str(settings.collections.resolve())]
    for name, path in sorted(settings.buckets.items()):
        found += ["--bucket", f"{name}={path.resolve()}"]
    return found


def _terminate(folder: Path) -> bool:
    """End the process that holds alive.lock: while that is held the pid is right. The caller holds start.lock."""
    sent: int | None = None
    deadline = time.monotonic() + STOP_S
    while (lock := _hold(folder / "alive.lock")) is None:
        info = _read_info(folder)
        if info is not None and sent is None:
            sent = int(info["pid"])
            os.kill(sent, signal.SIGTERM)
        elif sent is not None and time.monotonic() > deadline:
            os.kill(sent, signal.SIGKILL)
        elif sent is None and time.monotonic() > deadline:
            raise ServiceError(
                f"the local Sentinel Hub of {folder} does not end and its service.json is gone; end it by hand"
            )
        time.sleep(POLL_S)
    lock.close()
    (folder / "service.json").unlink(missing_ok=True)
    return sent is not None


def _wait_for_answer(folder: Path, deadline: float) -> dict[str, Any] | None:
    """What the living service answers; None if it ends meanwhile."""
    while time.monotonic() < deadline:
        info = _answer(folder)
        if info is not None or not _alive(folder):
            return info
        time.sleep(POLL_S)
    raise ServiceError(f"the local Sentinel Hub of {folder} lives but does not answer; see {folder / 'service.log'}")


def _answer(folder: Path) -> dict[str, Any] | None:
    """service.json together with what the service there says of itself, if it is the one that wrote it."""
    info = _read_info(folder)
    if info is None:
        return None
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy between this machine and itself
            said = session.get(info["base_url"] + HEALTH_PATH, timeout=5).json()
    except (requests.RequestException, ValueError):
        return None
    return {**info, "busy": said.get("busy")} if said.get("instance") == info["instance"] else None


def _read_info(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / "service.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _write_info(folder: Path, info: Mapping[str, Any]) -> None:
    draft = folder / f"service.json.{os.getpid()}"
    draft.write_text(json.dumps(info), encoding="utf-8")
    draft.replace(folder / "service.json")


def _forget_info(folder: Path, info: Mapping[str, Any]) -> None:
    if (_read_info(folder) or {}).get("instance") == info["instance"]:
        (folder / "service.json").unlink(missing_ok=True)


def _alive(folder: Path) -> bool:
    lock = _hold(folder / "alive.lock")
    if lock is not None:
        lock.close()
    return lock is None


def _hold(path: Path) -> IO[bytes] | None:
    """An exclusive lock, released when the file is closed; None if somebody else has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise
    return file


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    while (lock := _hold(path)) is None:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"another process has been starting the local Sentinel Hub for too long; see {path.parent}"
            )
        time.sleep(POLL_S)
    with lock:
        yield


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise ServiceError(
                f"port {port} of {HOST} can't be used ({error.strerror}); choose another, or 0 for any"
            ) from error
        listener.listen(128)
        yield listener


def _prepare_process() -> None:
    """Settings of this process alone: GDAL reads no side files and keeps a small cache, many files may be open."""
    os.environ.setdefault("GDAL_CACHEMAX", "256")
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    os.environ["GDAL_PAM_ENABLED"] = "NO"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _code_digest() -> str:
    """A hash of the service's own files, so that an upgrade does not leave an old service running."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in (".py", ".js"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
