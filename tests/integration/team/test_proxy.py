"""The proxy of deploy/proxy/ before real webservers: who comes through, and whose name a run and an approval bear."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import replace
from typing import Any

import pytest
import requests

from eo_assets.assets.imagery import APPROVAL_TAG, project_ledger
from jobs.launches import RANGE_END, RANGE_START
from resources.signed_in import IDENTITY_HEADER, PROXY_HEADER, SIGNED_IN_TAG
from tests.simulation.daemon import LOCATION, REPOSITORY, Servers
from tests.simulation.proxy import COOKIE, GUESTS, HOST, Person
from tests.simulation.team import Team
from tests.simulation.world import Simulation

ANN, JOE = "ann@example.com", "joe@example.com"
LAUNCH = """mutation($asked: ExecutionParams!) { launchPipelineExecution(executionParams: $asked) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on UnauthorizedError { message } } }"""
TAGS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { tags { key value } } } }"


def launch(servers: Servers, simulation: Simulation, tags: dict[str, str]) -> str:
    """Launch the imagery of all tiles as the UI does; returns the run's id. A refusal is a RuntimeError."""
    asked = {
        "selector": {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [servers.key("tiffs")],
        },
        "mode": "default",
        "executionMetadata": {
            "tags": [
                {"key": key, "value": value}
                for key, value in {
                    RANGE_START: simulation.names[0],
                    RANGE_END: simulation.names[-1],
                    "user": "somebody",
                    **tags,
                }.items()
            ]
        },
    }
    answer = servers.ask(LAUNCH, asked=asked)["launchPipelineExecution"]
    if "run" not in answer:
        raise RuntimeError(str(answer))
    return str(answer["run"]["runId"])


def signed(servers: Servers, run: str) -> str:
    """Who has launched a run, as its tag says."""
    tags = {tag["key"]: tag["value"] for tag in servers.ask(TAGS, id=run)["runOrError"]["tags"]}
    return tags[SIGNED_IN_TAG]


def approver(dagster: Team, run: str) -> tuple[str, str]:
    """The name that is claimed of a run's approval, and who was signed in."""
    assert dagster.wait_for_run(run) == "SUCCESS"
    ledger = project_ledger(dagster.loaded)
    (made,) = (given for given in ledger.months()[ledger.month()].approvals if given.id == f"run-{run}")
    return made.user, made.signed_in


def test_an_approval_bears_the_name_of_whom_the_proxy_has_signed_in(
    backfilled: dict[str, Any], dagster: Team, person: Person, simulation: Simulation
) -> None:
    ann = replace(person, who=ANN)
    run = launch(ann, simulation, {APPROVAL_TAG: "20"})
    assert signed(dagster, run) == ANN
    assert approver(dagster, run) == ("somebody", ANN)


def test_what_a_client_says_of_itself_goes_no_further_than_the_proxy(
    backfilled: dict[str, Any], dagster: Team, person: Person, simulation: Simulation
) -> None:
    claims = {IDENTITY_HEADER: JOE, PROXY_HEADER: "guessed"}
    run = launch(replace(person, who=ANN, headers=claims), simulation, {SIGNED_IN_TAG: JOE})
    assert signed(dagster, run) == ANN


def test_who_comes_past_the_proxy_is_unauthenticated_whatever_is_claimed(
    backfilled: dict[str, Any], dagster: Team, simulation: Simulation
) -> None:
    run = launch(dagster, simulation, {APPROVAL_TAG: "30", SIGNED_IN_TAG: ANN})
    assert signed(dagster, run) == "unauthenticated"
    assert approver(dagster, run) == ("somebody", "unauthenticated")
    claims = ForgedHeaders(
        **{name: getattr(dagster, name) for name in ("loaded", "home", "port", "code_port")}, environment={}
    )
    assert signed(dagster, launch(claims, simulation, {})) == "unauthenticated"


def test_runs_of_a_backfill_are_unauthenticated(backfilled: dict[str, Any]) -> None:
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in backfilled["runs"]]
    assert {each[SIGNED_IN_TAG] for each in tags} == {"unauthenticated"}


def test_nobody_comes_through_who_is_not_signed_in_and_a_guest_sees_the_other_ui(
    person: Person, simulation: Simulation
) -> None:
    page = person.send("GET", "/runs?view=all&limit=5")
    assert (page.status_code, page.headers["X-Page"]) == (403, "/oauth2/sign_in")
    assert page.headers["X-Back"] == "/runs?view=all&limit=5"
    assert person.send("GET", "/oauth2/sign_in").headers["X-Page"] == "/oauth2/sign_in"
    assert person.send("GET", "/oauth2/auth").status_code == 404, "is for nginx alone"
    assert replace(person, who="mallory").send("POST", "/graphql", json={}).status_code == 403
    joe = replace(person, who=JOE)
    assert joe.send("GET", "/").status_code == 403, "not in the group"
    guest = replace(joe, host=GUESTS)
    assert guest.ask("{ version }")["version"]
    with pytest.raises(RuntimeError, match="UnauthorizedError"):
        launch(guest, simulation, {})


def test_a_link_launches_nothing_and_the_ui_gets_its_subscriptions(person: Person) -> None:
    ann = replace(person, who=ANN)
    assert ann.send("GET", "/graphql", params={"query": "{ version }"}).status_code == 400
    asked = {
        "Host": HOST, "Cookie": f"{COOKIE}={ANN}", "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "graphql-ws",
    }  # fmt: skip
    context = ssl.create_default_context(cafile=person.certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", person.port, context=context, timeout=60)
    try:
        connection.request("GET", "/graphql", headers=asked)
        assert connection.getresponse().status == http.client.SWITCHING_PROTOCOLS
    finally:
        connection.close()


class ForgedHeaders(Servers):
    """Whoever reaches the webserver itself, and says of itself what the proxy would."""

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer to a GraphQL request with forged headers."""
        headers = {IDENTITY_HEADER: ANN, PROXY_HEADER: "guessed"}
        body = {"query": query, "variables": variables}
        address = f"http://127.0.0.1:{self.port}/graphql"
        return requests.post(address, json=body, headers=headers, timeout=60).json()["data"]
