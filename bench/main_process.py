"""One process of a distributed training decides, and the others hear of it.

torch is not imported where it is not there already; without torch.distributed there is one process.
"""

import sys
from typing import Any, TypeVar

T = TypeVar("T")


def is_main_process() -> bool:
    """Whether this is the process that decides."""
    distributed = _distributed()
    return distributed is None or int(distributed.get_rank()) == 0


def told_by_main(word: T) -> T:
    """The main process's word, on every process; all of them must call."""
    distributed = _distributed()
    if distributed is None:
        return word
    box = [word]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def _distributed() -> Any:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return None
    return torch.distributed if torch.distributed.is_initialized() else None
