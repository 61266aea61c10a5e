"""The rows of the published metrics: names, needs, groups, and what builds them."""

import dataclasses
from typing import get_args, get_type_hints

import pytest

from idbench.metrics import registry
from idbench.metrics.protocol import Extractor
from idbench.metrics.published_extractors import EXTRACTORS
from idbench.metrics.published_metrics import GROUPS, METRICS, SET_METRICS
from idbench.metrics.registry import (
    build_extractor,
    extractor_order,
    list_metrics,
    missing_requirements,
    resolve,
    resolve_sets,
)
from idbench.metrics.weights import WeightStore, load_catalogue


@pytest.fixture(scope="module")
def placeholders(tmp_path_factory):
    """A store in which every file of the catalogue exists, with contents that nothing reads."""
    root = tmp_path_factory.mktemp("placeholders")
    catalogue = {}
    for key, entry in load_catalogue().items():
        files = tuple(dataclasses.replace(file, sha256=None) for file in entry.files)
        catalogue[key] = dataclasses.replace(entry, files=files)
        if entry.route != "wheel":
            for file in entry.files:
                path = root / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"placeholder")
    return WeightStore(root, catalogue=catalogue)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_row_builds_the_extractor_of_its_name(name, placeholders, monkeypatch):
    absent = [p for p in EXTRACTORS[name].packages if registry.find_spec(p) is None]
    if absent:
        pytest.skip(f"not installed: {absent}")
    monkeypatch.setattr(registry, "weight_store", lambda: placeholders)
    extractor = build_extractor(name, device="cpu", dtype="float32")
    assert extractor.name == name
    assert tuple(extractor.needs) == EXTRACTORS[name].needs
    assert extractor.reads in get_args(get_type_hints(Extractor)["reads"])
    fingerprint = extractor.fingerprint()
    assert fingerprint["name"] == name
    assert fingerprint["version"] >= 1
    assert name == "sharpness" or fingerprint["weights"]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_absent_weights_are_named_with_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "weight_store", lambda: WeightStore(tmp_path))
    told = " ".join(missing_requirements(name))
    for key in EXTRACTORS[name].weights:
        assert f"`idbench weights import {key} PATH`" in told


def test_every_network_of_the_catalogue_unlocks_something():
    used = {key for entry in EXTRACTORS.values() for key in entry.weights}
    packaged = {key for key, entry in load_catalogue().items() if entry.route == "wheel"}
    assert used | packaged == set(load_catalogue())


@pytest.mark.parametrize("name", [*METRICS, *SET_METRICS])
def test_a_metric_bears_the_name_of_its_row_and_needs_known_extractors(name):
    (metric,) = [*resolve([name]), *resolve_sets([name])]
    info = metric.info
    assert f"{info.name}@{info.protocol}[{info.backend}]" == name
    assert info.summary
    assert info.unit
    assert info.bounds[0] < info.bounds[1]
    assert metric.version >= 1
    for needed in metric.needs.values():
        assert extractor_order(needed)


def test_texts_are_asked_of_texts_and_images_of_images():
    text_roles = {"prompt", "element"}
    for metric in [*resolve(list(METRICS)), *resolve_sets(list(SET_METRICS))]:
        for role, names in metric.needs.items():
            for name in names:
                assert ("text" in name.split(".")) == (role in text_roles), (metric.info.name, name)


def test_metrics_of_images_and_of_sets_are_told_apart():
    both = ["facesim@ibench", "fid@ibench"]
    assert [metric.info.name for metric in resolve(both)] == ["facesim"]
    assert [metric.info.name for metric in resolve_sets(both)] == ["fid"]
    assert {"fid", "kid"} <= {info.name for info in list_metrics()}


@pytest.mark.parametrize("group", GROUPS)
def test_groups_hold_known_metrics(group):
    assert len(resolve([group])) + len(resolve_sets([group])) == len(GROUPS[group])


def test_a_published_column_says_which_paper_printed_it():
    for info in list_metrics():
        if info.protocol == "ibench" and info.name not in {"antifacesim", "facediv"}:
            assert info.papers, info.name


# The columns that the papers print; part A of the metric specification.
@pytest.mark.parametrize(
    ("paper", "names"),
    [
        (
            "EditIDv2",
            {
                "fid", "aesthetic", "image_quality", "posediv", "landmarkdiff", "exprdiv",
                "facesim", "clip_i.vs_base", "clip_t", "dino", "fgis",
            },
        ),
        ("FlexID", {"aesthetic", "image_quality", "landmarkdiff", "facesim", "clip_t"}),
        ("FlexIP", {"clip_t", "dino", "clip_iqa", "aesthetic"}),
        ("DynamicID", {"clip_t", "facesim", "expr", "pose", "multi_facesim"}),
        ("EditedID", {"id_sim", "clip_s", "i_reward"}),
    ],
)  # fmt: skip
def test_every_column_of_a_paper_is_there(paper, names):
    found = {info.name for info in list_metrics() if paper in info.papers}
    assert names <= found
