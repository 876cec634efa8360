"""Several runs on one page: bands over seeds, every run's own success, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, MISSING, visit

from irl_ros.cli import main
from irl_ros.report.comparison import _differences, band_of, read_members


def write_run(run: Path, method: str, seed: int, gaps: list[float], step: int = 1000, success: float = 0.5) -> Path:
    """A run that ended after as many iterations as there are reward gaps."""
    (run / "training").mkdir(parents=True)
    lines = [{f"{method}/reward_gap": gap, "environment_steps": step * (k + 1.0)} for k, gap in enumerate(gaps)]
    (run / "training/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = {"method": method, "task": "reach", "robot": "panda", "seed": seed, "policy_success": success}
    (run / "summary.json").write_text(json.dumps({**facts, "policy_episodes": 100, "demonstrations": 5}))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        write_run(tmp_path / "a", "gcl", 0, [4.0, 2.0, 0.0]),
        write_run(tmp_path / "b", "gcl", 1, [8.0, 4.0, 0.0, 0.0], success=0.97),
        write_run(tmp_path / "c", "gcl", 2, [6.0, 3.0, 1.5]),
        write_run(tmp_path / "d", "airl", 0, [1.0, 0.5], step=500),
    ]


def test_a_band_is_median_lowest_and_highest_as_far_as_all_runs_go(runs):
    gcl = [member.metrics for member in read_members(runs[:3])]
    band = band_of(gcl, "reward_gap")
    assert (band.steps[0], band.steps[-1]) == (1000.0, 3000.0)
    np.testing.assert_allclose([band.median[0], band.low[0], band.high[0]], [6.0, 4.0, 8.0])
    np.testing.assert_allclose([band.median[-1], band.low[-1], band.high[-1]], [0.0, 0.0, 1.5])
    halfway = np.interp(1500.0, band.steps, band.median)
    assert halfway == pytest.approx(4.5, abs=0.02)
    assert band_of(gcl, "beta") is None


def test_the_page_shows_every_run_and_nothing_else(runs, tmp_path: Path, capsys):
    page = tmp_path / "all.html"
    assert main(["report", *map(str, runs), "--out", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    text = page.read_text()
    assert "4 runs: gcl: reach on panda (3), airl: reach on panda (1)" in text
    assert all(f"<td>{run}</td>" in text for run in runs) and "0.97" in text
    assert {path.name for path in (tmp_path / "all/pictures").iterdir()} == {"success.png", "learning.png"}


def test_runs_are_told_apart_by_options_that_differ_where_they_are_known():
    known = [{"maxent.hidden": [32, 32], "reward.lcr": 1.0001}, {"maxent.hidden": [32], "reward.lcr": 1.0002}]
    words = ["maxent.hidden 32+32, reward.lcr 1.0001", "maxent.hidden 32, reward.lcr 1.0002", ""]
    assert _differences([*known, {}]) == words


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_a_browser_shows_it_without_a_complaint_or_a_request(runs, tmp_path: Path):
    page = tmp_path / "all.html"
    main(["report", *map(str, runs), "--out", str(page)])
    seen = visit(page)
    assert (seen.requests, seen.complaints, seen.layout["broken"], seen.layout["images"]) == ([], [], [], 2)


def test_what_is_no_run_is_named(runs, tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(runs[0]), str(tmp_path / "empty")]) == 2
    assert "empty holds no run" in capsys.readouterr().err
    (runs[1] / "summary.json").write_text("{")
    assert main(["report", *map(str, runs)]) == 2
    assert "summary.json: damaged" in capsys.readouterr().err
