"""What becomes of scripts that mean harm, and of the service meanwhile: python -m tests.benchmarks.foreign_scripts

A table: HTTP status, seconds, memory of the service before, at its highest during and after the request, the highest
memory of the script's own process, and the message. During each a good request is sent again and again.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

import requests

from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running, stop
from tests.integration.local_sentinel_hub.conftest import make_imagery
from tests.integration.local_sentinel_hub.foreign_scripts import CASES, MORE_CASES, Case, MemoryWatch, script, send

GOOD = Case(script("return [s.B02];"), "")
MB = 1 << 20


def main() -> None:
    """Start a service in a temporary folder, send every case, print the table, end the service."""
    with tempfile.TemporaryDirectory(prefix="foreign-scripts-") as name:
        folder = Path(name)
        collections, _ = make_imagery(folder / "imagery")
        settings = ServiceSettings(folder / "service", collections, script_seconds=3)
        try:
            address = ensure_running(settings, timeout_s=120)
            _table(address.base_url, address.token_url, settings.folder)
        finally:
            stop(settings.folder)


def _table(base_url: str, token_url: str, folder: Path) -> None:
    client = client_of(folder)
    form = {"client_id": client.client_id, "client_secret": client.client_secret, "grant_type": "client_credentials"}
    token = requests.post(token_url, data=form, timeout=60).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    pid = json.loads((folder / "service.json").read_text(encoding="utf-8"))["pid"]
    send(base_url, headers, GOOD)
    print(f"{'case':18} {'HTTP':>4} {'s':>5} {'service RSS, MB':>16} {'script':>7} {'good':>5}  message")
    print(f"{'':18} {'':>4} {'':>5} {'before/peak/after':>16} {'peak MB':>7} {'':>5}")
    for name, case in {**CASES, **MORE_CASES}.items():
        with MemoryWatch(pid) as watch, Neighbour(base_url, headers) as neighbour:
            started = time.monotonic()
            answer = send(base_url, headers, case)
            seconds = time.monotonic() - started
        sizes = f"{watch.before // MB}/{watch.peak // MB}/{watch.after // MB}"
        message = answer.json()["error"]["message"].split("\n")[-1]
        served = f"{neighbour.good}/{neighbour.sent}"
        line = (
            f"{name:18} {answer.status_code:>4} {seconds:>5.1f} {sizes:>16} {watch.children_peak // MB:>7} {served:>5}"
        )
        print(f"{line}  {message}", flush=True)


class Neighbour:
    """Somebody else who sends a good request again and again."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        self.sent = self.good = 0
        self._call = (base_url, headers, GOOD)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._done.is_set() or not self.sent:
            self.sent += 1
            self.good += send(*self._call).status_code == 200


if __name__ == "__main__":
    main()
