"""Inverse reinforcement learning: one loop, one file per method. Knows neither ROS nor PyBullet."""
