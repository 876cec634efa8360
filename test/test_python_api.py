"""The README's Python: from bags to a policy in ten lines, run as it stands there but for a shorter training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import irl_ros
from irl_ros.data.episode import Demonstrations, EpisodeError
from irl_ros.contract import Contract
from test_bag import damage, write

README = Path(__file__).resolve().parent.parent / "README.md"
SHORT = "environment_steps=1, batch_episodes=2, evaluation_episodes=2, workers=1, device='cpu'"


def test_the_readmes_ten_lines_lead_from_bags_to_an_action(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 10
    quick = code.replace("seed=0", f"seed=0, {SHORT}")
    assert quick != code
    (tmp_path / "mine.py").write_text(quick)
    for k in range(2):
        write(tmp_path / "runs/demo/demonstrations", f"episode_{k:04d}", 30)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ROS_", "RMW_"))}
    command = [sys.executable, "-c", f"import sys; sys.modules['rclpy'] = None; {RUN}"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    assert re.match(r"success \d+%, likeness \d+, \[(\s*-?[\d.e-]+){7}\s*\]\n", result.stdout), result.stdout
    assert (tmp_path / "runs/python/checkpoint/manifest.json").is_file()


RUN = "import runpy; runpy.run_path('mine.py', run_name='__main__')"


def test_unusable_episodes_are_told_by_a_warning(tmp_path: Path):
    write(tmp_path, "episode_0000", 30)
    damage(write(tmp_path, "episode_0001", 30), 2000)
    with pytest.warns(UserWarning, match="not used: .*episode_0001"):
        demonstrations = Demonstrations.load(tmp_path)
    assert [e.name for e in demonstrations] == ["episode_0000"]


def test_npz_files_need_a_contract(tmp_path: Path):
    contract = Contract.load("panda", "reach")
    np.savez(tmp_path / "a.npz", observations=np.zeros((21, contract.observation_size)), actions=np.zeros((20, 7)))
    with pytest.raises(EpisodeError, match="give a contract, Contract.load"):
        Demonstrations.load(tmp_path)
    assert len(Demonstrations.load(tmp_path, contract)) == 1


def test_the_package_itself_imports_nothing_heavy_and_names_what_it_has():
    code = "import sys, irl_ros; print(sorted({'torch', 'numpy', 'rclpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert all(getattr(irl_ros, name).__name__ == name for name in irl_ros.__all__)
    with pytest.raises(AttributeError, match="it has Checkpoint, Contract, Controller"):
        irl_ros.Contoller
