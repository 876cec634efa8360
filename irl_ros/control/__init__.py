"""From observation to a command that may be sent: controller and gate. Knows neither ROS nor torch."""
