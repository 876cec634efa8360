"""Record demonstrations as bags: `ros2 launch irl_ros record.launch.py --show-args`."""

from launch import LaunchDescription

from irl_ros import launching


def generate_launch_description() -> LaunchDescription:
    return launching.describe("record")
