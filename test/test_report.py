"""The report: every section of a run, what it says about missing parts, and that it needs nothing but itself."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import gymnasium
import handmade
import numpy as np
import pytest
from browser import CHROMIUM, MISSING, visit
from matplotlib.image import imread
from PIL import Image, ImageSequence

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract, Field, Task
from irl_ros.data.episode import Episode
from irl_ros.models.inference import Reward
from irl_ros.models.slices import reward_slice
from irl_ros.report import RunError, playback, write_report
from irl_ros.report import run as run_module
from irl_ros.report.run import wilson
from irl_ros.report.sections import closeness_to_true_reward

SECTION_IDS = ["headline", "arm", "paths", "joints", "reward", "along", "curves", "health", "configuration"]
METRICS = [
    {
        "iteration": k,
        "weights/beta": 0.09 / k,
        "weights/tempered_effective_sample_size": 12.5 * k,
        "weights/effective_sample_size": 1.08,
        "gcl/reward_gap": 12.4 / k,
        "policy/kl": 0.03,
        "policy/entropy": 5.0 - 0.1 * k,
        "policy/value_explained": 0.79,
        "environment_steps": 1000.0 * k,
    }
    for k in (1, 2, 3)
]
SUMMARY = {
    "method": "gcl",
    "task": "reach",
    "robot": "panda",
    "seed": 7,
    "demonstrations": 5,
    "demonstration_success": 1.0,
    "behaviour_cloning_success": 0.43,
    "policy_success": 0.97,
    "policy_success_2cm": 0.81,
    "policy_episodes": 100,
    "deployed_success": 0.9,
    "deployed_episodes": 20,
    "environment_steps": 20000,
    "training_wall_s": 61.5,
    "wall_s": 130.0,
    "converged": True,
    "health": [
        {"name": "over-fit gap", "value": 0.1, "limit": 0.5, "wrong": "above", "finding": None},
        {
            "name": "policy KL",
            "value": 0.2,
            "limit": 0.1,
            "wrong": "above",
            "finding": {
                "name": "policy KL",
                "level": "warning",
                "sentence": "steps are too long: lower kl_bound",
                "first": 2,
                "last": 3,
                "active": True,
            },
        },
    ],
    "versions": {"irl_ros": "0.1.0", "torch": "2.13.0"},
}


class Page(HTMLParser):
    """What a browser would load, the sections, and the text of each."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads: list[str] = []
        self.sections: dict[str, str] = {}
        self.images: dict[str, int] = {}
        self.text = path.read_text(encoding="utf-8")
        self._section = ""
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.loads += [values[k] for k in ("src", "href", "srcset", "data", "poster", "action") if k in values]
        assert tag not in ("script", "link", "iframe")
        if tag == "section":
            self._section = values["id"]
            self.sections[self._section] = ""
        if tag == "img":
            self.images[self._section] = self.images.get(self._section, 0) + 1
            assert values["alt"]

    def handle_data(self, data):
        if self._section:
            self.sections[self._section] += data


@pytest.fixture(scope="module")
def contract() -> Contract:
    whole = Contract.load("panda", "reach")
    return dataclasses.replace(whole, task=dataclasses.replace(whole.task, horizon=12))


@pytest.fixture(scope="module")
def full_run(contract, tmp_path_factory) -> Path:
    """A run with everything, its report written once."""
    run = tmp_path_factory.mktemp("runs") / "full"
    checkpoint = handmade.checkpoint(contract, 0.3 * np.ones(7))
    provenance = {"method": "gcl", "config": {"environment_steps": 20000, "policy_step": {"kl_bound": 0.05}}}
    dataclasses.replace(checkpoint, provenance=provenance).save(run / "checkpoint")
    write_demonstrations(run / "demonstrations", contract)
    (run / "training").mkdir()
    lines = [json.dumps(m) for m in METRICS]
    (run / "training" / "metrics.jsonl").write_text("\n".join(lines) + '\n{"iteration": 4, "gcl/be')
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    assert write_report(run) == run / "report.html"
    return run


@pytest.fixture(scope="module")
def full_page(full_run) -> Page:
    return Page(full_run / "report.html")


