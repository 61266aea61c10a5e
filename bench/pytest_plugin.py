"""The pytest plugin: the fixture `idbench_gate`. pytest loads it wherever idbench is installed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from idbench.gates import GateResult

Gate = Callable[..., "GateResult"]


@pytest.fixture
def idbench_gate(request: pytest.FixtureRequest) -> Gate:
    """A function that checks a run against a baseline.

    `idbench_gate(run=..., baseline=..., rules=...)` takes a run directory (or a folder that holds
    one run), a file from `idbench baseline save` and a file of rules; relative paths start at
    pytest's root directory. The test fails on a regression and where the gate is inconclusive;
    with `allow_inconclusive=True` it is skipped there. Returns the result where it passes.
    """

    def check(
        *,
        run: str | Path,
        baseline: str | Path,
        rules: str | Path,
        allow_inconclusive: bool = False,
    ) -> "GateResult":
        # Imported on use: pytest loads this module in every project.
        from idbench import gate_text
        from idbench.baseline import load_run, read_baseline
        from idbench.gate_rules import read_rules
        from idbench.gates import check_gate

        root = request.config.rootpath
        kept = read_baseline(root / baseline)
        result = check_gate(load_run(root / run), kept, read_rules(root / rules, kept.columns))
        text = gate_text.terminal(result)
        if result.outcome == "inconclusive" and allow_inconclusive:
            pytest.skip(text)
        if result.outcome != "pass":
            pytest.fail(text, pytrace=False)
        return result

    return check
