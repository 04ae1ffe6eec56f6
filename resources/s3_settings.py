"""What S3Access leaves open, settled by the environment and the AWS configuration: endpoint, region, credentials.

Credentials live in botocore's objects, in this process only: nothing here is pickled, shown or logged.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from eo_assets.errors import StorageRefused
from resources.core_dumps import forbid_core_dumps
from resources.s3_access import S3Access

FALLBACK_REGION = "us-east-1"
"""What servers other than AWS call their only region."""

HANDED_OUT = dt.timedelta(minutes=9)
"""How long credentials are used until the chain is asked again: botocore renews its own 10 minutes before their end."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where requests go. `endpoint` None is AWS; it holds no user info."""

    endpoint: str | None
    region: str
    virtual: bool

    @property
    def server(self) -> str:
        """For messages."""
        return self.endpoint or f"AWS S3 in {self.region}"


class FrozenKey(Protocol):
    """A key of this moment."""

    access_key: str
    secret_key: str
    token: str | None


class Session(Protocol):
    """What is used of a botocore session; botocore has no types."""

    def get_credentials(self) -> Credentials | None: ...
    def get_scoped_config(self) -> dict[str, object]: ...


class Credentials(Protocol):
    """What is used of botocore's credentials: they renew themselves where the chain can."""

    def get_frozen_credentials(self) -> FrozenKey: ...


def settings(access: S3Access) -> S3Settings:
    """Endpoint, region and addressing: what `access` says, else the environment, else the profile."""
    profile = _profile(access.profile, os.environ.get("AWS_PROFILE"), os.environ.get("AWS_CONFIG_FILE"))
    endpoint = access.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = _checked(endpoint or profile.get("endpoint_url"))
    region = access.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    addressing = access.addressing or ("virtual" if endpoint is None else "path")
    return S3Settings(endpoint, region or profile.get("region") or FALLBACK_REGION, addressing == "virtual")


def credentials(access: S3Access) -> Credentials:
    """Credentials of the AWS chain or of the named profile. None found is a StorageRefused.

    A process that holds them leaves no core dump from here on, whoever started it.
    """
    import botocore.exceptions

    forbid_core_dumps()

    try:
        found = _session(access.profile).get_credentials()
    except botocore.exceptions.ProfileNotFound:
        raise _no_profile(access) from None
    except botocore.exceptions.BotoCoreError as error:
        raise StorageRefused(f"AWS credentials can't be read ({type(error).__name__}); {_WHERE}") from None
    if found is None:
        named = f"profile {access.profile} holds no credentials" if access.profile else "no AWS credentials were found"
        raise StorageRefused(f"{named}; {_WHERE}")
    return found


@dataclass(frozen=True)
class Handing:
    """Credentials as obstore asks for them, again and again."""

    source: Credentials

    def __call__(self) -> dict[str, object]:
        """A key of this moment, with when to ask again."""
        until = dt.datetime.now(dt.UTC) + HANDED_OUT
        key = self.source.get_frozen_credentials()
        return {
            "access_key_id": key.access_key,
            "secret_access_key": key.secret_key,
            "token": key.token,
            "expires_at": until,
        }

    def __repr__(self) -> str:
        return "Handing()"


_WHERE = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or name a profile under storage.s3.profile, "
    "or give the machine a role"
)


def forget_profiles() -> None:
    """Read the AWS configuration anew when it is next needed."""
    _profile.cache_clear()


def _session(profile: str | None) -> Session:
    import botocore.session

    session: Session = botocore.session.Session(profile=profile)
    return session


@functools.lru_cache(maxsize=16)
def _profile(name: str | None, chosen: str | None, file: str | None) -> dict[str, str]:
    """The plain settings of a profile; none that is named is a StorageRefused, none at all is nothing."""
    import botocore.exceptions

    try:
        config = _session(name).get_scoped_config()
    except botocore.exceptions.ProfileNotFound:
        raise _no_profile(S3Access(profile=name or chosen)) from None
    return {key: value for key in ("endpoint_url", "region") if isinstance(value := config.get(key), str)}


def _no_profile(access: S3Access) -> StorageRefused:
    return StorageRefused(
        f"AWS profile {access.profile} does not exist; add it to ~/.aws/config (or the file that AWS_CONFIG_FILE "
        "names), or name another under storage.s3.profile or in AWS_PROFILE"
    )


def _checked(endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    # Not the address itself: what is no address may hold a password.
    named = "the S3 endpoint (storage.s3.endpoint, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL)"
    if not endpoint.lower().startswith(("http://", "https://")):
        raise StorageRefused(f"{named} does not begin with http:// or https://; {_WRITTEN}")
    url = urlsplit(endpoint)
    if not url.hostname or url.username is not None or url.query:
        raise StorageRefused(
            f"{named}, of {url.hostname or 'no host'}, holds more or less than a server's address; {_WRITTEN}"
        )
    return endpoint.rstrip("/")


_WRITTEN = "write it whole, without user and password, for example http://127.0.0.1:8333 or https://s3.example.com"
