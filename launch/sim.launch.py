"""The simulated arm as a robot: `ros2 launch irl_ros sim.launch.py --show-args`."""

from launch import LaunchDescription

from irl_ros import launching


def generate_launch_description() -> LaunchDescription:
    return launching.describe("sim")
