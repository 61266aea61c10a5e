"""The feature store: what goes in comes out, and it is only a cache."""

from pathlib import Path

import numpy as np

from idbench.features import FeatureStore, pack, unpack
from idbench.metrics.protocol import Missing


def test_arrays_survive(tmp_path: Path) -> None:
    features = {
        "boxes": np.zeros((0, 5), np.float32),
        "points": np.arange(10, dtype=np.float64).reshape(1, 5, 2),
        "count": np.array(3),
    }
    found = unpack(pack(features))
    assert found.keys() == features.keys()
    for name, array in features.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_store_returns_what_it_has_by_input_and_extractor(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    value = {"x": np.array([1.0])}
    store.put({("a", "e1"): pack(value), ("b", "e1"): Missing("no_face", "none")})
    assert store.known(["a", "b", "c"], "e1") == {"a", "b"}
    assert store.get(["a"], "e2") == {}
    found = store.get(["a", "b", "c"], "e1")
    assert found["b"] == Missing("no_face", "none")
    assert found.keys() == {"a", "b"}


def test_the_first_value_of_a_key_stays(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    store.put({("a", "e"): Missing("first")})
    store.put({("a", "e"): Missing("second")})
    assert store.get(["a"], "e") == {"a": Missing("first", "")}


def test_a_damaged_store_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 10)
    store = FeatureStore(path)
    assert store.known(["a"], "e") == set()
    assert path.with_suffix(".damaged").exists()
