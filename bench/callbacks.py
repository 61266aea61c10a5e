"""Evaluation during training: every N steps a fixed part of a suite is made, scored and judged.

A plain training loop, or one with accelerate:

    from idbench.callbacks import SuiteCallback

    def generate(requests):                 # your model as it is now; one image per request
        return [pipeline(r.prompt, r.references[0].image, seed=r.seed) for r in requests]

    evaluate = SuiteCallback(generate, suite="demo", every=500, cases=8, model=model)
    for step, batch in enumerate(loader, start=1):
        ...
        evaluate(step)                      # does nothing but every 500 steps
        if evaluate.stop:
            break

The Trainer of transformers, and others that take its callbacks:

    Trainer(..., callbacks=[trainer_callback(evaluate)])

Every evaluation is a run like any other, under `output`: `idbench table runs` shows the steps as
rows, `idbench report runs` every picture. Beside them lies a grid of what was given and made. The
training goes on as if it had not been interrupted: random numbers, the modes of modules and the
number of threads are put back.

With `rules` (a gate, see `idbench gate`) and a `baseline`, a regression asks the loop to stop or
raises. Without a `baseline`, the first evaluation is it: call `evaluate.evaluate(0)` before the
training to compare with where it began.

In a distributed training call it on every process: the main one evaluates, the others wait and
hear whether to stop. `generate` then must do without the others, so a model that is spread over
processes cannot be evaluated this way.
"""

import dataclasses
import logging
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from idbench.evaluate import ScoreOptions, score
from idbench.generate import GenerateOptions, generate, seed_policy
from idbench.live_method import Generate, LiveMethod, LiveSpec
from idbench.main_process import is_main_process, told_by_main
from idbench.methods.protocol import Capabilities
from idbench.metrics.registry import resolve
from idbench.picture_grid import Tile, write_grid
from idbench.prompts.cases import Case
from idbench.prompts.sources import data_root as default_data_root
from idbench.prompts.suites import load_suite
from idbench.requests import build_request
from idbench.store import RunStore
from idbench.training_pause import training_pause

if TYPE_CHECKING:
    from idbench.baseline import ScoredRun
    from idbench.gates import GateResult
    from idbench.tracking import Tracker

Log = Callable[[int, Mapping[str, float], Path], None]
OnRegression = Literal["log", "stop", "raise"]

GRID_CASES = 16

log = logging.getLogger(__name__)


class RegressionError(RuntimeError):
    """A training made its model worse than the rules of its gate allow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one evaluation found.

    `values` holds means, interval ends and coverage under the names that trackers get, such as
    "demo/facesim.strict.dlib". `gate` is None without rules, and for the evaluation that is the
    baseline itself.
    """

    step: int
    directory: Path
    values: Mapping[str, float]
    grid: Path
    gate: "GateResult | None" = None

    @property
    def regressed(self) -> bool:
        """Whether the gate found a regression; an inconclusive gate did not."""
        return self.gate is not None and self.gate.outcome == "regression"


