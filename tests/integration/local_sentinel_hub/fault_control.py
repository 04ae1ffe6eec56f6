"""The control calls of a service under test, as a person would make them: plain HTTP with a token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests

from resources.local_sentinel_hub.server import ServiceSettings, client_of, ensure_running


@dataclass
class Control:
    """A started service and a token for it."""

    settings: ServiceSettings
    base_url: str = field(init=False)
    token: str = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start the service if it does not run, and sign in."""
        self.base_url = ensure_running(self.settings, timeout_s=120).base_url
        self.sign_in()

    def sign_in(self) -> dict[str, Any]:
        """Take a new token."""
        client = client_of(self.settings.folder)
        form = {"grant_type": "client_credentials"}
        form |= {"client_id": client.client_id, "client_secret": client.client_secret}
        answer = requests.post(f"{self.base_url}/oauth/token", data=form, timeout=30)
        answer.raise_for_status()
        given: dict[str, Any] = answer.json()
        self.token = given["access_token"]
        return given

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Any call, its answer whatever it is."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.request(method, self.base_url + path, json=body, headers=headers, timeout=60)

    def status(self, path: str = "/api/v2/batch/tilinggrids") -> int:
        """The status of a GET that is cheap."""
        return self.call("GET", path).status_code

    def set(self, **faults: Any) -> dict[str, Any]:
        """Switch faults on, all others off."""
        self.clear()
        return self.add(**faults)

    def add(self, **faults: Any) -> dict[str, Any]:
        """Switch faults on."""
        answer = self.call("POST", "/local/faults", faults)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def clear(self) -> None:
        """Switch all faults off."""
        assert self.call("DELETE", "/local/faults").status_code == 204

    def counts(self) -> dict[str, int]:
        """How often each fault was looked at or struck."""
        return dict(self.call("GET", "/local/faults").json()["counts"])

    def log(self) -> list[dict[str, Any]]:
        """The log of calls."""
        return list(self.call("GET", "/local/log").json()["calls"])

    def spent(self) -> dict[str, Any]:
        """The sums of charges."""
        return dict(self.call("GET", "/local/spent").json())
