"""Ray's own autoscaler with our cluster file: workers come from none for tiles that wait, and go when there are none.

The file is the one for EC2; its provider is swapped for one of machines of this machine, and minutes are shorter.
"""

from __future__ import annotations

import json
from typing import Any

from eo_assets.project_cluster import Cluster
from resources.ec2.cluster_file import EXAMPLE, as_yaml, cluster_file
from tests.simulation.ray_machines import RayMachine, RayMachines
from tests.simulation.ray_provider import HEAD_ENVIRONMENT, provider_section

MOST = 3
SETTINGS = {"region": "eu-central-1", "ssh_from": "203.0.113.7/32",
            "workers": {"instance_types": "c6i.large", "most": MOST}}  # fmt: skip


def cluster_of(there: RayMachines) -> dict[str, Any]:
    """Our file as the launcher leaves it on the head, with what EC2 would be asked for said here."""
    from ray.autoscaler._private.util import prepare_config

    document = prepare_config(cluster_file("demo", Cluster.model_validate(SETTINGS), EXAMPLE, "/nowhere"))
    [spot] = (kind for name, kind in document["available_node_types"].items() if name != "head")
    spot["resources"] = {"CPU": 1, "memory": 1 << 30}
    return document | {
        "provider": provider_section(there),
        "idle_timeout_minutes": 0.1,
        "docker": {},
        "file_mounts": {},
    }


def head_of(machines: RayMachines) -> RayMachine:
    """A head whose autoscaler reads that file."""
    document = cluster_of(machines)
    assert list(document["available_node_types"]) == ["head", "spot-c6i-large"]
    file = machines.folder / "cluster.yaml"
    file.write_text(as_yaml(document))
    labels = {"RAY_OVERRIDE_LABELS": json.dumps(document["available_node_types"]["head"]["labels"])}
    return machines.head(f"--autoscaling-config={file}", **HEAD_ENVIRONMENT, **labels)


def test_a_tile_that_fits_on_no_machine_that_may_be_started_is_told_and_waits_for_none(
    machines: RayMachines, driver: Any
) -> None:
    head_of(machines)
    run = driver(tiles=3, on_machines=MOST, mib=1500)
    assert run.ended() == 0, run.log.read_text()[-2000:]
    told = [line["error"] for line in run.said if "tile" in line]
    assert told == 3 * [
        "features asks for 1.5 GiB of memory, and the largest node type of the cluster, spot-c6i-large, offers 1.0 GiB "
        "to tiles: name a larger type in cluster.workers.instance_types and start the cluster again"
    ]
    assert not list(run.folder.glob("*.started"))


def test_workers_come_for_waiting_tiles_and_go_when_idle(machines: RayMachines, driver: Any) -> None:
    head = head_of(machines)
    # The first tiles end only once some have run on three machines: while they run, the driver hears of new CPUs.
    run = driver(tiles=12, on_machines=MOST)
    assert run.ended() == 0, (run.log.read_text()[-2000:], head.log.read_text()[-1000:])
    states = [line for line in run.said if "in_flight" in line]
    assert states[0]["workers"] == []
    assert states[0]["in_flight"] == 2 * MOST, "for all machines that there may be, before there is one"
    assert max(len(state["workers"]) for state in states) == MOST
    assert max(state["in_flight"] for state in states) == 2 * MOST
    assert sorted(run.tiles) == list(range(12))
    hired = {node for state in states for node in state["workers"]}
    assert set(run.tiles.values()) == hired, "tiles run on workers only: the head has no CPU"
    assert run.said[-1] == {"ended": True, "workers": []}
    [usage] = [line for line in run.said if "usage" in line]
    hours = {(name, spot): hours for name, spot, hours in usage["machines"]}
    assert set(hours) == {("c6i.large", True), ("m6i.xlarge", False)}, "our file's labels have reached Ray's nodes"
    assert 0 < hours["c6i.large", True] <= MOST * hours["m6i.xlarge", False]
