"""A Ray node beside others on this machine: ``python -m tests.cluster.ray_node ADDRESS CPUS JOINED``; ends when killed.

`ray start` refuses to join a cluster on loopback addresses, which Ray takes for one of macOS or Windows.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.services import wait_for_node

SMALLEST_OBJECT_STORE = 78_643_200


def main(address: str, cpus: int, joined: Path) -> None:
    """Join the cluster at ``address`` with so many logical CPUs, and then make the file ``joined``."""
    parameters = RayParams(
        gcs_address=address,
        num_cpus=cpus,
        num_gpus=0,
        object_store_memory=SMALLEST_OBJECT_STORE,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        dashboard_agent_listen_port=None,  # a free one: the usual one is taken by another node
        include_log_monitor=False,
    )
    node = Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
    wait_for_node(address, node.plasma_store_socket_name)
    joined.touch()
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
