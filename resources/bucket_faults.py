"""What an S3 server refused, told as what it is: which place, what is the matter, what to do.

Of a server's answer nothing is handed on but its status and its error code: S3 repeats tokens and what it signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eo_assets.errors import EoAssetsError, StorageRefused, StoreError, TransientError
from resources.s3_settings import S3Settings

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile"
LATER = "then run it again: what is committed stays, and the run goes on from there"

REFUSED = {
    "InvalidAccessKeyId": ("the server does not know the access key", f"check {KEYS}, and the endpoint"),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", f"check {KEYS}"),
    "ExpiredToken": ("the session token has expired", "log in anew, or set a new AWS_SESSION_TOKEN with its keys"),
    "InvalidToken": ("the session token is not valid", "check AWS_SESSION_TOKEN: it belongs to one access key"),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set the clock (chronyc tracking)"),
    "NoSuchBucket": ("there is no such bucket", "make the bucket, or correct storage.project_folder or the endpoint"),
    "PermanentRedirect": ("the bucket is in another region", "name it under storage.s3.region or in AWS_REGION"),
    "AuthorizationHeaderMalformed": (
        "the bucket is in another region", "name it under storage.s3.region or in AWS_REGION",
    ),
    "IllegalLocationConstraintException": (
        "the bucket is in another region", "name it under storage.s3.region or in AWS_REGION",
    ),
    "InvalidBucketName": ("a bucket can't have this name", "correct storage.project_folder"),
    "AccessDenied": (
        "the key has no permission for this",
        "its policy needs what `eo-assets bucket-policy` prints, and kms:GenerateDataKey and kms:Decrypt on the key of "
        "a bucket with SSE-KMS",
    ),
    "QuotaExceeded": ("the quota of the bucket is used up", "raise it, or free some space"),
    "XMinioStorageFull": ("the server's disks are full", "free some space"),
    "InvalidObjectState": ("the object is archived", "restore it from the archive"),
    "NotImplemented": ("the server lacks a function of S3", "use a server with conditional puts and multipart uploads"),
}  # fmt: skip
"""Error codes of S3 that the next request would meet too: what is the matter, and the remedy."""

PASSING = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict",
                     "OperationAborted", "TooManyRequests"})  # fmt: skip
ODD_KEY = "InvalidPath"
"""Not the server's word: a listing told a key that obstore can't hold, so the whole listing is lost."""

PASSING_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Fault:
    """What obstore's text says of a failed request: status and error code of the answer, or why there was none.

    With the code `ODD_KEY`, `why` is that key.
    """

    status: int | None
    code: str | None
    why: str

    @property
    def passing(self) -> bool:
        """May the same request succeed a little later?"""
        if self.code in REFUSED or self.code == ODD_KEY or self.status == 507:
            return False
        return self.code in PASSING or self.status in PASSING_STATUS or (self.status is None and bool(self.why))


def read_fault(error: BaseException) -> Fault:
    """What is known of a failed request."""
    text = str(error)
    if odd := re.search(r'Error parsing Path "(.*)": ', text):
        return Fault(None, ODD_KEY, odd.group(1))
    status = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)  # the second: one key of a bulk delete
    if code is None and "redirect without LOCATION" in text:
        return Fault(301, "PermanentRedirect", "")
    named = (
        code.group(1) or code.group(2) if code else {301: "PermanentRedirect", 403: "AccessDenied"}.get(_number(status))
    )
    return Fault(_number(status) or None, named, "" if status else _why(text))


def told(fault: Fault, place: str, settings: S3Settings) -> EoAssetsError:
    """The error to raise for a fault, after all retries."""
    if fault.code in REFUSED:
        what, remedy = REFUSED[fault.code]
        return StorageRefused(f"{place}: {what} ({fault.code}, {settings.server}); {remedy}, {LATER}")
    if fault.code == ODD_KEY:
        return StoreError(
            f"{place}: among the objects there is one of the key {fault.why!r}, which some other program made: its "
            "control characters or empty parts keep the rest from being listed; rename it or remove it"
        )
    if fault.status == 507:
        return StorageRefused(f"{place}: the server has no space left ({settings.server}); free some, {LATER}")
    if fault.passing:
        said = fault.why or f"it answered {fault.status} {fault.code or ''}".rstrip()
        return TransientError(f"{place}: {settings.server} could not be used: {said}; tried again until patience ended")
    said = " ".join(str(part) for part in (fault.status, fault.code) if part) or "with an error"
    return StoreError(f"{place}: {settings.server} answered {said}")


def _number(found: re.Match[str] | None) -> int:
    return int(found.group(1)) if found else 0


def _why(text: str) -> str:
    for sign, said in _SIGNS:
        if sign in text:
            return said
    return ""


_SIGNS = (
    ("dns error", "its name can't be resolved: check the endpoint"),
    ("Connection refused", "it refuses connections: is it running, is the endpoint right?"),
    ("invalid peer certificate", "its certificate is not trusted"),
    ("kind: Timeout", "it did not answer in time"),
    ("kind: Connect", "no connection"),
    ("kind: Interrupted", "the connection broke"),
    ("kind: Request", "the connection broke"),
    ("kind: Decode", "the answer was cut off"),
    ("IncompleteBody", "the answer was cut off"),
    ("HTTP error", "the connection broke"),
    ("error decoding response body", "the answer was cut off"),
)
"""What obstore's text of a request without an answer holds, and what that means."""
