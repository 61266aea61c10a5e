"""Fixtures shared by all tests."""

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SHARED_GOLDENS = TESTS.parents[1] / "shared" / "goldens"

GUARD = TESTS / "network_guard" / "sitecustomize.py"


def pytest_configure() -> None:
    """Closes the network to this process and to every Python that it starts."""
    spec = importlib.util.spec_from_file_location("idbench_network_guard", GUARD)
    guard = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(guard)
    handle, os.environ[guard.LOG] = tempfile.mkstemp(prefix="idbench-network-")
    os.close(handle)
    paths = [str(GUARD.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    guard.install()


def pytest_unconfigure() -> None:
    """Removes the file of attempts."""
    Path(os.environ.pop("IDBENCH_TEST_NETWORK_LOG", "")).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def attempts() -> Iterator[Path]:
    """Fails a test during which anything tried to reach another machine.

    Yields the file that names the attempts; a test that makes one on purpose empties it.
    """
    path = Path(os.environ["IDBENCH_TEST_NETWORK_LOG"])
    path.write_text("")
    yield path
    tried = path.read_text().splitlines()
    assert not tried, f"the network was used: {tried[:5]}"


@pytest.fixture(scope="session")
def golden_file():
    """Finds a golden file by name; skips, visibly, where it is absent.

    Looks in $IDBENCH_GOLDENS if that is set, else in tests/goldens/, then in the folder of large
    files that lies beside a checkout.
    """

    def find(name: str) -> Path:
        chosen = os.environ.get("IDBENCH_GOLDENS")
        folders = [Path(chosen)] if chosen else [TESTS / "goldens", SHARED_GOLDENS]
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        pytest.skip(f"golden {name} is in none of {', '.join(map(str, folders))}")

    return find


@pytest.fixture(scope="session")
def cuda() -> str:
    """The name of the CUDA device; skips, visibly, where there is none."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda"
