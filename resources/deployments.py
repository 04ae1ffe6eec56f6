"""What tells one deployment of Sentinel Hub from another: pace, credentials, and how it delivers.

Secrets are read from the environment at the moment of a call, and are on no value here.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from sentinelhub.api.utils import s3_specification

from eo_assets.errors import ServiceError, StorageRefused, StoreError
from resources.object_store import ObjectStore
from resources.service_calls import PATIENT, QUICK, CallPolicy


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a deployment is asked: the bounds of a call, Process requests at a time on a machine, seconds of polls,
    minutes that a stopped job has to rest before it may be started again.

    60 and 5 seconds are the least that the `sentinelhub` client lets its own monitors of batch requests poll with.
    """

    policy: CallPolicy = PATIENT
    max_process_requests: int = 4
    poll_seconds: float = 60.0
    analysis_poll_seconds: float = 5.0
    restart_minutes: float = 30.0


REMOTE_PACE = Pace()
LOCAL_PACE = Pace(QUICK, max_process_requests=2, poll_seconds=0.25, analysis_poll_seconds=0.25, restart_minutes=0.0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a service reaches the project folder: by a role on AWS, by a key pair, or as a folder of its own machine.

    `bucket` is the project folder as the service sees it, `s3://bucket/prefix`.
    """

    kind: Literal["role", "keys", "folder"] = "folder"
    bucket: str | None = None
    iam_role_arn: str | None = None
    region: str | None = None

    def access(self, service: str, url: str, prefix: str) -> dict[str, Any]:
        """The part of a request that names a place in a bucket and the right to it. Holds secrets with `keys`.

        Raises:
            ServiceError: the role or the keys are not given.
        """
        if self.kind == "folder":
            return {"s3": {"url": url}}
        if self.kind == "role":
            if not self.iam_role_arn:
                raise ServiceError(
                    f"service {service} delivers by a role: give services.{service}.iam_role_arn, a role that it may "
                    "assume and that may write to the bucket"
                )
            granted = {"iam_role_arn": self.iam_role_arn}
        else:
            names = (f"{prefix}DELIVERY_ACCESS_KEY", f"{prefix}DELIVERY_SECRET_KEY")
            access_key, secret = from_environment(f"service {service} delivers by a key pair", *names)
            granted = {"access_key": access_key, "secret_access_key": secret}
        return dict(s3_specification(url, region=self.region, **granted))


IN_PLACE = Delivery()
"""A service that sees the project folder itself needs no right to it."""


def from_environment(what: str, *names: str) -> tuple[str, ...]:
    """The values of variables that all have to be set, or a ServiceError that names them."""
    values = tuple(os.environ.get(name, "") for name in names)
    if not all(values):
        raise ServiceError(f"{what}: set {' and '.join(names)} in the environment of Dagster and of its workers")
    return values


def probe_delivery(store: ObjectStore, folder: str) -> None:
    """Write, read back and delete a small object where deliveries go, so that nothing is bought that can't be taken.

    It proves our own rights. Those of the service's role or keys only the service can prove, when it delivers.

    Raises:
        StoreError: it can't be done; names the folder and the remedy.
    """
    key, data = f"{folder}/.probe-{secrets.token_hex(8)}", secrets.token_bytes(64)
    where = store.place(folder)
    remedy = "nothing was ordered; give the user of this run the right to write, read and delete there"
    try:
        store.create(key, data)
        found = store.get(key)
        store.delete(key)
    except StorageRefused as error:
        raise StorageRefused(f"deliveries can't be written, so nothing was ordered: {error}") from error
    except OSError as error:
        raise StoreError(f"{where}: deliveries go here, but {error.strerror or error}; {remedy}") from error
    if found != data:
        raise StoreError(f"{where}: deliveries go here, but what was written does not come back as it was; {remedy}")
    if store.get(key) is not None:
        raise StoreError(f"{where}: deliveries go here, but what was deleted is still there; {remedy}")
