import subprocess
import sys
import textwrap

import pytest

from idbench.metrics import registry
from idbench.metrics.registry import (
    EXTRACTORS,
    GROUPS,
    METRICS,
    ExtractorEntry,
    build_extractor,
    extractor_order,
    list_metrics,
    missing_requirements,
    resolve,
)


def names_of(metrics):
    return [f"{m.info.name}@{m.info.protocol}[{m.info.backend}]" for m in metrics]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_bears_the_name_of_its_row(name):
    assert names_of(resolve([name])) == [name]


def test_every_metric_is_listed_once_with_distinct_columns():
    infos = list_metrics()
    columns = [column for info in infos for column in info.columns()]
    assert len(columns) == len(set(columns))
    assert len(infos) >= len(METRICS)
    assert all(info.bounds[0] < info.bounds[1] for info in infos)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_needs_known_extractors(name):
    (metric,) = resolve([name])
    assert metric.needs
    for names in metric.needs.values():
        assert extractor_order(names)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_table_agrees_with_the_extractor(name):
    if missing_requirements(name):
        pytest.skip("; ".join(missing_requirements(name)))
    extractor = build_extractor(name, device="cpu", dtype="float32")
    assert extractor.name == name
    assert tuple(extractor.needs) == EXTRACTORS[name].needs


def test_tables_lists_and_orders_do_not_import_torch():
    program = """
        import sys
        from idbench.metrics.registry import *
        list_metrics()
        extractor_order(["dlib_face", "mtcnn_native"])
        missing_requirements("dlib_face")
        resolve(["embedded", "posediv.yaw[dlib68]"])
        heavy = {"torch", "dlib", "transformers", "cv2", "insightface"} & sys.modules.keys()
        print(sorted(heavy))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("posediv@strict[dlib68]", "posediv@strict[dlib68]"),
        ("posediv.yaw@strict[dlib68]", "posediv@strict[dlib68]"),
        ("posediv.geodesic[dlib68]", "posediv@strict[dlib68]"),
        ("facesim[dlib]", "facesim@strict[dlib]"),
        ("facesim.largest@strict[dlib]", "facesim@strict[dlib]"),
        ("landmarkdiff@ibench", "landmarkdiff@ibench[mtcnn]"),
        ("landmarkdiff.procrustes", "landmarkdiff@strict[mtcnn]"),
        ("expr_change", "expr_change@strict[dlib68]"),
    ],
)
def test_short_and_variant_names_are_understood(asked, found):
    assert names_of(resolve([asked])) == [found]


def test_metrics_come_once_in_the_order_asked_for():
    asked = ["expr_change", "posediv.roll[dlib68]", "posediv.yaw[dlib68]", "expr_change@strict"]
    assert names_of(resolve(asked)) == ["expr_change@strict[dlib68]", "posediv@strict[dlib68]"]


def test_a_group_stands_for_its_metrics():
    assert names_of(resolve(["embedded"])) == list(GROUPS["embedded"])
    assert names_of(resolve(["expr_change", "embedded"]))[0] == "expr_change@strict[dlib68]"


def test_ambiguous_names_list_the_candidates():
    with pytest.raises(LookupError) as caught:
        resolve(["landmarkdiff"])
    assert str(caught.value).startswith("metric 'landmarkdiff' is ambiguous; say one of: ")
    assert "landmarkdiff@ibench[mtcnn]" in str(caught.value)
    assert "landmarkdiff@strict[mtcnn]" in str(caught.value)


@pytest.mark.parametrize("name", ["facesimm", "posediv.yaww", "facesim@loose", "", "facesim."])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(LookupError) as caught:
        resolve([name])
    assert str(caught.value).startswith(f"unknown metric {name!r}; known: ")
    assert "facesim@strict[dlib]" in str(caught.value)
    assert "embedded" in str(caught.value)


def test_extractors_come_after_what_they_need():
    assert extractor_order(["dlib_face"]) == ["mtcnn", "dlib_face"]
    assert extractor_order(["mtcnn_native", "dlib_face", "mtcnn"]) == [
        "mtcnn",
        "mtcnn_native",
        "dlib_face",
    ]
    with pytest.raises(LookupError, match=r"unknown extractor 'hopenett'; known: .*mtcnn"):
        extractor_order(["hopenett"])


def test_a_circle_of_extractors_is_an_error(monkeypatch):
    first = ExtractorEntry(target="m:A", needs=("second",), extra="embedded")
    second = ExtractorEntry(target="m:B", needs=("first",), extra="embedded")
    monkeypatch.setitem(registry.EXTRACTORS, "first", first)
    monkeypatch.setitem(registry.EXTRACTORS, "second", second)
    with pytest.raises(ValueError, match="first -> second -> first"):
        extractor_order(["first"])


def test_what_is_not_installed_is_named_with_the_command_to_get_it(monkeypatch):
    entry = ExtractorEntry(
        target="no.such:Thing", packages=("no_such_package",), needs=("mtcnn",), extra="embedded"
    )
    monkeypatch.setitem(registry.EXTRACTORS, "thing", entry)
    expected = 'package no_such_package is not installed: pip install "idbench[embedded]"'
    assert expected in missing_requirements("thing")
    with pytest.raises(ModuleNotFoundError, match=r"'thing' needs no_such_package; get it with"):
        build_extractor("thing", device="cpu", dtype="float32")


def run_with_plugins(folder, entry_points, module, program):
    """Runs a program where a distribution with these entry points is installed."""
    info = folder / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    (folder / "thirdparty.py").write_text(textwrap.dedent(module))
    head = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(program)], capture_output=True, text=True
    )


def test_plugins_add_metrics_and_extractors(tmp_path):
    run = run_with_plugins(
        tmp_path,
        """
        [idbench.metrics]
        brightness@strict[mean] = thirdparty:Brightness
        broken@strict[x] = thirdparty:Absent
        facesim@strict[dlib] = thirdparty:Brightness

        [idbench.extractors]
        mean = thirdparty:MEAN
        """,
        """
        from idbench.metrics.protocol import MetricInfo
        from idbench.metrics.registry import ExtractorEntry

        MEAN = ExtractorEntry(target="thirdparty:Mean", needs=("mtcnn",), extra="embedded")

        class Mean:
            name, needs, reads = "mean", ("mtcnn",), "image"
            def __init__(self, *, device, dtype): self.device = device

        class Brightness:
            version, needs = 1, {"generated": ("mean",)}
            info = MetricInfo(name="brightness", protocol="strict", backend="mean", summary="",
                unit="", higher_is_better=None, bounds=(0, 255), axis="quality")
        """,
        """
        from idbench.metrics.registry import *
        (metric,) = resolve(["brightness"])
        print(metric.info.columns(), extractor_order(["mean"]))
        print(build_extractor("mean", device="cuda:1", dtype="float32").device)
        print([info.name for info in list_metrics()][-1])
        print(type(resolve(["facesim@strict[dlib]"])[0]).__name__)
        """,
    )
    assert run.stdout.splitlines() == [
        "('brightness@strict[mean]',) ['mtcnn', 'mean']",
        "cuda:1",
        "brightness",
        "FaceSimStrict",
    ], run.stderr
    assert "cannot load the metric plug-in broken@strict[x] (thirdparty:Absent)" in run.stderr
    assert "ignored the plug-in thirdparty:Brightness" in run.stderr
