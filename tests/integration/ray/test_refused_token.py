"""Who joins a cluster with a token that is not its own is told what to do, at once: not after three minutes of Ray."""

from __future__ import annotations

import secrets
import subprocess
import sys

from tests.simulation.ray_machines import RayMachines

JOIN = """
import sys
from eo_assets.errors import ClusterError
from resources.ray_cluster import RayCluster
try:
    RayCluster(mode="address", address=sys.argv[1]).connect()
except ClusterError as error:
    print("told:", error)
"""


def test_another_token(machines: RayMachines) -> None:
    head = machines.head()
    environment = {**machines.environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [*head.enter(), sys.executable, "-W", "ignore", "-c", JOIN, machines.address]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=180).stdout
    [told] = [line for line in said.splitlines() if line.startswith("told: ")]
    assert told.startswith(f"told: Ray at {machines.address} does not take the token of this user: copy ~/.ray/auth_")
