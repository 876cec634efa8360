"""Learning from demonstration on ROS 2: inverse reinforcement learning from topics to a driving policy."""

__version__ = "0.1.0"