@pytest.fixture(scope="module")
def bare_run(contract, tmp_path_factory) -> Path:
    """A clone's checkpoint and nothing else, for an env that cannot be made."""
    run = tmp_path_factory.mktemp("runs") / "bare"
    task = dataclasses.replace(contract.task, env="irl_ros_absent:None-v0")
    checkpoint = handmade.checkpoint(contract, np.zeros(7))
    gone = dataclasses.replace(contract, task=task)
    dataclasses.replace(checkpoint, contract=gone, reward_arrays={}).save(run / "checkpoint")
    write_report(run)
    return run


def write_demonstrations(directory: Path, contract: Contract) -> None:
    directory.mkdir(parents=True)
    for k, observations in enumerate(handmade.demonstrations(contract, length=13)):
        actions = np.full((12, contract.action_size), 0.1)
        np.savez(directory / f"episode_{k:04d}.npz", observations=observations, actions=actions, success=True)


def test_every_section_of_a_full_run_is_drawn(full_page):
    assert list(full_page.sections) == SECTION_IDS
    assert "missing" not in full_page.text.partition("</style>")[2]
    drawn = {s: 1 for s in SECTION_IDS if s not in ("health", "configuration")}
    assert full_page.images == {**drawn, "arm": 2}


def test_the_health_section_says_what_is_wrong_and_what_to_change(full_page):
    health = full_page.sections["health"]
    assert "policy KL (warning, from iteration 2 on): steps are too long: lower kl_bound" in health
    assert "over-fit gap" in health and "good" in health and "had converged" in health


def test_the_page_loads_nothing(full_page):
    assert full_page.loads and all(re.match("data:image/(png|gif);base64,", load) for load in full_page.loads)
    assert not re.search(r"url\(|@import|file:", full_page.text.partition("<body>")[0])


def test_success_rates_come_with_their_trials_and_intervals(full_page):
    headline = full_page.sections["headline"]
    assert "43 of 100 (43 %)" in headline and "18 of 20 (90 %)" in headline and "70–97 %" in headline


def test_the_command_to_reproduce_names_the_run_and_its_options(full_page, full_run):
    command = full_page.sections["configuration"]
    assert "irl_ros demo --robot panda --task reach --method gcl --seed 7 --steps 20000" in command
    assert f"--demonstrations 5 --out {full_run}" in command
    assert "2.13.0" in command


def test_pictures_are_files_too_and_none_is_blank(full_run):
    names = {path.stem: imread(path) for path in (full_run / "pictures").glob("*.png")}
    assert names.keys() == {"success", "arm", "paths", "joints", "reward", "along", "learning"}
    for name, pixels in names.items():
        assert pixels[..., :3].std() > 0.03, name
        assert len(np.unique(np.round(255 * pixels[..., :3]) @ (1, 256, 256**2))) > 20, name


def test_the_arm_moves_at_its_own_speed(full_run, contract):
    with Image.open(full_run / "pictures/arm_moving.gif") as film:
        frames = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(film)]
    assert sum(ms for _, ms in frames[:-1]) == pytest.approx(1000 * contract.task.horizon * contract.task.period)
    assert any((a != b).any() for (a, _), (b, _) in zip(frames, frames[1:])), "it stands still"


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
@pytest.mark.parametrize("width", [1100, 500])
def test_a_browser_shows_it_without_a_complaint_or_a_request(full_run, width):
    seen = visit(full_run / "report.html", width)
    assert (seen.requests, seen.complaints, seen.layout["broken"]) == ([], [], [])
    assert seen.layout["images"] == 8 and not seen.layout["wide"]


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_the_browser_would_tell(tmp_path: Path):
    bad = '<html><script>console.error("x"); undefined.y</script><img src="http://localhost:9/b.png" alt="b"></html>'
    (tmp_path / "bad.html").write_text(bad)
    seen = visit(tmp_path / "bad.html")
    assert seen.requests == ["http://localhost:9/b.png"] and seen.layout["broken"] == ["b"]
    assert len(seen.complaints) >= 3, "a message, an exception and a load that failed"


def test_missing_parts_say_so(bare_run):
    page = Page(bare_run / "report.html")
    assert list(page.sections) == SECTION_IDS
    assert page.images == {}
    assert page.sections["headline"].count("not measured in this run") == 5
    assert "irl_ros_absent" in page.sections["arm"]
    assert "no directory" in page.sections["paths"]
    for name in ("reward", "along", "curves"):
        assert "This method learns no reward." in page.sections[name]
    assert "no summary.json" in page.sections["configuration"]


