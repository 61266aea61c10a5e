"""What every training shares: configuration, checkpoints, randomness, the log, the loop.

Every random number is a function of (seed, step, place in the batch), so that a run that was
killed goes on bit for bit from its last checkpoint, and the number of processes changes nothing
but the order of sums.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from idbench.methods.common.files import write_with
from idbench.methods.common.yaml_text import read_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger(__name__)

Report = Callable[[int, int, Mapping[str, float]], None]

# Settings that say where and how fast a run goes, not where to.
INDIFFERENT = {
    "output",
    "weights",
    "steps",
    "checkpoint_every",
    "keep_checkpoints",
    "device",
    "micro_batch_size",
    "gradient_checkpointing",
}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings that every training has.

    Attributes:
        output: Folder of checkpoints, log and result.
        steps: Optimizer steps.
        learning_rate: Constant.
        weight_decay: Of AdamW.
        max_grad_norm: Clips the gradient norm; None does not.
        seed: Of everything that is drawn.
        mixed_precision: "bf16" or "fp16" computes the frozen networks so and keeps what is trained
            in float32.
        device: "cpu", or "auto" for what accelerate finds.
        gradient_checkpointing: Trades time for memory in the base model; the result stays the
            same.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: How many of the last ones stay.
    """

    output: Path
    steps: int
    learning_rate: float
    weight_decay: float = 1e-2
    max_grad_norm: float | None = None
    seed: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        for name in ("steps", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def course(self) -> dict[str, str]:
        """The settings that decide where training goes: equal ones may continue one another."""
        return {key: str(value) for key, value in asdict(self).items() if key not in INDIFFERENT}

    def recorded(self) -> dict[str, str]:
        """The settings that a file of weights keeps: all but places on this machine."""
        values = asdict(self).items()
        return {key: str(value) for key, value in values if not isinstance(value, Path)}


ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


def read_config(path: Path, kind: type[ConfigT]) -> ConfigT:
    """Reads a YAML file strictly; relative paths in it are relative to its folder.

    Raises:
        ValueError: If a key is unknown or missing or a value wrong; the message names file and key.
        FileNotFoundError: If there is no such file.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be a mapping of settings, got {type(content).__name__}")
    known = {field.name for field in fields(kind)}
    if unknown := [str(key) for key in content if key not in known]:
        raise ValueError(
            f"{path}: unknown settings {', '.join(sorted(unknown))}; known: "
            f"{', '.join(sorted(known))}"
        )
    adapter = TypeAdapter(kind)
    try:
        config = adapter.validate_python(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ValueError(f"{path}: {problems}") from None
    values: dict[str, Any] = {
        field.name: path.parent / value
        for field in fields(kind)
        if isinstance(value := getattr(config, field.name), Path)
    }
    return replace(config, **values)


def rng_of(seed: int, *place: int) -> np.random.Generator:
    """The randomness of one place of a run, such as (seed, step, sample)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *place))))


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers in float32, the same on every device."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def epoch_order(seed: int, epoch: int, size: int) -> list[int]:
    """The order of an epoch: every index once."""
    order: list[int] = rng_of(seed, 0x5EED, epoch).permutation(size).tolist()
    return order


def indices_of_step(seed: int, step: int, batch_size: int, size: int) -> list[int]:
    """The samples of one step; epochs follow one another without a gap."""
    indices = []
    for number in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(number, size)
        indices.append(epoch_order(seed, epoch, size)[place])
    return indices


class Stateful(Protocol):
    """Something whose state goes into a checkpoint: tensors, numbers, lists and dictionaries."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Takes a state on."""
        ...


