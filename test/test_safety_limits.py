"""Safety limits of a robot's file: read by name, no part of the contract, refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from test_contract import CONTRACT, drop, put, written

from irl_ros.contract import Contract, ContractError, Safety, load_robot, load_safety


def test_safety_limits_are_read_by_joint_name_and_are_no_part_of_the_contract(tmp_path):
    def reversed_and_other(data: dict[str, Any]) -> None:
        data["safety"]["acceleration"] = dict(reversed(data["safety"]["acceleration"].items()))
        data["safety"]["position_margin"] = 0.3

    path = written(tmp_path, "robots", "panda", reversed_and_other)
    assert load_safety("panda").acceleration_limit == (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
    assert load_safety(path) == dataclasses.replace(load_safety("panda"), position_margin=0.3)
    assert Contract.load(path, "reach").differences(CONTRACT) == []
    assert "safety" not in json.dumps(CONTRACT.to_dict())


def test_a_robot_file_without_safety_limits_has_none(tmp_path):
    assert load_safety(written(tmp_path, "robots", "panda", drop("safety"))) == Safety((), 0.0, (), ())


@pytest.mark.parametrize("robot", ["panda", "panda_peg", "iiwa"])
def test_the_safety_box_of_a_robot_holds_the_places_where_tasks_put_goals(robot: str):
    safety, here = load_safety(robot), load_robot(robot)
    assert (np.array(safety.box_upper) >= here.workspace_upper).all()
    assert (np.array(safety.box_lower)[:2] <= here.workspace_lower[:2]).all()
    assert len(safety.acceleration_limit) == here.n_joints and safety.position_margin > 0


SAFETY_ERRORS = [
    (put("safety", "aceleration", {}), "unknown key 'aceleration'. Did you mean 'acceleration'"),
    (drop("safety", "acceleration", "panda_joint3"), "acceleration must name every joint: panda_joint1"),
    (put("safety", "acceleration", "panda_joint3", 0), "acceleration must be a number above 0 .*rad/s²"),
    (put("safety", "acceleration", "panda_joint3", float("nan")), "acceleration must be a number above 0 .*rad/s²"),
    (put("safety", "acceleration", "panda_joint3", "fast"), "acceleration must be a number .*'fast'"),
    (put("safety", "position_margin", -0.1), "position_margin must be a number from 0 .*rad, not -0.1"),
    (put("safety", "lead", 0.0), "lead must be a number above 0 .*rad, not 0.0"),
    (put("safety", "position_margin", 1.6), "position_margin must be below 1.501 rad, not 1.6"),
    (put("safety", "box", "lower", [9, 0, 0]), "box needs lower and upper of three numbers, lower < upper"),
    (drop("safety", "box", "upper"), "wrong form.*'upper'"),
]


@pytest.mark.parametrize("change, message", SAFETY_ERRORS, ids=[m for _, m in SAFETY_ERRORS])
def test_safety_limits_that_cannot_be_used_are_refused_with_the_reason(tmp_path, change, message):
    with pytest.raises(ContractError, match=message):
        load_safety(written(tmp_path, "robots", "panda", change))
