"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SHARED_GOLDENS = TESTS.parents[1] / "shared" / "goldens"


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
