"""A tiny data set for EditIDv2's training, and configurations of it."""

import json
import shutil

import pytest
import yaml


@pytest.fixture(scope="session")
def training_weights(tiny_flux_files, tiny_flux_weights, tmp_path_factory):
    """The tiny weights with a VAE and a recogniser in which an identity can be seen and learned."""
    folder = tmp_path_factory.mktemp("training") / "weights"
    shutil.copytree(tiny_flux_weights, folder)
    tiny_flux_files.write_copying_vae(folder / "flux-dev" / "vae")
    tiny_flux_files.write_colour_recogniser(folder / "antelopev2" / "glintr100.onnx")
    return folder


@pytest.fixture(scope="session")
def pairs_folder(tiny_flux_files, tmp_path_factory):
    """Two people, two photos of each, in the official list format."""
    folder = tmp_path_factory.mktemp("pairs")
    entries = []
    for person in range(2):
        for number, name in enumerate(("id", "target")):
            photo = tiny_flux_files.close_up(person, 2 * person + number)
            photo.save(folder / f"{name}{person}.png")
        entries.append(
            {"id_image": f"id{person}.png", "image": f"target{person}.png", "text": f"man {person}"}
        )
    (folder / "list.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="session")
def write_config(pairs_folder, training_weights, tmp_path_factory):
    """Writes a configuration into a folder; its frozen features are shared by all runs."""
    cache = tmp_path_factory.mktemp("features")

    def write(folder, **settings):
        values = {
            "data": [str(pairs_folder / "list.json")],
            "images": [str(pairs_folder)],
            "weights": str(training_weights),
            "cache": str(cache),
            "output": "out",
            "steps": 4,
            "learning_rate": 3e-3,
            "lr_schedule": "constant",
            "size": 64,
            "max_sequence_length": 16,
            "mixed_precision": "no",
            "device": "cpu",
            "batch_size": 4,
            "micro_batch_size": 4,
            "checkpoint_every": 1000,
            **settings,
        }
        path = folder / "train.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
        return path

    return write
