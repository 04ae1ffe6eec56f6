"""Who launched a run: the person whom the proxy of deploy/proxy/ has signed in, as a tag of the run.

A header says nothing by itself: whoever reaches the webserver can send one. It is believed where the request also
brings the secret that the proxy adds and nobody else knows. Named in dagster.yaml as the run coordinator, since that is
what sees the request of a launch.

What starts by itself is unauthenticated, and so are a backfill's runs: the daemon launches them, which no request
reaches. Dagster 1.13 hands a request to a backfill's tags in one place only, `get_viewer_tags` of the webserver's
request context, a class that `dagster-webserver` names itself: another one is a webserver of our own. Without it the
tags of a backfill are what its launcher writes, and one that is launched again bears those of whoever was first.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

import dagster as dg
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus

from eo_assets.core.spendings import UNAUTHENTICATED

SIGNED_IN_TAG = "eo-assets/signed-in"
IDENTITY_HEADER = "X-Eo-Assets-Signed-In"
PROXY_HEADER = "X-Eo-Assets-Proxy"
SECRET_VARIABLE = "EO_ASSETS_PROXY_SECRET"
LONGEST = 200
"""Characters of an identity that are kept."""


class SignedInRunCoordinator(QueuedRunCoordinator[dg.DagsterInstance]):
    """Dagster's own queue, which first writes into a tag who has launched the run, whatever the request says of it."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Tag the run, then queue it."""
        run = context.dagster_run
        if run.status is DagsterRunStatus.NOT_STARTED:
            who = identity(context.get_request_header, os.environ.get(SECRET_VARIABLE, ""))
            self._instance.add_run_tags(run.run_id, {SIGNED_IN_TAG: who})
        return super().submit_run(context)


def identity(header: Callable[[str], str | None], secret: str) -> str:
    """Whom the proxy names, by a request's headers; 'unauthenticated' without a secret, or if it is not the proxy's."""
    brought = header(PROXY_HEADER) or ""
    if not secret or not hmac.compare_digest(brought.encode(), secret.encode()):
        return UNAUTHENTICATED
    named = "".join(character for character in header(IDENTITY_HEADER) or "" if character.isprintable())
    return named.strip()[:LONGEST] or UNAUTHENTICATED


def signed_in(instance: dg.DagsterInstance, run: DagsterRun) -> str:
    """Who launched a run. The tag counts only where every launch overwrites it: elsewhere anybody may have set it."""
    if not isinstance(instance.run_coordinator, SignedInRunCoordinator):
        return UNAUTHENTICATED
    return run.tags.get(SIGNED_IN_TAG, UNAUTHENTICATED)
