"""ROS nodes: convert, call the core, publish."""
