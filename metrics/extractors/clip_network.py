"""CLIP networks through open_clip, from OpenAI's files and from open_clip's.

Radford et al. (arXiv 2103.00020). OpenAI's models use the quick GELU; open_clip's plain model names
do not, and load OpenAI's weights without a word, which is why the architecture is never taken from
a name here: it follows from the file.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import open_clip
import torch
from open_clip.model import build_model_from_openai_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from idbench.metrics.extractors.checkpoint import CheckpointError, load_strictly
from idbench.metrics.extractors.network import Network
from idbench.metrics.weights import WeightStore

CONFIG_FILE = "open_clip_config.json"

# Image and text extractors of one model share one network as long as any of them holds it.
_shared: WeakValueDictionary[tuple[object, ...], Network] = WeakValueDictionary()


def load_clip(path: Path) -> nn.Module:
    """A CLIP model with its weights, in float32.

    `.pt` is an archive as OpenAI publishes it (TorchScript, half precision, quick GELU); its code
    is not run, only its tensors are taken. `.safetensors` is open_clip's form, with the
    architecture in `open_clip_config.json` beside it.

    Raises:
        CheckpointError: If the file is neither, or does not fit its architecture.
    """
    if path.suffix == ".safetensors":
        return _load_open_clip(path)
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated, and it is the form in which OpenAI's weights exist.
            warnings.simplefilter("ignore", FutureWarning)
            archive = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise CheckpointError(f"{path} is no TorchScript archive of OpenAI's CLIP") from error
    state: dict[str, Tensor] = dict(archive.state_dict())
    try:
        model = build_model_from_openai_state_dict(state, cast_dtype=torch.float32)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no CLIP model: {error}") from error
    module: nn.Module = model.float()
    return module


def _load_open_clip(path: Path) -> nn.Module:
    config_path = path.with_name(CONFIG_FILE)
    try:
        config = json.loads(config_path.read_text("utf-8"))["model_cfg"]
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{config_path} does not say the architecture of {path}") from error
    # open_clip marks hub-hosted text towers in the same table; plain CLIP has none of those keys.
    return load_strictly(open_clip.CLIP(**config), load_file(path), path)


def clip_network(
    store: WeightStore,
    key: str,
    *,
    device: str,
    dtype: str,
    batch_size: int | None,
    load: Callable[[Path], nn.Module] = load_clip,
) -> Network:
    """The network of a CLIP entry, one for all extractors that ask for the same.

    Raises:
        MissingWeightsError: If the weights are absent.
    """
    file = next(f.path for f in store.entry(key).files if not f.path.endswith(".json"))
    path = store.locate(key, Path(file).name)
    identity = (str(path), device, dtype, batch_size, load)
    network = _shared.get(identity)
    if network is None:
        network = Network(lambda: load(path), device=device, dtype=dtype, batch_size=batch_size)
        _shared[identity] = network
    return network
