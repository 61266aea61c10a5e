"""Evaluation during real, tiny trainings: what is scored, logged, stopped, and left undisturbed."""

import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("dlib", reason="needs the embedded extra")

from idbench.baseline import load_run, save_baseline  # noqa: E402  (after the skips)
from idbench.callbacks import (  # noqa: E402
    RegressionError,
    SuiteCallback,
    spread,
    trainer_callback,
)
from idbench.commands.table import load_aggregates  # noqa: E402
from idbench.prompts.suites import load_suite  # noqa: E402
from idbench.store import RunStore, find_runs  # noqa: E402

METRIC = "facesim@strict[dlib]"
LOGGED = "demo/facesim.strict.dlib"
RULES = """
format: idbench.gate/1
defaults: {confidence: 0.9, min_identities: 2}
rules:
  facesim: {max_drop: 0.05, min_coverage: 0.9}
"""


class Fading(torch.nn.Module):
    """Shows the reference through a fog that its training makes thicker.

    `clear` is the share of the reference in the image, 1 at first. Dropout and batch normalisation
    are there to be disturbed.
    """

    def __init__(self):
        super().__init__()
        self.clear = torch.nn.Parameter(torch.tensor(1.0))
        self.drop = torch.nn.Dropout(0.5)
        self.norm = torch.nn.BatchNorm1d(4)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x=None, labels=None):
        noise = self.linear(self.norm(self.drop(x))).square().mean()
        return {"loss": self.clear**2 + 0.1 * noise}

    def show(self, requests):
        assert not self.training
        assert not torch.is_grad_enabled()
        torch.randn(3), np.random.rand(3), random.random()  # a sampler draws numbers
        images = []
        for request in requests:
            pixels = torch.from_numpy(np.array(request.references[0].image)).float() / 255
            images.append((self.clear * pixels + (1 - self.clear) * 0.5).clamp(0, 1).numpy())
        return images


def seeded():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    return Fading()


@pytest.fixture
def evaluation(tmp_path):
    """Makes a callback over two people of the demo."""

    def make(model, **options):
        defaults = {
            "suite": "demo",
            "every": 2,
            "cases": 2,
            "metrics": [METRIC],
            "output": tmp_path / "runs",
            "model": model,
            "data_root": tmp_path / "data",
        }
        generate = options.pop("generate", None) or model.show
        return SuiteCallback(generate, **{**defaults, **options})

    return make


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text(RULES)
    return path


