"""Checks that importing the package and asking for help stay cheap."""

import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [
        ("import idbench", False),
        ("import idbench.cli", False),
        ("import idbench.tables", False),
        ("import idbench.store", False),
        ("import idbench.methods.registry", False),
        ("import idbench.prompts.suites", False),
        ("from idbench.metrics.registry import list_metrics; list_metrics()", False),
        ("import torch", True),
    ],
)
def test_torch_is_loaded(statement: str, loaded: bool) -> None:
    code = f"{statement}; import sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == loaded


def test_help_costs_little_more_than_python() -> None:
    def seconds(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - start

    # A ratio, not seconds: an interpreter that imports argparse is the least there can be. In
    # turns, so that other work on the machine falls on both.
    bare, ours = [], []
    for _ in range(10):
        bare.append(seconds("-c", "import argparse, logging, traceback"))
        ours.append(seconds("-m", "idbench", "--help"))
    assert min(ours) < 3 * min(bare)
