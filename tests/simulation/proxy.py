"""deploy/proxy/eo-assets.conf in a real nginx over TLS, on free ports, with a stand-in for oauth2-proxy behind it."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from tests.simulation.daemon import ROOT, Servers, free_port, until

FILE = ROOT / "deploy/proxy/eo-assets.conf"
NGINX = "/usr/sbin/nginx"
HOST, GUESTS = "eo.example.com", "guests.eo.example.com"
COOKIE = "_oauth2_proxy"
SECRET = "0c1b4d0b9f3e"


class SignIn(http.server.BaseHTTPRequestHandler):
    """What oauth2-proxy documents of its `auth` endpoint: 202 with the address, 401, or 403 for another group."""

    members: Mapping[str, str] = {"ann@example.com": "eo-assets", "joe@example.com": "others"}

    def do_GET(self) -> None:
        """The cookie is the person's address, here alone."""
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        who = cookie.value if cookie else ""
        asked = urlsplit(self.path)
        groups = parse_qs(asked.query).get("allowed_groups")
        if asked.path != "/oauth2/auth":
            self._answer(200, {"X-Page": asked.path, "X-Back": self.headers.get("X-Auth-Request-Redirect", "")})
        elif who not in self.members:
            self._answer(401, {})
        elif groups and self.members[who] not in groups:
            self._answer(403, {})
        else:
            self._answer(202, {"X-Auth-Request-Email": who})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _answer(self, code: int, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()


@dataclass
class Person(Servers):
    """A browser: GraphQL through the proxy under one of its names, with the cookie of who is signed in."""

    certificate: str = ""
    host: str = HOST
    who: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        """A request as this person's browser would make it; redirects are not followed."""
        cookies = {COOKIE: self.who} if self.who else {}
        headers = {"Host": self.host, **self.headers}
        address = f"https://127.0.0.1:{self.port}{path}"
        given: dict[str, Any] = {"cookies": cookies, "headers": headers, "verify": self.certificate, **more}
        return requests.request(method, address, allow_redirects=False, timeout=60, **given)

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer to a GraphQL request. Any refusal is a RuntimeError."""
        answer = self.send("POST", "/graphql", json={"query": query, "variables": variables})
        if answer.status_code != requests.codes.ok or "errors" in answer.json():
            raise RuntimeError(f"{answer.status_code}: {answer.text[:3000]}")
        return answer.json()["data"]


def configuration(folder: Path, ports: Mapping[str, int]) -> Path:
    """A main file of nginx around eo-assets.conf with folders and ports of this machine, and a certificate."""
    text = FILE.read_text()
    for port, mine in ports.items():
        text = text.replace(f"listen {port}", f"listen 127.0.0.1:{mine}").replace(
            f"127.0.0.1:{port};", f"127.0.0.1:{mine};"
        )
    (folder / "eo-assets.conf").write_text(text.replace("/etc/nginx/", f"{folder}/"))
    (folder / "eo-assets-secret.conf").write_text(f"proxy_set_header X-Eo-Assets-Proxy {SECRET};\n")
    (folder / "eo-assets").mkdir()
    _make_certificate(folder / "eo-assets")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root;\nworker_processes 1;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log {folder}/access.log;\n{temporary}include {folder}/eo-assets.conf;\n}}\n"
    )
    return folder / "nginx.conf"


@contextlib.contextmanager
def proxy(started: Servers, folder: Path, webserver: int, guests: int) -> Iterator[Person]:
    """nginx before two webservers; yields a person who is not signed in. Nothing is left running."""
    sign_in = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SignIn)
    threading.Thread(target=sign_in.serve_forever, daemon=True).start()
    mine = {"80": free_port(), "443": free_port(), "4180": sign_in.server_port, "3000": webserver, "3001": guests}
    main = configuration(folder, mine)
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(main)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(process, mine["443"]), "nginx", 30)
        certificate = str(folder / "eo-assets/fullchain.pem")
        yield Person(started.loaded, started.home, mine["443"], started.code_port, {}, certificate=certificate)
    finally:
        process.terminate()
        process.wait(30)
        sign_in.shutdown()
        sign_in.server_close()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        raise RuntimeError("nginx ended at once; its error.log says why")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _make_certificate(folder: Path) -> None:
    openssl = shutil.which("openssl") or "openssl"
    names = f"subjectAltName=IP:127.0.0.1,DNS:{HOST},DNS:{GUESTS}"
    made = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        [openssl, "req", *options, "-subj", "/CN=eo-assets test", "-addext", names, *made],
        check=True,
        capture_output=True,
    )
