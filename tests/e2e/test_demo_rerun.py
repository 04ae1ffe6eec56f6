"""The demo a second time: everything is up to date, and nothing is started to find that out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.local_sentinel_hub.server import stop

pytestmark = pytest.mark.demo

SECOND_RUN = """
import json, sys
import dagster as dg
import ray
from eo_assets.definitions import build_definitions, open_project
from jobs.launches import Launcher, Request

loaded = open_project(sys.argv[1])
with dg.DagsterInstance.from_config(sys.argv[2]) as instance:
    launches = list(Launcher(loaded, build_definitions([loaded]), instance).run(Request()))
told = [[list(result.launch.assets), result.success] for result in launches]
print(json.dumps({"launches": told, "ray": ray.is_initialized()}))
"""


def test_a_second_run_makes_nothing_and_starts_neither_ray_nor_the_service(demo: Any, demo_folder: Path) -> None:
    stop(demo.machine / "sentinel-hub")
    before, log = demo.commits(), (demo.machine / "sentinel-hub/service.log").read_bytes()
    arguments = [str(demo_folder / "project.yaml"), str(demo.home)]
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SECOND_RUN, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    said = json.loads(answer.stdout.splitlines()[-1])
    assert said["ray"] is False
    assert all(success for _, success in said["launches"])
    assert not any({"tiffs", "predictions"} & set(assets) for assets, _ in said["launches"]), "no run over tiles"
    assert demo.commits() == before
    assert not (demo.machine / "sentinel-hub/service.json").exists()
    assert (demo.machine / "sentinel-hub/service.log").read_bytes() == log


def test_another_seed_redoes_samples_to_map_and_leaves_what_comes_before(copied: Callable[..., Any]) -> None:
    again = copied("sampling: {seed: 43}\n")
    before = again.commits()
    assert [result.failure for result in again.run() if not result.success] == []
    after = again.commits()
    changed = {place for place in after if before[place].attempt != after[place].attempt}
    stages = {stage for stage, _ in changed}
    assert stages == {"samples", "training_data", "model", "predictions", "maps", "byoc_collection"}
    assert changed == {place for place in after if place[0] in stages}
