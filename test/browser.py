"""A real headless Chromium, asked over its debugging pipe what a page did: loads, complaints, and figures of its layout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no chromium on this machine (Debian, Ubuntu: apt install chromium)"
LAYOUT = """({
  broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt),
  images: document.images.length,
  wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
})"""


class Visit(NamedTuple):
    """URLs that the page asked for but itself and data in it; what it complained of; what :data:`LAYOUT` found."""

    requests: list[str]
    complaints: list[str]
    layout: dict[str, Any]


def visit(page: Path, width: int = 1100) -> Visit:
    """Open a file, wait until it has loaded, and ask."""
    ours, theirs = os.pipe(), os.pipe()  # ours: what we say; theirs: what it says
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--window-size={width},900"]

    def hand_over() -> None:
        for end, number in ((os.dup(ours[0]), 3), (os.dup(theirs[1]), 4)):
            os.dup2(end, number)

    browser = subprocess.Popen(
        [CHROMIUM, *options], preexec_fn=hand_over, close_fds=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    os.close(ours[0])
    os.close(theirs[1])
    try:
        with os.fdopen(ours[1], "wb") as say, os.fdopen(theirs[0], "rb") as hear:
            return _Session(say, hear).visit(page.resolve().as_uri())
    finally:
        browser.kill()
        browser.wait()


class _Session:
    """Chrome's debugging protocol: JSON messages that end in a zero byte."""

    def __init__(self, say: Any, hear: Any):
        self._say, self._hear, self._number, self._session = say, hear, 0, ""
        self._events: list[dict[str, Any]] = []

    def visit(self, url: str) -> Visit:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            self._call(f"{domain}.enable")
        self._call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._read())
        layout = self._call("Runtime.evaluate", expression=LAYOUT, returnByValue=True)["result"]["value"]
        asked = [e["params"]["request"]["url"] for e in self._events if e["method"] == "Network.requestWillBeSent"]
        loud = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        complaints = [json.dumps(event["params"]) for event in self._events if event["method"] in loud]
        return Visit([a for a in asked if a != url and not a.startswith("data:")], complaints, layout)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._say.write(json.dumps({**message, **({"sessionId": self._session} if self._session else {})}).encode() + b"\0")
        self._say.flush()
        while (answer := self._read()).get("id") != self._number:
            self._events.append(answer)
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._hear.read(1)) != b"\0":
            assert byte, "the browser ended"
            content += byte
        return json.loads(content)
