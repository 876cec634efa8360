"""Learn reward and policy from demonstrations; records scripted ones first if no dataset is given: `ros2 launch irl_ros train.launch.py --show-args`."""

from launch import LaunchDescription

from irl_ros import launching


def generate_launch_description() -> LaunchDescription:
    return launching.describe("train")
