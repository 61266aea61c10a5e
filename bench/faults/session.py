"""What is tortured: a small suite, a method, two metrics, and the tables of a run left alone."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from PIL import Image

from idbench.escape import plain
from idbench.faults.driver import CRASHED, Driver, Ended, preload
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source

PLUGIN = "idbench_torture"
METRICS = ("likeness@strict[torture]", "contrast@strict[torture]")
TABLES = ("table.txt", "table.md", "table.csv", "table.tex", "table.json")
ENTRY_POINTS = f"""\
[idbench.metrics]
{METRICS[0]} = {PLUGIN}:Likeness
{METRICS[1]} = {PLUGIN}:Contrast

[idbench.extractors]
torture_sums = {PLUGIN}:SUMS
"""


class FaultError(AssertionError):
    """What must never happen did: a row lost or counted twice, another table, a traceback."""


class SkippedError(Exception):
    """A case that cannot be run here, and why."""


class Session:
    """A folder with the workload. It may be used again; what is there is not made again."""

    def __init__(self, folder: Path, *, identities: int, prompts: int, samples: int) -> None:
        """Writes suite and plug-in, and puts the plug-in on this process's path."""
        preload()
        self.folder = folder.resolve()
        self.images = identities * prompts * samples
        self._plugin = self.folder / "plugin"
        self._write_plugin()
        self._suite = self.folder / "suite"
        self._write_suite(identities, prompts, samples)
        if str(self._plugin) not in sys.path:
            sys.path.insert(0, str(self._plugin))
        os.environ["IDBENCH_DATA"] = str(self.folder / "data")
        self.expected = self._undisturbed()

    def generate(self, workspace: Path, *more: str) -> list[str]:
        """Arguments that make the images."""
        return [
            "generate", "--suite", str(self._suite), "--output", str(workspace), "--batch-size",
            "4", "--method", f"python:{self._plugin}/{PLUGIN}.py:Painter", "--method", "mirror",
            *(more if "--workers" in more else ("--workers", "1", *more)),
        ]  # fmt: skip

    def score(self, workspace: Path, *more: str) -> list[str]:
        """Arguments that score them."""
        return [
            "score", str(workspace), "--metrics", ",".join(METRICS), "--batch-size", "4",
            *(more if "--workers" in more else ("--workers", "1", *more)),
        ]  # fmt: skip

    def tables(self, workspace: Path, where: Path) -> list[list[str]]:
        """Arguments that write the table in every style, and the scores behind it."""
        styles = [["table", str(workspace), "--output", str(where / name)] for name in TABLES]
        return [*styles, ["export", str(workspace), "--output", str(where / "scores.csv")]]

    def run(
        self, argv: Sequence[str], scene: Path, before: Callable[[], object] | None = None
    ) -> Ended:
        """Runs a verb to its end.

        Raises:
            FaultError: If it ended with a traceback.
        """
        scene.mkdir(parents=True, exist_ok=True)
        return checked(Driver(argv, scene / "log", before).wait())

    def must(self, argv: Sequence[str], scene: Path) -> Ended:
        """Runs a verb that has to succeed.

        Raises:
            FaultError: If it did not.
        """
        ended = self.run(argv, scene)
        if ended.code != 0:
            raise FaultError(f"{argv[0]} ended with {ended.code}: {said(ended)}")
        return ended

    def refused(self, argv: Sequence[str], scene: Path, *words: str) -> Ended:
        """Runs a verb that has to refuse, with exit code 2 and one of `words` in its error.

        Raises:
            FaultError: If it did not.
        """
        ended = self.run(argv, scene)
        if ended.code != 2 or not any(word in ended.err for word in words):
            raise FaultError(f"{argv[0]} ended with {ended.code}, not a refusal: {said(ended)}")
        return ended

    def compare(self, workspace: Path, scene: Path) -> None:
        """Writes all tables of a workspace and compares them, byte by byte.

        Raises:
            FaultError: If one is another than that of the undisturbed run.
        """
        where = scene / "tables"
        shutil.rmtree(where, ignore_errors=True)
        for argv in self.tables(workspace, where):
            self.must(argv, scene)
        for name, expected in self.expected.items():
            if (where / name).read_bytes() != expected:
                raise FaultError(f"{where / name} is not that of the undisturbed run")

    def plan_faults(self, faults: Mapping[str, Mapping[str, object]]) -> None:
        """Lets the plug-in commit faults from now on; {} ends it."""
        for old in self._plugin.glob("committed-*"):
            old.unlink()
        (self._plugin / "faults.json").write_text(json.dumps(faults))

    def committed(self) -> dict[str, int]:
        """How often each place of faults was passed."""
        found = self._plugin.glob("committed-*")
        return {path.name.removeprefix("committed-"): path.stat().st_size for path in found}

    def slow(self, wanted: bool) -> None:
        """Makes the method take its time, or not."""
        if wanted:
            (self._plugin / "slow").touch()
        else:
            (self._plugin / "slow").unlink(missing_ok=True)

    def made(self) -> list[str]:
        """Case and sample of every image that the method was asked for, in order."""
        log = self._plugin / "made.txt"
        return log.read_text().splitlines() if log.exists() else []

    def aliases(self, chance: random.Random, count: int) -> list[str]:
        """Some cases of the suite, by alias."""
        lines = (self._suite / "cases.jsonl").read_text().splitlines()
        return chance.sample(sorted(json.loads(line)["alias"] for line in lines), count)

    def _undisturbed(self) -> dict[str, bytes]:
        whole = self.folder / "whole"
        self.plan_faults({})
        self.slow(False)
        shutil.rmtree(whole, ignore_errors=True)
        self.must(self.generate(whole / "runs"), whole)
        self.must(self.score(whole / "runs"), whole)
        for argv in self.tables(whole / "runs", whole / "tables"):
            self.must(argv, whole)
        return {path.name: path.read_bytes() for path in (whole / "tables").iterdir()}

    def _write_plugin(self) -> None:
        info = self._plugin / f"{PLUGIN}-1.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        source = files("idbench.faults").joinpath("plugin.py").read_text(encoding="utf-8")
        (self._plugin / f"{PLUGIN}.py").write_text(source, encoding="utf-8")

    def _write_suite(self, identities: int, prompts: int, samples: int) -> None:
        pictures = self.folder / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        source = folder_source(pictures)
        cases = []
        for number in range(identities):
            path = pictures / f"{number}.png"
            Image.new("RGB", (12, 12), (20 * number % 256, 80, 160)).save(path)
            reference = reference_of(path=path.name, sha256=sha256_of(path), source=source)
            cases += [
                identified(
                    "torture",
                    1,
                    alias=f"{number}-{prompt}",
                    kind="single_id",
                    references=(reference,),
                    prompt=f"a portrait, scene {prompt}",
                )
                for prompt in range(prompts)
            ]
        suite = suite_of(cases, name="torture", kind="single_id", samples_per_case=samples)
        write_suite(suite, self._suite)


def checked(ended: Ended) -> Ended:
    """What ended without a traceback.

    Raises:
        FaultError: If it ended with one.
    """
    if ended.code == CRASHED:
        raise FaultError(f"a traceback: {said(ended)}")
    return ended


def said(ended: Ended) -> str:
    """The end of what a process said, on one line."""
    return plain(" / ".join(ended.err.strip().splitlines()[-4:]))[-600:]
