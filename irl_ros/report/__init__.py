"""One self-contained HTML page about a finished run: what was learned, how well it does, what the reward looks like;
and one about several runs beside one another."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tqdm import tqdm

from irl_ros.report.comparison import compare
from irl_ros.report.exhibition import Exhibition, Section
from irl_ros.report.run import Run, RunError
from irl_ros.report.sections import SECTIONS

__all__ = ["RunError", "write_comparison", "write_report"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; display: block; overflow-x: auto; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption { color: #555; font-size: .9rem; }
pre { background: #f3f4f6; padding: .8rem; overflow-x: auto; white-space: pre-wrap; } code { overflow-wrap: anywhere; }
.missing { color: #555; border-left: 4px solid #bbb; padding-left: .8rem; }
.note { background: #fff6e0; border-left: 4px solid #e69f00; padding: .4rem .8rem; }
"""


def write_report(run: str | Path, dataset: str | Path | None = None, env: str = "") -> Path:
    """Write ``report.html`` and ``pictures/`` into the run directory; returns the page's path.

    `dataset`: where the demonstrations lie (default: in the run). `env`: the run's env, which its checkpoint names, may
    be imported if it is this one or irl_ros' own. Everything but the checkpoint may be missing; the
    section then says so. Raises CheckpointError without a sound checkpoint, RunError for a damaged file.
    """
    read = Run.read(Path(run), None if dataset is None else Path(dataset), env)
    exhibition = Exhibition(read, Path(run) / "pictures")
    bar = tqdm(SECTIONS, desc="report", unit="section", file=sys.stderr, mininterval=1.0, dynamic_ncols=True)
    sections = [make(exhibition) for make in bar]
    return _write(Path(run) / "report.html", exhibition.title, sections)


def write_comparison(runs: Sequence[Path], path: Path) -> Path:
    """Write a page about several runs to `path`, its pictures beside it; returns `path`. Raises RunError."""
    return _write(path, *compare(runs, path.with_suffix("") / "pictures"))


def _write(path: Path, title: str, sections: list[Section]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(_page(title, sections), encoding="utf-8")
    temporary.replace(path)
    return path


def _page(title: str, sections: list[Section]) -> str:
    body = "\n".join(f'<section id="{s.id}"><h2>{escape(s.title)}</h2>\n{s.html}\n</section>' for s in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )
