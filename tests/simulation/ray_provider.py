"""For Ray's autoscaler: a provider whose machines are process namespaces of this machine, started when it asks.

Ray's own `fake_multinode` with two things mended: a machine of it starts by `ray start`, and its node type may say how
much memory it has, as EC2's do. The autoscaler's monitor imports this file: `provider.type: external` names it.
"""

from __future__ import annotations

import json
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from tests.simulation.ray_machines import RayMachines, described

HEAD_ENVIRONMENT = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
"""What the head is started with: Ray refuses such a provider otherwise, and would look every five seconds only."""


def provider_section(there: RayMachines) -> dict[str, Any]:
    """The cluster file's `provider` for it."""
    return {
        "type": "external",
        "module": f"{__name__}.NamespaceProvider",
        "folder": str(there.folder),
        "port": there.port,
        "head_node_id": FAKE_HEAD_NODE_ID,
        # One address for all machines: Ray's autoscaler knows them by their node ids.
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
    }


class NamespaceProvider(FakeMultiNodeProvider):  # type: ignore[misc]
    """Machines of this machine; each is switched off by the autoscaler, or ends with the head that started it."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._there = described(provider_config["folder"], provider_config["port"])
        self._nodes[self._head_node_id]["tags"][TAG_RAY_USER_NODE_TYPE] = "head"

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: dict[str, Any], labels: Any
    ) -> None:
        with self.lock:
            name = self._next_hex_node_id()
            kind = tags[TAG_RAY_USER_NODE_TYPE]
            machine = self._there.worker(
                cpus=int(resources["CPU"]), memory=int(resources["memory"]),
                RAY_OVERRIDE_NODE_ID_FOR_TESTING=name, RAY_CLOUD_INSTANCE_ID=name, RAY_NODE_TYPE_NAME=kind,
                RAY_OVERRIDE_LABELS=json.dumps(labels or {}),  # as Ray's updater does on EC2
            )  # fmt: skip
            own = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_NODE_NAME: name}
            told = {TAG_RAY_USER_NODE_TYPE: kind, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}
            self._nodes[name] = {"tags": {**own, **told, **tags, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}}
            self._nodes[name]["machine"] = machine

    def _terminate_node(self, node: dict[str, Any]) -> None:
        node["machine"].switch_off()

    def prepare_for_head_node(self, cluster_config: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return cluster_config
