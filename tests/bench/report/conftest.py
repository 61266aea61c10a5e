"""Runs with hostile names and prompts, their report, and a browser to open it in."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idbench.commands import report as verb
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source
from idbench.prompts.suites import load_suite
from idbench.records import Column, Sample, Score
from idbench.store import RunIdentity, RunStore

# Each would set window.pwned, or break the page, if it were ever read as markup or code.
HOSTILE = (
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "' onmouseover='window.pwned=1",
    "javascript:window.pwned=1",
    "<!--<script>window.pwned=1",
    "]]><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<style>*{display:none}</style>",
    "line\u2028separator & ampersand \\u003c",
    "<template><b>bold</b></template>",
)
COLUMNS = (
    ("facesim@strict[dlib]", "preservation", True),
    ("landmarkdiff@strict[mtcnn]", "editability", True),
    ("posediv.yaw@strict[<b>x</b>]", "editability", None),
)
CASES = 40


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A workspace of three runs on one suite of 40 cases; the third loses every fourth image."""
    root = tmp_path_factory.mktemp("report")
    folder = root / "pictures"
    folder.mkdir()
    cases = []
    for number in range(CASES):
        path = folder / f"{number % 8}.png"
        if not path.exists():
            Image.new("RGB", (64, 48), (30 * (number % 8), 80, 120)).save(path)
        reference = reference_of(
            path=path.name, sha256=sha256_of(path), source=folder_source(folder)
        )
        cases.append(
            identified(
                "hostile",
                1,
                alias=f"case {number}",
                kind="single_id",
                references=(reference,),
                prompt=f"{HOSTILE[number % len(HOSTILE)]} prompt {number}",
                tags={"style": ("photo" if number % 2 else "<i>anime</i>",)},
            )
        )
    suite = suite_of(cases, name="hostile", kind="single_id")
    write_suite(suite, root / "suite")
    suite = load_suite(root / "suite", data_root=root / "data")
    columns = [
        Column(
            name=name, fingerprint="f" * 16, unit="<u>unit</u>", higher_is_better=higher, low=-1.0,
            high=2.0, axis=axis, comparable_to_published=False, details="{}",
        )
        for name, axis, higher in COLUMNS
    ]  # fmt: skip
    for place, label in enumerate((HOSTILE[0], HOSTILE[1], "plain")):
        identity = RunIdentity(
            label=label,
            method={"name": f"m{place}", "target": "m", "args": {}, "fingerprint": {"p": place}},
            suite={
                "name": "hostile",
                "target": str(root / "suite"),
                "version": 1,
                "kind": "single_id",
                "sha256": suite.sha256,
            },
            seed_policy="hashed",
            size=None,
            environment={},
        )
        with RunStore.create(root / "runs", identity) as store:
            _fill(store, suite, columns, place)
    return root


def _fill(store, suite, columns, place):
    rng = np.random.default_rng(place)
    planned = [Sample(case_id=c.case_id, sample=0, seed=0, status="pending") for c in suite.cases]
    rows = [
        (sample, case.identity, case.multiplicity, case.tags)
        for sample, case in zip(planned, suite.cases, strict=True)
    ]
    store.plan(rows)
    store.add_columns(columns)
    done, scores = [], []
    for number, sample in enumerate(planned):
        lost = place == 2 and number % 4 == 0
        facts = {"status": "failed", "reason": "error", "detail": HOSTILE[1]}
        if not lost:
            path = store.directory / "images" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            shade = (60 * place + number) % 255
            Image.new("RGB", (64, 64), (shade, 200 - shade // 2, 90)).save(path)
            facts = {"status": "ok", "path": f"images/{number}.png", "sha256": sha256_of(path)}
        done.append(Sample(case_id=sample.case_id, sample=0, seed=0, **facts))
        for column in columns:
            value = None if lost else float(0.5 + 0.1 * place + rng.normal(0, 0.05))
            scores.append(
                Score(
                    case_id=sample.case_id, sample=0, column=column.name,
                    fingerprint=column.fingerprint, value=value,
                    reason="no_image" if lost else None,
                )
            )  # fmt: skip
    store.record(done)
    store.add_scores(scores)


@pytest.fixture(scope="session")
def make_report(runs):
    """Makes the report of the runs with some flags; returns its folder."""
    import argparse

    def make(folder: Path, *flags: str) -> Path:
        parser = argparse.ArgumentParser()
        verb.add_arguments(parser)
        arguments = [str(runs / "runs"), "-o", str(folder), "--title", f"t {HOSTILE[0]}", *flags]
        assert verb.run(parser.parse_args(arguments)) == 0
        return folder

    return make


class Browser:
    """Chromium without a window, driven through its debugging pipe."""

    def __init__(self, binary: str, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()

        def use_pipes() -> None:
            # The ends may themselves be 3 and 4, so they are copied before those are overwritten.
            one, two = os.dup(commands), os.dup(answers)
            os.dup2(one, 3)
            os.dup2(two, 4)

        self._process = subprocess.Popen(
            [
                binary, "--headless=new", "--no-sandbox", "--remote-debugging-pipe",
                "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking",
                f"--user-data-dir={profile}", "about:blank",
            ],
            preexec_fn=use_pipes, close_fds=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: object) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        wanted = self._number
        while True:
            answer = self._receive()
            if answer.get("id") == wanted:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self, seconds: float = 60.0) -> dict:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            self._buffer += os.read(self._read, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, view: str = "table") -> None:
        self.events.clear()
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=f"{path.as_uri()}#{view}")
        self.wait("document.readyState === 'complete' && !!document.querySelector('main')")

    def js(self, expression: str) -> object:
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def key(self, key: str) -> None:
        number = {"Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}[key]
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=number,
            )  # fmt: skip

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip

    def screenshot(self) -> bytes:
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def problems(self) -> list[str]:
        """Errors, warnings and exceptions since the page was opened."""
        self.js("1")
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif params.get("type") in ("error", "warning") and "args" in params:
                found.append(json.dumps(params["args"]))
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._read)
        os.close(self._write)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium, or a visible skip."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: install the package chromium to test the report in it")
    opened = Browser(found, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()
