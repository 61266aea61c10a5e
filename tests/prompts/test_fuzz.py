"""Whatever a file holds, the loaders answer with a value or with an error of their own."""

import io
import json
import shutil
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idbench.prompts.acquisition.state import read_state
from idbench.prompts.acquisition.unpack import ArchiveError, unpack
from idbench.prompts.builders.celeba import read_celeba
from idbench.prompts.builders.editedid_proxy import crowdhuman_usable
from idbench.prompts.builders.ibench import read_identities, read_mystyle, read_templates
from idbench.prompts.formats import editedid, ibench, multiid_bench, table
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.freezing import header_text, suite_of
from idbench.prompts.importing import assemble
from idbench.prompts.manifest import case_from_line, case_to_line
from idbench.prompts.strict import ManifestError
from idbench.prompts.suites import read_suite

# Files are written by every example into one folder of the test, on purpose.
FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TEXT = st.text(max_size=20) | st.sampled_from(["", "\0", "\ud800", "é", "../x", "a.png", "c" * 17])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def _paths(value, prefix=()):
    """Every place in a JSON value."""
    yield prefix
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(entry, (*prefix, key))


def _refusal(load):
    """The text of the error of ours that `load` raises, or None if it raises none."""
    try:
        load()
    except (ManifestError, ArchiveError) as error:
        return str(error)
    return None


def _imported(read, rules):
    return assemble(read(rules.folder, rules))


def _changed(draw, document):
    """The document with one value exchanged, dropped or added."""
    changed = json.loads(json.dumps(document))
    path = draw(st.sampled_from(sorted(_paths(changed), key=repr)))
    if not path:
        return draw(VALUES)
    target = changed
    for key in path[:-1]:
        target = target[key]
    action = draw(st.sampled_from(["exchange", "drop", "add"]))
    if action == "drop":
        del target[path[-1]]
    elif action == "add" and isinstance(target, dict):
        target[draw(TEXT)] = draw(VALUES)
    else:
        target[path[-1]] = draw(VALUES)
    return changed


