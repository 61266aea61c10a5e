"""Checkpoints that want to run code: every loader refuses them, and nothing in them runs."""

import ast
import io
import pickle
import zipfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def call(module: str, name: str) -> Callable[[Path], object]:
    """A loader that takes a path; imported on use."""
    return lambda path: getattr(import_module(f"idbench.{module}"), name)(path)


def photomaker(path: Path) -> object:
    from idbench.methods.recipes.photomaker import load_photomaker

    config: Any = SimpleNamespace(weight_name=path.name)
    return load_photomaker(None, config, path.parent, torch.float32)


def optimizer(path: Path) -> object:
    """The state of a training run, of which everything but the optimiser is as it was saved."""
    from idbench.methods.common.training import Checkpoints

    module = torch.nn.Linear(2, 2)
    course: Any = SimpleNamespace(
        output=path.parent / "run", course={}, keep_checkpoints=2, recorded={}, resume=True
    )
    checkpoints = Checkpoints.__new__(Checkpoints)
    checkpoints.folder, checkpoints.keep, checkpoints.course = course.output, 2, {}
    step = course.output / "step-00000001"
    step.mkdir(parents=True)
    from safetensors.torch import save_file

    save_file(dict(module.state_dict()), step / "weights.safetensors")
    (step / "state.json").write_text('{"step": 1, "course": {}}')
    (step / "optimizer.pt").write_bytes(path.read_bytes())
    return checkpoints.restore(module, torch.optim.SGD(module.parameters(), 0.1))


def head(path: Path) -> object:
    from idbench.metrics.extractors.aesthetic import load_head

    return load_head("laion", path)  # type: ignore[arg-type]


def dreamsim(path: Path) -> object:
    from idbench.metrics.extractors.checkpoint import read_pickle

    return read_pickle(path)


def image_reward(path: Path) -> object:
    from idbench.metrics.extractors.image_reward import load_image_reward

    return load_image_reward(path, path)


def packaged(path: Path) -> object:
    """A file of a package that somebody exchanged: its digest is not the published one."""
    from idbench.metrics.extractors.mtcnn_networks import PNet, load_weights
    from idbench.metrics.extractors.packaged import PackagedFile

    class Exchanged(PackagedFile):
        def locate(self) -> Path:
            return path

    return load_weights(PNet(), Exchanged("mtcnn", "pnet.lz4", "0" * 64))


def infuse(path: Path) -> object:
    """InfiniteYou's face network, the first of its two files."""
    module = import_module("idbench.methods.recipes.infuse")
    config: Any = SimpleNamespace(recogniser_weights="face", recogniser_name=path.name)
    return module.load_infuse(config, {"face": path.parent}, "cpu", torch.float32)


def diffusers_folder(path: Path) -> object:
    """A network of diffusers whose weights are a pickle."""
    import diffusers

    from idbench.methods.recipes.pipelines import _strictly

    folder = path.parent / "vae"
    diffusers.AutoencoderKL(block_out_channels=[32], layers_per_block=1).save_config(folder)
    (folder / "diffusion_pytorch_model.bin").write_bytes(path.read_bytes())
    return _strictly(diffusers.AutoencoderKL, folder, torch.float32)


def transformers_folder(path: Path) -> object:
    """A network of transformers whose weights are a pickle."""
    import transformers

    from idbench.methods.common.pretrained import load_clip_vision

    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    folder = path.parent / "clip"
    config.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(path.read_bytes())
    return load_clip_vision(folder)


