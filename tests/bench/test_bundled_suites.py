"""Every kind of case goes through generation with every baseline, from the command line."""

import re
from importlib.util import find_spec

import pytest

from idbench.cli import main
from idbench.methods.registry import list_methods
from idbench.prompts.registry import SUITES
from idbench.store import RunStore, find_runs

BASELINES = [info.name for info in list_methods() if ".baselines." in info.target and not info.base]
# What cannot be asked of a suite: a swap needs a second identity.
NO_SECOND = {"tiny-single", "tiny-long", "tiny-edit"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.skipif(
    not all(map(find_spec, ("skimage", "insightface"))),
    reason="the photographs of the bundled suites are not installed",
)
@pytest.mark.parametrize("suite", [info.name for info in SUITES.values() if info.bundled])
def test_every_baseline_on_every_bundled_suite(suite, data, tmp_path, monkeypatch):
    monkeypatch.setenv("IDBENCH_DATA", str(data))
    words = [word for name in BASELINES for word in ("--method", name)]
    flags = ["--limit", "2", "--max-failures", "1", "--output", str(tmp_path)]
    assert main(["generate", "--suite", suite, *words, *flags]) == 0
    made = {}
    for directory in find_runs([tmp_path]):
        with RunStore.open(directory) as store:
            samples = store.samples()
            made[store.identity.method["name"]] = {(s.status, s.reason) for s in samples}
            assert len(samples) == 2
    assert made.keys() == set(BASELINES)
    for name, outcomes in made.items():
        if name == "swap" and suite in NO_SECOND:
            assert outcomes == {("failed", "no_distractor")}
        else:
            assert outcomes == {("ok", None)}, name


def test_the_bundled_suites_cover_every_kind_but_the_composed_one():
    kinds = {info.kind for info in SUITES.values() if info.bundled}
    assert kinds == {"single_id", "multi_id", "subject", "edit_restoration"}
    assert len(BASELINES) == 10


def test_the_list_of_suites_has_counts_licence_and_state(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path))
    assert main(["list", "suites"]) == 0
    text = capsys.readouterr().out
    entries = {
        entry.split("\n")[0]: " ".join(entry.split()) for entry in re.split(r"\n(?=\S)", text)
    }
    assert len(entries) == len(SUITES)
    for info in SUITES.values():
        entry = entries[f"{info.name}  (here)" if info.bundled else info.name]
        # Wrapped lines break words at hyphens.
        assert info.licence.replace("- ", "-")[:30] in entry.replace("- ", "-")
        assert f"{info.cases:,} cases" in entry
        if info.distinct != info.cases:
            assert f"({info.distinct:,} distinct)" in entry
        if info.samples > 1:
            assert f"x {info.samples} samples" in entry
        assert ("not here: " in entry) is not info.bundled
