"""A stand-in for the part of STS that SeaweedFS lacks: keys with a session token, before a server that knows none."""

from __future__ import annotations

import hmac
import re
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.seaweed import REGION, Key

SIGNING = (b"authorization", b"x-amz-security-token", b"x-amz-date", b"x-amz-content-sha256", b"host")


class TokenExchange:
    """Takes requests that are signed with a key and its session token, and signs them anew with the key alone.

    For a proxy's `rewrite`. A request without the token is forwarded as it is; `exchanged` counts the others.
    """

    def __init__(self, key: Key, token: str, endpoint: str) -> None:
        self._key, self._token, self._endpoint = key, token, endpoint
        self.exchanged = 0

    def __call__(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if not hmac.compare_digest(headers.get(b"x-amz-security-token", b""), self._token.encode()):
            return request
        self.exchanged += 1
        kept = [line for line in lines if line.partition(b":")[0].lower() not in SIGNING]
        return b"\r\n".join([first, *kept, *self._signed(first, headers, body)]) + b"\r\n\r\n" + body

    def _signed(self, first: bytes, headers: dict[bytes, bytes], body: bytes) -> list[bytes]:
        method, path, _ = first.decode("latin-1").split(" ", 2)
        told = {
            name.decode(): value.decode() for name, value in headers.items() if re.match(rb"x-amz-|content-md5", name)
        }
        mine = {name: value for name, value in told.items() if name.encode() not in SIGNING}
        path, _, query = path.partition("?")
        asked = AWSRequest(method, self._endpoint + path, mine, body, dict(parse_qsl(query, keep_blank_values=True)))
        S3SigV4Auth(Credentials(self._key.id, self._key.secret), "s3", REGION).add_auth(asked)
        names = ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256")
        host = self._endpoint.partition("://")[2]
        return [f"host: {host}".encode(), *(f"{name}: {asked.headers[name]}".encode() for name in names)]
