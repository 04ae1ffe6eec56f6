"""Starting, finding and ending the service of a folder: one process a folder, shared by all who ask for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import requests

from eo_assets.errors import ServiceError
from resources.local_sentinel_hub.credentials import client_of, keep_client
from resources.local_sentinel_hub.service_folder import (
    ALIVE,
    INFO,
    LOG,
    POLL_S,
    START,
    alive,
    hold,
    keep_state_id,
    locked,
    read_info,
)
from resources.local_sentinel_hub.settings import HEALTH_PATH, ServiceAddress, ServiceSettings, arguments

__all__ = ["ServiceAddress", "ServiceSettings", "client_of", "ensure_running", "serve", "stop"]

STOP_S = 30.0


def ensure_running(settings: ServiceSettings, timeout_s: float = 60.0) -> ServiceAddress:
    """The address of the folder's service; starts it, detached, if it does not run or runs with other settings or code.

    Safe to call from several processes at once: they share one service. It lets in client_of(folder) and nobody else.

    Raises:
        ServiceError: it can't be started, or it is busy with other settings.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with locked(settings.folder / START, deadline):
        keep_client(settings.folder)
        keep_state_id(settings.folder)
        running = _wait_for_answer(settings.folder, deadline) if alive(settings.folder) else None
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
    with locked(folder / START, time.monotonic() + STOP_S):
        return _terminate(folder)


def serve(settings: ServiceSettings, own_client: bool = False) -> None:
    """Run the service in the foreground until SIGINT or SIGTERM, or until it is idle; prints its address.

    It lets in the client that the environment names. If it names none: with `own_client` the one that the folder keeps,
    as ensure_running() has it; else whoever comes, for a person who tries it out. Not so with real buckets,
    which are reached by this process's credentials: then too it lets in the folder's client, and says so.

    Raises:
        ServiceError: the folder's service runs already, or the port is taken.
        ProjectError: the file of collections can't be used.
    """
    # Here, because clients import this module only to start the service, and need nothing of what it is made of.
    from resources.local_sentinel_hub.serving import run

    run(settings, own_client)


def _start(settings: ServiceSettings, deadline: float) -> ServiceAddress:
    command = [sys.executable, "-P", "-m", "resources.local_sentinel_hub", *arguments(settings), "--own-client"]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    log = settings.folder / LOG
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


def _terminate(folder: Path) -> bool:
    """End the process that holds alive.lock: while that is held the pid is right. The caller holds start.lock."""
    sent: int | None = None
    deadline = time.monotonic() + STOP_S
    while (lock := hold(folder / ALIVE)) is None:
        info = read_info(folder)
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
    (folder / INFO).unlink(missing_ok=True)
    return sent is not None


def _wait_for_answer(folder: Path, deadline: float) -> dict[str, Any] | None:
    """What the living service answers; None if it ends meanwhile."""
    while time.monotonic() < deadline:
        info = _answer(folder)
        if info is not None or not alive(folder):
            return info
        time.sleep(POLL_S)
    raise ServiceError(f"the local Sentinel Hub of {folder} lives but does not answer; see {folder / 'service.log'}")


def _answer(folder: Path) -> dict[str, Any] | None:
    """service.json together with what the service there says of itself, if it is the one that wrote it."""
    info = read_info(folder)
    if info is None:
        return None
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy between this machine and itself
            said = session.get(info["base_url"] + HEALTH_PATH, timeout=5).json()
    except (requests.RequestException, ValueError):
        return None
    return {**info, "busy": said.get("busy")} if said.get("instance") == info["instance"] else None