class SuiteCallback:
    """Evaluates a model under training; see the module's docstring.

    Attributes:
        stop: Whether a regression was found and the training should end.
        last: The last evaluation, on the process that made it.
    """

    def __init__(
        self,
        generate: Generate,
        *,
        suite: str | Path,
        every: int,
        cases: int | None = None,
        metrics: Sequence[str] = ("embedded",),
        output: Path | str = "runs",
        name: str = "training",
        training: str | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        model: Any = None,
        rules: Path | str | None = None,
        baseline: Path | str | None = None,
        on_regression: OnRegression = "stop",
        log: Log | None = None,
        tracker: "Tracker | None" = None,
        project: str = "idbench",
        data_root: Path | None = None,
    ) -> None:
        """Reads suite, metrics and rules, so that what is wrong is said before the training.

        Args:
            generate: The model as it is now: a batch of requests to as many images (Pillow, or
                arrays `height width 3` in uint8 or [0, 1]), or a `Failure` for one.
            suite: Name or folder.
            every: Steps between evaluations.
            cases: How many cases, taken in turn from the identities of the suite; None for all.
            metrics: Columns, as for `idbench score`.
            output: Folder of the runs.
            name: What tables call the training; the step is added.
            training: What tells this training from others: give the same text to go on with one
                after a restart. By default every callback is a training of its own.
            size: (width, height) to ask for; None leaves it to the model.
            batch_size: Most requests at a time.
            device: For the networks of the metrics, which are loaded for each evaluation and
                freed after it.
            model: A torch module to put into evaluation mode meanwhile; or more than one, within
                a `torch.nn.ModuleList`.
            rules: Rules of a gate.
            baseline: From `idbench baseline save`, on the same suite, seeds and size; more cases
                do no harm.
            on_regression: What follows: nothing but the record, `stop`, or `RegressionError`.
            log: Called with step, values and the file of the grid.
            tracker: "wandb" or "mlflow", into the run that is active there.
            project: For a tracker without an active run.
            data_root: Where suites lie; the user's own folder by default.

        Raises:
            LookupError: If suite, metric or a rule's column is unknown.
            ValueError: If an argument or a file is wrong.
            FileNotFoundError: If a file or the suite's data is absent.
        """
        if every < 1 or (cases is not None and cases < 1):
            raise ValueError(f"every and cases must be 1 or more, got {every} and {cases}")
        if baseline is not None and rules is None:
            raise ValueError("a baseline needs rules to compare by; give rules=FILE")
        resolve(list(metrics))
        self._generate, self._every, self._metrics = generate, every, list(metrics)
        self._data_root = data_root or default_data_root()
        whole = load_suite(suite, data_root=self._data_root)
        self._suite = dataclasses.replace(whole, cases=spread(whole.cases, cases))
        target = str(Path(suite).resolve()) if Path(suite).exists() else None
        self._score = ScoreOptions(
            workspace=Path(output), data_root=self._data_root, workers=1, device=device
        )
        # In this process: the model is here. A second one would run the training script again.
        self._make = GenerateOptions(
            workspace=Path(output),
            data_root=self._data_root,
            suite_target=target,
            size=size,
            batch_size=batch_size,
            workers=1,
            device=device,
        )
        self._output, self._name = Path(output), name
        self._training = training or uuid.uuid4().hex
        self._model, self._on_regression = model, on_regression
        self._log, self._tracker, self._project = log, tracker, project
        self._rules = None if rules is None else Path(rules)
        self._baseline: ScoredRun | None = None
        if self._rules is not None and not self._rules.is_file():
            raise FileNotFoundError(f"there are no rules {self._rules}")
        if baseline is not None:
            self._baseline = self._read_baseline(Path(baseline))
        self.stop = False
        self.last: Evaluation | None = None

    def __call__(self, step: int, *, model: Any = None) -> Evaluation | None:
        """To be called after every step, on every process; evaluates when it is time.

        Args:
            step: Steps done, from 1.
            model: In place of the one given before.

        Returns:
            The evaluation, on the process that made it.

        Raises:
            RegressionError: If there is a regression and `on_regression` is "raise".
        """
        if step % self._every:
            return None
        return self.evaluate(step, model=model)

    def evaluate(self, step: int, *, model: Any = None) -> Evaluation | None:
        """Evaluates now; as `__call__` otherwise. Step 0 is the model before the training."""
        found: Evaluation | None = None
        fault: Exception | None = None
        if is_main_process():
            try:
                with training_pause(self._model if model is None else model):
                    found = self._evaluated(step)
            except Exception as error:
                # The others wait for word, whatever became of the evaluation.
                fault = error
        worse, said = told_by_main(
            (found is not None and found.regressed, None if fault is None else str(fault))
        )
        if fault is not None:
            raise fault
        if said is not None:
            raise RuntimeError(f"the evaluation failed on the main process: {said}")
        self.last = found
        if worse and self._on_regression == "stop":
            self.stop = True
        if worse and self._on_regression == "raise":
            raise RegressionError(_words(found) if found else f"a regression at step {step}")
        return found

    def _evaluated(self, step: int) -> Evaluation:
        from idbench.baseline import load_run
        from idbench.commands.table import load_aggregates
        from idbench.gate_rules import read_rules
        from idbench.gates import check_gate
        from idbench.tracking import log_step, metrics_of

        method = LiveMethod(
            name=f"{self._name}-{step:07d}",
            capabilities=Capabilities(
                kinds=frozenset({self._suite.kind}),
                max_people=sys.maxsize,
                max_batch_size=self._make.batch_size,
                deterministic=False,
            ),
            training=self._training,
            step=step,
            make=self._generate,
        )
        spec = LiveSpec(name="training", label=f"{self._name}, step {step}", method=method)
        (made,) = generate(self._suite, [spec], self._make)
        if made.reasons and not made.made + made.kept:
            (reason, detail), _ = made.reasons.most_common(1)[0]
            log.warning("step %d: no image could be made: %s: %s", step, reason, detail)
        score([(made.directory, self._suite)], self._metrics, self._score)
        aggregates, _ = load_aggregates([made.directory])
        values = metrics_of(aggregates)
        grid = self._output / self._suite.name / f"{self._name}-{self._training[:8]}-grids"
        grid = grid / f"{step:07d}.png"
        write_grid(self._tiles(made.directory), grid)
        result: GateResult | None = None
        if self._rules is not None:
            run = load_run(made.directory)
            if self._baseline is None:
                read_rules(self._rules, run.columns)  # a wrong rule is said at once
                self._baseline = run
            else:
                rules = read_rules(self._rules, self._baseline.columns)
                result = check_gate(run, self._baseline, rules)
        found = Evaluation(
            step=step, directory=made.directory, values=values, grid=grid, gate=result
        )
        if self._log is not None:
            self._log(step, values, grid)
        if self._tracker is not None:
            log_step(self._tracker, step, values, grid, project=self._project)
        return found

    def _read_baseline(self, path: Path) -> "ScoredRun":
        """A baseline, of which only the cases that are evaluated count."""
        from idbench.baseline import read_baseline, require_pairs
        from idbench.gate_rules import read_rules

        whole = read_baseline(path)
        facts = dataclasses.replace(
            whole.facts,
            label=self._name,
            suite={
                "name": self._suite.name,
                "version": self._suite.version,
                "sha256": self._suite.sha256,
            },
            seed_policy=seed_policy(self._suite, None),
            size=self._make.size,
        )
        require_pairs(dataclasses.replace(whole, facts=facts), whole)
        if self._rules is not None:
            read_rules(self._rules, whole.columns)
        chosen = {case.case_id for case in self._suite.cases}
        frame = whole.frame[whole.frame["case_id"].isin(chosen)]
        return dataclasses.replace(whole, frame=frame.reset_index(drop=True))

    def _tiles(self, directory: Path) -> list[list[Tile]]:
        """What was given and what was made, for the first sample of the first cases."""
        with RunStore.open(directory) as store:
            samples = {sample.case_id: sample for sample in store.samples() if sample.sample == 0}
        columns: list[list[Tile]] = []
        for case in self._suite.cases[:GRID_CASES]:
            request = build_request(case, 0, 0, data_root=self._data_root)
            given: Tile = request.prompt
            if request.edit is not None:
                given = request.edit.edited
            elif request.references:
                given = request.references[0].image
            sample = samples[case.case_id]
            made: Tile = f"{sample.reason}\n{sample.detail or ''}"
            if sample.path is not None:
                with Image.open(directory / sample.path) as opened:
                    made = opened.convert("RGB")
            columns.append([given, made])
        return columns


