"""A driver on the head whose Ray dies beneath it: it says so, instead of waiting for ever or ending without a word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.ray_machines import RayMachines, until


@pytest.mark.parametrize(
    ("process", "said"),
    [("gcs_server", "its head's gcs_server ended"), ("raylet", "the raylet of this machine ended")],
)
def test_a_driver_is_told_that_its_cluster_is_gone(machines: RayMachines, driver: Any, process: str, said: str) -> None:
    head = machines.head()
    machines.worker()
    run = driver(tiles=4, on_machines=-1)
    until(lambda: list(run.folder.glob("*.started")), f"a tile runs; see {run.log}")
    head.kill(process)
    assert run.ended() == 3, run.log.read_text()[-2000:]
    [line] = run.said
    assert list(line) == ["gone"], "and no tile is blamed"
    assert line["gone"].startswith("the Ray cluster at ")
    remedy = "start it again (eo-assets cluster up), then run it again: what is committed stays"
    assert line["gone"].endswith(f":{machines.port} is gone ({said}): {remedy}")
