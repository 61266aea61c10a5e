"""Fetching and importing whole sources, from servers and folders on this machine."""

import io
import subprocess
import zipfile

import pytest
from PIL import Image

from idbench.prompts.acquisition.acquire import (
    FetchOptions,
    fetch,
    import_copy,
    plan_fetch,
    verify_source,
)
from idbench.prompts.acquisition.layouts import msbench_table
from idbench.prompts.acquisition.network import FetchError, OfflineError
from idbench.prompts.acquisition.state import TermsError, read_state, state_root
from idbench.prompts.builders.celeba import read_celeba
from idbench.prompts.sources import source_root
from idbench.prompts.strict import ManifestError


@pytest.fixture
def msbench_repository(tmp_path):
    root = tmp_path / "upstream"
    for subject in msbench_table()["subjects"]:
        path = root / subject["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(subject["name"].encode())
    (root / "train.py").write_text("code that nobody asked for")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *identity, *command], cwd=root, check=True, capture_output=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    )
    return f"file://{root}", head.stdout.strip()


def _options(mirror=None, revision=None, accept=(), **environment):
    return FetchOptions(
        environment=environment, accept=frozenset(accept), mirror=mirror, revision=revision
    )


def test_a_git_source_is_fetched_verified_and_found(msbench_repository, tmp_path):
    url, commit = msbench_repository
    data = tmp_path / "data"
    found = fetch("msbench", data, _options(mirror=url, revision=commit))
    assert (found.state, found.present) == ("complete", 40)
    root = source_root("msbench", data)
    assert root == data / "sources" / "msbench" / commit
    assert not (root / "train.py").exists()
    assert "complete: 40 of 40" in read_state("msbench", data).verified
    fetch("msbench", data, _options(mirror=url, revision=commit))  # a second time is no harm
    assert verify_source("msbench", data, deep=True).state == "complete"
    (root / "msbench" / "scene").rename(root / "elsewhere")
    assert verify_source("msbench", data, deep=False).state == "partial"


def test_a_failed_fetch_keeps_the_copy_that_was_there(msbench_repository, tmp_path):
    url, commit = msbench_repository
    data = tmp_path / "data"
    fetch("msbench", data, _options(mirror=url, revision=commit))
    with pytest.raises(FetchError):
        fetch("msbench", data, _options(mirror="file:///no/such", revision=commit))
    assert verify_source("msbench", data, deep=False).state == "complete"
    left = {path.name for path in (data / "sources" / "msbench").iterdir()}
    assert left == {commit, "state.json"}


def test_no_network_call_without_terms_or_offline(tmp_path):
    with pytest.raises(TermsError):
        fetch("ibench", tmp_path, _options(mirror="file:///no/such"))
    with pytest.raises(OfflineError, match=r"idbench data fetch ibench; or clone"):
        fetch("ibench", tmp_path, _options(accept=["ibench-unlicensed"], IDBENCH_OFFLINE="1"))
    assert _options(IDBENCH_ACCEPT="a, b").accepted() == {"a", "b"}


def test_a_plan_touches_nothing(tmp_path):
    text = plan_fetch("ibench", tmp_path, _options())
    assert "13499550fa0fccafaa65a49d43006de8fb106716" in text
    assert "283 MB" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["crowdhuman", "embedded", "scikit-image"])
def test_what_cannot_be_fetched_says_how_to_get_it(tmp_path, source):
    with pytest.raises(LookupError, match="cannot be fetched"):
        fetch(source, tmp_path, _options())


@pytest.mark.parametrize("source", ["embedded", "scikit-image"])
def test_what_comes_with_a_package_has_nothing_to_verify(tmp_path, source):
    with pytest.raises(LookupError, match="comes with an installed package: there is nothing"):
        verify_source(source, tmp_path, deep=False)