def spread(cases: Sequence[Case], count: int | None) -> Sequence[Case]:
    """`count` cases in order of their ids, taken in turn from every identity; None for all."""
    if count is None or count >= len(cases):
        return cases
    turns: dict[str, int] = {}
    ranked = []
    for case in cases:
        turn = turns.get(case.identity, 0)
        turns[case.identity] = turn + 1
        ranked.append((turn, case.case_id, case))
    chosen = sorted(ranked, key=lambda entry: entry[:2])[:count]
    return sorted((case for _, _, case in chosen), key=lambda case: case.case_id)


def trainer_callback(evaluate: SuiteCallback) -> Any:
    """A `transformers.TrainerCallback` that evaluates after optimizer steps and stops the Trainer.

    The values go into the Trainer's history of logs, and so into `trainer_state.json`.

    Raises:
        ImportError: If transformers is not installed.
    """
    from transformers import TrainerCallback

    class SuiteTrainerCallback(TrainerCallback):  # type: ignore[misc]  # mypy does not read it
        """Hands the Trainer's steps on to a `SuiteCallback`."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            """Evaluates when it is time."""
            found = evaluate(state.global_step, model=kwargs.get("model"))
            if found is not None:
                state.log_history.append({"step": state.global_step, **found.values})
            if evaluate.stop:
                control.should_training_stop = True
            return control

    return SuiteTrainerCallback()


def _words(found: Evaluation) -> str:
    results = found.gate.results if found.gate is not None else ()
    lost = [
        f"{result.rule.column.name}: {'; '.join(result.reasons)}"
        for result in results
        if result.outcome == "regression"
    ]
    return f"regression at step {found.step}: {' / '.join(lost)}"
