"""The micro-batches of a run, from any step on, in both stages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from idbench.methods.flexip.samples import Batch, TrainingData
from idbench.methods.flexip.training import FlexIPTrainingConfig


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps `start` to `end` read from `folder`; both counted from 0, `end` excluded."""

    folder: Path
    start: int
    end: int


def stages_of(config: FlexIPTrainingConfig) -> list[Stage]:
    """The stages of a run, without empty ones."""
    if config.fine_tune is None:
        return [Stage(config.data, 0, config.steps)]
    change = min(config.fine_tune_from, config.steps)
    stages = [Stage(config.data, 0, change), Stage(config.fine_tune, change, config.steps)]
    return [stage for stage in stages if stage.end > stage.start]


class Feed:
    """Hands out the micro-batches of each step to this process."""

    def __init__(self, config: FlexIPTrainingConfig, accelerator: Accelerator) -> None:
        """Opens the shards.

        Raises:
            ValueError: If the batch cannot be shared out equally, or a folder has no shards.
        """
        processes = accelerator.num_processes
        size = config.micro_batch_size or max(1, config.batch_size // processes)
        self.per_step, left = divmod(config.batch_size, processes * size)
        if left or not self.per_step:
            raise ValueError(
                f"a batch of {config.batch_size} cannot be shared out to {processes} processes "
                f"with {size} samples at a time; choose a multiple of {processes * size}"
            )
        self.workers = config.workers
        self.pinned = accelerator.device.type == "cuda"
        # What decides which samples meet; a checkpoint of another order is refused.
        self.order = DataOrder(
            {"processes": processes, "workers": config.workers, "samples at a time": size}
        )
        self._stages = stages_of(config)
        self._data = [
            TrainingData(
                stage.folder,
                config.samples(),
                micro_batch_size=size,
                process=accelerator.process_index,
                processes=processes,
                lanes_here=max(1, config.workers),
            )
            for stage in self._stages
        ]
        self._next: tuple[int, Iterator[Batch]] | None = None

    def batches(self, step: int) -> Iterator[Batch]:
        """The micro-batches of a step; reading ahead goes on from one step to the next."""
        number, stage = next(
            (number, stage) for number, stage in enumerate(self._stages) if step < stage.end
        )
        if self._next is None or self._next[0] != step or step == stage.start:
            first = (step - stage.start) * self.per_step
            last = (stage.end - stage.start) * self.per_step
            self._next = (step, iter(self._loader(number, range(first, last))))
        batches = self._next[1]
        for _ in range(self.per_step):
            yield next(batches)
        self._next = (step + 1, batches)

    def _loader(self, stage: int, numbers: range) -> "DataLoader[Batch]":
        # Fork and threads do not go together, and torch has threads by now.
        context = "spawn" if self.workers else None
        return DataLoader(
            self._data[stage],
            batch_size=None,
            sampler=numbers,
            num_workers=self.workers,
            multiprocessing_context=context,
            pin_memory=self.pinned,
        )


class DataOrder:
    """What the order of the data depends on besides the settings; part of every checkpoint."""

    def __init__(self, values: dict[str, int]) -> None:
        """Keeps the values of this run."""
        self.values = values

    def state_dict(self) -> dict[str, Any]:
        """The values of this run."""
        return dict(self.values)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compares with the run that is continued.

        Raises:
            ValueError: If a value differs.
        """
        for name, value in state_dict.items():
            if self.values.get(name) != value:
                raise ValueError(
                    f"the checkpoint was made with {value} {name}, and this run has "
                    f"{self.values.get(name)}; go on with {value}, or choose another output folder"
                )