def train(model, steps, evaluate=None, rate=0.3):
    """A plain loop; returns the loss of every step it made."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = []
    for step in range(1, steps + 1):
        loss = model(torch.randn(8, 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if evaluate is not None:
            evaluate(step)
            if evaluate.stop:
                break
    return losses


def test_a_plain_loop_is_scored_logged_and_stopped(evaluation, rules, tmp_path):
    model, said = seeded(), []
    evaluate = evaluation(model, rules=rules, training="t1", log=lambda *words: said.append(words))
    first = evaluate.evaluate(0)
    assert first.values[LOGGED] == 1.0  # the reference itself
    assert first.values[f"{LOGGED}.coverage"] == 1.0
    assert first.gate is None  # it is the baseline
    losses = train(model, 8, evaluate)
    # The share of the reference falls by a factor of 0.4 each step: 0.16 of it after two.
    assert len(losses) == 2
    assert evaluate.stop
    last = evaluate.last
    assert (last.step, last.gate.outcome, last.regressed) == (2, "regression", True)
    assert last.values[f"{LOGGED}.coverage"] < 0.9  # no face in the fog
    assert [(step, values, grid) for step, values, grid in said] == [
        (found.step, found.values, found.grid) for found in (first, last)
    ]

    with Image.open(last.grid) as grid:
        assert grid.size == (2 * 192, 2 * 192)
        below = np.asarray(grid)[192:].astype(float)
    assert np.abs(below - 0.84 * 127.5).max() < 0.17 * 255  # fog, as the share says

    directories = find_runs([tmp_path / "runs"])
    assert len(directories) == 2
    aggregates, _ = load_aggregates(directories)
    assert sorted(aggregates["label"].unique()) == ["training, step 0", "training, step 2"]
    with RunStore.open(last.directory) as store:
        assert [sample.status for sample in store.samples()] == ["ok"] * 2


def test_the_training_goes_on_as_if_nothing_had_been(evaluation):
    alone, watched = seeded(), seeded()
    for model in (alone, watched):
        model.drop.eval()  # somebody's choice, which is not ours to change
    expected = train(alone, 3, rate=0.01)
    threads = torch.get_num_threads()
    evaluate = evaluation(watched, cases=1)
    assert train(watched, 3, evaluate, rate=0.01) == expected
    assert evaluate.last.step == 2
    assert watched.training
    assert not watched.drop.training
    assert torch.get_num_threads() == threads
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_only_every_nth_step_is_evaluated(evaluation, monkeypatch):
    asked = []
    evaluate = evaluation(seeded(), every=3, generate=lambda requests: asked.append(1))
    monkeypatch.setattr(evaluate, "evaluate", lambda step, model: step)
    assert [evaluate(step) for step in range(1, 8)] == [None, None, 3, None, None, 6, None]


def test_a_step_that_was_evaluated_is_not_made_again_but_in_another_training(evaluation):
    model = seeded().eval()
    calls = []

    def counting(requests):
        calls.extend(requests)
        return model.show(requests)

    first = evaluation(model, training="t1", generate=counting).evaluate(4)
    again = evaluation(model, training="t1", generate=counting).evaluate(4)
    assert (again.directory, again.values) == (first.directory, first.values)
    assert len(calls) == 2
    other = evaluation(model, generate=counting).evaluate(4)
    assert other.directory != first.directory
    assert len(calls) == 4


def test_a_regression_may_raise_or_only_be_recorded(evaluation, rules):
    model = seeded()
    raising = evaluation(model, rules=rules, training="t", on_regression="raise")
    raising.evaluate(0)
    with torch.no_grad():
        model.clear.fill_(0.0)
    with pytest.raises(RegressionError, match=r"step 2: facesim@strict\[dlib\]: .*coverage 0\.000"):
        raising(2)
    quiet = evaluation(model, rules=rules, training="t", on_regression="log")
    quiet.evaluate(0)  # found again, from before
    assert quiet(2).regressed
    assert not quiet.stop


def test_a_baseline_of_the_whole_suite_serves_a_part_of_it(evaluation, rules, tmp_path):
    model = seeded()
    whole = evaluation(model, training="whole", cases=3).evaluate(0)
    path = tmp_path / "baseline.json"
    save_baseline(load_run(whole.directory), path)
    evaluate = evaluation(model, rules=rules, baseline=path)
    found = evaluate.evaluate(7)
    assert found.gate.outcome == "pass"
    (result,) = found.gate.results
    assert (result.pairs, result.total) == (2, 2)


def test_a_model_that_makes_nothing_is_a_miss_and_not_the_end(evaluation, caplog):
    def broken(requests):
        raise RuntimeError("shapes differ")

    found = evaluation(seeded(), generate=broken).evaluate(2)
    assert found.values[f"{LOGGED}.coverage"] == 0.0
    assert LOGGED not in found.values
    assert "step 2: no image could be made: error: RuntimeError: shapes differ" in caplog.text
    assert found.grid.is_file()


def test_what_is_wrong_is_said_before_the_training(evaluation, rules, tmp_path):
    model = seeded()
    for options, error, message in (
        ({"suite": "dmeo"}, LookupError, "dmeo"),
        ({"metrics": ["facesimm"]}, LookupError, "facesimm"),
        ({"every": 0}, ValueError, "every and cases must be 1 or more, got 0"),
        ({"baseline": tmp_path / "b.json"}, ValueError, "a baseline needs rules"),
        ({"rules": tmp_path / "none.yaml"}, FileNotFoundError, "there are no rules"),
    ):
        with pytest.raises(error, match=message):
            evaluation(model, **options)
    baseline = tmp_path / "baseline.json"
    save_baseline(load_run(evaluation(model, size=(128, 128)).evaluate(0).directory), baseline)
    with pytest.raises(ValueError, match=r"image size None, not \(128, 128\)"):
        evaluation(model, rules=rules, baseline=baseline)


def test_cases_are_taken_in_turn_from_all_identities():
    cases = [
        SimpleNamespace(case_id=f"c{number}", identity=identity)
        for number, identity in enumerate("aaabbc")
    ]

    def chosen(count):
        return [case.case_id for case in spread(cases, count)]

    assert chosen(1) == ["c0"]
    assert chosen(3) == ["c0", "c3", "c5"]
    assert chosen(4) == ["c0", "c1", "c3", "c5"]
    assert chosen(None) == chosen(9) == [case.case_id for case in cases]


def test_the_fixed_part_of_the_demo_has_different_people(tmp_path):
    suite = load_suite("demo", data_root=tmp_path)
    assert len({case.identity for case in spread(suite.cases, 5)}) == 5


# Trainers


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")  # there is no device to pin for
def test_the_trainer_of_transformers_is_logged_and_stopped(evaluation, rules, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the methods extra")
    model = seeded()
    evaluate = evaluation(model, rules=rules)
    evaluate.evaluate(0)
    data = [{"x": torch.randn(4), "labels": 0} for _ in range(64)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        max_steps=20,
        per_device_train_batch_size=4,
        learning_rate=0.3,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        callbacks=[trainer_callback(evaluate)],
    )
    trainer.train()
    assert trainer.state.global_step == 2  # of 20
    assert evaluate.last.regressed
    logged = [entry for entry in trainer.state.log_history if f"{LOGGED}.coverage" in entry]
    assert [entry["step"] for entry in logged] == [2]
    trainer.state.save_to_json(str(tmp_path / "state.json"))
    assert f"{LOGGED}.coverage" in (tmp_path / "state.json").read_text()


def test_a_loop_of_accelerate_is_logged_into_its_trackers(evaluation, tmp_path):
    accelerate = pytest.importorskip("accelerate", reason="needs the methods extra")

    class Notes(accelerate.tracking.GeneralTracker):
        name, requires_logging_directory, main_process_only = "notes", False, True

        def __init__(self):
            super().__init__()
            self.lines = []

        @property
        def tracker(self):
            return self.lines

        def store_init_configuration(self, values):
            pass

        def log(self, values, step, **kwargs):
            self.lines.append((step, dict(values)))

    notes = Notes()
    accelerator = accelerate.Accelerator(cpu=True, log_with=notes)
    accelerator.init_trackers("training")
    model = seeded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = torch.utils.data.DataLoader(torch.randn(16, 4), batch_size=4)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    evaluate = evaluation(
        accelerator.unwrap_model(model),
        cases=1,
        log=lambda step, values, grid: accelerator.log(values, step=step),
    )
    for step, batch in enumerate(data, start=1):
        accelerator.backward(model(batch)["loss"])
        optimizer.step()
        optimizer.zero_grad()
        evaluate(step)
    assert [step for step, _ in notes.lines] == [2, 4]
    assert all(values[LOGGED] > 0.9 for _, values in notes.lines)
    accelerator.end_training()


@pytest.mark.slow
def test_all_processes_stop_when_the_main_one_says_so(rules, tmp_path):
    script = tmp_path / "training.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path

            import torch
            from PIL import Image

            from idbench.callbacks import SuiteCallback


            def process(rank, folder):
                folder = Path(folder)
                torch.distributed.init_process_group(
                    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
                )
                asked, clear = [], True

                def generate(requests):
                    asked.extend(requests)
                    return [
                        r.references[0].image if clear else Image.new("RGB", (64, 64))
                        for r in requests
                    ]

                evaluate = SuiteCallback(
                    generate, suite="demo", every=2, cases=2, metrics=["facesim@strict[dlib]"],
                    output=folder / "runs", data_root=folder / f"data{rank}",
                    rules=folder / "gate.yaml",
                )
                evaluate.evaluate(0)
                clear, steps = False, 0
                while not evaluate.stop and steps < 10:
                    steps += 1
                    evaluate(steps)
                (folder / f"{rank}.txt").write_text(f"{steps} {len(asked)}")
                torch.distributed.destroy_process_group()


            if __name__ == "__main__":
                torch.multiprocessing.spawn(process, args=(sys.argv[1],), nprocs=2)
            """
        )
    )
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=300)
    assert (tmp_path / "0.txt").read_text() == "2 4"
    assert (tmp_path / "1.txt").read_text() == "2 0"


