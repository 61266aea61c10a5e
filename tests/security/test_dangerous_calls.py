"""House rule: nothing in the product unpickles, evaluates, shells out or unpacks unguarded."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "metrics", "methods", "prompts", "results")

# (file, call) -> why it may. Whatever is not here is refused.
ALLOWED = {
    ("bench/claims.py", "eval"): "every node of the tree is on a list of arithmetic",
    ("bench/claims.py", "compile"): "the same",
    ("methods/wrappers/python.py", "exec"): "the user's own method, named on the command line",
    ("methods/wrappers/python.py", "compile"): "the same",
    ("bench/process_pool.py", "pickle.loads"): "of what the same line pickled",
    ("metrics/extractors/mtcnn_networks.py", "joblib.load"): "only after its SHA-256 was checked",
}
NEVER = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execvp",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "dill.loads",
    "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open",
    "joblib.load", "pd.read_pickle", "pandas.read_pickle", "torch.hub.load",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all",
    "subprocess.getoutput", "subprocess.getstatusoutput", "shutil.unpack_archive",
    "tempfile.mktemp", "ssl._create_unverified_context",
}  # fmt: skip
# Loaders of YAML that make plain values only.
SAFE_LOADERS = {"_LOADER", "_UniqueKeyLoader", "yaml.SafeLoader"}


def name_of(node: ast.expr) -> str:
    return ast.unparse(node)


def dangers(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every call that the rule is about."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = name_of(node.func)
        given = {word.arg: word.value for word in node.keywords}
        constant = {
            arg: value.value for arg, value in given.items() if isinstance(value, ast.Constant)
        }
        last = called.rpartition(".")[2]
        if called in NEVER:
            yield node.lineno, called
        if called == "torch.load" and constant.get("weights_only") is not True:
            yield node.lineno, "torch.load without weights_only=True"
        if called in ("np.load", "numpy.load") and constant.get("allow_pickle", False) is not False:
            yield node.lineno, "np.load with pickles"
        if called == "yaml.load" and (
            "Loader" not in given or name_of(given["Loader"]) not in SAFE_LOADERS
        ):
            yield node.lineno, "yaml.load without a safe loader"
        if constant.get("shell") is True:
            yield node.lineno, "shell=True"
        if constant.get("trust_remote_code") is True:
            yield node.lineno, "trust_remote_code=True"
        if constant.get("verify") is False:
            yield node.lineno, "verify=False"
        if last == "extractall" or (last == "extract" and "archive" in called.lower()):
            yield node.lineno, f"{last} of an archive"
        if last == "from_pretrained" and "local_files_only" not in given and None not in given:
            yield node.lineno, "from_pretrained that may download"


def found_in(root: Path) -> set[tuple[str, str]]:
    return {
        (str(path.relative_to(root)), call)
        for folder in FOLDERS
        for path in (root / folder).rglob("*.py")
        for _, call in dangers(path.read_text(encoding="utf-8"))
    }


def test_only_calls_with_a_reason_are_there() -> None:
    unexplained = found_in(ROOT) - set(ALLOWED)
    assert not unexplained


def test_every_exception_is_still_needed() -> None:
    assert set(ALLOWED) <= found_in(ROOT)


def test_the_yaml_loaders_of_the_list_are_safe() -> None:
    # What a loader derives from is decided where it is defined.
    for name in SAFE_LOADERS - {"yaml.SafeLoader"}:
        lines = [
            line
            for folder in FOLDERS
            for path in (ROOT / folder).rglob("*.py")
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith((f"class {name}(", f"{name}:", f"{name} ="))
        ]
        assert lines, name
        assert all("SafeLoader" in line for line in lines), lines


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "pickle.loads(data)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "archive.extractall(target)",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, local_files_only=True, trust_remote_code=True)",
        "session.get(url, verify=False)",
    ],
)
def test_the_rule_can_fail(source: str) -> None:
    assert list(dangers(source))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "subprocess.run([program], check=True)",
        "AutoModel.from_pretrained(name, local_files_only=True)",
        "network.eval()",
    ],
)
def test_what_is_safe_passes(source: str) -> None:
    assert not list(dangers(source))