@pytest.fixture
def dreambench_zip(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(150):
            category = ("animal", "human", "object", "style")[number % 4]
            for kind, suffix in (("images", "jpg"), ("captions", "txt")):
                name = f"data/{kind}/real/{category}/{number:03d}.{suffix}"
                archive.writestr(name, f"{kind} {number}")
    return path


def test_an_archive_is_unpacked_and_its_root_is_found(dreambench_zip, tmp_path):
    data = tmp_path / "root"
    found = import_copy(
        "dreambench_plus", dreambench_zip, data, copy=False, accept={"dreambench-plus"}
    )
    assert (found.state, found.present) == ("complete", 150)
    assert (source_root("dreambench_plus", data) / "images" / "real").is_dir()
    assert dreambench_zip.is_file()


def test_a_folder_stays_where_it_is_or_is_copied(msbench_repository, tmp_path):
    clone = tmp_path / "upstream"
    data = tmp_path / "data"
    assert import_copy("msbench", clone, data, copy=False, accept=set()).state == "complete"
    assert state_root("msbench", data) == clone
    assert import_copy("msbench", clone, data, copy=True, accept=set()).state == "complete"
    root = source_root("msbench", data)
    assert root.is_relative_to(data)
    assert not (root / ".git").exists()


def test_the_root_is_found_above_and_below_the_path(msbench_repository, tmp_path):
    data = tmp_path / "data"
    for path in (tmp_path / "upstream" / "msbench", tmp_path):
        assert import_copy("msbench", path, data, copy=False, accept=set()).state == "complete"
        assert state_root("msbench", data) == tmp_path / "upstream"


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="does not look like msbench"):
        import_copy("msbench", tmp_path / "other", tmp_path / "data", copy=False, accept=set())
    with pytest.raises(FileNotFoundError, match="does not exist"):
        import_copy("msbench", tmp_path / "absent", tmp_path / "data", copy=False, accept=set())
    with pytest.raises(LookupError, match="comes with an installed package"):
        import_copy("scikit-image", tmp_path, tmp_path / "data", copy=False, accept=set())


class TestVBench:
    @pytest.fixture
    def copy(self, tmp_path):
        from idbench.prompts.tables import table

        folder = tmp_path / "clone" / "prompts/augmented_prompts/gpt_enhanced_prompts"
        prompts = {(r["list"], r["num"]): r["prompt"] for r in table("vbench_prompts")}
        lines = {}
        for row in table("vbench_provenance"):
            text = prompts[row["ibench_list"], row["ibench_num"]]
            lines.setdefault(row["vbench_file"], {})[int(row["vbench_line_index"])] = text
        for name, numbered in lines.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            text = [numbered.get(number, "another line") for number in range(max(numbered) + 1)]
            (folder / name).write_text("\n".join(text) + "\n", encoding="utf-8")
        return tmp_path / "clone"

    def test_the_lines_are_the_ones_of_the_provenance_table(self, copy, tmp_path):
        data = tmp_path / "data"
        assert import_copy("vbench-prompts", copy, data, copy=False, accept=set()).state == (
            "complete"
        )

    def test_a_changed_line_is_corrupt(self, copy, tmp_path):
        path = next(copy.rglob("human_longer.txt"))
        path.write_text(path.read_text().replace("A solitary man", "A lonely man"))
        found = import_copy("vbench-prompts", copy, tmp_path / "data", copy=False, accept=set())
        assert found.state == "corrupt"
        assert found.corrupt == ("prompts_per_category_longer/human_longer.txt, line 4",)


