"""The documentation: it builds, its links lead somewhere, its commands exist, and those marked as run do run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from irl_ros import cli
from irl_ros.contract import Contract
from irl_ros.learning.checks import CHECKS, TABULAR_CHECKS
from irl_ros.learning.environment import EnvSpec

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(ROOT / "docs")) for page in PAGES]
RUN = re.compile(r"<!-- run -->\n```bash\n(.*?)```", re.DOTALL)
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
PLACEHOLDER = re.compile(r"…|\.\.\.|<|\$|NAME|COMMAND|\bRUN\b")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and myst make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", h)).strip().lower() for h in headings]
    return {text.replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=[*NAMES, "README.md"])
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def commands(text: str) -> list[list[str]]:
    """Words of every irl_ros command in a page's bash blocks that is no form to fill in."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            start = re.search(r"(?:^|&& )(?:PYTHONPATH=\S+ )?irl_ros (.*)", line)
            if start and not PLACEHOLDER.search(line.split("#")[0]):
                words = shlex.split(start.group(1), comments=True)
                stop = next((k for k, word in enumerate(words) if word in ("|", "&", "&&", ";")), len(words))
                found.append(words[:stop])
    return found


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=[*NAMES, "README.md"])
def test_commands_and_their_options_exist(page: Path, capsys):
    for words in commands(page.read_text()):
        try:
            cli.build_parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{page.name}: irl_ros {shlex.join(words)}: {capsys.readouterr().err}")


def test_every_health_check_is_explained_under_its_name():
    page = (ROOT / "docs/troubleshooting.md").read_text().partition("## Health of a training")[2]
    assert re.findall(r"^### (.*)$", page, re.MULTILINE) == list(dict.fromkeys(c.name for c in (*CHECKS, *TABULAR_CHECKS)))
    for check in (*CHECKS, *TABULAR_CHECKS):
        whole = check.sentence[check.sentence.rindex("}") + 1 :].split(": ", 1)[-1]
        assert whole in page and f"(`{check.figure}` {'above' if check.above else 'below'} {check.limit:g}" in page, check.name


def test_every_page_is_in_a_table_of_contents():
    tables = "\n".join(re.findall(r"```\{toctree\}(.*?)```", "".join(p.read_text() for p in PAGES), re.DOTALL)).split()
    assert {p.stem for p in PAGES} - {"index"} <= {Path(entry).name for entry in tables}


def test_a_task_of_ones_own_takes_thirty_lines(tmp_path: Path, monkeypatch):
    files = FILE.findall((ROOT / "docs/tutorials/own_task.md").read_text())
    assert sum(len(content.splitlines()) for _, content in files) <= 30
    for name, content in files:
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    env = EnvSpec(Contract.load("", "shelf.yaml")).make().unwrapped
    goals = [(env.reset(seed=seed), env.goal)[1] for seed in range(20)]
    assert {round(float(goal[2]), 3) for goal in goals} == {0.25, 0.4, 0.55} and env.success_distance == 0.03
    env.close()


@pytest.mark.full
def test_it_builds_without_a_warning(tmp_path: Path):
    pytest.importorskip("sphinx", reason="make docs installs it")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "index.html").is_file()


@pytest.mark.full
@pytest.mark.parametrize("page", [p for p in PAGES if RUN.search(p.read_text())], ids=lambda page: page.stem)
def test_what_a_page_says_can_be_run(page: Path, tmp_path: Path):
    """As a reader would: files as the page has them, then its commands, one after the other."""
    dds = pytest.importorskip("dds")
    text = page.read_text()
    (tmp_path / "config").symlink_to(ROOT / "config")
    for name, content in FILE.findall(text):
        (tmp_path / name).write_text(content)
    with dds.domain() as domain:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "ROS_DOMAIN_ID": str(domain)}
        script = "set -euo pipefail\n" + "\n".join(RUN.findall(text))
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            said, _ = shell.communicate(timeout=900)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, 15)
    assert shell.returncode == 0, said[-4000:]