# Module that reads checkpoints -> how.
LOADERS: dict[str, Callable[[Path], object]] = {
    "bench/features.py": lambda path: import_module("idbench.features").unpack(path.read_bytes()),
    "methods/common/pretrained.py": transformers_folder,
    "methods/common/training.py": optimizer,
    "methods/dynamicid/checkpoints.py": call("methods.dynamicid.checkpoints", "read_checkpoint"),
    "methods/editedid/parsing.py": call("methods.editedid.parsing", "BiSeNetParser"),
    "methods/editedid/parsing.py FaRL": call("methods.editedid.parsing", "FarlParser"),
    "methods/flexid/weights.py": call("methods.flexid.weights", "load_face_t5"),
    "methods/pulid/faces.py": call("methods.pulid.faces", "RetinaFaceResNet50"),
    "methods/pulid/faces.py BiSeNet": call("methods.pulid.faces", "BiSeNetParser"),
    "methods/pulid/weights.py": call("methods.pulid.weights", "load_tower"),
    "methods/recipes/infuse.py": infuse,
    "methods/recipes/ip_adapters.py": call("methods.recipes.ip_adapters", "_keys"),
    "methods/recipes/photomaker.py": photomaker,
    "methods/recipes/pipelines.py": diffusers_folder,
    "metrics/extractors/aesthetic.py": head,
    "metrics/extractors/checkpoint.py": call("metrics.extractors.checkpoint", "read_pickle"),
    "metrics/extractors/clip_network.py": call("metrics.extractors.clip_network", "load_clip"),
    "metrics/extractors/dino.py": call("metrics.extractors.dino", "load_dino"),
    "metrics/extractors/dreamsim.py": dreamsim,
    "metrics/extractors/facenet.py": call("metrics.extractors.facenet", "load_facenet"),
    "metrics/extractors/fer_vgg19.py": call("metrics.extractors.fer_vgg19", "load_fer_vgg19"),
    "metrics/extractors/hopenet.py": call("metrics.extractors.hopenet", "load_hopenet"),
    "metrics/extractors/hsemotion.py": call("metrics.extractors.hsemotion", "load_hsemotion"),
    "metrics/extractors/image_reward.py": image_reward,
    "metrics/extractors/inception.py": call("metrics.extractors.inception", "load_inception"),
    "metrics/extractors/mtcnn_networks.py": packaged,
    "metrics/extractors/musiq.py": call("metrics.extractors.musiq", "load_musiq"),
    "metrics/extractors/resemotenet.py": call("metrics.extractors.resemotenet", "load_resemotenet"),
}
READERS = {"torch.load", "torch.jit.load", "joblib.load", "np.load", "read_pickle"}


def readers(root: Path) -> set[str]:
    """Modules of the product that call a function that could unpickle."""
    found = set()
    for folder in ("bench", "metrics", "methods", "prompts"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in READERS:
                    found.add(str(path.relative_to(root)))
    return found


def zipped(canary: Canary) -> bytes:
    """What `torch.save` writes today."""
    buffer = io.BytesIO()
    torch.save({"state_dict": canary, "weight": torch.zeros(1)}, buffer)
    return buffer.getvalue()


def legacy(canary: Canary) -> bytes:
    """What it wrote before."""
    buffer = io.BytesIO()
    torch.save({"state_dict": canary}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def plain(canary: Canary) -> bytes:
    return pickle.dumps({"state_dict": canary}, protocol=2)


def arrays(canary: Canary) -> bytes:
    """An npz archive with an array of objects."""
    array = np.empty(1, dtype=object)
    array[0] = canary
    member, archive = io.BytesIO(), io.BytesIO()
    np.save(member, array, allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.npy", member.getvalue())
    return archive.getvalue()


FORMS = {"zipped": zipped, "legacy": legacy, "plain": plain, "arrays": arrays}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the libraries that hold the networks
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_in_a_checkpoint_runs(loader: str, form: str, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    path = tmp_path / "weights.bin"
    path.write_bytes(FORMS[form](Canary(canary)))
    refused, absent = True, None
    try:
        LOADERS[loader](path)
    except ModuleNotFoundError as error:
        absent = error
    except Exception:  # each loader has its own; that nothing ran is what counts
        pass
    else:
        refused = False
    assert not canary.exists(), "the checkpoint ran code"
    if absent is not None:
        assert find_spec(str(absent.name).partition(".")[0]) is None, "no package is missing"
        pytest.skip(str(absent))
    # An archive of other things than arrays holds none: nothing to refuse.
    assert refused or (loader, form) == ("bench/features.py", "zipped")


@pytest.mark.parametrize("form", ["legacy", "plain"])
def test_the_canary_sings_where_it_is_unpickled(form: str, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    path = tmp_path / "weights.bin"
    path.write_bytes(FORMS[form](Canary(canary)))
    with path.open("rb") as stream:
        while not canary.exists():  # the old form has several pickles, one after the other
            opened = pickle.load(stream)
            for value in opened.values() if isinstance(opened, dict) else ():
                if hasattr(value, "close"):
                    value.close()
    assert canary.exists()


def test_every_module_that_reads_checkpoints_is_in_the_table() -> None:
    assert readers(ROOT) <= {name.partition(" ")[0] for name in LOADERS}
