"""The engine beside the original's loop where batching counts: networks of published size."""

import re
import sys

import pytest

from idbench.cli import main

pytestmark = pytest.mark.gpu


def test_scoring_in_batches_is_faster_than_image_by_image(cuda, capsys):
    arguments = ["perf", "score", "--device", cuda, "--random", "--identities", "2"]
    assert main([*arguments, "--prompts", "16"]) == 0
    table = capsys.readouterr().out
    with capsys.disabled():
        sys.stdout.write(table)
    assert float(re.search(r"ratio\s+([\d.]+)", table)[1]) > 1
    assert "nan" not in table.lower()
