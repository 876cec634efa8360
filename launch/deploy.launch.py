"""Drive the robot by a learned policy: `ros2 launch irl_ros deploy.launch.py --show-args`."""

from launch import LaunchDescription

from irl_ros import launching


def generate_launch_description() -> LaunchDescription:
    return launching.describe("deploy")
