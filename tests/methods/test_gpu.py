"""What only a CUDA device shows: published sizes, half precision, agreement with the CPU."""

import sys

import pytest
import torch

from idbench.cli import main
from idbench.perf_method import BENCHMARKS

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_method_of_published_size_takes_its_steps(name, cuda, capsys):
    """Random weights; half precision. The table is shown, for README."""
    arguments = ["perf", "method", name, "--size", "full", "--device", cuda, "--steps", "5"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    with capsys.disabled():
        sys.stdout.write(table)
    assert "nan" not in table.lower()
    assert "MiB" in table
    assert torch.cuda.max_memory_allocated() > 2**30  # of this size it is
