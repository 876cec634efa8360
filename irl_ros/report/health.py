"""The report's section on the training's health: every figure that was judged, its limit, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from irl_ros.report.exhibition import Exhibition, Section, missing, table

TITLE = "Health of the training"
HEAD = ("", "at the end", "wrong", "verdict")
NO_OVERFIT_GAP = (
    "Whether the reward has memorised the demonstrations was not measured: none was held out. With six or more, one in "
    "six is; the option held_out asks for one of fewer, or for more."
)
OVERFIT = ("over-fit gap", "over-fit gap, one left out")


def health(show: Exhibition) -> Section:
    """No figure here knows the true reward."""
    rows = show.run.facts.get("health")
    if not rows:
        return Section("health", TITLE, missing("Nothing was judged: the run has no health figures."))
    found = [row["finding"] for row in rows if row["finding"]]
    body = "".join(f'<p class="note">{escape(_sentence(finding))}</p>' for finding in found)
    body += table([_row(row) for row in rows], HEAD)
    if not any(row["name"] in OVERFIT for row in rows) and show.reward is not None:
        body += missing(NO_OVERFIT_GAP)
    verdict = "Learning had converged by these figures." if show.run.facts.get("converged") else ""
    where = "What lies behind each stands under its name in docs/troubleshooting.md."
    intro = f"<p>None of these figures knows the true reward. {verdict} {where}</p>"
    return Section("health", TITLE, intro + body)


def _row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    finding = row["finding"]
    if finding is None:
        verdict = "good"
    else:
        verdict = finding["level"] + ("" if finding["active"] else f" until iteration {finding['last']}, then good")
    return row["name"], float(row["value"]), f"{row['wrong']} {row['limit']:g}", verdict


def _sentence(finding: Mapping[str, Any]) -> str:
    when = f"from iteration {finding['first']} on" if finding["active"] else f"last in iteration {finding['last']}"
    return f"{finding['name']} ({finding['level']}, {when}): {finding['sentence']}"
