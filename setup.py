from glob import glob

from setuptools import setup

package_name = "irl_ros"

setup(
    name=package_name,
    version="0.1.0",
    packages=[
        "irl_ros",
        "irl_ros.data",
        "irl_ros.models",
        "irl_ros.learning",
        "irl_ros.control",
        "irl_ros.nodes",
        "irl_ros.report",
        "irl_ros_sim",
        "irl_ros_sim.experts",
        "irl_ros_sim.tasks",
    ],
    package_dir={"irl_ros_sim": "sim"},
    package_data={"irl_ros_sim": ["assets/*.urdf"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/irl_ros"]),
        ("share/irl_ros", ["package.xml"]),
        ("share/irl_ros/launch", glob("launch/*.launch.py")),
        ("share/irl_ros/config", [*glob("config/*.yaml"), *glob("config/*.rviz"), *glob("config/*.json")]),
        ("share/irl_ros/config/security", glob("config/security/*.xml")),
        ("share/irl_ros/config/robots", glob("config/robots/*.yaml")),
        ("share/irl_ros/config/tasks", glob("config/tasks/*.yaml")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "setuptools",
        "numpy",
        "pyyaml",
        "torch",
        "gymnasium",
        "scipy",
        "clarabel",
        "pybullet",
        "pin",
        "mcap",
        "rosbags",
        "safetensors",
        "tensorboard",
        "matplotlib",
        "pillow",
        "tqdm",
    ],
    extras_require={
        "ray": ["ray[tune]"],
        "test": ["ray[tune]", "pytest", "pytest-xdist", "hypothesis", "catkin_pkg", "minari[hdf5]; python_version >= '3.11'"],
        "docs": ["sphinx", "myst-parser", "furo"],
    },
    zip_safe=True,
    maintainer="irl_ros maintainers",
    maintainer_email="maintainers@example.org",
    description="Learning from demonstration: inverse reinforcement learning from ROS 2 topics to a driving policy.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "irl_ros = irl_ros.cli:main",
            "arm_sim = irl_ros_sim.arm_node:main",
            "teleop = irl_ros.nodes.teleop:main",
            "joystick = irl_ros.nodes.joystick:main",
            "demo_recorder = irl_ros.nodes.recorder:main",
            "irl_trainer = irl_ros.nodes.trainer:main",
            "policy_runner = irl_ros.nodes.policy_runner:main",
            "session = irl_ros.nodes.session:main",
        ],
    },
)
