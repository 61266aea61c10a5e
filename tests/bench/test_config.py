"""Configurations: YAML and flags, read strictly."""

from pathlib import Path

import pytest

from idbench.config import read_config
from idbench.method_spec import MethodSpec


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_a_full_configuration(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
suite: demo
methods:
  - copy
  - {name: blur, args: {sigma: 4.5}, label: soft}
metrics: [facesim, "landmarkdiff@ibench[mtcnn]"]
output: out
limit: 3
size: [512, 512]
batch_size: 4
workers: auto
""",
    )
    config = read_config(path, {})
    assert config.method_specs() == [
        MethodSpec(name="copy"),
        MethodSpec(name="blur", args={"sigma": 4.5}, label="soft"),
    ]
    assert (config.limit, config.size, config.batch_size) == (3, [512, 512], 4)


def test_flags_replace_keys(tmp_path: Path) -> None:
    path = written(tmp_path, "suite: demo\nmethods: [copy]\nlimit: 3\n")
    config = read_config(path, {"limit": 5, "suite": "tiny-single"})
    assert (config.suite, config.limit) == ("tiny-single", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: demo\nmethods: [copy]\nlimt: 3\n", r"run.yaml: limt: .*\n?.*known keys: .*limit"),
        ("suite: demo\nmethods: [copy]\nlimit: three\n", "run.yaml: limit: .*integer"),
        ("suite: demo\nmethods: [copy]\nlimit: 0\n", "run.yaml: limit: .*greater than or equal"),
        ("suite: 3\nmethods: [copy]\n", "run.yaml: suite: .*string"),
        ("methods: [copy]\n", "run.yaml: suite: "),
        ("suite: demo\nmethods: []\n", "run.yaml: methods: "),
        ("suite: demo\nmethods: [{name: blur, arg: {}}]\n", "run.yaml: methods.0.arg"),
        ("suite: demo\nmethods: [copy]\nsize: [512]\n", "run.yaml: size: "),
        ("suite: demo\nmethods: [copy]\nmax_failures: 2\n", "run.yaml: max_failures: "),
        ("suite: demo\nmethods: [copy\n", "run.yaml is not YAML"),
        ("- demo\n", "must be a mapping"),
        ("!!python/object/apply:os.system ['true']\n", "run.yaml is not YAML"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_config(written(tmp_path, text), {})


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no configuration .*absent\.yaml"):
        read_config(tmp_path / "absent.yaml", {})
