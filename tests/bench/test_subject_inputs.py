"""Extractors that read an image together with a word for its subject."""

import numpy as np
import pytest

from idbench.extraction import ExtractOptions, Graph, Input, extract
from idbench.features import FeatureStore
from idbench.metrics.images import sha256_of
from idbench.observations import _subject
from idbench.prompts.cases import Case, Reference


class Words:
    """Counts what it is given and says which word it read."""

    name = "subject"
    needs = ()
    reads = "image_subject"

    def __init__(self, seen):
        self.seen = seen

    def fingerprint(self):
        return {"name": self.name}

    def __call__(self, items):
        self.seen += [item.text for item in items]
        return [{"length": np.array(len(item.text or ""))} for item in items]


@pytest.fixture
def image(tmp_path):
    from PIL import Image

    path = tmp_path / "image.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_one_image_is_read_once_per_word(image, tmp_path):
    seen: list[str | None] = []
    graph = Graph(["subject"], "cpu", "float32", lambda *_, **__: Words(seen))
    key = sha256_of(image)
    cat, dog = (Input(key, image, "the prompt", word) for word in ("cat", "hound"))
    assert graph.key("subject", cat) != graph.key("subject", dog) != key
    store = FeatureStore(tmp_path / "features.sqlite")
    for _ in range(2):
        extract(
            [(cat, ["subject"]), (dog, ["subject"]), (cat, ["subject"])],
            graph,
            store,
            ExtractOptions(),
        )
    assert sorted(map(str, seen)) == ["cat", "hound"]
    keys = [graph.key("subject", entry) for entry in (cat, dog)]
    found = store.get(keys, graph.fingerprints["subject"])
    assert [int(found[each]["length"]) for each in keys] == [3, 5]
    store.close()


def case_of(query, *words):
    references = tuple(
        Reference(ref_id=str(n), sha256="0" * 64, path="x", source="s", class_word=word)
        for n, word in enumerate(words)
    )
    return Case(
        case_id="c",
        alias="a",
        kind="subject",
        references=references,
        prompt="p",
        prompt_id="p",
        segment_query=query,
    )


def test_the_word_of_a_case_is_its_query_or_the_class_of_a_reference():
    assert _subject(case_of("a tabby cat", "cat")) == "a tabby cat"
    assert _subject(case_of(None, None, "cat")) == "cat"
    assert _subject(case_of(None, None)) is None