def test_of_many_demonstrations_pages_draw_some_of_all(full_run, monkeypatch):
    monkeypatch.setattr(run_module, "MOST_SHOWN", 2)
    shown = run_module.Run.read(full_run).demonstrations
    assert [e.name for e in shown] == ["episode_0000", "episode_0002"]


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        write_report(tmp_path)


def test_a_damaged_file_is_named(bare_run):
    (bare_run / "deployment.json").write_text("{")
    with pytest.raises(RunError, match="deployment.json: damaged"):
        write_report(bare_run)


class TwoPoints(gymnasium.Env):
    """A point moves by its action; it draws itself, ends by itself at 1, and knows no success."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Dict({"x": gymnasium.spaces.Box(-9, 9, (1,), np.float64)})
    action_space = gymnasium.spaces.Box(-2.0, 4.0, (1,), np.float64)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._x = self.np_random.uniform(-1, 0)
        return {"x": np.array([self._x])}, {}

    def step(self, action):
        self._x += float(action[0]) / 20
        return {"x": np.array([self._x])}, self._x, self._x >= 1, False, {}

    def render(self):
        pixels = np.full((20, 40, 3), 255, np.uint8)
        pixels[5:15, int(np.clip(20 + 15 * self._x, 0, 35)) :] = (0, 114, 178)
        return pixels


def generic_contract(env: str) -> Contract:
    task = Task(env, env, 1.0, 30, "env", 1, (Field("x", 1),), ("x",), ("next(x)",))
    return Contract(None, task)


def generic_run(run: Path, env: str) -> Path:
    contract = generic_contract(env)
    policy = {"mean.0.weight": np.zeros((1, 1)), "mean.0.bias": np.ones(1), "log_std": np.zeros(1)}
    reward = {"cost.0.weight": np.ones((1, 1)), "cost.0.bias": -np.ones(1), "A": np.eye(1), "b": np.zeros(1)}
    reward.update(w_u=np.array(0.0), bound=np.array(1.0))
    Checkpoint(contract, policy, reward, {"states": np.zeros((1, 1))}, provenance={"method": "gcl", "seed": 1}).save(
        run / "checkpoint"
    )
    (run / "demonstrations").mkdir()
    x = np.linspace(0, 1, 16)[:, None]
    np.savez(run / "demonstrations" / "a.npz", observations=x, actions=20 * np.diff(x, axis=0))
    return run


def test_a_gymnasium_env_has_a_report_with_fewer_sections(tmp_path):
    gymnasium.register("irl_ros_test/TwoPoints-v0", TwoPoints)
    try:
        page = Page(write_report(generic_run(tmp_path / "run", "irl_ros_test/TwoPoints-v0")))
    finally:
        del gymnasium.registry["irl_ros_test/TwoPoints-v0"]
    assert list(page.sections) == SECTION_IDS
    assert page.images == {"arm": 1, "along": 1}
    assert "does not say whether an episode succeeded" in page.sections["headline"]
    assert "field end_effector_position" in page.sections["paths"]
    assert "field end_effector_to_goal" in page.sections["reward"]
    assert "irl_ros train --env irl_ros_test/TwoPoints-v0 --horizon 30" in page.sections["configuration"]
    assert "--reward-features 'next(x)'" in page.sections["configuration"]


def test_an_env_that_cannot_draw_itself_still_plays(tmp_path):
    gymnasium.register("irl_ros_test/NoPictures-v0", lambda: TwoPoints())
    try:
        run = generic_run(tmp_path / "run", "irl_ros_test/NoPictures-v0")
        played = playback.play(Checkpoint.load(run / "checkpoint"), [1, 2])
    finally:
        del gymnasium.registry["irl_ros_test/NoPictures-v0"]
    assert "render_mode" in played.no_pictures and played.pictures == []
    assert [e.terminated for e in played.episodes] == [True, True]
    np.testing.assert_array_equal(played.episodes[0].actions, np.ones_like(played.episodes[0].actions))


def test_demonstrations_of_an_env_come_in_the_policys_units(tmp_path):
    gymnasium.register("irl_ros_test/TwoPoints-v0", TwoPoints)
    try:
        run = run_module.Run.read(generic_run(tmp_path / "run", "irl_ros_test/TwoPoints-v0"))
    finally:
        del gymnasium.registry["irl_ros_test/TwoPoints-v0"]
    # 20/15 in the env's [-2, 4]
    np.testing.assert_allclose(run.demonstrations[0].actions, (20 / 15 - 1) / 3)


def test_a_rendered_arm_moves_as_an_unrendered_one(contract):
    """Also after earlier episodes: scenery must not hinder restoring the clean state."""
    make = {"contract": contract, "disable_env_checker": True, "max_episode_steps": -1}
    plain = gymnasium.make(contract.task.env, **make)
    drawn = gymnasium.make(contract.task.env, render_mode="rgb_array", **make)
    rng = np.random.default_rng(0)
    for seed in range(2):
        np.testing.assert_array_equal(plain.reset(seed=seed)[0], drawn.reset(seed=seed)[0])
        for _ in range(5):
            action = rng.uniform(-1, 1, 7)
            np.testing.assert_array_equal(plain.step(action)[0], drawn.step(action)[0])
        picture = drawn.render()
        assert picture.dtype == np.uint8 and picture.std() > 10
    plain.close()
    drawn.close()


def test_the_slice_is_the_reward_of_resting_at_the_offset(contract):
    """An oracle: a reward that is −‖y‖² of the first feature alone, next(end_effector_to_goal)[0] / 0.2."""
    arrays = {"cost.0.weight": np.eye(1, 4), "cost.0.bias": np.zeros(1), "A": np.eye(1), "b": np.zeros(1)}
    learned = Reward.from_arrays({**arrays, "w_u": np.array(0.0), "bound": np.array(1e9)}, contract)
    observation = handmade.demonstrations(contract, count=1)[0][-1]
    found = reward_slice(learned, contract, observation, ("z", "x"), 0.3, n=7)
    expected = -np.tanh(np.linspace(-0.3, 0.3, 7) / 0.2) ** 2
    np.testing.assert_allclose(found.rewards, np.repeat(expected[:, None], 7, 1), rtol=1e-6)


@pytest.mark.parametrize("feature, slope", [("next(object_to_goal)", 10.0), ("next(end_effector_to_object)", 0.0)])
def test_an_object_takes_the_end_effector_along(feature: str, slope: float):
    task = dataclasses.replace(Contract.load("", "push").task, reward_features=(feature,))
    contract = dataclasses.replace(Contract.load("", "push"), task=task)
    arrays = {"cost.0.weight": np.eye(1, 3), "cost.0.bias": np.zeros(1), "A": np.eye(1), "b": np.zeros(1)}
    learned = Reward.from_arrays({**arrays, "w_u": np.array(0.0), "bound": np.array(1e9)}, contract)
    found = reward_slice(learned, contract, np.zeros(contract.observation_size), ("x", "y"), 0.3, n=7)
    assert found.thing == "object"
    expected = -np.tanh(slope * np.linspace(-0.3, 0.3, 7)) ** 2
    np.testing.assert_allclose(found.rewards, np.repeat(expected[None], 7, 0), rtol=1e-6)


def test_highlights_skip_the_rest_after_the_motion(contract):
    observations = np.zeros((13, contract.observation_size))
    observations[:, 0] = np.minimum(np.arange(13), 6)
    episode = Episode("ramp", observations, np.zeros((12, 7)))
    pictures = [playback.Picture(k, np.zeros((2, 2, 3))) for k in range(13)]
    assert [p.step for p in playback.highlights(pictures, episode, contract)] == [0, 2, 4, 12]


def test_wilson_interval_against_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    np.testing.assert_allclose(wilson(81, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(wilson(15, 148), (0.0624, 0.1605), atol=5e-5)
    np.testing.assert_allclose(wilson(0, 20), (0.0, 0.1611), atol=5e-5)
    np.testing.assert_allclose(wilson(1, 29), (0.0061, 0.1718), atol=5e-5)
    assert wilson(20, 20)[1] == 1.0


def test_a_feature_close_to_the_true_reward_is_told(contract):
    assert "norm(next(end_effector_to_goal)) is nearly the true reward" in closeness_to_true_reward(contract)
    for features, told in ((("joint_position",), False), (("norm(goal_position - end_effector_position)",), True)):
        other = dataclasses.replace(contract, task=dataclasses.replace(contract.task, reward_features=features))
        assert bool(closeness_to_true_reward(other)) == told
