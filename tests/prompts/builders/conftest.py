"""Miniature copies of the sources, as their authors lay them out."""

import csv
import json
from importlib.resources import files

import pytest

from idbench.prompts.acquisition.layouts import msbench_table
from idbench.prompts.acquisition.state import SourceState, write_state
from idbench.prompts.registry import SUITES


@pytest.fixture
def register(tmp_path):
    """Registers a folder as the copy of a source; returns the data root."""

    def register(source, folder):
        root = tmp_path / "data"
        write_state(source, root, SourceState(revision="test", root=str(folder)))
        return root

    return register


@pytest.fixture(scope="session")
def lock_paths():
    text = (files("idbench.prompts") / "locks" / "ibench.lock.csv").read_text(encoding="utf-8")
    return [row["path"] for row in csv.DictReader(text.splitlines())]


@pytest.fixture
def ibench(tmp_path, lock_paths):
    """IBench with its real file names, fake pictures and prompt lists of the real lengths."""
    root = tmp_path / "ibench"
    for path in lock_paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    for name, folder in (
        ("chineseid", "chineseid"),
        ("unsplash50", "unsplash_50"),
        ("generateid", "generateid"),
        ("mystyleid", "mystyleid"),
    ):
        pictures = [p for p in lock_paths if p.startswith(f"data/images/{folder}/")]
        rows = []
        for num, path in enumerate(pictures):
            same = path.endswith(("/R11.jpg", "/R (2).jpg"))  # one picture under two names upstream
            (root / path).write_bytes(b"the same" if same else path.encode())
            gender = ("female", "male", "unknown")[num % 3]
            rows.append({"num": num, "id": f"/home/user/IBench/{path}", "gender": gender})
        text = json.dumps({"datas": rows, "tags": {"category": "imageid"}}, ensure_ascii=False)
        (root / "data" / "images" / f"{name}_images.json").write_text(text, encoding="utf-8")
    short = [f"[portrait,] a {{person}} number {num}" for num in range(20)]
    short.insert(14, "influence, highly detailed")
    for name, prompts in (
        ("unsplash50", short),
        ("typemovie", [f"film still {num}" for num in range(80)]),
    ):
        datas = [
            {"num": num, "prompt": prompt, "prompt_attr": ["short"], "prompt_style": ["Style"]}
            for num, prompt in enumerate(prompts)
        ]
        path = root / "data" / "prompts" / f"{name}_template.json"
        path.write_text(json.dumps({"datas": datas}), encoding="utf-8")
    lines = ["Category Prompt", "Style"]
    lines += [f"a <class word> doing thing {num}" for num in range(44)]
    lines += ["a painting of a <class word> in the style of Vincent Van", "Gogh"]
    (root / "data" / "prompts" / "mystyle.txt").write_text("\n".join(lines))
    return root


@pytest.fixture
def make_celeba(tmp_path):
    """CelebA with any number of identities, three files each, and those of FastComposer."""

    def make(identities, *, layout="official", folder="Img/img_align_celeba"):
        from idbench.prompts.tables import table

        root = tmp_path / "celeba"
        people = dict.fromkeys(range(1, identities + 1), "-1")
        if identities >= 40:
            for row in table("fastcomposer_subjects"):
                people[int(row["celeba_folder"])] = "1" if row["class_word"] == "man" else "-1"
        (root / folder).mkdir(parents=True)
        names = ["Blurry", "Eyeglasses", "Male", "Smiling", "Wearing_Hat"]
        pairs, rows = [], []
        number = 0
        for identity, male in sorted(people.items()):
            for copy in range(3):
                number += 1
                file = f"{number:06d}.jpg"
                blurry = "1" if copy == 0 else "-1"
                glasses = "1" if identity % 10 == 0 else "-1"  # every tenth has no bare picture
                pairs.append(f"{file} {identity}")
                rows.append(f"{file}  {blurry} {glasses} {male}  1 -1")
                (root / folder / file).write_bytes(file.encode())
        anno = root / "Anno" if layout == "official" else root
        anno.mkdir(exist_ok=True)
        (anno / "identity_CelebA.txt").write_text("\n".join(pairs) + "\n")
        head = f"{len(rows)}\n{' '.join(names)}\n"
        (anno / "list_attr_celeba.txt").write_text(head + "\n".join(rows) + "\n")
        return root

    return make


@pytest.fixture
def make_dreambench(tmp_path):
    """DreamBench++ with any number of subjects."""

    def make(count):
        root = tmp_path / "dreambench"
        categories = ("animal", "human", "object", "style")
        for number in range(count):
            category = categories[number % 4]
            for kind in ("images", "captions"):
                (root / kind / "real" / category).mkdir(parents=True, exist_ok=True)
            stem = f"{number:02d}"
            (root / "images" / "real" / category / f"{stem}.jpg").write_bytes(b"%d" % number)
            lines = [f"Small Thing {number}", *(f"prompt {number} {i}" for i in range(9))]
            path = root / "captions" / "real" / category / f"{stem}.txt"
            path.write_text("\n".join(lines) + "\n")
        return root

    return make


@pytest.fixture
def msbench(tmp_path):
    root = tmp_path / "msbench-copy"
    for subject in msbench_table()["subjects"]:
        path = root / subject["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(subject["name"].encode())
    return root


@pytest.fixture(scope="session")
def info():
    return SUITES.__getitem__