def _png(colour, size=(8, 8)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


class TestParquet:
    @pytest.fixture(autouse=True)
    def _library(self):
        self.pa = pytest.importorskip("pyarrow")
        self.pq = pytest.importorskip("pyarrow.parquet")

    def _write(self, path, rows):
        self.pq.write_table(self.pa.Table.from_pylist(rows), path)
        return path

    def test_rows_of_multiid_bench_become_folders(self, tmp_path):
        rows = [
            {
                "ID": f"id{number}",
                "GT": _png((number, 0, 0)),
                "input_images": [_png((number, 1, person)) for person in range(number + 1)],
                "prompt": f"text {number}",
                "task_type": "t",
                "bboxes": "[]",
                "subset": "v202",
                "num_persons": number + 1,
            }
            for number in range(3)
        ]
        path = self._write(tmp_path / "rows.parquet", rows)
        data = tmp_path / "data"
        found = import_copy("multiid_bench", path, data, copy=False, accept={"multiid-2m"})
        assert (found.state, found.present) == ("partial", 3)
        folder = source_root("multiid_bench", data) / "id2"
        assert sorted(p.name for p in folder.iterdir()) == [
            "meta.json",
            "ori.png",
            "ref_1.png",
            "ref_2.png",
            "ref_3.png",
        ]
        assert (folder / "ori.png").read_bytes() == rows[2]["GT"]["bytes"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"ID": "../evil"}, "cannot be a folder name"),
            ({"GT": {"bytes": b"no image", "path": None}}, "ori is not an image"),
            ({"input_images": None}, "a row has no 'input_images'"),
        ],
    )
    def test_a_bad_row_leaves_nothing(self, tmp_path, change, message):
        row = {"ID": "a", "GT": _png((1, 2, 3)), "input_images": [_png((1, 2, 3))], "prompt": "p"}
        path = self._write(tmp_path / "rows.parquet", [row | change])
        data = tmp_path / "data"
        with pytest.raises(ValueError, match=message):
            import_copy("multiid_bench", path, data, copy=False, accept={"multiid-2m"})
        assert state_root("multiid_bench", data) is None

    def test_a_file_that_is_no_parquet_is_our_own_error(self, tmp_path):
        (tmp_path / "x.parquet").write_bytes(b"PAR1 nonsense")
        with pytest.raises(ValueError, match="cannot be read as Parquet"):
            import_copy(
                "multiid_bench",
                tmp_path / "x.parquet",
                tmp_path / "data",
                copy=False,
                accept={"multiid-2m"},
            )

    def test_rows_of_celeba_become_the_index_of_all_and_pictures_of_the_chosen(self, tmp_path):
        rows = [
            {
                "image": _png((number, 2, 3)) | {"path": f"{number + 1:06d}.jpg"},
                "celeb_id": number // 2 + 1,
                "Male": False,
                "Blurry": number % 2 == 0,
                "Eyeglasses": False,
                "Wearing_Hat": False,
            }
            for number in range(6)
        ]
        path = self._write(tmp_path / "celeba.parquet", rows)
        data = tmp_path / "data"
        found = import_copy("celeba", path, data, copy=False, accept={"celeba"})
        assert found.state == "complete"
        index = read_celeba(source_root("celeba", data))
        assert dict(index.files) == {
            1: ("000001.jpg", "000002.jpg"),
            2: ("000003.jpg", "000004.jpg"),
            3: ("000005.jpg", "000006.jpg"),
        }
        assert index.attributes["000001.jpg"] == {"Blurry"}
        assert len(list((source_root("celeba", data) / "img_align_celeba").iterdir())) == 6


def test_a_damaged_archive_leaves_the_source_absent(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match="neither a zip nor a tar"):
        import_copy(
            "dreambench_plus",
            tmp_path / "data.zip",
            tmp_path / "data",
            copy=False,
            accept={"dreambench-plus"},
        )
    assert verify_source("dreambench_plus", tmp_path / "data", deep=True).state == "absent"


def test_a_source_that_is_nowhere_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="idbench data fetch ibench; or clone"):
        source_root("ibench", tmp_path)
    with pytest.raises(FileNotFoundError, match="register at crowdhuman"):
        source_root("crowdhuman", tmp_path)


def test_a_damaged_state_is_not_mistaken_for_absence(tmp_path):
    folder = tmp_path / "sources" / "ibench"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    with pytest.raises(ManifestError):
        source_root("ibench", tmp_path)
