"""The topic that was probably meant, where nobody publishes the one that was named."""

from __future__ import annotations

import difflib

from rclpy.node import Node

from irl_ros.contract import Topic

LIKENESS = 0.6
"""Of two names, as difflib counts it: joint_state and joint_states have 0.96."""


def near_topic(node: Node, topic: Topic) -> str:
    """Words that name a published topic of the same type and nearly the same name; empty where there is none."""
    wanted = node.resolve_topic_name(topic.name)
    published = [
        name
        for name, types in node.get_topic_names_and_types()
        if topic.type in types and name != wanted and node.count_publishers(name)
    ]
    last = {name: name.rpartition("/")[2] for name in published}
    near = difflib.get_close_matches(wanted, published, 1, LIKENESS) or [
        name for name in published if last[name] == wanted.rpartition("/")[2]
    ]
    return f"; {near[0]} has one: name it in the YAML file, or remap it" if near else ""