class Checkpoints:
    """Whole states of a run in `output/checkpoints`, each written aside and then renamed."""

    def __init__(self, config: TrainingConfig) -> None:
        """Nothing is read yet."""
        self.folder = config.output / "checkpoints"
        self.course = config.course()
        self.keep = config.keep_checkpoints

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are whole, in ascending order."""
        found = self.folder.glob("step-*/state.json") if self.folder.is_dir() else []
        return sorted(int(path.parent.name.removeprefix("step-")) for path in found)

    def save(
        self,
        step: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: Any = None,
        others: Mapping[str, Stateful] | None = None,
    ) -> None:
        """Writes the state after `step` steps and removes what is older than the last few."""
        target, part = self.folder / f"step-{step:08d}", self.folder / f".step-{step:08d}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(_trained(module), part / "weights.safetensors")
        state = {"optimizer": optimizer.state_dict()}
        if scaler is not None:
            state["scaler"] = scaler.state_dict()
        state |= {name: other.state_dict() for name, other in (others or {}).items()}
        torch.save(state, part / "optimizer.pt")
        (part / "state.json").write_text(json.dumps({"step": step, "course": self.course}))
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"step-{old:08d}")

    def restore(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: Any = None,
        others: Mapping[str, Stateful] | None = None,
    ) -> int:
        """Loads the last checkpoint and returns its step, or 0 if there is none.

        Raises:
            ValueError: If it belongs to a run with other settings; the message names them.
        """
        if not self.steps():
            return 0
        step = self.steps()[-1]
        folder = self.folder / f"step-{step:08d}"
        course = json.loads((folder / "state.json").read_text())["course"]
        if course != self.course:
            differing = sorted(
                f"{key} ({course.get(key)} there, {self.course.get(key)} here)"
                for key in course.keys() | self.course.keys()
                if course.get(key) != self.course.get(key)
            )
            raise ValueError(
                f"{self.folder} is of a run with other settings: {', '.join(differing)}; choose "
                "another output folder"
            )
        weights = load_file(folder / "weights.safetensors")
        missing, unknown = module.load_state_dict(weights, strict=False)
        expected = _trained(module)
        if unknown or weights.keys() != expected.keys():
            raise ValueError(f"{folder}: the weights are not those of this model")
        del missing  # the frozen weights, which are not saved
        state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        if scaler is not None and "scaler" in state:
            scaler.load_state_dict(state["scaler"])
        for name, other in (others or {}).items():
            other.load_state_dict(state[name])
        log.info("continuing after step %d", step)
        return step


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters, and the buffers of modules that have some (batch statistics)."""
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    parents = {name.rpartition(".")[0] for name in names}
    names |= {name for name, _ in module.named_buffers() if name.rpartition(".")[0] in parents}
    state = module.state_dict()
    return {name: state[name].detach().cpu().contiguous() for name in sorted(names & state.keys())}


class TrainingLog:
    """Losses by step in `output/log.jsonl`; a run that goes on continues where its state is."""

    def __init__(self, output: Path, step: int) -> None:
        """Drops lines of steps after `step`, which will be made again."""
        self.path = output / "log.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        text = "".join(f"{line}\n" for line in kept)
        write_with(self.path, lambda file: file.write_text(text))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """What is trained: a module whose frozen parts need no gradient, and one step's work.

    `backward(step)` accumulates the gradients of this process's share of step `step`, counted
    from 0, and returns the losses to report. `after(steps)` is called after every optimizer step
    and returns more to report, from the main process. `others` is what else a checkpoint has to
    hold.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    backward: Callable[[int], Mapping[str, Tensor]]
    after: Callable[[int], Mapping[str, float]] | None = None
    others: Mapping[str, Stateful] = field(default_factory=dict)


def run(config: TrainingConfig, accelerator: Accelerator, trainee: Trainee, report: Report) -> None:
    """Trains from the last checkpoint, if there is one, to the last step.

    `trainee.module` is the bare module; `trainee.backward` uses the prepared one.
    """
    checkpoints = Checkpoints(config)
    scaler = accelerator.scaler
    done = checkpoints.restore(trainee.module, trainee.optimizer, scaler, trainee.others)
    losses_of = TrainingLog(config.output, done) if accelerator.is_main_process else None
    parameters = [p for p in trainee.module.parameters() if p.requires_grad]
    for step in range(done, config.steps):
        trainee.optimizer.zero_grad(set_to_none=True)
        losses = trainee.backward(step)
        if config.max_grad_norm is not None:
            accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
        trainee.optimizer.step()
        values = {
            name: float(accelerator.reduce(value.detach().float(), reduction="mean"))
            for name, value in losses.items()
        }
        if trainee.after is not None:
            values |= trainee.after(step + 1)
        if accelerator.is_main_process and losses_of is not None:
            losses_of.add(step + 1, values)
            report(step + 1, config.steps, values)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                checkpoints.save(
                    step + 1, trainee.module, trainee.optimizer, scaler, trainee.others
                )
        accelerator.wait_for_everyone()


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Accelerate's device placement, mixed precision and data parallelism for this run."""
    return Accelerator(mixed_precision=config.mixed_precision, cpu=config.device == "cpu")


def frozen_dtype(config: TrainingConfig) -> torch.dtype:
    """The dtype of the networks that are not trained."""
    dtypes = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return dtypes[config.mixed_precision]


def share_of(accelerator: Accelerator, indices: list[int]) -> list[tuple[int, int]]:
    """This process's part of a step: (place in the batch, index of the sample).

    Raises:
        ValueError: If the batch cannot be shared out equally.
    """
    processes = accelerator.num_processes
    if len(indices) % processes:
        raise ValueError(
            f"a batch of {len(indices)} cannot be shared out to {processes} processes; choose a "
            "multiple"
        )
    return list(enumerate(indices))[accelerator.process_index :: processes]
