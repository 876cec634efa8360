"""Demonstrations to and from Minari, LeRobotDataset v3 and `imitation`, each in a Python environment of its own.

Their pins and ours do not go together, so that the environment's Python runs :mod:`irl_ros.exchange_forms`, between
whose plain directories and our data sets this module stands.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from irl_ros.data.episode import Demonstrations
from irl_ros.data.interchange import write_npz

FORMS = {
    "minari": "'minari[hdf5]==0.5.4' pillow",
    "lerobot": "lerobot==0.4.4",
    "imitation": "imitation==1.0.1 stable-baselines3==2.2.1 'numpy<2' 'datasets<3' 'pyarrow<20' 'setuptools<81'",
}
"""What to install into an empty environment for each form: what it was tested with."""
_FORMS_PY = Path(__file__).with_name("exchange_forms.py")
_NEEDED = {"minari": "minari", "lerobot": "lerobot.datasets", "imitation": "imitation"}


class ExchangeError(ValueError):
    """Data that cannot be brought into a form or out of it; the message says why and what to do."""


def export(demonstrations: Demonstrations, form: str, out: Path, python: str = sys.executable) -> None:
    """Write `demonstrations` in a form (:data:`FORMS`) to `out`, which must not exist yet, to the last bit."""
    out = _new(out)
    _check_library(form, python)
    with tempfile.TemporaryDirectory(prefix="irl_ros-") as plain:
        write_npz(demonstrations, Path(plain))
        _run(python, "write", form, Path(plain), out)


def take_over(form: str, source: Path, out: Path, python: str = sys.executable) -> list[Path]:
    """npz files of what lies in `source` in a form, in the new directory `out`; to the last bit where it was ours.

    Returns the files. Raises ExchangeError; nothing is left at `out` then.
    """
    out, source = _new(out), source.expanduser()
    if not source.is_dir():
        raise ExchangeError(f"no directory {source}")
    _check_library(form, python)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as hidden:
        plain = Path(hidden, "npz")
        plain.mkdir()
        _run(python, "read", form, source, plain)
        if not any(plain.glob("*.npz")):
            raise ExchangeError(f"{source}: no episode in it")
        plain.rename(out)
    return sorted(out.glob("*.npz"))


def _new(out: Path) -> Path:
    out = out.expanduser()
    if out.exists():
        raise ExchangeError(f"{out} exists already: name a new directory")
    return out


def _check_library(form: str, python: str) -> None:
    """Before anything is written: is there such a Python, and has it the library?"""
    code = f"import {_NEEDED[form]}"
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    except OSError as error:
        raise ExchangeError(f"--python {python}: cannot be started: {error.strerror}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ExchangeError(
            f"{python} cannot import {_NEEDED[form]} ({reason}). Give it an environment of its own: python3.11 -m venv "
            f"{form}_env && {form}_env/bin/pip install {FORMS[form]}; then add --python {form}_env/bin/python"
        )


def _run(python: str, action: str, form: str, source: Path, out: Path) -> None:
    command = [python, "-I", str(_FORMS_PY), action, form, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ExchangeError(f"{form}: {action} {source if action == 'read' else out} failed: {reason}")
