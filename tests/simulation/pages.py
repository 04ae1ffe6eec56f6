"""How long the UI's pages take to answer: the GraphQL requests that they send, and the page in a real browser."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from playwright.sync_api import sync_playwright

from tests.simulation.daemon import Servers

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")

PARTITIONS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { id
  partitionKeysByDimension { name type partitionKeys }
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions materializingPartitions failedPartitions } } } } }"""
PARTITION = """query($key: AssetKeyInput!, $tile: String!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { id
  latestRunForPartition(partition: $tile) { id status }
  assetMaterializations(partitions: [$tile]) {
    timestamp runId metadataEntries { label description } tags { key value } }
  assetObservations(partitions: [$tile]) { timestamp runId } } } }"""
GRAPH = """query($keys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $keys) { id partitionStats { numMaterialized numMaterializing numPartitions numFailed }
    assetMaterializations(limit: 1) { timestamp runId } }
  assetsLatestInfo(assetKeys: $keys) { id unstartedRunIds inProgressRunIds latestRun { id status } } }"""
STALE = """query($keys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $keys) { id staleStatus staleCauses { key { path } reason category } } }"""
ASSETS = ("tile_grid", "tiffs", "reference", "eopatches", "features", "samples", "model", "predictions", "maps")


def page_seconds(started: Servers, tile: str, times: int = 5) -> dict[str, float]:
    """Seconds of each request, the median of several."""
    one, all_of_them = started.key("predictions"), [started.key(asset) for asset in ASSETS]
    asked: Mapping[str, tuple[str, dict[str, Any]]] = {
        "partitions": (PARTITIONS, {"key": one}),
        "partition": (PARTITION, {"key": one, "tile": tile}),
        "graph": (GRAPH, {"keys": all_of_them}),
        "stale": (STALE, {"keys": all_of_them}),
    }
    return {
        name: round(statistics.median(_seconds(started, query, variables) for _ in range(times)), 3)
        for name, (query, variables) in asked.items()
    }


def seen_in_browser(started: Servers) -> float:
    """Seconds from opening the partition page of the predictions until its counts are there."""
    project = started.loaded.project.name
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1700, "height": 1100})
        page.goto(f"http://127.0.0.1:{started.port}/assets/{project}/predictions?view=overview")
        page.wait_for_load_state("networkidle")  # the program itself is loaded: what follows is the page
        opened = time.monotonic()
        page.goto(f"http://127.0.0.1:{started.port}/assets/{project}/predictions?view=partitions")
        page.get_by_text("Materialized").first.wait_for(timeout=300_000)
        seconds = time.monotonic() - opened
        browser.close()
    return round(seconds, 2)


def _seconds(started: Servers, query: str, variables: dict[str, Any]) -> float:
    begun = time.monotonic()
    started.ask(query, **variables)
    return time.monotonic() - begun
