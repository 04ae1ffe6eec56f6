"""The service in the foreground: what ensure_running() starts and `eo-assets sentinel-hub serve` is."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn

from eo_assets.errors import ServiceError
from resources.core_dumps import forbid_core_dumps
from resources.gdal_s3 import server_options
from resources.local_sentinel_hub.app import make_app
from resources.local_sentinel_hub.buckets import Buckets
from resources.local_sentinel_hub.credentials import CLIENT, FolderClient, environment_client, keep_client
from resources.local_sentinel_hub.script_child import ScriptLimits
from resources.local_sentinel_hub.service import Service
from resources.local_sentinel_hub.service_folder import (
    ALIVE,
    DRAFTS,
    INFO,
    POLL_S,
    START,
    forget_info,
    hold,
    read_info,
    write_info,
)
from resources.local_sentinel_hub.settings import HOST, TOKEN_PATH, ServiceSettings
from resources.s3_access import S3Access

OPEN_FILES = 65536
LOOK_S = 1.0
SHUTDOWN_S = 20
LOGGER = logging.getLogger(__name__)


def run(settings: ServiceSettings, own_client: bool = False) -> None:
    """See resources.local_sentinel_hub.server.serve."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOOK_S
    while (lock := hold(settings.folder / ALIVE)) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)  # it may only be somebody who looks whether a service is there
    if lock is None:
        address = (read_info(settings.folder) or {}).get("base_url", "an address that is not known yet")
        raise ServiceError(f"the local Sentinel Hub of {settings.folder} already runs at {address}")
    with lock, _bound(settings.port) as listener:
        (settings.folder / INFO).unlink(missing_ok=True)  # of a process that was killed
        _prepare_process(settings.s3)
        if settings.s3 is not None and not own_client:
            # Whoever is let in reads and writes buckets by the credentials of whoever started the service.
            own_client = True
            keep_client(settings.folder)
            print(f"clients sign in with the id and secret in {settings.folder / CLIENT}", flush=True)
        _serve(settings, listener, own_client)


def _serve(settings: ServiceSettings, listener: socket.socket, own_client: bool) -> None:
    client = environment_client() or (FolderClient(settings.folder) if own_client else None)
    limits = ScriptLimits(call_s=settings.script_seconds)
    drafts = settings.folder.resolve() / DRAFTS
    shutil.rmtree(drafts, ignore_errors=True)  # of a process that was killed
    buckets = Buckets(dict(settings.buckets), drafts, settings.s3)
    service = Service(settings.folder, settings.collections, buckets, client, limits, settings.faults_allowed)
    info = {
        "pid": os.getpid(),
        "base_url": f"http://{HOST}:{listener.getsockname()[1]}",
        "identity": settings.identity,
        "instance": uuid.uuid4().hex,
    }
    app = make_app(service, info)
    # No access log of uvicorn's: the app logs addresses itself, headers and bodies never.
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=SHUTDOWN_S)
    )
    app.state.connections = server.server_state.connections
    write_info(settings.folder, info)
    print(f"local Sentinel Hub at {info['base_url']}, tokens at {info['base_url']}{TOKEN_PATH}", flush=True)
    watch = threading.Thread(target=_end_when_idle, args=(settings, service, server), daemon=True)
    watch.start()
    try:
        server.run(sockets=[listener])
    finally:
        forget_info(settings.folder, info)


def _end_when_idle(settings: ServiceSettings, service: Service, server: uvicorn.Server) -> None:
    while not server.should_exit:
        time.sleep(min(1.0, settings.idle_seconds / 4))
        if service.idle_s < settings.idle_seconds:
            continue
        lock = hold(settings.folder / START)
        if lock is None:
            continue  # somebody is just about to use the service
        with lock:
            (settings.folder / INFO).unlink(missing_ok=True)
            LOGGER.info("idle for %g s: ending", settings.idle_seconds)
            server.should_exit = True


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


def _prepare_process(s3: S3Access | None) -> None:
    """Settings of this process alone: GDAL reads no side files and keeps a small cache, many files may be open."""
    forbid_core_dumps()
    if s3 is not None:
        os.environ.update(server_options(s3))
        os.environ["CPL_VSIL_CURL_NON_CACHED"] = "/vsis3/"  # an object may be replaced, and ingested again
    os.environ.setdefault("GDAL_CACHEMAX", "256")
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    os.environ["GDAL_PAM_ENABLED"] = "NO"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
