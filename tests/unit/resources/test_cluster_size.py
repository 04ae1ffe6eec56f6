"""What a cluster may become by its autoscaler's file, and what a tile may ask of it."""

from __future__ import annotations

from typing import Any

import pytest

from resources.cluster_size import ClusterSize, WorkerNeeds, cluster_size
from resources.node_types import NodeType, NodeTypes, node_types, read_node_types

GIB = 1 << 30
SMALL = {"resources": {"CPU": 2, "memory": 3 * GIB}, "max_workers": 4}
LARGE = {"resources": {"CPU": 16, "memory": 12 * GIB}, "max_workers": 2}
HEAD = {"resources": {"CPU": 0, "memory": 8 * GIB}, "max_workers": 0}


def file_of(**kinds: Any) -> dict[str, Any]:
    return {"max_workers": 5, "available_node_types": {"head": HEAD, **kinds}}


class Ray:
    """Nodes as Ray tells them."""

    def __init__(self, *nodes: tuple[int, int]) -> None:
        self._nodes = [{"Alive": True, "Resources": {"CPU": cpus, "memory": memory}} for cpus, memory in nodes]

    def nodes(self) -> list[dict[str, Any]]:
        return [*self._nodes, {"Alive": False, "Resources": {}}, {"Alive": True, "Resources": {"memory": 8.0 * GIB}}]


def test_the_largest_cluster_is_of_the_largest_machines() -> None:
    known = read_node_types(file_of(small=SMALL, large=LARGE))
    assert known.kinds == (NodeType("small", 2.0, 3 * GIB, 4), NodeType("large", 16.0, 12 * GIB, 2))
    assert known.cpus == 2 * 16 + 3 * 2


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"available_node_types": {}}, file_of(), file_of(small=SMALL, unfilled={"resources": {}})],
)
def test_where_a_kind_is_not_known_nothing_is_refused(document: Any) -> None:
    size = cluster_size(Ray(), read_node_types(document))
    assert size.too_small(WorkerNeeds(1000.0, 1 << 60)) == ""
    assert size.empty and size.slots == 2


def test_a_cluster_that_nobody_here_serves_is_not_known() -> None:
    assert node_types("203.0.113.7:6379") == NodeTypes()


def size_of(*up: tuple[int, int]) -> ClusterSize:
    return cluster_size(Ray(*up), read_node_types(file_of(small=SMALL, large=LARGE)))


def test_tiles_are_handed_out_for_machines_that_may_come_and_for_those_that_are_there() -> None:
    assert size_of().slots == 2 * 38
    assert size_of((16, GIB), (64, GIB)).slots == 2 * 80


def test_a_tile_asks_for_a_machine_that_may_come_and_not_for_the_largest_that_is_there() -> None:
    assert size_of((2, 3 * GIB)).largest == WorkerNeeds(16.0, 12 * GIB)


def test_what_no_machine_has_is_told_with_stage_and_type() -> None:
    size = size_of((2, 3 * GIB))
    assert size.too_small(WorkerNeeds(16.0, 12 * GIB)) == ""
    assert size.too_small(WorkerNeeds(20.0, 1, "training", "other")).startswith(
        "training asks for 20 CPUs, and the largest node type of the cluster, large, offers 16 to tiles: name a larger"
    )
    assert "samples asks for 13.0 GiB of memory, and" in size.too_small(WorkerNeeds(1.0, 13 * GIB, "other", "samples"))
    assert size_of((1, 20 * GIB)).too_small(WorkerNeeds(1.0, 13 * GIB)) == "", "one that was joined by hand is there"
