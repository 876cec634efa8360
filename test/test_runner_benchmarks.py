"""Benchmarks of nodes, short: latency beside a bare node, memory and halts beside a hog, what the recorder keeps."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the benchmark sets it; to be put back
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmark")
    for module in (name, "driver"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    importlib.import_module(name).main()


def test_twenty_seconds_beside_a_hog(monkeypatch, tmp_path):
    run("soak", monkeypatch, "--seconds", 20, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["silences"] >= 2 and figures["missed_halts"] == 0 and figures["commands_after_halt"] == 0
    assert figures["commands"] > 500 and figures["resident_mib"] > 10


def test_latency_beside_a_bare_node(monkeypatch, tmp_path):
    file = tmp_path / "figures.json"
    run("runner_latency", monkeypatch, "--rates", 100, "--rounds", 1, "--seconds", 1, "--json", file)
    figures = json.loads(file.read_text())
    assert 0 < figures["inference_us"] and 0 < figures["median_ratio"] and 0 < figures["p99_ratio"]
    assert figures["rates"]["100"]["commands"] > 50


def test_two_seconds_at_3000_messages_a_second_lose_none(monkeypatch, tmp_path):
    run("recording", monkeypatch, "--seconds", 2, "--faster", "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["sent"] == figures["recorded"] == 6000 and figures["lost"] == figures["recorded_twice"] == 0
    assert 0.0 < figures["cpu_fraction"] < 0.6 and figures["first_loss"] is None and figures["faster"] == []
