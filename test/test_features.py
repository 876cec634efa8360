"""Feature expressions against values computed by hand, and every way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from irl_ros.contract import Contract, ContractError, Field, Task
from irl_ros.models.features import Features

FIELDS = (
    Field("joints", 2, "rad", scale=1.0),
    Field("hand", 3, "m", scale=0.5, center=1.0),
    Field("goal", 3, "m", scale=0.25, center=-1.0),
)
TASK = Task("t", "env", 1.0, 5, "env", 2, FIELDS, ("joints",), ("joints",))
CONTRACT = Contract(None, TASK)

O = np.array([0.1, 0.2, 1.0, 2.0, 3.0, 1.0, 5.0, 7.0])  # noqa: E741
A = np.array([0.5, -7.0])
O2 = O + np.arange(8.0)


def value(expression: str) -> list[float]:
    return Features(CONTRACT, [expression])(O, A, O2).tolist()


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("joints", [0.1, 0.2]),
        ("hand", [0.0, 2.0, 4.0]),  # (x − center) / scale
        ("goal[1]", [24.0]),
        ("hand[0:2]", [0.0, 2.0]),
        ("obs[0:3]", [0.1, 0.2, 0.0]),  # each element with its own field's scale
        ("obs[4]", [4.0]),
        ("obs[1:6]", [0.2, 0.0, 2.0, 4.0, 8.0]),
        # goal − hand = (0, 3, 4); centers subtract to −2, the larger scale is 0.5
        ("goal - hand", [4.0, 10.0, 12.0]),
        ("goal-hand", [4.0, 10.0, 12.0]),
        ("hand - hand[0:3]", [0.0, 0.0, 0.0]),
        ("goal - hand - hand", [4.0, 8.0, 8.0]),  # (0−1, 3−2, 4−3) from −1 … to the left: ((g−h)−h + 3) / 0.5
        ("norm(goal - hand)", [10.0]),  # 5 / 0.5, uncentred
        ("unit(goal - hand)", [0.0, 0.6, 0.8]),
        ("norm(joints[0])", [0.1]),
        ("action", [0.5, -1.0]),  # as executed: clipped
        ("action[0]", [0.5]),
        ("next(joints)", [0.1, 1.2]),
        ("next(goal[0])", [28.0]),  # (1 + 5 + 1) / 0.25
        ("next(hand) - hand", [4.0, 6.0, 8.0]),
        ("norm(next(joints) - joints)", [1.0]),
        ("next(norm(joints))", [np.hypot(0.1, 1.2)]),
        (" norm ( goal - hand ) ", [10.0]),
        ("0.5 * joints", [0.1, 0.2]),  # a factor scales the scale as well: alone it changes nothing
        ("hand - 2 * goal", [-8.0, -22.0, -28.0]),  # (−1, −8, −11), centred at 1 + 2 = 3; scale max(0.5, 2 · 0.25)
        ("dot(goal - hand, unit(hand))", [36.0 / np.sqrt(14.0)]),  # (0·1 + 3·2 + 4·3) / √14 = 18 / √14, scale 0.5 · 1
        ("cross(hand, goal - hand)", [-4.0, -16.0, 12.0]),  # (1, 2, 3) × (0, 3, 4) = (−1, −4, 3), scale 0.5 · 0.5
        ("clip(goal - hand, 3.5)", [0.0, 3.0 / 3.5, 1.0]),
        ("clip(hand - goal, 2)", [0.0, -1.0, -1.0]),
        ("norm(clip(goal - hand, 3.5))", [np.hypot(3.0, 3.5) / 3.5]),
        ("norm(cross(unit(goal - hand), hand))", [np.linalg.norm([-0.2, 0.8, -0.6]) * 2]),
    ],
)
def test_values_by_hand(expression: str, expected: list[float]):
    np.testing.assert_allclose(value(expression), expected, atol=1e-8)


def test_unit_of_nothing_is_nothing():
    assert Features(CONTRACT, ["unit(hand)"])(np.zeros(8)).tolist() == [0.0, 0.0, 0.0]


def test_several_expressions_are_joined_in_order_and_rows_do_not_mix():
    features = Features(CONTRACT, ["norm(goal - hand)", "joints", "next(joints)", "action[1]"])
    assert features.size == 6 and features.needs_transition
    rng = np.random.default_rng(0)
    o, a, o2 = rng.normal(size=(4, 3, 8)), rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3, 8))
    batch = features(o, a, o2)
    assert batch.shape == (4, 3, 6)
    for i in np.ndindex(4, 3):
        np.testing.assert_array_equal(batch[i], features(o[i], a[i], o2[i]))


@pytest.mark.parametrize("expression, needed", [("joints", False), ("action", True), ("norm(next(hand) - hand)", True)])
def test_whether_a_transition_is_needed(expression: str, needed: bool):
    features = Features(CONTRACT, [expression])
    assert features.needs_transition == needed
    if needed:
        with pytest.raises(ContractError, match="need the action and the next observation"):
            features(O)
    else:
        features(O)


@pytest.mark.parametrize(
    "expression, message",
    [
        ("", "expected a name, found its end"),
        ("joint", "unknown name 'joint'. Did you mean 'joints'.* Valid: joints, hand, goal, obs, action"),
        ("norm", "unknown name 'norm'"),
        ("hand * 2", "unexpected '\\*'"),
        ("0 * hand", "a factor must be above 0"),
        ("dot(hand, joints)", "dot of widths 3 and 2"),
        ("cross(joints, joints)", "cross of widths 2 and 2"),
        ("clip(hand, 0)", "clip needs a limit above 0 and finite, not '0'"),
        ("clip(hand, joints)", "clip needs a limit above 0 and finite, not 'joints'"),
        ("clip(hand)", "expected ,, found '\\)'"),
        ("dot(hand)", "expected ,, found '\\)'"),
        ("joints +", "a character that features do not use"),
        ("__import__('os')", "a character that features do not use"),
        ("joints.real", "a character that features do not use"),
        ("joints hand", "unexpected 'hand'"),
        ("norm(hand)[0]", r"unexpected '\['"),
        ("norm(hand", "expected \\), found its end"),
        ("norm()", r"unknown name '\)'"),
        ("hand -", "expected a name, found its end"),
        ("- hand", "unknown name '-'"),
        ("3", "unknown name '3'"),
        ("exec(hand)", "unknown name 'exec'"),
        ("hand[x]", "expected an index, found 'x'"),
        ("hand[-1]", "expected an index, found '-'"),
        ("hand[]", r"expected an index, found '\]'"),
        ("hand[0", r"expected \], found its end"),
        ("hand[3]", r"\[3:4\] is outside hand, which has 3 elements"),
        ("hand[2:1]", r"\[2:1\] is outside"),
        ("hand[1:1]", r"\[1:1\] is outside"),
        ("obs[0:9]", r"\[0:9\] is outside obs, which has 8 elements"),
        ("action[2]", r"\[2:3\] is outside action, which has 2 elements"),
        ("hand - joints", "a difference of widths 3 and 2"),
        ("norm(hand) - hand", "a difference of widths 1 and 3"),
    ],
)
def test_what_cannot_be_parsed_is_refused_with_the_reason(expression: str, message: str):
    with pytest.raises(ContractError, match=message) as caught:
        Features(CONTRACT, [expression])
    assert repr(expression) in str(caught.value)


def test_no_features_at_all_are_refused():
    with pytest.raises(ContractError, match="at least one feature"):
        Features(CONTRACT, [])


@pytest.mark.parametrize("robot", ["panda", "iiwa"])
def test_reachs_own_features(robot: str):
    contract = Contract.load(robot, "reach")
    inputs = Features(contract, contract.task.policy_inputs)
    assert not inputs.needs_transition
    o = np.zeros(contract.observation_size)
    o[contract.slices["end_effector_to_goal"]] = [0.0, 0.3, 0.4]
    reward = Features(contract, contract.task.reward_features)
    np.testing.assert_allclose(reward(np.full_like(o, 9.0), np.zeros(7), o), [0.0, 1.5, 2.0, 2.5])  # scale 0.2 m