# Trackers


@pytest.mark.filterwarnings("ignore")  # wandb warns of its own deprecations
def test_wandb_gets_scalars_and_the_grid_in_the_run_that_is_active(
    evaluation, tmp_path, monkeypatch
):
    wandb = pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    model = seeded()
    with wandb.init(project="p") as run:
        run.log({"loss": 1.0})
        evaluation(model, cases=1, tracker="wandb").evaluate(2)
        assert run.summary["idbench/step"] == 2
        assert run.summary[LOGGED] == 1.0
        assert run.summary["idbench/grid"]["_type"] == "image-file"
    assert wandb.run is None
    wandb.teardown()  # it would keep this test's folder for the next one


@pytest.mark.filterwarnings("ignore")  # so does mlflow
def test_mlflow_gets_scalars_and_the_grid(evaluation, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        evaluation(seeded(), cases=1, tracker="mlflow").evaluate(2)
    data = mlflow.get_run(run.info.run_id).data
    assert data.metrics[LOGGED] == 1.0
    assert list((tmp_path / "mlruns").rglob("artifacts/idbench/0000002.png"))


def test_importing_the_callbacks_imports_neither_torch_nor_transformers():
    code = "import idbench.callbacks, sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not {"torch", "transformers", "accelerate"} & set(json.loads(out))


def test_the_example_of_the_module_is_python():
    import idbench.callbacks

    text = Path(idbench.callbacks.__file__).read_text().split('"""')[1]
    blocks = [part for part in text.split("\n\n") if part.startswith("    ")]
    source = textwrap.dedent("\n\n".join(blocks)).replace("callbacks=[", "callbacks=[")
    compile(source.replace("Trainer(..., ", "Trainer(x, "), "example", "exec")
