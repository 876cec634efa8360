"""How a node that must never wait talks to others."""

from __future__ import annotations

import os

from irl_ros.contract import share_directory

RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"
OWN = (PROFILES, "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
"""By which somebody has chosen their own transports: they stay."""
PEERS = "ROS_STATIC_PEERS"


def without_shared_memory() -> None:
    """Have this process talk by UDP alone, also on one machine; before rclpy.init.

    Another process that is killed while it uses Fast DDS' shared memory leaves a port that is asked for up to a second
    whether it is healthy, and meanwhile nothing that this process publishes gets out, a halt neither (seen in 1 of 100
    kills of a driver; Fast DDS issue 6535). Other middlewares take no notice.
    """
    if any(os.environ.get(name) for name in OWN):
        return
    if os.environ.get(RANGE, "").upper() == "LOCALHOST":  # for which rmw_fastrtps sets its transports by itself
        if os.environ.get(PEERS):  # which the profile does not name
            return
        os.environ[PROFILES] = str(share_directory() / "config" / "dds" / "this_machine.xml")
        os.environ[RANGE] = "SYSTEM_DEFAULT"
    else:
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"
