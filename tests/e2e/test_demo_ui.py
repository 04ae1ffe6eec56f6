"""The Dagster UI on the demo, asked over HTTP as a browser does: what it lists, and what it shows of a tile."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

pytestmark = pytest.mark.demo

ASSETS = """{ assetNodes { assetKey { path } groupName isPartitioned kinds description
  partitionStats { numMaterialized numFailed numPartitions } } }"""
TILE = """query($key: AssetKeyInput!, $partition: [String!]) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations(partitions: $partition, limit: 1) { partition runId metadataEntries { label __typename
    ... on MarkdownMetadataEntry { mdStr } ... on FloatMetadataEntry { floatValue }
    ... on PathMetadataEntry { path } } }
} } }"""
RUNS = """{ runsOrError { ... on Runs { results { status assetSelection { path } } } } }"""
TILE_STAGES = {"tiffs", "reference", "eopatches", "features", "samples", "predictions"}


@pytest.fixture(scope="module")
def ask(demo: Any, demo_folder: Path) -> Iterator[Callable[..., Any]]:
    """`ask(query, **variables)`: GraphQL of a webserver on the demo's instance, ended by its process id."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-m",
        "eo_assets.definitions",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(demo.home),
        "EO_ASSETS_PROJECTS": str(demo_folder / "project.yaml"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with (demo_folder / "webserver.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(f"http://127.0.0.1:{port}/server_info", server, demo_folder / "webserver.log")
            yield lambda query, **variables: _graphql(f"http://127.0.0.1:{port}/graphql", query, variables)
        finally:
            server.terminate()
            server.wait(60)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.2)
    pytest.fail(f"the webserver did not answer: {log.read_text()[-2000:]}")


def _graphql(url: str, query: str, variables: dict[str, Any]) -> Any:
    answer = requests.post(url, json={"query": query, "variables": variables}, timeout=60).json()
    assert "errors" not in answer, answer
    return answer["data"]


def test_all_thirteen_assets_are_there_in_one_group_with_their_partitions(ask: Callable[..., Any]) -> None:
    nodes = {node["assetKey"]["path"][-1]: node for node in ask(ASSETS)["assetNodes"]}
    shared = {"aoi", "tile_grid", "cost_estimate", "training_data", "model", "maps", "byoc_collection"}
    assert set(nodes) == TILE_STAGES | shared
    assert {node["groupName"] for node in nodes.values()} == {"demo"}
    assert all(node["description"] and node["kinds"] for node in nodes.values())
    assert {name for name, node in nodes.items() if node["isPartitioned"]} == TILE_STAGES | {"maps"}
    for name in TILE_STAGES:
        assert nodes[name]["partitionStats"] == {"numMaterialized": 4, "numFailed": 0, "numPartitions": 4}
    assert nodes["maps"]["partitionStats"] == {"numMaterialized": 1, "numFailed": 0, "numPartitions": 1}


@pytest.mark.parametrize("asset", ["eopatches", "features", "reference", "predictions"])
def test_a_tile_shows_its_numbers_its_place_and_a_picture(demo: Any, ask: Callable[..., Any], asset: str) -> None:
    answer = ask(TILE, key={"path": ["demo", asset]}, partition=["33UUU_4_7"])
    (event,) = answer["assetOrError"]["assetMaterializations"]
    entries = {entry["label"]: entry for entry in event["metadataEntries"]}
    assert entries["quicklook"]["mdStr"].startswith(f"![{asset}](data:image/png;base64,iVBOR")
    assert entries["path"]["path"] == demo.store.live_place(asset, "33UUU_4_7")
    assert {"seconds", "bytes", "recipe"} <= set(entries)


def test_every_run_is_there_and_succeeded(ask: Callable[..., Any]) -> None:
    runs = ask(RUNS)["runsOrError"]["results"]
    assert {run["status"] for run in runs} == {"SUCCESS"}
    assert {key["path"][-1] for run in runs for key in run["assetSelection"]} >= TILE_STAGES