def _dumped(document):
    """JSON as bytes; lone surrogates and NaN go in as they are."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@FUZZ
@given(data=st.data())
def test_changed_cases(make_case, data):
    document = _changed(data.draw, json.loads(case_to_line(make_case())))
    line = _dumped(document)
    refusal = _refusal(lambda: case_from_line(line, "here"))
    if refusal is None:
        case = case_from_line(line, "here")
        assert case_from_line(case_to_line(case), "again") == case
    else:
        assert refusal.startswith("here")


@FUZZ
@given(content=st.binary(max_size=200) | TEXT.map(lambda text: text.encode("utf-8", "ignore")))
def test_arbitrary_lines(content):
    with pytest.raises(ManifestError):
        case_from_line(content, "here")


@FUZZ
@given(data=st.data())
def test_changed_headers(small_suite, tmp_path, data):
    import yaml

    folder = Path(tmp_path)
    (folder / "cases.jsonl").write_text(
        "".join(case_to_line(case) + "\n" for case in small_suite.cases), encoding="utf-8"
    )
    document = _changed(data.draw, yaml.safe_load(header_text(small_suite)))
    try:
        text = yaml.safe_dump(document, allow_unicode=True)
        (folder / "suite.yaml").write_text(text, encoding="utf-8")
    except (yaml.YAMLError, UnicodeEncodeError):
        return
    try:
        refusal = _refusal(lambda: read_suite(folder))
    except FileNotFoundError:  # the header names another file of cases
        assert document["cases"]["path"] != "cases.jsonl"
    else:
        assert refusal is None or str(folder) in refusal


@FUZZ
@given(text=st.text(max_size=200) | st.binary(max_size=100).map(lambda b: b.decode("latin-1")))
def test_arbitrary_headers(tmp_path, text):
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ManifestError):
        read_suite(tmp_path)


DATAS = {
    "datas": [
        {
            "num": 0,
            "id": "a.png",
            "prompt": "x",
            "prompt_attr": ["long"],
            "prompt_style": [],
            "imagewithid": "a.png",
            "imagewithoutid": "b.png",
        }
    ],
    "tags": {"category": "imageid"},
}


@FUZZ
@given(data=st.data())
def test_changed_datas_files(tmp_path, data):
    (tmp_path / "a.png").write_bytes(b"no image")
    path = tmp_path / "datas.json"
    path.write_bytes(_dumped(_changed(data.draw, DATAS)))
    rules = PathRules(folder=tmp_path)
    if _refusal(lambda: ibench.read(path, rules)) is None:
        assert assemble(ibench.read(path, rules)).counts()["images mapped"] == 0


@FUZZ
@given(data=st.data())
def test_changed_lists_of_ibench(data):
    identities = {
        "datas": [{"num": 0, "id": "/x/data/images/a.jpg", "gender": "male"}],
        "tags": {"category": "imageid"},
    }
    templates = {"datas": [{"num": 0, "prompt": "p", "prompt_attr": ["a"], "prompt_style": []}]}
    for read, document in ((read_identities, identities), (read_templates, templates)):
        content = _dumped(_changed(data.draw, document))
        refusal = _refusal(partial(read, content, "list"))
        assert refusal is None or "list" in refusal


@FUZZ
@given(text=st.text(max_size=200))
def test_arbitrary_lists_of_mystyle(text):
    assert all("<class word>" in template.text for template in read_mystyle(text))


ROW = {
    "image": "a.png",
    "reference_0": "a.png",
    "reference_1": "b.png",
    "prompt": "x",
    "sample": 0,
    "seed": 3,
    "expression_0": "happy",
    "box_0": [0.1, 0.1, 0.5, 0.5],
    "category": "c",
    "case_id": "c" * 17,
    "other": "tag",
}


@FUZZ
@given(data=st.data())
def test_changed_rows_of_json_lines(tmp_path, data):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(_dumped(_changed(data.draw, ROW)).replace(b"\n", b" ") + b"\n")
    refusal = _refusal(lambda: assemble(table.read(path, PathRules(folder=tmp_path))))
    assert refusal is None or "rows.jsonl" in refusal


ANY_TEXT = st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
CELLS = st.lists(st.lists(TEXT, max_size=4), max_size=4)


@FUZZ
@given(
    content=st.binary(max_size=120)
    | CELLS.map(lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "replace"))
    | CELLS.map(
        lambda rows: (
            b"image,reference,box\n"
            + "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
        )
    ),
    name=st.sampled_from(["x.csv", "x.jsonl", "x.parquet", "x.txt"]),
)
def test_arbitrary_tables(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    rules = PathRules(folder=tmp_path)
    refusal = _refusal(lambda: assemble(table.read(tmp_path / name, rules)))
    assert refusal is None or name in refusal


@FUZZ
@given(content=st.binary(max_size=120) | ANY_TEXT)
def test_arbitrary_csv_of_edits(tmp_path, content):
    path = tmp_path / "edits.csv"
    for head in (b"", b"original,edited,restored,elements,masks\n"):
        path.write_bytes(head + content)
        refusal = _refusal(lambda: editedid.read(path, PathRules(folder=tmp_path)))
        assert refusal is None or "edits.csv" in refusal


@FUZZ
@given(data=st.data())
def test_changed_meta_files(tmp_path, data):
    from PIL import Image

    for layout, meta in (
        (editedid, {"instruction": "x", "scenario": ["a"], "corruption": "high"}),
        (multiid_bench, {"prompt": "x", "bboxes": [[0.1, 0.1, 0.5, 0.5]], "subset": "v202"}),
    ):
        folder = tmp_path / layout.__name__ / "case"
        if not folder.exists():
            folder.mkdir(parents=True)
            for name in ("original", "edited", "restored", "out", "ori", "ref_1"):
                Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
        (folder / "meta.json").write_bytes(_dumped(_changed(data.draw, meta)))
        rules = PathRules(folder=folder.parent)
        refusal = _refusal(
            lambda read=layout.read, rules=rules: assemble(read(rules.folder, rules))
        )
        assert refusal is None or "case" in refusal


@FUZZ
@given(lines=st.lists(st.text(max_size=30), max_size=5), which=st.integers(0, 1))
def test_arbitrary_lists_of_celeba(tmp_path, lines, which):
    files = {
        "identity_CelebA.txt": "a.jpg 1\n",
        "list_attr_celeba.txt": "1\nMale Blurry Eyeglasses Wearing_Hat\na.jpg 1 1 1 1\n",
    }
    name = sorted(files)[which]
    files[name] += "\n".join(lines)
    for file, text in files.items():
        (tmp_path / file).write_text(text, encoding="utf-8", errors="replace")
    refusal = _refusal(lambda: read_celeba(tmp_path))
    assert refusal is None or "CelebA.txt" in refusal or "list_attr" in refusal


@FUZZ
@given(data=st.data())
def test_changed_lines_of_crowdhuman(data):
    line = {"ID": "a", "gtboxes": [{"hbox": [1, 2, 3, 100], "head_attr": {"ignore": 0}}]}
    content = _dumped(_changed(data.draw, line))
    if _refusal(lambda: crowdhuman_usable(content, "here")) is None:
        found = crowdhuman_usable(content, "here")
        assert found is None or "/" not in found


@FUZZ
@given(data=st.data())
def test_changed_states(tmp_path, data):
    document = {
        "format": "idbench.source/1",
        "revision": "r",
        "files": 1,
        "root": "x",
        "accepted": [{"terms": "t", "revision": "r", "date": "d", "text_sha256": "s"}],
    }
    folder = tmp_path / "sources" / "ibench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_bytes(_dumped(_changed(data.draw, document)))
    refusal = _refusal(lambda: read_state("ibench", tmp_path))
    assert refusal is None or "state.json" in refusal


def _archive(kind, names):
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, name in enumerate(names):
                archive.writestr(name or "x", bytes([number]) * 300)
    else:
        with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:
            for number, name in enumerate(names):
                info = tarfile.TarInfo(name or "x")
                info.size = 300
                archive.addfile(info, io.BytesIO(bytes([number]) * 300))
    return stream.getvalue()


KINDS = st.sampled_from(["zip", "gz", "bz2", "xz", ""])
AWKWARD = ("../x", "/x", "a", "a/b", "A", "a/", "x\\y")
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # the fuzzer repeats names
@FUZZ
@given(
    kind=KINDS,
    names=st.lists(PLAIN | st.sampled_from(AWKWARD), max_size=4),
)
def test_archives_with_arbitrary_names_stay_inside(tmp_path, kind, names):
    (tmp_path / "archive").write_bytes(_archive(kind, names))
    _refusal(lambda: unpack(tmp_path / "archive", tmp_path / "out"))
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"archive", "out"}
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


@FUZZ
@given(kind=KINDS, data=st.data())
def test_damaged_archives(tmp_path, kind, data):
    content = bytearray(_archive(kind, ["a/b", "c"]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / "archive").write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    _refusal(lambda: unpack(tmp_path / "archive", tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_the_fuzzer_reaches_good_values(make_case):
    # the unchanged documents are valid, so a change is what the loaders refuse
    case = make_case()
    assert case_from_line(case_to_line(case), "here") == case
    assert suite_of([case], name="example", kind="single_id").count == 1
