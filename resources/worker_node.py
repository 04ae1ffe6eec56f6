"""The node of a Ray cluster that this process works on, told without starting Ray or importing it."""

from __future__ import annotations

import sys
from collections.abc import Mapping


def worker_node() -> Mapping[str, str]:
    """Ray's id of the node and its address, for what is committed here; empty where no Ray is joined."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    return {"ray_node": ray.get_runtime_context().get_node_id(), "node_address": ray.util.get_node_ip_address()}
