"""Record, train and deploy in simulation: `ros2 launch irl_ros demo.launch.py --show-args`."""

from launch import LaunchDescription

from irl_ros import launching


def generate_launch_description() -> LaunchDescription:
    return launching.describe("demo")
